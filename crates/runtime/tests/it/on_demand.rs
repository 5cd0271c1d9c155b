//! Weights that are decrypted when ONNX Runtime touches them.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use onnxseal_core::{Access, AllowedSigners, Policy, Preset, ProtectOptions, SignedBy, protect};
use onnxseal_runtime::{ErrorKind, Model, Opening, Options, Silent};
use onnxseal_testkit::Sample;
use onnxseal_testkit::build::{GraphBuilder, external, node, weights};
use onnxseal_testkit::corrupt::flipped;

use crate::lab::core::{ALICE, BOB, key};
use crate::lab::{Lab, assert_close, builder, run};

/// Products of 4 MiB each, which kernels pack.
const N_PRODUCTS: usize = 24;

/// Bytes of all products.
const N_BYTES: usize = N_PRODUCTS << 22;

/// A chain of products, of which the first is also looked up by rows: ONNX Runtime packs it when
/// the session is made, and reads it again whenever the session runs.
fn products(name: &'static str, is_external: bool) -> Sample {
    let mut graph = GraphBuilder::new(name)
        .input("x", &[1, 1024])
        .typed_input("ids", onnxseal_runtime::DataType::Int64, &[1])
        .output("y", &[1, 1024])
        .output("row", &[1, 1024]);
    let (mut beside, mut x) = (Vec::new(), "x".to_owned());
    for index in 0..N_PRODUCTS {
        let name = format!("w{index}");
        let mut tensor = weights(&name, &[1024, 1024], index as u32);
        if is_external {
            let raw = tensor.raw_data.take().unwrap();
            let (offset, len) = (beside.len() as u64, raw.len() as u64);
            beside.extend(raw);
            tensor = external(&name, &[1024, 1024], "w.bin", Some(offset), Some(len));
        }
        let y = match index + 1 {
            N_PRODUCTS => "y".to_owned(),
            _ => format!("t{index}"),
        };
        graph = graph
            .initializer(tensor)
            .node(node("MatMul", &[&x, &name], &[&y]));
        x = y;
    }
    let model = graph
        .node(node("Gather", &["w0", "ids"], &["row"]))
        .encode();
    let files = is_external.then_some(("w.bin", beside));
    Sample {
        name,
        model,
        files: files.into_iter().collect(),
    }
}

/// A line of /proc/self/status, in bytes.
fn status(key: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    number.parse::<usize>().unwrap() << 10
}

/// Whether this system fills memory on demand; says that it skips if not.
fn has_faults() -> bool {
    let found = onnxseal_core::try_on_demand();
    if let Err(error) = &found {
        eprintln!("skipped: no userfaultfd: {error}");
    }
    found.is_ok()
}

/// Runs the ignored test `name` in a process of its own, in the lab's folder.
fn in_a_process(lab: &Lab, name: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", name])
        .env("ONNXSEAL_TEST_FOLDER", lab.path(""))
        .output()
        .unwrap()
}

/// The lab of the test that runs this process.
fn lab_of_the_caller() -> Lab {
    Lab::within(Path::new(
        &std::env::var_os("ONNXSEAL_TEST_FOLDER").unwrap(),
    ))
}

#[test]
fn outputs_are_those_of_the_plain_model() {
    let Some(builder) = builder() else { return };
    let lab = Lab::new();
    for is_external in [false, true] {
        for preset in [Preset::Full, Preset::Balanced] {
            let sample = products("products", is_external);
            let plain = lab.write(&sample, &format!("plain{is_external}{preset:?}"));
            let folder = format!("sealed{is_external}{preset:?}");
            let path = lab.protect(&plain, &folder, preset).unwrap();
            let expected = run(&mut builder.clone().commit_from_file(&plain).unwrap());
            for opening in [Opening::OnDemand, Opening::AtOnce] {
                let options = Options {
                    opening,
                    ..Options::default()
                };
                let model = Model::open_with(&path, &lab.identities, &options, &Silent).unwrap();
                let mut session = model.into_session(builder.clone()).unwrap();
                assert_close("products", &expected, &run(&mut session));
                // Once more, with what was given back and is there again.
                assert_close("products", &expected, &run(&mut session));
            }
        }
    }
}

#[test]
fn a_session_takes_the_memory_of_a_plain_one() {
    if builder().is_none() || !has_faults() {
        return;
    }
    let lab = Lab::new();
    let output = in_a_process(&lab, "on_demand::takes_little_memory");
    assert!(output.status.success(), "{output:?}");
}

/// Not a test, but what the one before runs.
#[test]
#[ignore = "run by another test"]
fn takes_little_memory() {
    let lab = lab_of_the_caller();
    let (plain, path) = {
        let plain = lab.write(&products("products", true), "plain");
        let path = lab.protect(&plain, "sealed", Preset::Full).unwrap();
        (plain, path)
    };
    fs::remove_dir_all(plain.parent().unwrap()).unwrap();
    let builder = builder().unwrap();
    let model = Model::open(&path, &lab.identities).unwrap();
    assert_eq!(model.obstacle(), None);
    let before = status("VmRSS");
    let _session = model.into_session(builder).unwrap();
    // Packed weights, and ONNX Runtime's own; with the others it would be twice as much.
    let taken = status("VmRSS").saturating_sub(before);
    assert!(taken < N_BYTES + N_BYTES / 2, "{taken}");
}

#[test]
fn a_weight_that_was_changed_makes_no_session() {
    let Some(builder) = builder() else { return };
    let lab = Lab::new();
    let plain = lab.write(&products("products", true), "plain");
    let path = lab.protect(&plain, "sealed", Preset::Balanced).unwrap();
    let weights = path.with_file_name("w.bin");
    let bytes = fs::read(&weights).unwrap();
    // In the first, in one amid, and at the very end.
    for at in [100, N_BYTES / 2, N_BYTES - 1] {
        fs::write(&weights, flipped(&bytes, at)).unwrap();
        let open = || Model::open(&path, &lab.identities);
        let made = open().and_then(|model| model.into_session(builder.clone()));
        let error = made.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication);
        assert!(
            error.to_string().contains("was changed in bytes"),
            "{error}"
        );
        // Asked twice, it fails twice.
        if let Ok(model) = open() {
            for _ in 0..2 {
                let error = model.contents().map(drop).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Authentication);
            }
        }
    }
}

#[test]
fn a_file_that_is_replaced_under_a_session_changes_nothing() {
    let Some(builder) = builder() else { return };
    let lab = Lab::new();
    let plain = lab.write(&products("products", true), "plain");
    let path = lab.protect(&plain, "sealed", Preset::Full).unwrap();
    let model = Model::open(&path, &lab.identities).unwrap();
    let mut session = model.into_session(builder.clone()).unwrap();
    let (weights, other) = (path.with_file_name("w.bin"), path.with_file_name("other"));
    fs::write(&other, vec![0; N_BYTES]).unwrap();
    fs::rename(&other, &weights).unwrap();
    let expected = run(&mut builder.clone().commit_from_file(&plain).unwrap());
    assert_close("replaced", &expected, &run(&mut session));
}

#[test]
fn a_file_that_is_overwritten_under_a_session_ends_the_process() {
    if builder().is_none() || !has_faults() {
        return;
    }
    let lab = Lab::new();
    let output = in_a_process(&lab, "on_demand::runs_with_an_overwritten_file");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // SIGABRT
    assert_eq!(output.status.signal(), Some(6), "{said}");
    assert!(said.contains("was changed in bytes"), "{said}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("computed"));
}

/// Not a test, but what the one before runs.
#[test]
#[ignore = "run by another test"]
fn runs_with_an_overwritten_file() {
    let lab = lab_of_the_caller();
    let plain = lab.write(&products("products", true), "plain");
    let path = lab.protect(&plain, "sealed", Preset::Full).unwrap();
    let model = Model::open(&path, &lab.identities).unwrap();
    let mut session = model.into_session(builder().unwrap()).unwrap();
    // In place: the same file.
    fs::write(path.with_file_name("w.bin"), vec![0; N_BYTES]).unwrap();
    run(&mut session);
    println!("computed");
}

#[test]
fn a_signature_is_checked_before_onnx_runtime_sees_a_weight() {
    let Some(builder) = builder() else { return };
    let lab = Lab::new();
    let plain = lab.write(&products("products", true), "plain");
    let path = lab.path("signed/model.onnx");
    let mut options = ProtectOptions::new(Policy::preset(Preset::Full));
    options.signing_key = Some(key(ALICE));
    protect(&plain, &*path, &lab.recipients, &options, &Silent).unwrap();
    let by = |(public, _): (&str, &str)| {
        let line = format!("publisher {public}");
        let allowed = AllowedSigners::read(line.as_bytes(), "allowed signers").unwrap();
        let signer = None;
        SignedBy { allowed, signer }
    };
    let open = |by: &SignedBy| {
        let access = Access {
            signed_by: Some(by),
            ..(&lab.identities).into()
        };
        Model::open(&*path, access)
    };
    let expected = run(&mut builder.clone().commit_from_file(&plain).unwrap());
    let mut session = open(&by(ALICE)).unwrap().into_session(builder).unwrap();
    assert_close("signed", &expected, &run(&mut session));
    drop(session);
    let kind = |by: &SignedBy| open(by).unwrap_err().kind();
    assert_eq!(kind(&by(BOB)), ErrorKind::Authentication);
    let weights = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut weights = weights.map(|entry| entry.unwrap().path());
    let weights = weights.find(|other| *other != path).unwrap();
    fs::write(&weights, flipped(&fs::read(&weights).unwrap(), N_BYTES / 2)).unwrap();
    assert_eq!(kind(&by(ALICE)), ErrorKind::Authentication);
}
