//! Faults at chosen system calls, with `strace`: what `tests/kill.rs` meets by chance, here every
//! time. Says that it skips where there is no `strace`, or where it may not trace.

use std::fs;
use std::process::{Command, Output};

use onnxseal_testkit::samples;

use crate::lab::{self, Lab, contents};

/// The system calls by which outputs come to be.
const CALLS: [&str; 6] = [
    "ftruncate",
    "fchmod",
    "pwrite64",
    "fsync",
    "linkat",
    "rename,renameat,renameat2",
];

/// How often each of them is tried.
const TIMES: u32 = 4;

/// Runs the command while the `nth` call of `calls` gets `fault`; `None` where that cannot be done.
fn inject(lab: &Lab, calls: &str, fault: &str, nth: u32, args: &[&str]) -> Option<Output> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null"]);
    strace.arg(format!("--trace={calls}"));
    strace.arg(format!("--inject={calls}:{fault}:when={nth}"));
    strace.arg(env!("CARGO_BIN_EXE_onnxseal")).args(args);
    strace.current_dir(lab.dir.path()).output().ok()
}

fn can_inject(lab: &Lab) -> bool {
    let output = inject(lab, "write", "error=EIO", 1, &["keygen"]);
    let can = output.is_some_and(|output| output.status.code() == Some(7));
    if !can {
        eprintln!("skipped: injecting faults needs strace, and leave to trace");
    }
    can
}

/// A lab with a model that has external data in `plain`, and its protected form in `sealed`.
fn lab_with_external_data() -> Lab {
    let lab = Lab::with_sample(&samples::external_data());
    fs::write(lab.path("single.onnx"), samples::conv_net()).unwrap();
    lab
}

#[test]
fn a_call_that_fails_leaves_everything_as_it_was() {
    let lab = lab_with_external_data();
    if !can_inject(&lab) {
        return;
    }
    let cases = [
        vec![
            "-q",
            "protect",
            "plain/model.onnx",
            "-o",
            "out/model.onnx",
            "-r",
            &lab.recipient,
            "--sync",
        ],
        vec![
            "-q",
            "unprotect",
            "sealed/model.onnx",
            "-i",
            "id.txt",
            "-o",
            "out/model.onnx",
        ],
        vec![
            "-q",
            "protect",
            "single.onnx",
            "--in-place",
            "-r",
            &lab.recipient,
        ],
    ];
    let before = contents(lab.dir.path());
    let mut failures = 0;
    for args in cases {
        for calls in CALLS {
            for nth in 1..=TIMES {
                let output = inject(&lab, calls, "error=EIO", nth, &args).unwrap();
                let err = String::from_utf8_lossy(&output.stderr);
                let shown = format!("{args:?}, {calls} {nth}: {err}");
                match output.status.code() {
                    Some(7) => {
                        failures += 1;
                        assert!(err.contains("os error 5"), "{shown}");
                        assert!(contents(lab.dir.path()) == before, "{shown}");
                    }
                    // There are fewer such calls, or the tool has another way: it is all there.
                    Some(0) => {
                        let made = args
                            .iter()
                            .find(|arg| arg.ends_with(".onnx") && **arg != args[2]);
                        let made = made.copied().unwrap_or(args[2]);
                        let original = fs::read(lab.path("plain/model.onnx")).unwrap();
                        match args[1] {
                            "protect" => {
                                drop(lab.expect(0, &["-q", "verify", made, "-i", "id.txt"]))
                            }
                            _ => assert!(fs::read(lab.path(made)).unwrap() == original, "{shown}"),
                        }
                    }
                    code => panic!("{code:?}: {shown}"),
                }
                let _ = fs::remove_dir_all(lab.path("out"));
                fs::write(lab.path("single.onnx"), samples::conv_net()).unwrap();
            }
        }
    }
    assert!(failures > 10, "{failures}");
}

#[test]
fn a_kill_at_a_call_leaves_an_output_whole_or_absent() {
    let lab = lab_with_external_data();
    if !can_inject(&lab) {
        return;
    }
    let sample = samples::external_data();
    let locations: Vec<_> = sample
        .files
        .iter()
        .map(|(name, _)| lab.path("out").join(name))
        .collect();
    let model = lab.path("out/model.onnx");
    let protect = [
        "-q",
        "protect",
        "plain/model.onnx",
        "-o",
        "out/model.onnx",
        "-r",
        &lab.recipient,
    ];
    let in_place = [
        "-q",
        "protect",
        "there/model.onnx",
        "--in-place",
        "-r",
        &lab.recipient,
    ];
    let mut kills = 0;
    for calls in CALLS {
        for nth in 1..=TIMES {
            fs::create_dir(lab.path("out")).unwrap();
            let output = inject(&lab, calls, "signal=KILL", nth, &protect).unwrap();
            kills += u32::from(!output.status.success());
            let found = contents(&lab.path("out"));
            if found.iter().any(|(path, _)| *path == model) {
                lab.expect(0, &["verify", "out/model.onnx", "-i", "id.txt"]);
            }
            for (path, _) in found {
                assert!(
                    path == model || locations.contains(&path),
                    "{calls} {nth}: {}",
                    path.display()
                );
            }
            fs::remove_dir_all(lab.path("out")).unwrap();

            fs::create_dir(lab.path("there")).unwrap();
            fs::write(lab.path("there/model.onnx"), samples::conv_net()).unwrap();
            inject(&lab, calls, "signal=KILL", nth, &in_place).unwrap();
            for (path, bytes) in contents(&lab.path("there")) {
                let is_model = path.ends_with("model.onnx");
                if is_model && bytes == samples::conv_net() {
                    continue;
                }
                // Between link and rename the new file has a name of its own.
                let name = path.to_str().unwrap();
                assert!(
                    is_model || (name.contains(".onnxseal-") && calls.contains("rename")),
                    "{name}"
                );
                lab.expect(0, &["verify", name, "-i", "id.txt"]);
            }
            fs::remove_dir_all(lab.path("there")).unwrap();
        }
    }
    assert!(kills > 4, "{kills}");
}

/// While it has a hidden name, with which a kill leaves it behind.
#[test]
fn what_a_kill_leaves_of_plaintext_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let lab = lab_with_external_data();
    if !can_inject(&lab) {
        return;
    }
    let args = [
        "-q",
        "protect",
        "single.onnx",
        "-o",
        "one.onnx",
        "-r",
        &lab.recipient,
    ];
    lab.expect(0, &args);
    let args = [
        "-q",
        "unprotect",
        "one.onnx",
        "-o",
        "there/x",
        "-f",
        "-i",
        "id.txt",
    ];
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut hidden = 0;
    for calls in CALLS {
        for nth in 1..=TIMES {
            fs::create_dir(lab.path("there")).unwrap();
            fs::write(lab.path("there/x"), "old").unwrap();
            inject(&lab, calls, "signal=KILL", nth, &args).unwrap();
            for path in lab::files(&lab.path("there")) {
                if !path.ends_with("there/x") {
                    assert_eq!(mode(&path), 0o600, "{calls} {nth}");
                    hidden += 1;
                }
            }
            // The next command to write there removes it.
            lab.expect(0, &args);
            assert_eq!(lab::files(&lab.path("there")), [lab.path("there/x")]);
            assert_eq!(mode(&lab.path("there/x")), mode(&lab.path("one.onnx")));
            fs::remove_dir_all(lab.path("there")).unwrap();
        }
    }
    assert!(hidden > 0);
}

#[test]
fn a_batch_that_is_killed_at_any_step_is_resumed() {
    let lab = lab_with_external_data();
    if !can_inject(&lab) {
        return;
    }
    let sources = ["single.onnx", "plain"];
    let before = contents(&lab.path("plain"));
    let mut lot = 0;
    let mut killed = 0;
    // Each round makes anew, over what the one before it left, what stands there.
    for calls in ["pwrite64", "linkat", "unlink,unlinkat", "rename,renameat"] {
        for nth in 1..=8 {
            lot += 1;
            let claim = format!("lot={lot}");
            let args = [
                "-q", "batch", "protect", sources[0], sources[1], "--out", "out",
            ];
            let more = [
                "-r",
                &lab.recipient,
                "--resume",
                "--jobs",
                "1",
                "--claim",
                &claim,
            ];
            let args = [&args[..], &more].concat();
            let output = inject(&lab, calls, "signal=KILL", nth, &args).unwrap();
            killed += u32::from(!output.status.success());
            lab.expect(0, &args);
            // Nothing is left over, not even what had a name for a moment, nor a lock.
            for path in lab::files(&lab.path("out")) {
                let name = path.file_name().unwrap().to_string_lossy();
                let is_left = name.starts_with(".onnxseal-") || name.ends_with(".lock");
                assert!(!is_left, "{calls} {nth}: {path:?}");
            }
            lab.expect(0, &["-q", "batch", "verify", "out", "-i", "id.txt"]);
            lab.expect(
                0,
                &["batch", "unprotect", "out", "-i", "id.txt", "--out", "back"],
            );
            fs::remove_dir_all(lab.path("back/.onnxseal")).unwrap();
            let back = fs::read(lab.path("back/single.onnx")).unwrap();
            assert!(back == fs::read(lab.path("single.onnx")).unwrap());
            fs::remove_dir_all(lab.path("back")).unwrap();
        }
    }
    assert!(killed > 10, "only {killed} kills");
    assert!(contents(&lab.path("plain")) == before);
}
