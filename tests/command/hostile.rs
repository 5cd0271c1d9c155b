//! Files made to do harm: refused with the exit code that says so and the place where it is, never
//! with a crash, and without memory beyond a limit.

use std::fs;
#[cfg(unix)]
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use onnxseal_onnx::tail;
use onnxseal_testkit::build::{GraphBuilder, external, in_domain, node, weights};
use onnxseal_testkit::{corrupt, samples, shared, wire};
use prost::Message;

use crate::lab::{self, Lab};

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `plan` and `protect` of `model` both exit with `code`; returns what `plan` prints as errors.
fn refuse(lab: &Lab, model: &str, code: i32) -> String {
    let (_, err) = lab.expect(code, &["plan", model]);
    let args = [
        "-q",
        "protect",
        model,
        "-o",
        "out/x.onnx",
        "-r",
        &lab.recipient,
    ];
    let (_, also) = lab.expect(code, &args);
    assert!(err == also || code == 0, "{err}{also}");
    assert_eq!(lab.path("out").exists(), code == 0, "{model}");
    let _ = fs::remove_dir_all(lab.path("out"));
    err
}

/// A MatMul whose weights `w` `[4, 3]` lie at `location`.
fn at(location: &str, offset: Option<u64>, length: Option<u64>) -> Vec<u8> {
    GraphBuilder::new("g")
        .input("x", &[1, 4])
        .output("y", &[1, 3])
        .initializer(external("w", &[4, 3], location, offset, length))
        .node(node("MatMul", &["x", "w"], &["y"]))
        .encode()
}

#[test]
fn files_that_others_made_to_do_harm() {
    /// 6 where the file is odd but harmless, and has no weights.
    const EXPECTED: [(&str, i32); 7] = [
        ("bad_data_type", 3),
        ("bad_names", 6),
        ("corrupt", 3),
        ("external_escapes_folder", 3),
        ("external_memory_address", 3),
        ("fuzz_518483", 6),
        ("tiny_file_large_tensor", 6),
    ];
    let Some(models) = shared::shared_models_in("hostile") else {
        return;
    };
    let lab = Lab::new();
    for path in models {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let expected = EXPECTED.iter().find(|(of, _)| *of == name);
        let (_, code) = expected.unwrap_or(&("", 3));
        let before = fs::read(&path).unwrap();
        let err = refuse(&lab, path.to_str().unwrap(), *code);
        let why = ["offset", "not an ONNX model", "nothing is encrypted"];
        let is_told = err.contains(name) && why.iter().any(|why| err.contains(why));
        assert!(*code == 0 || is_told, "{err}");
        assert!(fs::read(&path).unwrap() == before);
    }
}

#[cfg(unix)]
#[test]
fn external_data_stays_in_its_folder() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path("model/folder")).unwrap();
    fs::write(lab.path("outside.bin"), [0; 48]).unwrap();
    fs::write(lab.path("model/w.bin"), [0; 48]).unwrap();
    fs::write(lab.path("model/short.bin"), [0; 47]).unwrap();
    symlink("../outside.bin", lab.path("model/out.bin")).unwrap();
    symlink("w.bin", lab.path("model/in.bin")).unwrap();
    symlink("b.bin", lab.path("model/a.bin")).unwrap();
    symlink("a.bin", lab.path("model/b.bin")).unwrap();
    symlink("..", lab.path("model/up")).unwrap();
    let fifo = Command::new("mkfifo")
        .arg(lab.path("model/fifo.bin"))
        .status();
    assert!(fifo.unwrap().success());

    let cases: [(&str, i32, &[&str]); 13] = [
        ("w.bin", 0, &[]),
        ("in.bin", 0, &[]),
        (
            "../outside.bin",
            3,
            &[
                "tensor \"w\"",
                "graph.initializer[0]",
                "offset",
                "a part \"..\"",
            ],
        ),
        (
            "folder/../../outside.bin",
            3,
            &["tensor \"w\"", "offset", "a part \"..\""],
        ),
        (
            "/etc/hostname",
            3,
            &["tensor \"w\"", "offset", "/etc/hostname", "is absolute"],
        ),
        ("model.onnx", 3, &["\"model.onnx\"", "a file of its own"]),
        (
            "out.bin",
            3,
            &["\"out.bin\"", "below the model's folder", "outside.bin"],
        ),
        (
            "up/outside.bin",
            3,
            &["\"up/outside.bin\"", "below the model's folder"],
        ),
        ("folder", 3, &["\"folder\"", "a regular file"]),
        ("fifo.bin", 3, &["\"fifo.bin\"", "a regular file"]),
        ("a.bin", 7, &["a.bin"]),
        ("absent.bin", 7, &["absent.bin", "os error 2"]),
        (
            "short.bin",
            3,
            &[
                "tensor \"w\"",
                "graph.initializer[0]",
                "offset",
                "expected 48 bytes",
                "found a file of 47",
            ],
        ),
    ];
    for (location, code, says) in cases {
        fs::write(lab.path("model/model.onnx"), at(location, None, None)).unwrap();
        let err = refuse(&lab, "model/model.onnx", code);
        for say in says {
            assert!(err.contains(say), "{location}: {say}: {err}");
        }
        assert!(code == 0 || err.contains("model/"), "{location}: {err}");
    }
    for (offset, length) in [
        (1, None),
        (u64::MAX, None),
        (0, Some(u64::MAX)),
        (1 << 60, Some(48)),
    ] {
        fs::write(
            lab.path("model/model.onnx"),
            at("w.bin", Some(offset), length),
        )
        .unwrap();
        let err = refuse(&lab, "model/model.onnx", 3);
        assert!(err.contains("tensor \"w\""), "{err}");
    }
    // Two names of one file would be sealed twice.
    let twice = GraphBuilder::new("g")
        .initializer(external("v", &[4, 3], "w.bin", None, None))
        .initializer(external("w", &[4, 3], "in.bin", None, None))
        .encode();
    fs::write(lab.path("model/model.onnx"), twice).unwrap();
    assert!(refuse(&lab, "model/model.onnx", 3).contains("a file of its own"));
}

/// The manifest is authentic, the folder it is read in is not.
#[cfg(unix)]
#[test]
fn a_protected_model_does_not_lead_out_of_its_folder_either() {
    let lab = Lab::with_sample(&samples::external_data());
    fs::rename(lab.path("sealed/b.bin"), lab.path("b.bin")).unwrap();
    symlink("../b.bin", lab.path("sealed/b.bin")).unwrap();
    for args in [
        vec!["verify", "sealed/model.onnx"],
        vec!["verify", "sealed/model.onnx", "-i", "id.txt"],
        vec![
            "unprotect",
            "sealed/model.onnx",
            "-i",
            "id.txt",
            "-o",
            "out/x",
        ],
    ] {
        let (_, err) = lab.expect(3, &args);
        assert!(err.contains("below the model's folder"), "{err}");
        assert!(!lab.path("out").exists());
    }
}

#[test]
fn a_model_cut_anywhere_is_refused_or_a_smaller_model() {
    let lab = Lab::new();
    let gemm = samples::gemm();
    let ends: Vec<usize> = wire::fields(&gemm)
        .into_iter()
        .map(|(_, range)| range.end)
        .collect();
    let mut whole = 0;
    for len in 0..gemm.len() {
        fs::write(lab.path("cut.onnx"), corrupt::truncated(&gemm, len)).unwrap();
        let output = lab.run(&["plan", "cut.onnx"]);
        match output.status.code() {
            Some(3) => assert!(err(&output).contains("offset"), "{len}: {}", err(&output)),
            Some(0) => {
                assert!(ends.contains(&len), "cut to {len}");
                whole += 1;
            }
            code => panic!("cut to {len}: {code:?}"),
        }
    }
    assert!(whole > 0, "a model without its last fields is one");
}

/// What bytes can claim, against 512 MiB of addresses in all.
#[cfg(unix)]
#[test]
fn claims_cost_no_memory() {
    let lab = Lab::new();
    let tensor = |dims: &[u64], rest: &[u8]| {
        let dims: Vec<u8> = dims
            .iter()
            .flat_map(|&dim| wire::varint_field(1, dim))
            .collect();
        wire::model_of_tensors(&[[dims, wire::varint_field(2, 1), rest.to_vec()].concat()])
    };
    let many = |field: &[u8], n: usize| wire::field(7, &field.repeat(n));
    let gemm = samples::gemm();
    let second_graph = corrupt::field_duplicated(&gemm, 7);
    let twice = [wire::varint_field(2, 1), wire::varint_field(2, 1)].concat();
    let long = [
        &[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..],
        &gemm,
    ]
    .concat();
    let entry = wire::field(14, &[wire::field(1, b"k"), wire::field(2, b"v")].concat());
    let cases: [(&str, Vec<u8>, i32, &str); 14] = [
        ("empty", Vec::new(), 3, "empty file"),
        (
            "2^60 elements",
            tensor(&[1 << 60], &wire::field(9, &[0; 8])),
            3,
            "expected",
        ),
        (
            "2^80 elements",
            tensor(&[1 << 40, 1 << 40], &wire::field(9, &[0; 8])),
            3,
            "expected",
        ),
        ("2^60 elements elsewhere", at_dims(1 << 60), 3, "w"),
        (
            "a negative dimension",
            tensor(&[u64::MAX], &[]),
            3,
            "at least 0",
        ),
        ("a length of 2^56", long, 3, "truncated"),
        ("graphs in graphs", wire::nested_graphs(10_000), 3, "offset"),
        ("a second graph", second_graph, 3, "ModelProto.graph"),
        ("a field twice", tensor(&[0], &twice), 3, "a second"),
        (
            "a million dimensions",
            tensor(&vec![1; 1 << 20], &[]),
            3,
            "too many",
        ),
        (
            "a million nodes",
            many(&wire::field(1, &[]), 1 << 20),
            6,
            "nothing is encrypted",
        ),
        (
            "nodes without end",
            many(&wire::field(1, &[]), (1 << 20) + 1),
            3,
            "too many",
        ),
        (
            "tensors without end",
            many(&wire::field(5, &[]), 1 << 21),
            3,
            "offset",
        ),
        (
            "metadata without end",
            [entry.repeat(1 << 17), gemm].concat(),
            3,
            "too many",
        ),
    ];
    for (name, bytes, code, says) in cases {
        fs::write(lab.path("claim.onnx"), bytes).unwrap();
        let output = limited(&lab, 512, &["plan", "claim.onnx"]);
        let err = err(&output);
        assert_eq!(output.status.code(), Some(code), "{name}: {err}");
        assert!(err.contains(says), "{name}: {err}");
    }
    // The limit is one: a file that is mapped counts too.
    let large = fs::File::create(lab.path("large.onnx")).unwrap();
    large.set_len(600 << 20).unwrap();
    let output = limited(&lab, 512, &["plan", "large.onnx"]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
}

/// Many tensors through one operator to many others: what a plan keeps grows with the file, not with
/// all pairs of them.
#[cfg(unix)]
#[test]
fn tangles_cost_no_memory() {
    let lab = Lab::new();
    let names: Vec<String> = (0..1500).map(|i| format!("w{i}")).collect();
    let refs: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut graph = GraphBuilder::new("g").node(node("Concat", &refs, &["all"]));
    for name in &names {
        graph = graph.initializer(weights(name, &[16], 1));
    }
    for _ in 0..3000 {
        graph = graph.node(node("Conv", &["", "all"], &[]));
    }
    // Nodes that read nothing give the others no room.
    let empty = wire::field(1, &[]).repeat(900_000);
    let graph = [graph.graph().encode_to_vec(), empty].concat();
    fs::write(lab.path("tangle.onnx"), wire::field(7, &graph)).unwrap();
    for args in [
        &["plan", "tangle.onnx"][..],
        &["plan", "tangle.onnx", "--json"],
    ] {
        let output = limited(&lab, 512, args);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    }
}

/// Weights of `[n]` in a file of 48 bytes.
fn at_dims(n: i64) -> Vec<u8> {
    let w = external("w", &[4, 3], "claim.onnx", None, None);
    let w = onnxseal_onnx::proto::TensorProto { dims: vec![n], ..w };
    GraphBuilder::new("g").initializer(w).encode()
}

/// Runs the command with so many MiB of addresses.
#[cfg(unix)]
fn limited(lab: &Lab, mib: u32, args: &[&str]) -> Output {
    let script = format!("ulimit -v {}; exec \"$0\" \"$@\"", mib << 10);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &script, env!("CARGO_BIN_EXE_onnxseal")])
        .args(args);
    shell.current_dir(lab.dir.path()).output().unwrap()
}

#[cfg(unix)]
#[test]
fn names_cannot_move_the_cursor() {
    let evil = "\u{1b}[2J\u{9b}1A\r\u{202e}evil\nline";
    let lab = Lab::new();
    let model = |location: &str| {
        let mut graph = GraphBuilder::new(evil)
            .input("x", &[1, 64])
            .output(&format!("{evil}3"), &[1, 64])
            .initializer(weights(evil, &[64, 64], 1))
            .initializer(weights(&format!("{evil}2"), &[64, 64], 2))
            .node(node("MatMul", &["x", evil], &["h"]))
            .node(in_domain(
                evil,
                node(evil, &["h", &format!("{evil}2")], &[&format!("{evil}3")]),
            ));
        if !location.is_empty() {
            graph = graph.initializer(external("w", &[64], location, None, None));
        }
        graph.encode()
    };
    let clean = |args: &[&str], code: i32| {
        let output = lab.run(args);
        let text = lab::stdout(&output) + &err(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains("evil"), "{args:?}: {text}");
        let moves = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(moves), "{args:?}: {text:?}");
        assert!(
            args.contains(&"--json") || code != 0 || !text.contains("evil\nline"),
            "{text}"
        );
    };
    fs::write(lab.path("model.onnx"), model("")).unwrap();
    clean(&["plan", "model.onnx"], 0);
    // As an override by name, an operator without a rule stands in the tables of types too.
    let policy = "preset = \"full\"\n[[override]]\ninitializer = \"*\"\ncoefficient = 1.0\n";
    fs::write(lab.path("policy.toml"), policy).unwrap();
    let claim = format!("{evil}={evil}");
    let args = [
        "protect",
        "model.onnx",
        "-o",
        "s.onnx",
        "-r",
        &lab.recipient,
        "--claim",
        &claim,
    ];
    clean(&[&args[..], &["--policy", "policy.toml"]].concat(), 0);
    clean(&["inspect", "s.onnx"], 0);
    clean(&["verify", "s.onnx"], 0);
    clean(&["verify", "s.onnx", "-i", "id.txt"], 0);
    let strict = "preset = \"strong\"\n[require]\nunknown_op = \"error\"\n";
    fs::write(lab.path("strict.toml"), strict).unwrap();
    clean(&["plan", "model.onnx", "--policy", "strict.toml"], 6);

    fs::write(lab.path("model.onnx"), model(evil)).unwrap();
    clean(&["plan", "model.onnx"], 7);
    fs::write(lab.path("model.onnx"), model(&format!("/{evil}"))).unwrap();
    clean(&["plan", "model.onnx"], 3);
    fs::write(lab.path(evil), "no model").unwrap();
    clean(&["plan", evil], 3);
    let forged = [
        samples::gemm(),
        tail::encode(&[("onnxseal.\u{1b}evil", b"")], false),
    ]
    .concat();
    fs::write(lab.path("forged.onnx"), forged).unwrap();
    clean(&["inspect", "forged.onnx"], 3);
}
