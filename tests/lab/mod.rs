//! What the tests of the command share.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

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
        (out, err)
    }

    /// Writes a small real model and returns its name.
    pub fn model(&self) -> &'static str {
        let fixture = fixture("digits_cnn.onnx");
        std::fs::copy(fixture, self.path("model.onnx")).unwrap();
        "model.onnx"
    }

    /// Protects the model and returns the name of the result.
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
            ],
        );
        "sealed.onnx"
    }
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/models")
        .join(name)
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}
