//! What the command prints, and to whom: pipes that break, outputs that fail, silence, a progress bar.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use onnxseal_testkit::build::{GraphBuilder, external, node};

use crate::lab::{self, Lab};

/// The main commands, each of which prints something.
fn commands(lab: &Lab) -> Vec<Vec<&str>> {
    vec![
        vec!["plan", "plain/model.onnx"],
        vec!["plan", "plain/model.onnx", "--json"],
        vec![
            "protect",
            "plain/model.onnx",
            "-o",
            "x",
            "--force",
            "-r",
            &lab.recipient,
        ],
        vec!["inspect", "sealed/model.onnx"],
        vec!["verify", "sealed/model.onnx"],
        vec!["verify", "sealed/model.onnx", "-i", "id.txt", "--json"],
        vec![
            "unprotect",
            "sealed/model.onnx",
            "-i",
            "id.txt",
            "-o",
            "x",
            "--force",
        ],
        vec!["verify", "sealed", "-i", "id.txt"],
        vec!["verify", "sealed", "--sarif"],
        vec!["keygen"],
        vec!["--help"],
    ]
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let lab = Lab::with_models();
    for args in commands(&lab) {
        let mut command = lab.command(&args);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), err.as_str()),
            (Some(0), ""),
            "{args:?}"
        );
    }
    let script = "\"$0\" plan plain/model.onnx --json | head -1";
    let output = lab.shell(script).output().unwrap();
    assert_eq!(
        (lab::stdout(&output).as_str(), output.stderr.len()),
        ("{\n", 0)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_printed_is_a_fault_without_a_panic() {
    let lab = Lab::with_models();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for args in commands(&lab) {
        if args == ["--help"] {
            continue; // The argument parser's own matter.
        }
        let output = lab.command(&args).stdout(full()).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(7), "{args:?}: {err}");
        assert!(err.contains("os error 28"), "{args:?}: {err}");
    }
    // Errors and notes that cannot be printed either change nothing.
    for (code, args) in [
        (7, vec!["plan", "absent"]),
        (0, vec!["protect", "plain/model.onnx", "-o", "y"]),
    ] {
        let status = lab
            .command(&args)
            .stdout(Stdio::null())
            .stderr(full())
            .status();
        assert_eq!(status.unwrap().code(), Some(code), "{args:?}");
    }
}

#[test]
fn quiet_is_quiet() {
    let lab = Lab::with_models();
    for args in [
        vec![
            "protect",
            "plain/model.onnx",
            "-o",
            "x",
            "-r",
            &lab.recipient,
        ],
        vec!["verify", "x", "-i", "id.txt", "--preset", "balanced"],
        vec!["unprotect", "x", "-i", "id.txt", "-o", "y"],
        vec!["protect", "y", "--in-place", "-r", &lab.recipient],
    ] {
        let (out, err) = lab.expect(0, &[&["-q"], &args[..]].concat());
        assert_eq!((out.as_str(), err.as_str()), ("", ""), "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_progress_bar_is_for_terminals() {
    let lab = Lab::new();
    let rows = 100 << 10;
    let model = GraphBuilder::new("large")
        .input("x", &[1, rows])
        .output("y", &[1, 1024])
        .initializer(external("w", &[rows, 1024], "w.bin", None, None))
        .node(node("MatMul", &["x", "w"], &["y"]))
        .encode();
    // 400 MiB of zeros, which take no room on the disk; protected in memory, where there is some.
    fs::create_dir(lab.path("plain")).unwrap();
    fs::write(lab.path("plain/model.onnx"), model).unwrap();
    let content = File::create(lab.path("plain/w.bin")).unwrap();
    content.set_len(rows as u64 * 4096).unwrap();
    let memory = Path::new("/dev/shm");
    let dir = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let sealed = dir.path().join("model.onnx");
    let sealed = sealed.to_str().unwrap();
    let args = [
        "-q",
        "protect",
        "plain/model.onnx",
        "-o",
        sealed,
        "-r",
        &lab.recipient,
    ];
    lab.expect(0, &args);

    // However fast the machine is, it takes half a second: it is stopped most of the time.
    let binary = env!("CARGO_BIN_EXE_onnxseal");
    let slowly = |flags: &str| {
        format!(
            "'{binary}' {flags} verify {sealed} -i id.txt & for i in 1 2 3 4 5 6 7 8 9 10; do \
             kill -STOP $!; sleep 0.05; kill -CONT $!; sleep 0.001; done 2>/dev/null; wait $!"
        )
    };
    let output = lab.shell(&slowly("")).output().unwrap();
    assert!(lab::stdout(&output).contains("authentic"), "{output:?}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");

    let on_terminal = |line: &str| {
        let output = lab.on_terminal(line)?;
        output.status.success().then(|| lab::stdout(&output))
    };
    let Some(quiet) = on_terminal(&slowly("-q")) else {
        eprintln!("skipped: a bar on a terminal needs the program `script` of util-linux");
        return;
    };
    assert_eq!(quiet, "");
    // On a busy machine the shell may sleep while the command runs to its end: try again.
    let is_shown = |_| on_terminal(&slowly("")).is_some_and(|loud| loud.contains(" left"));
    assert!((0..20).any(is_shown), "no bar in 20 tries");
}

#[cfg(unix)]
#[test]
fn a_passphrase_is_typed_on_the_terminal() {
    let lab = Lab::new();
    let model = lab.model();
    let binary = env!("CARGO_BIN_EXE_onnxseal");
    let type_into = |answers: &[&str], args: &[&str]| {
        let mut typing = lab.typing(answers, &[&[binary], args].concat());
        let output = typing.output().ok()?;
        Some((output.status.code(), lab::stdout(&output)))
    };
    let protect = ["-q", "protect", model, "-o", "sealed.onnx", "--passphrase"];
    let Some((code, shown)) = type_into(&["correct horse", "correct house"], &protect) else {
        eprintln!("skipped: a terminal of one's own needs python3");
        return;
    };
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("the two passphrases differ"), "{shown}");
    let (code, shown) = type_into(&["", ""], &protect).unwrap();
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("it is empty"), "{shown}");
    assert!(!lab.path("sealed.onnx").exists());

    let (code, shown) = type_into(&["correct horse"; 2], &protect).unwrap();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("new passphrase: ") && shown.contains("the same again: "));
    assert!(!shown.contains("horse"), "{shown}");
    let unprotect = [
        "-q",
        "unprotect",
        "sealed.onnx",
        "-o",
        "back.onnx",
        "--passphrase",
    ];
    let (code, shown) = type_into(&["correct house"], &unprotect).unwrap();
    assert_eq!(code, Some(5), "{shown}");
    assert!(
        shown.contains("wrong passphrase for sealed.onnx"),
        "{shown}"
    );
    let (code, shown) = type_into(&["correct horse"], &unprotect).unwrap();
    assert_eq!(code, Some(0), "{shown}");
    assert!(fs::read(lab.path("back.onnx")).unwrap() == fs::read(lab.path(model)).unwrap());
    // It goes to the terminal, wherever the output goes.
    let line = format!("exec '{binary}' verify sealed.onnx --passphrase >out.txt 2>&1");
    let mut typing = lab.typing(&["correct horse"], &["sh", "-c", &line]);
    let shown = lab::stdout(&typing.output().unwrap());
    assert!(shown.contains("passphrase of the model: "), "{shown}");
    let out = fs::read_to_string(lab.path("out.txt")).unwrap();
    assert!(
        out.contains("authentic") && !out.contains("passphrase"),
        "{out}"
    );
}
