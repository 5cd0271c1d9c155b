//! Identities that a program prints: what it gets, and how it is ended.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::lab::Lab;

/// Opens the model `sealed.onnx` with what `line` prints.
fn verify(line: &str) -> [&str; 5] {
    ["-q", "verify", "sealed.onnx", "--identity-command", line]
}

/// Whether the process that wrote its number to the file `name` still runs. One that nobody waited
/// for has ended all the same.
fn runs(lab: &Lab, name: &str) -> bool {
    let pid = fs::read_to_string(lab.path(name)).unwrap();
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until the process that wrote its number to the file `name` has ended.
fn ends(lab: &Lab, name: &str) {
    let begun = Instant::now();
    while runs(lab, name) {
        assert!(begun.elapsed() < Duration::from_secs(10), "it still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_command_prints_the_identity() {
    let lab = Lab::new();
    lab.protected();
    fs::copy(lab.path("id.txt"), lab.path("my key $HOME;x.txt")).unwrap();
    for line in [
        "cat id.txt",
        "  cat 'my key $HOME;x.txt' ",
        r#"cat "my key \$HOME;x.txt""#,
        r"cat my\ key\ \$HOME\;x.txt",
        // A shell only where one is named.
        "sh -c 'cat id.txt | cat'",
    ] {
        let args = [
            "-q",
            "unprotect",
            "sealed.onnx",
            "-o",
            "back.onnx",
            "--force",
        ];
        lab.expect(0, &[&args[..], &["--identity-command", line]].concat());
        assert_eq!(
            fs::read(lab.path("back.onnx")).unwrap(),
            fs::read(lab.path("model.onnx")).unwrap()
        );
    }
    // Beside a file, and before the environment.
    lab.expect(0, &["keygen", "-o", "other.txt"]);
    let line = ["--identity-command", "cat id.txt"];
    let args = ["verify", "sealed.onnx", "-i", "other.txt"];
    lab.expect(0, &[&args[..], &line].concat());
    let mut command = lab.command(&verify("cat other.txt"));
    let output = command.env("ONNXSEAL_IDENTITY", "id.txt").output();
    assert_eq!(output.unwrap().status.code(), Some(5));
}

/// Programs inherit what is ignored, and the system then forgets how children ended.
#[test]
fn a_command_ends_where_the_signal_of_its_end_is_ignored() {
    let lab = Lab::new();
    lab.protected();
    let script = r#"trap "" CHLD; exec "$0" -q verify sealed.onnx --identity-command "$@""#;
    for (line, code) in [("cat id.txt", 0), ("sh -c 'cat id.txt; exit 3'", 7)] {
        let output = lab.shell(script).arg(line).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{err}");
    }
    if !Path::new("/dev/shm").is_dir() {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let script = r#"trap "" CHLD; exec timeout 60 "$0" -q run -i id.txt --into "$1" --allow-swap sealed.onnx -- sh -c 'exit 42'"#;
    let output = lab.shell(script).arg(folder.path()).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(42), "{err}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn no_output_takes_the_place_of_a_file_that_a_command_reads() {
    let lab = Lab::new();
    lab.protected();
    fs::copy(lab.path("id.txt"), lab.path("key with space")).unwrap();
    for (line, file) in [
        ("cat id.txt", "id.txt"),
        ("cat 'key with space'", "key with space"),
        ("sh -c 'cat <id.txt | cat'", "id.txt"),
        ("sed -e s,a,a, ./id.txt", "id.txt"),
        ("dd status=none if=id.txt", "id.txt"),
    ] {
        let before = fs::read(lab.path(file)).unwrap();
        let args = [
            "-q",
            "unprotect",
            "sealed.onnx",
            "-f",
            "--identity-command",
            line,
        ];
        let (_, err) = lab.expect(2, &[&args[..], &["-o", file]].concat());
        assert!(err.contains("which is read"), "{line}: {err}");
        assert_eq!(fs::read(lab.path(file)).unwrap(), before);
        lab.expect(0, &[&args[..], &["-o", "back.onnx"]].concat());
    }
}

#[test]
fn a_command_has_standard_error_and_no_standard_input() {
    let lab = Lab::new();
    lab.protected();
    let line = "sh -c 'cat >heard; echo token touched >&2; cat id.txt'";
    let mut command = lab.command(&verify(line));
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"said").unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*err), (Some(0), "token touched\n"));
    assert_eq!(fs::read(lab.path("heard")).unwrap(), b"");
}

#[test]
fn a_command_that_fails_is_named_and_its_output_is_not() {
    let lab = Lab::new();
    lab.protected();
    let seconds = Duration::from_secs(30);
    for (line, code, said) in [
        ("sh -c 'cat id.txt; exit 3'", 7, "it failed: exit status: 3"),
        ("sh -c 'cat id.txt; kill -9 $$'", 7, "it failed: signal: 9"),
        ("no-such-program id.txt", 7, "the output of no-such-program"),
        ("true", 2, "the output of true: malformed identity file"),
        ("echo hunter2", 2, "the output of echo: malformed"),
        ("yes hunter2", 7, "it prints more than 262144 bytes"),
        (
            "sh -c 'echo $$ >pid; exec sleep 61'",
            7,
            "it did not end within 1 seconds",
        ),
        // What it starts ends with it, whatever keeps the pipe open.
        (
            "sh -c 'sleep 61 & echo $! >pid; wait'",
            7,
            "it did not end within 1 seconds",
        ),
        (
            "sh -c 'cat id.txt; echo $$ >pid; exec sleep 61 >&-'",
            7,
            "within 1 seconds",
        ),
        ("", 2, "names a program"),
        (
            "cat 'id.txt",
            2,
            "each quote in an identity command is closed",
        ),
        (
            &format!("echo AGE-SECRET-KEY-1{}", "Q".repeat(58)),
            2,
            "--identity-command holds a key",
        ),
    ] {
        let _ = fs::remove_file(lab.path("pid"));
        let begun = Instant::now();
        let mut command = lab.command(&verify(line));
        if line.contains("sleep") {
            command.env("ONNXSEAL_PLUGIN_SECONDS", "1");
        }
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {err}");
        assert!(err.contains(said), "{line}: {err}");
        for secret in ["AGE-SECRET-KEY-", "hunter2"] {
            assert!(!err.contains(secret), "{line}: {err}");
        }
        assert!(begun.elapsed() < seconds, "{line}: {:?}", begun.elapsed());
        if lab.path("pid").exists() {
            ends(&lab, "pid");
        }
    }
}

#[test]
fn ctrl_c_ends_a_command_with_what_it_started() {
    let lab = Lab::new();
    lab.protected();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let _ = fs::remove_file(lab.path("pid"));
        let line = "sh -c 'sleep 61 & echo $! >pid.new; mv pid.new pid; wait'";
        let is_time = || lab.path("pid").exists();
        let (ended, err) = crate::lab::stopped(&lab, &verify(line), signal, is_time);
        assert_eq!(ended, Some(code), "{err}");
        assert!(err.contains("stopped: nothing was opened yet"), "{err}");
        ends(&lab, "pid");
    }
}

#[test]
fn after_a_command_a_signal_ends_the_tool_as_before() {
    let lab = Lab::new();
    lab.protected();
    let made = Command::new("mkfifo").arg(lab.path("fifo")).status();
    assert!(made.unwrap().success());
    // It waits for the pipe when the command has ended.
    let args = [
        &verify("sh -c 'cat id.txt; echo >done'")[..],
        &["--passphrase-file", "fifo"],
    ];
    let is_time = || {
        let is_done = lab.path("done").exists();
        if is_done {
            std::thread::sleep(Duration::from_millis(500));
        }
        is_done
    };
    let (ended, err) = crate::lab::stopped(&lab, &args.concat(), Signal::INT, is_time);
    assert_eq!(ended, None, "{err}");
}
