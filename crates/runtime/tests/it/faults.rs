//! What must not become a session, does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use onnxseal_core::Preset;
use onnxseal_onnx::proto::attribute_proto::AttributeType;
use onnxseal_runtime::{Error, ErrorKind, Identities, Model, Opening, Options, Sharing, Silent};
use onnxseal_testkit::build::{
    GraphBuilder, constant, entry, external, in_domain, node, opset, weights,
};
use onnxseal_testkit::corrupt::{flipped, truncated};
use onnxseal_testkit::{Sample, wire};
use ort::operator::{
    BoxedKernel, ComputeContext, KernelContext, Operator, OperatorDomain, OperatorInput,
    OperatorOutput,
};
use ort::value::TensorElementType;
use prost::Message;

use crate::lab::{self, Lab, assert_close, builder, run};

/// Returns the error of opening, which is the same on demand and at once.
fn refusal(path: &Path, identities: &Identities) -> (ErrorKind, String) {
    let open = |opening| {
        let options = Options {
            opening,
            ..Options::default()
        };
        let model = Model::open_with(path, identities, &options, &Silent);
        model
            .and_then(|model| model.contents().map(drop))
            .unwrap_err()
    };
    let (later, error) = (open(Opening::OnDemand), open(Opening::AtOnce));
    assert_eq!(later.to_string(), error.to_string());
    (error.kind(), error.to_string())
}

fn protected(lab: &Lab, sample: &onnxseal_testkit::Sample) -> PathBuf {
    let path = lab.write(sample, "plain");
    lab.protect(&path, "protected", Preset::Balanced).unwrap()
}

/// Where `needle` is in `file`.
fn find(file: &[u8], needle: &[u8]) -> usize {
    let mut windows = file.windows(needle.len());
    windows.position(|window| window == needle).unwrap()
}

#[test]
fn a_key_that_is_not_the_recipients() {
    let lab = Lab::new();
    let path = protected(&lab, &lab::large_matmul());
    let (kind, message) = refusal(&path, &Lab::new().identities);
    assert_eq!(kind, ErrorKind::NoMatchingKey);
    assert!(message.contains("no identity opens"), "{message}");
}

#[test]
fn a_graph_with_an_added_output_that_shows_a_weight() {
    let lab = Lab::new();
    let path = protected(&lab, &lab::large_matmul());
    let bytes = fs::read(&path).unwrap();
    // The tail stays; the graph before it gets an output more.
    let tail = onnxseal_onnx::tail::split(&bytes).unwrap().unwrap();
    let (model, tail) = bytes.split_at(tail.start as usize);
    let mut model = onnxseal_onnx::proto::ModelProto::decode(model).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let mut output = graph.output[0].clone();
    output.name = Some("w".to_owned());
    graph.output.push(output);
    fs::write(&path, [&model.encode_to_vec(), tail].concat()).unwrap();
    assert_eq!(refusal(&path, &lab.identities).0, ErrorKind::Authentication);

    // Nor does one pass that has the length of the original: an output renamed to the weight.
    let mut renamed = bytes.clone();
    let at = find(&renamed, b"\x0a\x01y\x12") + 2;
    renamed[at] = b'w';
    fs::write(&path, renamed).unwrap();
    let (kind, message) = refusal(&path, &lab.identities);
    assert_eq!(kind, ErrorKind::Authentication);
    assert!(message.contains("was changed in bytes"), "{message}");
}

#[test]
fn a_changed_weight_whether_encrypted_or_in_clear() {
    let lab = Lab::new();
    let plain = lab.write(&lab::large_matmul(), "plain");
    let path = lab.protect(&plain, "protected", Preset::Balanced).unwrap();
    let (original, bytes) = (fs::read(plain).unwrap(), fs::read(&path).unwrap());
    let same = |i: &usize| original[*i] == bytes[*i];
    let clear = (1 << 20..original.len()).find(same).unwrap();
    let encrypted = (1 << 20..original.len()).find(|i| !same(i)).unwrap();
    for i in [clear, encrypted] {
        fs::write(&path, flipped(&bytes, i)).unwrap();
        let (kind, message) = refusal(&path, &lab.identities);
        assert_eq!(kind, ErrorKind::Authentication);
        assert!(message.contains("tensor \"w\""), "{message}");
    }
}

#[test]
fn an_external_file_that_is_missing_cut_or_another() {
    let lab = Lab::new();
    let path = protected(&lab, &lab::wide_external());
    let external = path.with_file_name("w.bin");
    let bytes = fs::read(&external).unwrap();
    fs::remove_file(&external).unwrap();
    assert_eq!(refusal(&path, &lab.identities).0, ErrorKind::Io);
    fs::write(&external, truncated(&bytes, bytes.len() - 1)).unwrap();
    assert_eq!(refusal(&path, &lab.identities).0, ErrorKind::Authentication);
    fs::write(&external, vec![0; bytes.len()]).unwrap();
    assert_eq!(refusal(&path, &lab.identities).0, ErrorKind::Authentication);
}

/// A model whose function has this default, with a MatMul beside it.
fn with_default(default: &[u8]) -> Sample {
    let mut sample = lab::wide_external();
    let attribute = [
        wire::field(1, b"value"),
        wire::field(5, default),
        wire::varint_field(20, AttributeType::Tensor as u64),
    ];
    let function = [
        wire::field(1, b"Unused"),
        wire::field(10, b"local"),
        wire::field(11, &attribute.concat()),
    ];
    sample.model.extend(wire::field(25, &function.concat()));
    sample
}

/// What `protect`, and making a session of such a model that is protected already, say.
fn refusals(lab: &Lab, sample: &Sample) -> [String; 2] {
    let path = lab.write(sample, "plain");
    let error = lab.protect(&path, "protected", Preset::Full).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let protecting = std::error::Error::source(&error).unwrap().to_string();
    // It opens, and what it was can be had.
    let forged = lab::forge(lab, sample, "forged");
    let restored = lab.unprotect(&forged, "restored").unwrap();
    assert!(fs::read(restored).unwrap() == sample.model);
    let model = Model::open(&forged, &lab.identities).unwrap();
    assert!(model.contents().unwrap().bytes() == sample.model);
    let errors = [Sharing::WherePossible, Sharing::Never].map(|sharing| {
        let error = model.prepare(sharing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        std::error::Error::source(&error).unwrap().to_string()
    });
    let [opening, never] = errors;
    assert_eq!(opening, never);
    for folder in ["plain", "forged", "restored"] {
        fs::remove_dir_all(lab.path(folder)).unwrap();
    }
    [protecting, opening]
}

/// ONNX Runtime would look for it where nobody has authenticated anything.
#[test]
fn a_default_of_a_function_in_an_external_file() {
    let lab = Lab::new();
    let default = external("d", &[64, 128], "shm/w.bin", None, None).encode_to_vec();
    // Of these it takes the last that it knows: 1, which is external.
    let twice = [default.clone(), wire::varint_field(14, 7)].concat();
    for default in [default, twice] {
        for refusal in refusals(&lab, &with_default(&default)) {
            let place = "functions[0].attribute_proto[0]";
            assert!(refusal.contains(place), "{refusal}");
            assert!(refusal.contains("in an external file"), "{refusal}");
        }
    }
}

/// ONNX Runtime would take the one or the other, as it depends on where they are.
#[test]
fn two_weights_of_one_name() {
    let lab = Lab::new();
    let wide = |name| weights(name, &[64, 128], 2);
    let inline = GraphBuilder::new("two").initializer(wide("w"));
    for (second, path) in [
        (inline.clone(), "graph.initializer[1]"),
        (
            GraphBuilder::new("two").node(constant(wide("w"))),
            "graph.node[0]",
        ),
    ] {
        let mut sample = lab::wide_external();
        let mut model = onnxseal_onnx::proto::ModelProto::decode(&sample.model[..]).unwrap();
        let (graph, second) = (model.graph.as_mut().unwrap(), second.graph());
        graph.initializer.extend(second.initializer);
        graph.node.splice(0..0, second.node);
        sample.model = model.encode_to_vec();
        for refusal in refusals(&lab, &sample) {
            assert!(refusal.contains(path), "{refusal}");
            assert!(refusal.contains("graph.initializer[0] has"), "{refusal}");
        }
    }
}

/// ONNX Runtime refuses the plain model.
#[test]
fn a_stray_key_of_external_data() {
    let lab = Lab::new();
    let mut sample = lab::wide_external();
    let mut model = onnxseal_onnx::proto::ModelProto::decode(&sample.model[..]).unwrap();
    let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
    tensor.external_data.push(entry("Location", "v.bin"));
    sample.model = model.encode_to_vec();
    for refusal in refusals(&lab, &sample) {
        assert!(refusal.contains("\"Location\""), "{refusal}");
    }
}

/// Where ONNX Runtime is told to look for files.
#[cfg(unix)]
#[test]
fn the_folder_that_sessions_are_told_of_has_nothing() {
    use std::os::unix::fs::PermissionsExt;

    let lab = Lab::new();
    let path = protected(&lab, &lab::large_matmul());
    let model = Model::open(&path, &lab.identities).unwrap();
    let folder_of = |model: &Model| -> PathBuf {
        let prepared = model.prepare(Sharing::WherePossible).unwrap();
        let (key, folder) = prepared.config().next().unwrap();
        assert!(key.ends_with("folder_path"));
        folder.into()
    };
    let folder = folder_of(&model);
    let mode = fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().collect();
    assert_eq!(files.len(), 1);
    let file = files.into_iter().next().unwrap().unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    // One is enough, unless somebody has cleaned up; it goes with the model.
    assert_eq!(folder_of(&model), folder);
    fs::remove_dir_all(&folder).unwrap();
    let another = folder_of(&model);
    assert!(another.is_dir());
    drop(model);
    assert!(!another.exists());
}

/// Without a place for temporary files there are sessions, of which ONNX Runtime copies all
/// weights.
#[cfg(unix)]
#[test]
fn no_place_for_temporary_files() {
    let lab = Lab::new();
    // In a process of its own, whose environment is another.
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "faults::runs_without_a_place",
        ])
        .env("ONNXSEAL_TEST_FOLDER", lab.dir.path())
        .env("TMPDIR", lab.path("missing"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("0 shared, 1 injected"), "{said}");
    assert!(output.status.success(), "{said}");
}

/// Not a test, but what the one before runs.
#[test]
#[ignore = "run by another test"]
fn runs_without_a_place() {
    let folder = std::env::var_os("ONNXSEAL_TEST_FOLDER").unwrap();
    let lab = Lab::within(Path::new(&folder));
    let plain = lab.write(&lab::wide_external(), "plain");
    let path = lab.protect(&plain, "protected", Preset::Full).unwrap();
    let model = Model::open(&path, &lab.identities).unwrap();
    let prepared = model.prepare(Sharing::WherePossible).unwrap();
    let (shared, injected) = (prepared.shared().len(), prepared.injected().len());
    println!("{shared} shared, {injected} injected");
    drop(prepared);
    let Some(mut builder) = builder() else { return };
    let expected = run(&mut builder.commit_from_file(&plain).unwrap());
    let mut session = model.into_session(lab::builder().unwrap()).unwrap();
    assert_close("no place", &expected, &run(&mut session));
}

/// What is opened is what runs, whatever takes the place of its file.
#[test]
fn a_file_that_is_replaced_after_it_was_opened() {
    let Some(builder) = builder() else { return };
    let lab = Lab::new();
    let plain = lab.write(&lab::large_matmul(), "plain");
    let path = lab.protect(&plain, "protected", Preset::Balanced).unwrap();
    let model = Model::open(&path, &lab.identities).unwrap();
    let other = path.with_file_name("other.onnx");
    fs::write(&other, vec![0; fs::metadata(&path).unwrap().len() as usize]).unwrap();
    fs::rename(&other, &path).unwrap();
    let expected = run(&mut lab::builder().unwrap().commit_from_file(&plain).unwrap());
    let mut session = model.into_session(builder).unwrap();
    assert_close("replaced", &expected, &run(&mut session));
}

#[test]
fn a_library_that_is_missing_or_none() {
    let lab = Lab::new();
    let none = lab.path("libonnxruntime.so");
    fs::write(&none, "no library").unwrap();
    for library in [lab.path("missing.so"), none] {
        // In a process of its own: a library is loaded once.
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--ignored",
                "--nocapture",
                "faults::loads_the_library",
            ])
            .env("ORT_DYLIB_PATH", &library)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("install version 1.23 or newer"), "{said}");
        assert!(said.contains("kind Runtime"), "{said}");
    }
}

/// Not a test, but what the one before runs.
#[test]
#[ignore = "run by another test"]
fn loads_the_library() {
    let error = match onnxseal_runtime::load() {
        Ok(_) => panic!("there is no library"),
        Err(error) => error,
    };
    println!("{error}, kind {:?}", error.kind());
}

struct Twice;

impl Operator for Twice {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        "Twice"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<BoxedKernel<'attr>> {
        Ok(Box::new(|context: &ComputeContext| {
            let x = context
                .input(0)?
                .ok_or_else(|| ort::Error::new("no input"))?;
            let (shape, x) = x.try_extract_tensor::<f32>()?;
            let mut y = context
                .output(0, shape.to_vec())?
                .ok_or_else(|| ort::Error::new("no output"))?;
            let (_, y) = y.try_extract_tensor_mut::<f32>()?;
            y.iter_mut().zip(x).for_each(|(y, x)| *y = 2.0 * x);
            Ok(())
        }))
    }
}

#[test]
fn operators_of_the_application() {
    let Some(builder) = builder() else { return };
    let lab = Lab::new();
    let mut model = GraphBuilder::new("custom")
        .input("x", &[2, 64])
        .output("y", &[2, 128])
        .initializer(weights("w", &[64, 128], 1))
        .node(node("MatMul", &["x", "w"], &["t"]))
        .node(in_domain("application", node("Twice", &["t"], &["y"])))
        .model();
    model.opset_import.push(opset("application", 1));
    let path = lab.path("plain.onnx");
    fs::write(&path, model.encode_to_vec()).unwrap();
    let protected = lab.protect(&path, "protected", Preset::Full).unwrap();
    let open = || Model::open(&protected, &lab.identities).unwrap();

    let error = open().into_session(builder.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Runtime);
    let Error::Session { source, .. } = &error else {
        panic!("{error}");
    };
    assert!(source.to_string().contains("Twice"), "{source}");

    let domain = OperatorDomain::new("application")
        .unwrap()
        .add(Twice)
        .unwrap();
    let builder = builder.with_operators(domain).unwrap();
    let plain = run(&mut builder.clone().commit_from_file(&path).unwrap());
    let mut session = open().into_session(builder).unwrap();
    assert_close("custom", &plain, &run(&mut session));
}
