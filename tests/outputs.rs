//! Where outputs may not go: over each other, over other models, over a new key.
#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs)]

mod lab;

use std::fs;
use std::os::unix::fs::symlink;

use lab::{Lab, contents};
use onnxseal_testkit::build;

#[test]
fn several_files_never_replace_others() {
    let lab = Lab::new();
    with_external_files(&lab, &["w.bin"]);
    let protect = ["-q", "protect", "m/model.onnx", "-r", &lab.recipient];
    lab.expect(0, &[&protect[..], &["-o", "out/model.onnx"]].concat());
    let before = contents(lab.dir.path());
    let (_, err) = lab.expect(
        2,
        &[&protect[..], &["-o", "out/model.onnx", "--force"]].concat(),
    );
    assert!(err.contains("new folder"), "{err}");
    let (_, err) = lab.expect(
        2,
        &[&protect[..], &["-o", "out/other.onnx", "--force"]].concat(),
    );
    assert!(err.contains("new folder"), "{err}");
    let back = [
        "unprotect",
        "out/model.onnx",
        "-i",
        "id.txt",
        "-o",
        "m/model.onnx",
    ];
    lab.expect(2, &[&back[..], &["--force"]].concat());
    assert!(contents(lab.dir.path()) == before);
}

/// Writes a model whose external files stand at `locations`, into the folder `m`.
fn with_external_files(lab: &Lab, locations: &[&str]) {
    let mut graph = build::GraphBuilder::new("several").input("x", &[1, 4]);
    for (i, location) in locations.iter().enumerate() {
        let (w, from, to) = (format!("w{i}"), format!("x{i}"), format!("x{}", i + 1));
        let from = if i == 0 { "x" } else { &from };
        graph = graph
            .initializer(build::external(&w, &[4, 4], location, None, None))
            .node(build::node("MatMul", &[from, &w], &[&to]));
        let path = lab.path("m").join(location);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, build::le_bytes(&build::floats(16, i as u32))).unwrap();
    }
    let output = format!("x{}", locations.len());
    fs::write(
        lab.path("m/model.onnx"),
        graph.output(&output, &[1, 4]).encode(),
    )
    .unwrap();
}

#[test]
fn an_external_file_does_not_take_the_place_of_the_new_identity() {
    let lab = Lab::new();
    with_external_files(&lab, &["model.onnx.identity.txt"]);
    for force in [&[][..], &["--force"]] {
        let args = [&["protect", "m/model.onnx", "-o", "out/model.onnx"], force].concat();
        lab.expect(2, &args);
        assert!(!lab.path("out/model.onnx").exists());
        assert!(!lab.path("out/model.onnx.identity.txt").exists());
    }
}

#[test]
fn two_outputs_do_not_become_one_through_a_link() {
    let lab = Lab::new();
    with_external_files(&lab, &["a/w.bin", "b/w.bin"]);
    fs::create_dir_all(lab.path("out/a")).unwrap();
    symlink("a", lab.path("out/b")).unwrap();
    for force in [&[][..], &["--force"]] {
        let args = [
            "protect",
            "m/model.onnx",
            "-o",
            "out/model.onnx",
            "-r",
            &lab.recipient,
        ];
        lab.expect(2, &[&args[..], force].concat());
        assert!(!lab.path("out/model.onnx").exists() && !lab.path("out/a/w.bin").exists());
    }
}

#[test]
fn one_external_file_a_tensor_is_not_too_many() {
    let lab = Lab::new();
    let locations: Vec<String> = (0..600).map(|i| format!("w{i}.bin")).collect();
    let locations: Vec<&str> = locations.iter().map(String::as_str).collect();
    with_external_files(&lab, &locations);
    let tool = env!("CARGO_BIN_EXE_onnxseal");
    let recipient = &lab.recipient;
    let script = format!(
        "ulimit -Sn 256; '{tool}' -q protect m/model.onnx -o out/model.onnx --no-sync -r {recipient} && \
         '{tool}' -q unprotect out/model.onnx -i id.txt -o back/model.onnx --no-sync"
    );
    let output = lab.shell(&script).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for location in locations {
        let read = |folder: &str| fs::read(lab.path(folder).join(location)).unwrap();
        assert!(read("back") == read("m"));
    }
}
