//! Programs that print an identity file, such as the clients of secret stores.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::limited::read_secret;
use crate::wrap::MAX_KEY_FILE_BYTES;
use crate::wrap::identities::Identities;
use crate::wrap::prompt::Prompt;
use crate::wrap::running::{Running, STEP};

/// How long an identity command may take unless the caller says otherwise.
pub const COMMAND_PATIENCE: Duration = Duration::from_secs(30);

/// A program that prints an identity file, with its arguments.
#[derive(Clone)]
pub struct IdentityCommand {
    program: OsString,
    args: Vec<OsString>,
}

impl IdentityCommand {
    pub fn new(words: impl IntoIterator<Item = OsString>) -> Result<IdentityCommand, Error> {
        let mut words = words.into_iter();
        match words.next() {
            Some(program) if !program.is_empty() => Ok(IdentityCommand {
                program,
                args: words.collect(),
            }),
            _ => Err(Error::Misuse("an identity command names a program")),
        }
    }

    /// Makes a command of a line of text, split into words as a POSIX shell splits them, or on
    /// Windows as programs there split their command lines (`CommandLineToArgvW`). Quotes and
    /// backslashes count; nothing is expanded.
    pub fn parse(line: &str) -> Result<IdentityCommand, Error> {
        #[cfg(windows)]
        let words = winsplit::split(line);
        #[cfg(not(windows))]
        let words = {
            let rule = "each quote in an identity command is closed, and no backslash ends it";
            shlex::split(line).ok_or(Error::Misuse(rule))?
        };
        IdentityCommand::new(words.into_iter().map(OsString::from))
    }

    pub fn program(&self) -> &OsStr {
        &self.program
    }

    /// Returns the existing files that its words name, whole or in part, as in `--key=id.txt` and
    /// `sh -c 'cat id.txt | unpack'`. It may read them.
    pub fn files(&self) -> Vec<PathBuf> {
        let words = std::iter::once(&self.program).chain(&self.args);
        let names = words.flat_map(|word| {
            let text = word.to_str().unwrap_or_default();
            let parts = text.split(|c: char| c.is_whitespace() || "=<>|&;()'\"@".contains(c));
            parts.map(PathBuf::from).chain([PathBuf::from(word)])
        });
        names.filter(|name| name.is_file()).collect()
    }

    /// Runs the command, and reads what it prints as [`Identities::read_with`] reads a file. No
    /// shell takes part. The command gets no standard input, and has the caller's standard error.
    /// On Unix it is the leader of a process group. The group is killed after `patience`, and as
    /// soon as `is_stopped` returns true. Errors name the program, and show nothing that it printed.
    pub fn identities(
        &self,
        patience: Duration,
        prompt: Arc<dyn Prompt>,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Identities, Error> {
        let name = format!("the output of {}", self.program.to_string_lossy());
        let failed = |fault| Error::Io(name.clone(), fault);
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut running = Running::spawn(&mut command, true).map_err(failed)?;
        let output = running.child.stdout.take();
        let output = output.ok_or_else(|| failed(lost()))?;
        let deadline = Instant::now() + patience;
        let check = || match Instant::now() < deadline {
            _ if is_stopped() => Err(io::Error::new(io::ErrorKind::Interrupted, "stopped")),
            true => Ok(()),
            false => {
                let seconds = patience.as_secs_f64();
                let said = format!("it did not end within {seconds} seconds, the limit");
                Err(io::Error::new(io::ErrorKind::TimedOut, said))
            }
        };
        // A thread reads, because the command may be silent. It outlives this call only if a
        // process that left the group keeps the pipe open.
        let (sender, read) = mpsc::sync_channel(1);
        let reader = std::thread::Builder::new().name("identity-command".to_owned());
        let reader = reader
            .spawn(move || drop(sender.send(read_secret(output, MAX_KEY_FILE_BYTES))))
            .map_err(failed)?;
        let text = loop {
            match read.recv_timeout(STEP) {
                Ok(read) => break read,
                Err(RecvTimeoutError::Timeout) => check().map_err(failed)?,
                Err(RecvTimeoutError::Disconnected) => break Err(lost()),
            }
        };
        let text = text.map_err(failed)?;
        // `onnxseal run` has one thread when it becomes another program.
        let _ = reader.join();
        if text.len() > MAX_KEY_FILE_BYTES {
            let said = format!("it prints more than {MAX_KEY_FILE_BYTES} bytes, the limit");
            return Err(failed(io::Error::other(said)));
        }
        match running.wait(check).map_err(failed)? {
            Some(status) if !status.success() => {
                Err(failed(io::Error::other(format!("it failed: {status}"))))?;
            }
            None if text.is_empty() => Err(failed(lost()))?,
            // What it printed tells.
            Some(_) | None => {}
        }
        Identities::read_with(text.as_slice(), &name, prompt)
    }
}

fn lost() -> io::Error {
    io::Error::other("its output is lost")
}
