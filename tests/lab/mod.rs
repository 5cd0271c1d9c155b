//! What the tests of the command share.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use onnxseal_testkit::Sample;
use onnxseal_testkit::build::{GraphBuilder, node, weights};
#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Whether ONNX Runtime is there. If not, it says so.
#[cfg(feature = "assess")]
pub fn has_onnxruntime() -> bool {
    match onnxseal_engine::Engine::load() {
        Ok(_) => true,
        Err(error @ onnxseal_engine::Error::NoLibrary { .. }) => {
            eprintln!("skipped: {error}");
            false
        }
        Err(error) => unreachable!("{error}"),
    }
}

/// A temporary folder with an identity, in which the command runs.
pub struct Lab {
    pub dir: TempDir,
    pub recipient: String,
}

impl Lab {
    pub fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let mut lab = Lab {
            dir,
            recipient: String::new(),
        };
        let output = lab.run(&["keygen", "-o", "id.txt"]);
        assert_eq!(output.status.code(), Some(0));
        lab.recipient = stdout(&output).trim().to_owned();
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onnxseal"));
        command.current_dir(self.dir.path()).args(args);
        command.env_remove("ONNXSEAL_IDENTITY");
        command.env_remove("ONNXSEAL_LICENCE");
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the command, which must exit with `code`; returns what it printed.
    pub fn expect(&self, code: i32, args: &[&str]) -> (String, String) {
        let output = self.run(args);
        let (out, err) = (
            stdout(&output),
            String::from_utf8(output.stderr.clone()).unwrap(),
        );
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
        (slashes(out), slashes(err))
    }

    /// Runs a line of the shell on a terminal; `None` without the program `script` of util-linux.
    pub fn on_terminal(&self, line: &str) -> Option<Output> {
        let mut script = Command::new("script");
        script.args(["-qec", line, "/dev/null"]);
        let script = script.stdin(Stdio::null()).current_dir(self.dir.path());
        script.output().ok()
    }

    /// Writes a small real model and returns its name.
    pub fn model(&self) -> &'static str {
        let fixture = fixture("digits_cnn.onnx");
        std::fs::copy(fixture, self.path("model.onnx")).unwrap();
        "model.onnx"
    }

    /// With a model of 4 MiB in `plain/model.onnx`, and its protected form in `sealed/model.onnx`.
    pub fn with_models() -> Lab {
        let model = GraphBuilder::new("wide")
            .input("x", &[1, 1024])
            .output("y", &[1, 1024])
            .initializer(weights("w", &[1024, 1024], 1))
            .node(node("MatMul", &["x", "w"], &["y"]))
            .encode();
        let files = Vec::new();
        Lab::with_sample(&Sample {
            name: "wide",
            model,
            files,
        })
    }

    /// With a sample in the folder `plain`, and its protected form in `sealed`.
    pub fn with_sample(sample: &Sample) -> Lab {
        let lab = Lab::new();
        std::fs::create_dir(lab.path("plain")).unwrap();
        sample.write(&lab.path("plain")).unwrap();
        let args = [
            "-q",
            "protect",
            "plain/model.onnx",
            "-o",
            "sealed/model.onnx",
            "-r",
        ];
        lab.expect(0, &[&args[..], &[&lab.recipient]].concat());
        lab
    }

    /// `sh -c script` in the folder, with the command as `$0`.
    pub fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_onnxseal")]);
        shell.current_dir(self.dir.path());
        shell
    }

    /// Python, to type `answers` into `command` on a terminal of its own.
    pub fn typing(&self, answers: &[&str], command: &[&str]) -> Command {
        let mut python = Command::new("python3");
        python.arg(project("tests/lab/type_on_terminal.py"));
        python.args(answers).arg("--").args(command);
        python.current_dir(self.dir.path());
        python.env_remove("ONNXSEAL_IDENTITY");
        python
    }

    /// Protects a part of the model's weights and returns the name of the result.
    pub fn protected(&self) -> &'static str {
        let model = self.model();
        self.expect(
            0,
            &[
                "-q",
                "protect",
                model,
                "-o",
                "sealed.onnx",
                "-r",
                &self.recipient,
                "--preset",
                "balanced",
            ],
        );
        "sealed.onnx"
    }
}

/// A file system of 2 MiB in memory, unmounted when it is dropped.
pub struct Disk(pub PathBuf);

impl Disk {
    /// `None`, and a line that says so, where this process may not mount.
    pub fn mount(at: PathBuf) -> Option<Disk> {
        std::fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=2m", "onnxseal-test"])
            .arg(&at);
        let mounted = cfg!(target_os = "linux") && mount.output().is_ok_and(|o| o.status.success());
        if !mounted {
            eprintln!("skipped: mounting a small disk needs Linux and its administrator");
        }
        mounted.then_some(Disk(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

pub fn fixture(name: &str) -> PathBuf {
    project("fixtures/models").join(name)
}

/// A path below the project's root.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Gives paths in what the command printed, as text or JSON, the slashes of Unix.
pub fn slashes(text: String) -> String {
    match text.starts_with(['{', '[']) {
        _ if cfg!(not(windows)) => text,
        true => text.replace("\\\\", "/"),
        false => text.replace('\\', "/"),
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Every file below `folder`, sorted; folders do not count.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.symlink_metadata().unwrap().is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Every file below `folder` with its bytes.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let with_bytes = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
    files(folder).into_iter().map(with_bytes).collect()
}

/// An ssh key pair in the lab, `NAME` and `NAME.pub`; `None`, and a line that says so, without
/// `ssh-keygen`.
pub fn ssh_key(lab: &Lab, name: &str) -> Option<String> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", name]);
    match keygen.current_dir(lab.dir.path()).status() {
        Ok(status) => assert!(status.success()),
        Err(_) => {
            eprintln!("skipped: no ssh-keygen");
            return None;
        }
    }
    let public = std::fs::read_to_string(lab.path(&format!("{name}.pub"))).unwrap();
    Some(public.trim().to_owned())
}

/// Starts a command, and stops it once `is_time` says so; gives its exit code, absent if a signal ended it.
#[cfg(unix)]
pub fn stopped(
    lab: &Lab,
    args: &[&str],
    signal: Signal,
    is_time: impl Fn() -> bool,
) -> (Option<i32>, String) {
    let mut command = lab.command(args);
    let child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut child = child.unwrap();
    let begun = Instant::now();
    let mut is_running = true;
    while is_running && !is_time() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(1));
        is_running = child.try_wait().unwrap().is_none();
    }
    if is_running {
        kill_process(Pid::from_child(&child), signal).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), err)
}
