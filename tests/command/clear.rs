//! What would stay in clear fails each command, unless it is allowed by name or rewritten.

use std::fs;

use onnxseal_onnx::proto::TensorProto;
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_testkit::build::{GraphBuilder, bare_tensor, external, floats, le_bytes, node};
use onnxseal_testkit::{Sample, samples};
use serde_json::Value;

use crate::lab::{Lab, contents};

/// A lab with `zoo/model.onnx`: `h` in varints, and `w` in `zoo/w.bin` behind 32 bytes of no tensor.
fn lab() -> Lab {
    let halves = TensorProto {
        int32_data: (0..16).map(|i| 0x3c00 + 7 * i).collect(),
        ..bare_tensor("h", DataType::Float16, &[4, 4])
    };
    let model = GraphBuilder::new("clear")
        .input("x", &[1, 4])
        .output("y", &[1, 4])
        .initializer(external("w", &[4, 4], "w.bin", Some(32), None))
        .initializer(halves)
        .node(node("MatMul", &["x", "w"], &["t"]))
        .node(node("MatMul", &["t", "h"], &["y"]))
        .encode();
    let data = [&[0x5a; 32], &le_bytes(&floats(16, 1))[..]].concat();
    let files = vec![("w.bin", data)];
    let name = "clear";
    let lab = Lab::new();
    fs::create_dir(lab.path("zoo")).unwrap();
    let sample = Sample { name, model, files };
    sample.write(&lab.path("zoo")).unwrap();
    lab
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

const MODEL: &str = "zoo/model.onnx";
const NAMED: [&str; 4] = [
    "tensor \"h\" (graph.initializer[1]) cannot be encrypted: its elements are varints (int32_data)",
    "32 bytes of \"w.bin\" from offset 0 on belong to no tensor, and stay in clear",
    "--repack",
    "--allow-clear NAME",
];

#[track_caller]
fn says_all(err: &str) {
    for text in NAMED {
        assert!(err.contains(text), "{text}: {err}");
    }
}

#[test]
fn what_would_stay_in_clear_fails_under_every_preset() {
    let lab = lab();
    let to = ["-o", "out/model.onnx", "-r", &lab.recipient];
    for preset in ["full", "strong", "balanced"] {
        for args in [
            &[&["protect", MODEL][..], &to].concat()[..],
            &[&["-q", "protect", MODEL][..], &to].concat(),
            &["protect", MODEL, "-o", "out/model.onnx"],
            &["plan", MODEL],
            &[
                "batch",
                "protect",
                "zoo",
                "--out",
                "all",
                "-r",
                &lab.recipient,
            ],
            &[
                "-q",
                "batch",
                "protect",
                "zoo",
                "--out",
                "all",
                "-r",
                &lab.recipient,
            ],
        ] {
            let (_, err) = lab.expect(6, &[args, &["--preset", preset]].concat());
            says_all(&err);
        }
    }
    let names = contents(lab.dir.path()).into_iter().map(|(path, _)| path);
    let left = names.filter(|path| !path.starts_with(lab.path("all/.onnxseal")));
    let expected = ["id.txt", MODEL, "zoo/w.bin"].map(|name| lab.path(name));
    assert_eq!(left.collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_allowed_by_name_stays_and_is_told() {
    let lab = lab();
    let protect = [
        "protect",
        MODEL,
        "-o",
        "out/model.onnx",
        "-r",
        &lab.recipient,
    ];
    let one = ["--allow-clear", "h"];
    let both = ["--allow-clear", "h", "--allow-clear", "w.bin"];
    let (_, err) = lab.expect(6, &[&protect[..], &one].concat());
    assert!(!err.contains(NAMED[0]) && err.contains(NAMED[1]), "{err}");
    lab.expect(0, &[&protect[..], &both].concat());
    let sealed = "out/model.onnx";
    let (out, _) = lab.expect(0, &["inspect", sealed]);
    let told = "left in clear: 32 B of w.bin from offset 0 on, in no tensor";
    assert!(out.contains(told) && out.contains("varints"), "{out}");
    let verify = ["verify", sealed, "--preset", "full"];
    let (_, err) = lab.expect(6, &verify);
    assert!(err.contains(NAMED[0]) && err.contains(NAMED[1]), "{err}");
    lab.expect(6, &[&verify[..], &one].concat());
    let (out, _) = lab.expect(0, &[&verify[..], &both].concat());
    // Of `w`, `h` and what lies before `w`.
    assert!(
        out.contains("64 B of 128 B of all tensors encrypted (50.0 %)"),
        "{out}"
    );
    let (_, err) = lab.expect(2, &["verify", sealed, "--allow-clear", "h"]);
    assert!(err.contains("give a policy or a preset"), "{err}");
    let rotate = [
        "rotate",
        sealed,
        "-o",
        "new/model.onnx",
        "-i",
        "id.txt",
        "-r",
        &lab.recipient,
    ];
    let full = ["--preset", "full"];
    lab.expect(6, &[&rotate[..], &full].concat());
    lab.expect(0, &[&rotate[..], &full, &both].concat());
    let (_, err) = lab.expect(6, &["plan", MODEL, "--allow-clear", "hh"]);
    assert!(
        err.contains("the name \"hh\" that may stay in clear matches nothing"),
        "{err}"
    );
    let batch = [
        "batch",
        "protect",
        "zoo",
        "--out",
        "all",
        "-r",
        &lab.recipient,
    ];
    lab.expect(6, &[&batch[..], &one].concat());
    lab.expect(0, &[&batch[..], &both, &["--allow-clear", "hh"]].concat());
}

#[test]
fn repacking_leaves_nothing_and_says_so() {
    let lab = lab();
    let protect = |to, more: &[&str]| {
        let args = ["protect", MODEL, "-o", to, "-r", &lab.recipient, "--repack"];
        lab.expect(0, &[&args[..], more].concat())
    };
    let (_, err) = protect("out/model.onnx", &[]);
    for text in [
        "1 tensor(s) moved to raw_data",
        "32 byte(s) outside all tensors are zeros",
    ] {
        assert!(err.contains(text), "{text}: {err}");
    }
    let (out, _) = protect("two/model.onnx", &["--json"]);
    let report = json(&out);
    assert_eq!(report["repacked"]["tensors"], 1);
    assert_eq!(report["repacked"]["zeroed_bytes"], 32);
    assert_eq!(report["weights"]["share"], 1.0);
    lab.expect(
        0,
        &[
            "verify",
            "out/model.onnx",
            "-i",
            "id.txt",
            "--preset",
            "full",
        ],
    );
    lab.expect(
        0,
        &[
            "unprotect",
            "out/model.onnx",
            "-i",
            "id.txt",
            "-o",
            "back/model.onnx",
        ],
    );
    let back = fs::read(lab.path("back/w.bin")).unwrap();
    assert_eq!(back, [&[0; 32], &le_bytes(&floats(16, 1))[..]].concat());
    // What came back is whole where it lies.
    let again = [
        "protect",
        "back/model.onnx",
        "-o",
        "again/model.onnx",
        "-r",
        &lab.recipient,
    ];
    lab.expect(0, &again);
}

/// The digests are those of the files as they lie there, so that a later run knows them.
#[test]
fn a_batch_that_repacks_resumes_by_digests() {
    let lab = lab();
    let run = |more: &[&str], code: i32, expected: [u64; 3]| {
        let args = [
            "batch",
            "protect",
            "zoo",
            "--out",
            "out",
            "-r",
            &lab.recipient,
        ];
        let how = ["--resume", "--report", "r.json"];
        lab.expect(code, &[&args[..], &how, more].concat());
        let report = json(&fs::read_to_string(lab.path("r.json")).unwrap());
        let found = ["done", "skipped", "failed"].map(|name| report["totals"][name].clone());
        assert_eq!(found, expected.map(Value::from), "{more:?}: {report}");
        report
    };
    let report = run(&["--repack", "--checksum"], 0, [1, 0, 0]);
    let read = report["models"][0]["input_files"].as_array().unwrap();
    assert_eq!(read.len(), 2);
    for (file, name) in read.iter().zip([MODEL, "zoo/w.bin"]) {
        let bytes = fs::read(lab.path(name)).unwrap();
        assert_eq!(file["bytes"], bytes.len() as u64);
        assert_eq!(file["blake3"], &*blake3::hash(&bytes).to_hex());
    }
    run(&["--repack", "--checksum"], 0, [0, 1, 0]);
    run(&["--repack"], 0, [0, 1, 0]);
    let mut data = fs::read(lab.path("zoo/w.bin")).unwrap();
    data[0] ^= 1;
    fs::write(lab.path("zoo/w.bin"), data).unwrap();
    run(&["--repack", "--checksum"], 0, [1, 0, 0]);
    // Without, it is another request.
    run(&[], 6, [0, 0, 1]);
}

#[test]
fn a_model_of_which_nothing_is_encrypted_fails() {
    let lab = Lab::new();
    let empty = GraphBuilder::new("empty")
        .input("x", &[1])
        .output("y", &[1]);
    fs::create_dir(lab.path("zoo")).unwrap();
    fs::write(
        lab.path(MODEL),
        empty.node(node("Relu", &["x"], &["y"])).encode(),
    )
    .unwrap();
    fs::write(lab.path("zoo/gemm.onnx"), samples::gemm()).unwrap();
    for quiet in [&[][..], &["-q"]] {
        let args = ["protect", MODEL, "-o", "out.onnx", "-r", &lab.recipient];
        let (_, err) = lab.expect(6, &[quiet, &args].concat());
        assert!(err.contains("nothing is encrypted"), "{err}");
        let args = [
            "batch",
            "protect",
            "zoo",
            "--out",
            "all",
            "--force",
            "-r",
            &lab.recipient,
        ];
        let (out, err) = lab.expect(6, &[quiet, &args].concat());
        assert!(err.contains("nothing is encrypted"), "{err}");
        assert!(quiet.len() == 1 || out.contains("1 failed"), "{out}");
    }
    assert!(!lab.path("out.onnx").exists());
    // Who asks for nothing gets nothing.
    fs::write(lab.path("none.toml"), "[default]\ncoefficient = 0\n").unwrap();
    let args = ["protect", MODEL, "-o", "out.onnx", "-r", &lab.recipient];
    lab.expect(0, &[&args[..], &["--policy", "none.toml"]].concat());
}
