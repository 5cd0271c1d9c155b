//! What the tests share: ONNX Runtime, a folder with an identity, and models large enough to be
//! shared.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

#[path = "../../../core/tests/it/lab.rs"]
pub mod core;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base64::Engine;
use onnxseal_crypto::{ChunkId, DataKey, Scratch};
use onnxseal_onnx::tail;
use onnxseal_runtime::DataType;
use onnxseal_testkit::Sample;
use onnxseal_testkit::build::{
    GraphBuilder, bare_tensor, constant, external, floats, function, graph_attribute, in_domain,
    int_attribute, int64s, ints_attribute, le_bytes, node, node_with, opset, weights,
};
use ort::environment::Environment;
use ort::session::builder::SessionBuilder;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynTensor, Tensor, TensorElementType, ValueType};
use prost::Message;

pub use self::core::Lab;

/// ONNX Runtime's library: the one that `ORT_DYLIB_PATH` names, or the one of the tests' Python.
pub fn library() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return Some(path.into());
    }
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/lib");
    let python = std::fs::read_dir(venv).ok()?.next()?.ok()?.path();
    let folder = python.join("site-packages/onnxruntime/capi");
    let files = std::fs::read_dir(folder).ok()?;
    let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
    paths.find(|path| path.to_string_lossy().contains("libonnxruntime.so."))
}

/// A builder of sessions; says that it skips and returns `None` where ONNX Runtime is absent.
pub fn builder() -> Option<SessionBuilder> {
    static ENVIRONMENT: OnceLock<Option<Environment>> = OnceLock::new();
    let environment = ENVIRONMENT.get_or_init(|| {
        let library = library()?;
        Some(ort::init_from(library).unwrap().build().unwrap())
    });
    if environment.is_none() {
        eprintln!("skipped: no ONNX Runtime (set ORT_DYLIB_PATH, or make .venv)");
    }
    Some(Session::builder(environment.as_ref()?).unwrap())
}

/// Writes `sample` as a protected model of which nothing is encrypted, to `folder/model.onnx`: one
/// that `protect` would refuse, and earlier versions, or others, have made.
pub fn forge(lab: &Lab, sample: &Sample, folder: &str) -> PathBuf {
    let text = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let files: Vec<_> = std::iter::once(("", &sample.model))
        .chain(sample.files.iter().map(|(path, content)| (*path, content)))
        .collect();
    let described = files.iter().map(|(path, content)| {
        let bytes = content.len();
        format!(r#"{{"path":"{path}","bytes":{bytes}}}"#)
    });
    let manifest = format!(
        r#"{{"format":1,"suite":"AES-256-GCM/HKDF-SHA256","chunk":65536,"lock":true,"tiers":[],"files":[{}],"claims":{{}},"tensors":[]}}"#,
        described.collect::<Vec<_>>().join(",")
    );
    let data_key = DataKey::generate().unwrap();
    let wrapped = lab.recipients.wrap(&data_key).unwrap();
    let keys = data_key.seal_keys(manifest.as_bytes(), 1).unwrap();
    let mut tags = Vec::new();
    for (file, (_, content)) in (0..).zip(&files) {
        for (chunk, bytes) in (0..).zip(content.chunks(1 << 16)) {
            let (id, scratch) = (ChunkId { file, chunk }, &mut Scratch::default());
            let tag = keys.seal_chunk(id, &mut bytes.to_vec(), &[], scratch);
            tags.extend(tag.unwrap().0);
        }
    }
    let (tags_text, mac_text) = (text(&tags), text(&keys.macs(&tags)));
    let entries = [
        (tail::MANIFEST, manifest.as_bytes()),
        (tail::TAGS, tags_text.as_bytes()),
        (tail::MAC, mac_text.as_bytes()),
        (tail::KEYS[0], wrapped.as_bytes()),
    ];
    let tail = tail::encode(&entries, true);
    let model = [&sample.model[..], &tail].concat();
    let files = sample.files.clone();
    lab.write(
        &Sample {
            name: "model",
            model,
            files,
        },
        folder,
    )
}

/// Names and values of a run's outputs.
pub type Outputs = Vec<(String, Vec<f32>)>;

/// Runs a session on inputs that are always the same.
pub fn run(session: &mut Session) -> Outputs {
    try_run(session).unwrap()
}

/// Runs a session as [`run`] does, or returns why the model does not take such inputs.
pub fn try_run(session: &mut Session) -> ort::Result<Outputs> {
    let mut inputs: Vec<(String, SessionInputValue<'_>)> = Vec::new();
    for (seed, input) in (1..).zip(session.inputs()) {
        let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
            panic!("{} is no tensor", input.name());
        };
        // What is left open is one but for the last, which may be a window of samples.
        let last = shape.len().saturating_sub(1);
        let open = |axis| if axis == last { 512 } else { 1 };
        let shape = shape.iter().enumerate();
        let shape: Vec<i64> = shape
            .map(|(axis, dim)| if *dim < 0 { open(axis) } else { *dim })
            .collect();
        let n_elements = shape.iter().product::<i64>() as usize;
        let value: SessionInputValue<'_> = match ty {
            TensorElementType::Float32 => Tensor::from_array((shape, floats(n_elements, seed)))
                .unwrap()
                .into(),
            _ => DynTensor::new(&ort::memory::Allocator::default(), *ty, shape)
                .unwrap()
                .into(),
        };
        inputs.push((input.name().to_owned(), value));
    }
    let outputs = session.run(inputs)?;
    let floats = outputs.iter().filter_map(|(name, value)| {
        let (_, values) = value.try_extract_tensor::<f32>().ok()?;
        Some((name.to_owned(), values.to_vec()))
    });
    Ok(floats.collect())
}

/// Asserts that two runs give the same, but for what rounding does.
pub fn assert_close(name: &str, plain: &[(String, Vec<f32>)], ours: &[(String, Vec<f32>)]) {
    assert!(!plain.is_empty(), "{name}: no output to compare");
    assert_eq!(plain.len(), ours.len(), "{name}");
    for ((output, plain), (_, ours)) in plain.iter().zip(ours) {
        assert_eq!(plain.len(), ours.len(), "{name}: {output}");
        for (plain, ours) in plain.iter().zip(ours) {
            let close = (plain - ours).abs() <= 1e-5 + 1e-4 * plain.abs();
            assert!(
                close || plain.is_nan() && ours.is_nan(),
                "{name}: {output}: {plain}, {ours}"
            );
        }
    }
}

/// `[64, 128]`: 32 KiB.
const WIDE: &[i64] = &[64, 128];

fn wide(name: &str) -> GraphBuilder {
    GraphBuilder::new(name)
        .input("x", &[2, 64])
        .output("y", &[2, 128])
}

fn one_file(name: &'static str, model: Vec<u8>) -> Sample {
    Sample {
        name,
        model,
        files: Vec::new(),
    }
}

/// One MatMul with 32 KiB of weights.
pub fn wide_matmul() -> Sample {
    let graph = wide("wide_matmul").initializer(weights("w", WIDE, 1));
    one_file(
        "wide_matmul",
        graph.node(node("MatMul", &["x", "w"], &["y"])).encode(),
    )
}

/// One MatMul with 4 MiB of weights, so that most pages of the file may stay as they are.
pub fn large_matmul() -> Sample {
    let graph = GraphBuilder::new("large_matmul")
        .input("x", &[2, 256])
        .output("y", &[2, 4096])
        .initializer(weights("w", &[256, 4096], 1));
    one_file(
        "large_matmul",
        graph.node(node("MatMul", &["x", "w"], &["y"])).encode(),
    )
}

/// A Gather from 4 MiB of weights, which ONNX Runtime reads where they lie whenever it runs.
pub fn large_gather() -> Sample {
    let graph = GraphBuilder::new("large_gather")
        .typed_input("ids", DataType::Int64, &[1, 3])
        .output("y", &[1, 3, 4096])
        .initializer(weights("w", &[256, 4096], 1));
    one_file(
        "large_gather",
        graph.node(node("Gather", &["w", "ids"], &["y"])).encode(),
    )
}

/// One Conv with 2.25 MiB of weights, which ONNX Runtime copies.
pub fn large_conv() -> Sample {
    let graph = GraphBuilder::new("large_conv")
        .input("x", &[1, 256, 4, 4])
        .output("y", &[1, 256, 2, 2])
        .initializer(weights("w", &[256, 256, 3, 3], 1));
    one_file(
        "large_conv",
        graph.node(node("Conv", &["x", "w"], &["y"])).encode(),
    )
}

/// Makes [`wide_matmul`] with the weights in `w.bin`, at an odd offset.
pub fn wide_external() -> Sample {
    let graph = wide("wide_external")
        .initializer(external("w", WIDE, "w.bin", Some(13), Some(32 << 10)))
        .node(node("MatMul", &["x", "w"], &["y"]));
    let mut file = vec![0; 13];
    file.extend(le_bytes(&floats(64 * 128, 1)));
    Sample {
        name: "wide_external",
        model: graph.encode(),
        files: vec![("w.bin", file)],
    }
}

/// A MatMul whose weights an optimization folds into the normalization after it, though they could
/// be shared.
pub fn wide_folded() -> Sample {
    let graph = wide("wide_folded")
        .initializer(weights("w", WIDE, 1))
        .initializer(weights("scale", &[128], 2))
        .initializer(weights("bias", &[128], 3))
        .initializer(weights("mean", &[128], 4))
        .initializer(weights("variance", &[128], 5))
        .node(node("MatMul", &["x", "w"], &["t"]));
    let inputs = ["t", "scale", "bias", "mean", "variance"];
    let normalize = node("BatchNormalization", &inputs, &["y"]);
    one_file("wide_folded", graph.node(normalize).encode())
}

/// A Conv with 36 KiB of weights, which ONNX Runtime copies.
pub fn wide_conv() -> Sample {
    let graph = GraphBuilder::new("wide_conv")
        .input("x", &[1, 32, 8, 8])
        .output("y", &[1, 32, 6, 6])
        .initializer(weights("w", &[32, 32, 3, 3], 1))
        .node(node("Conv", &["x", "w"], &["y"]));
    one_file("wide_conv", graph.encode())
}

/// Models whose weights are large enough not to be inline, in every place there is.
pub fn wide_samples() -> Vec<Sample> {
    let transposed = wide("wide_transposed")
        .initializer(weights("w", &[128, 64], 1))
        .node(node_with(
            "Transpose",
            &["w"],
            &["wt"],
            vec![ints_attribute("perm", &[1, 0])],
        ))
        .node(node("MatMul", &["x", "wt"], &["y"]));
    let branch = |name: &str, w| {
        let y = format!("y_{name}");
        GraphBuilder::new(name)
            .output(&y, &[2, 128])
            .initializer(w)
            .node(node("MatMul", &["x", "w"], &[&y]))
            .graph()
    };
    // The same name in both branches, one of them in an external file.
    let branches = vec![
        graph_attribute("then_branch", branch("then", weights("w", WIDE, 1))),
        graph_attribute(
            "else_branch",
            branch(
                "else",
                external("w", WIDE, "w.bin", Some(13), Some(32 << 10)),
            ),
        ),
    ];
    let branches = wide("wide_branches")
        .typed_input("condition", DataType::Bool, &[])
        .node(node_with("If", &["condition"], &["y"], branches));
    let constants = wide("wide_constant")
        .node(constant(weights("w", WIDE, 1)))
        .node(node("MatMul", &["x", "w"], &["y"]));
    let mut in_function = wide("wide_function")
        .initializer(weights("w", WIDE, 1))
        .node(in_domain("local", node("Dense", &["x", "w"], &["y"])))
        .model();
    in_function.opset_import.push(opset("local", 1));
    let body = vec![
        constant(weights("b", &[2, 4096], 2)),
        node("ReduceMax", &["b"], &["m"]),
        node("MatMul", &["x", "w"], &["xw"]),
        node("Add", &["xw", "m"], &["y"]),
    ];
    in_function
        .functions
        .push(function("local", "Dense", &["x", "w"], &["y"], body));
    let tied = GraphBuilder::new("wide_tied")
        .typed_input("ids", DataType::Int64, &[1, 3])
        .output("y", &[1, 3, 128])
        .initializer(weights("w", &[128, 64], 1))
        .node(node("Gather", &["w", "ids"], &["h"]))
        .node(node_with(
            "Transpose",
            &["w"],
            &["wt"],
            vec![ints_attribute("perm", &[1, 0])],
        ))
        .node(node("MatMul", &["h", "wt"], &["y"]));
    // Initializers that are an input and an output of the graph, and one without elements.
    let ends = wide("wide_ends")
        .input("w", WIDE)
        .output("v", WIDE)
        .initializer(weights("w", WIDE, 1))
        .initializer(weights("v", WIDE, 2))
        .initializer(bare_tensor("none", DataType::Float, &[0, 128]))
        .node(node("MatMul", &["x", "w"], &["t"]))
        .node(node_with(
            "Concat",
            &["t", "none"],
            &["y"],
            vec![int_attribute("axis", 0)],
        ));
    // An initializer that nothing uses, though a function has a parameter of that name.
    let mut unused = wide("wide_unused")
        .initializer(weights("w", WIDE, 1))
        .initializer(weights("b", WIDE, 2))
        .node(in_domain("local", node("Dense", &["x", "w"], &["y"])))
        .model();
    unused.opset_import.push(opset("local", 1));
    let body = vec![node("MatMul", &["a", "b"], &["y"])];
    unused
        .functions
        .push(function("local", "Dense", &["a", "b"], &["y"], body));
    // Sizes that shape inference reads.
    const N: i64 = 2500;
    let parts: Vec<String> = (0..N).map(|i| format!("part_{i}")).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let split = GraphBuilder::new("wide_split")
        .input("x", &[N, 2])
        .output("y", &[N, 2])
        .initializer(int64s("sizes", &[N], &[1; N as usize]))
        .node(node_with(
            "Split",
            &["x", "sizes"],
            &parts,
            vec![int_attribute("axis", 0)],
        ))
        .node(node_with(
            "Concat",
            &parts,
            &["y"],
            vec![int_attribute("axis", 0)],
        ));
    let nul = wide("wide_nul")
        .initializer(weights("w\0", WIDE, 1))
        .node(node("MatMul", &["x", "w\0"], &["y"]));
    let external = wide_external();
    vec![
        wide_matmul(),
        wide_folded(),
        wide_conv(),
        one_file("wide_transposed", transposed.encode()),
        Sample {
            name: "wide_branches",
            model: branches.encode(),
            files: external.files.clone(),
        },
        one_file("wide_constant", constants.encode()),
        one_file("wide_function", in_function.encode_to_vec()),
        one_file("wide_tied", tied.encode()),
        one_file("wide_ends", ends.encode()),
        one_file("wide_unused", unused.encode_to_vec()),
        one_file("wide_split", split.encode()),
        one_file("wide_nul", nul.encode()),
        external,
    ]
}
