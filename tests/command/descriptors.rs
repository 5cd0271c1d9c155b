//! Models of more external files than a process may have open.

use std::fs;

use onnxseal_testkit::build::{GraphBuilder, external, floats, le_bytes, node};
use onnxseal_testkit::samples::Sample;

use crate::lab::{self, Lab};

const N_FILES: usize = 300;

/// A model of a file for each weight, half of them in a folder.
fn many_files() -> Sample {
    let mut graph = GraphBuilder::new("many")
        .input("x0", &[1, 16])
        .output(&format!("x{N_FILES}"), &[1, 16]);
    let mut files = Vec::new();
    for i in 0..N_FILES {
        let (weight, folder) = (format!("w{i}"), ["", "below/"][i % 2]);
        let file = format!("{folder}{weight}.bin");
        let (from, to) = (format!("x{i}"), format!("x{}", i + 1));
        graph = graph
            .initializer(external(&weight, &[16, 16], &file, None, None))
            .node(node("MatMul", &[&from, &weight], &[&to]));
        files.push((&*file.leak(), le_bytes(&floats(256, i as u32))));
    }
    Sample {
        name: "many",
        model: graph.encode(),
        files,
    }
}

/// Runs the command where no more than `n_open` files can be open, which must exit with `code`; returns
/// what it says of errors.
fn limited(lab: &Lab, n_open: usize, code: i32, args: &[&str]) -> String {
    let script = format!("ulimit -Sn 64 && ulimit -Hn {n_open} && exec \"$0\" \"$@\"");
    let output = lab.shell(&script).args(args).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{err}");
    err
}

#[test]
fn models_of_many_files_are_read_where_few_can_be_open() {
    let lab = Lab::with_sample(&many_files());
    let read: [&[&str]; 5] = [
        &["-q", "plan", "plain/model.onnx"],
        &["-q", "inspect", "sealed/model.onnx"],
        &["-q", "verify", "sealed/model.onnx"],
        &["-q", "verify", "sealed/model.onnx", "-i", "id.txt"],
        &["-q", "verify", "sealed", "--require-protected"],
    ];
    for args in read {
        assert_eq!(limited(&lab, 100, 0, args), "", "{args:?}");
    }
    // In place only the model file is written.
    let rekey = ["-q", "rekey", "sealed/model.onnx", "-i", "id.txt", "-r"];
    limited(&lab, 100, 0, &[&rekey[..], &[&lab.recipient]].concat());
}

#[test]
fn writing_needs_as_many_files_as_it_says() {
    let lab = Lab::with_sample(&many_files());
    let write: [(&str, &[&str]); 4] = [
        ("protect", &["plain/model.onnx", "-r", &lab.recipient]),
        ("unprotect", &["sealed/model.onnx", "-i", "id.txt"]),
        (
            "rekey",
            &["sealed/model.onnx", "-i", "id.txt", "-r", &lab.recipient],
        ),
        (
            "rotate",
            &["sealed/model.onnx", "-i", "id.txt", "-r", &lab.recipient],
        ),
    ];
    for (verb, more) in write {
        let output = format!("{verb}/model.onnx");
        let args = [&["-q", verb], more, &["-o", &output]].concat();
        let err = limited(&lab, 200, 7, &args);
        assert!(err.contains("`ulimit -n`"), "{err}");
        assert!(err.contains("this process may have 200"), "{err}");
        assert!(!lab.path(verb).exists(), "{verb} leaves nothing behind");

        let needed = err.split_once("needs about ").unwrap().1;
        let needed = needed.split_once(' ').unwrap().0.parse().unwrap();
        assert!((N_FILES..2 * N_FILES).contains(&needed), "{err}");
        limited(&lab, needed, 0, &args);
        let files = lab::files(&lab.path(verb));
        assert_eq!(files.len(), N_FILES + 1, "{verb}");
    }
    for file in lab::files(&lab.path("plain")) {
        let name = file.strip_prefix(lab.path("plain")).unwrap();
        let restored = fs::read(lab.path("unprotect").join(name)).unwrap();
        assert!(restored == fs::read(&file).unwrap(), "{name:?}");
    }
}
