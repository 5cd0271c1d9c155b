//! Plugins of age: other programs, `age-plugin-NAME`, that wrap and unwrap the key of an age file
//! (<https://c2sp.org/age-plugin>).
//!
//! The `age` crate can run plugins too, but waits for them indefinitely, accepts lines of any
//! length, and never waits for their end. Here time and bytes have a limit. age's own code reads and
//! writes the messages:
//!
//! ```text
//! -> COMMAND ARGUMENT...
//! base64 of a body, in lines of 64 columns, of which the last is shorter
//! ```

use std::collections::HashSet;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret as _;
use age::{DecryptError, EncryptError};
use age_core::format::{FileKey, Stanza, read, write};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::wrap::prompt::{Passphrase, Prompt};
use crate::wrap::running::Running;

/// The most bytes of a plugin in one conversation. A wrapped data key has at most 128 KiB.
const MAX_BYTES: usize = 1 << 20;
/// The most characters of a plugin's text to show.
const MAX_SHOWN_CHARS: usize = 1000;
/// After this time, the user learns what the call waits for.
const SILENCE: Duration = Duration::from_secs(10);

pub(super) struct Plugin {
    program: String,
    path: PathBuf,
}

impl Plugin {
    /// Searches `PATH` for the plugin of this name, which age's parser accepted.
    pub(super) fn find(name: &str) -> Result<Plugin, Error> {
        let program = format!("age-plugin-{name}");
        // Linux on Windows runs the programs of Windows too.
        let found = which::which(&program).or_else(|_| which::which(format!("{program}.exe")));
        match found.ok().and_then(|path| path.canonicalize().ok()) {
            Some(path) => Ok(Plugin { program, path }),
            None => Err(Error::PluginMissing(program)),
        }
    }

    fn start(&self, machine: &str, folder: &Path) -> io::Result<Running> {
        let is_watched = std::env::var_os("AGEDEBUG").is_some_and(|value| value == "plugin");
        let mut command = Command::new(&self.path);
        command
            .arg(format!("--age-plugin={machine}"))
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if !is_watched {
            command.stderr(Stdio::null());
        }
        let running = Running::spawn(&mut command, false);
        running.map_err(|error| self.fault(&format!("it cannot be run: {error}")))
    }

    fn fault(&self, reason: &str) -> io::Error {
        io::Error::other(format!("{}: {reason}", self.program))
    }

    fn check(&self, faults: &[String]) -> io::Result<()> {
        if faults.is_empty() {
            return Ok(());
        }
        Err(self.fault(&cut(&faults.join("; "))))
    }
}

pub(super) struct PluginRecipients {
    pub(super) plugin: Plugin,
    pub(super) recipients: Vec<String>,
    pub(super) prompt: Arc<dyn Prompt>,
}

impl age::Recipient for PluginRecipients {
    fn wrap_file_key(
        &self,
        file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let recipients = self.recipients.iter();
        let mut request: Vec<_> = recipients
            .map(|one| message("add-recipient", &[one], &[]))
            .collect();
        request.push(message("extension-labels", NONE, &[]));
        request.push(message("wrap-file-key", NONE, file_key.expose_secret()));

        let (mut stanzas, mut labels) = (Vec::new(), None);
        let take = |mut message: Stanza| match message.tag.as_str() {
            // For the only file, number 0.
            "recipient-stanza" if message.args.len() >= 2 && message.args[0] == "0" => {
                message.args.remove(0);
                message.tag = message.args.remove(0);
                stanzas.push(message);
                OK
            }
            "labels" if labels.is_none() => {
                labels = Some(message.args.into_iter().collect());
                OK
            }
            "recipient-stanza" | "labels" => FAIL,
            _ => UNSUPPORTED,
        };
        let faults = converse(&self.plugin, "recipient-v1", request, &*self.prompt, take)?;
        self.plugin.check(&faults)?;
        if stanzas.is_empty() {
            return Err(self.plugin.fault("it wrapped to nobody").into());
        }
        Ok((stanzas, labels.unwrap_or_default()))
    }
}

pub(super) struct PluginIdentities {
    pub(super) plugin: Plugin,
    pub(super) identities: Vec<Zeroizing<String>>,
    pub(super) prompt: Arc<dyn Prompt>,
}

impl PluginIdentities {
    /// Unwraps the file key. Returns `None` if no identity matches.
    fn unwrap(&self, stanzas: &[Stanza]) -> io::Result<Option<FileKey>> {
        let identities = self.identities.iter();
        let identities = identities.map(|one| message("add-identity", &[one.as_str()], &[]));
        let stanzas = stanzas.iter().map(|stanza| {
            let args = ["0", &stanza.tag].into_iter();
            let args: Vec<&str> = args.chain(stanza.args.iter().map(String::as_str)).collect();
            message("recipient-stanza", &args, &stanza.body)
        });
        let request = identities.chain(stanzas).collect();

        let mut file_key = None;
        let take = |message: Stanza| match message.tag.as_str() {
            "file-key" if file_key.is_none() && message.args == ["0"] => {
                let body = Zeroizing::new(message.body);
                let Ok(bytes) = <&[u8; 16]>::try_from(body.as_slice()) else {
                    return FAIL;
                };
                file_key = Some(FileKey::init_with_mut(|key| key.copy_from_slice(bytes)));
                OK
            }
            "file-key" => FAIL,
            _ => UNSUPPORTED,
        };
        let faults = converse(&self.plugin, "identity-v1", request, &*self.prompt, take)?;
        // An unusable identity is no fault if another one worked.
        if file_key.is_none() {
            self.plugin.check(&faults)?;
        }
        Ok(file_key)
    }
}

impl age::Identity for PluginIdentities {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        self.unwrap(stanzas).map_err(DecryptError::from).transpose()
    }
}

const NONE: &[&str] = &[];

/// Replies to a command of the plugin.
const OK: &str = "ok";
const FAIL: &str = "fail";
const UNSUPPORTED: &str = "unsupported";

type Message = Zeroizing<Vec<u8>>;

fn message<S: AsRef<str>>(command: &str, args: &[S], body: &[u8]) -> Message {
    // Large enough for all of it: a buffer that grows leaves secrets behind.
    let len_args: usize = args.iter().map(|arg| arg.as_ref().len() + 1).sum();
    let buffer = Vec::with_capacity(len_args + body.len() * 2 + 4096);
    let written = cookie_factory::gen_simple(write::age_stanza(command, args, body), buffer);
    // Writing to memory does not fail.
    Zeroizing::new(written.unwrap_or_default())
}

/// Runs the plugin, sends the request to it, and answers it until it is done: the questions to the
/// user through `prompt`, all other commands through `take`. Returns the faults that it reported.
fn converse(
    plugin: &Plugin,
    machine: &str,
    mut request: Vec<Message>,
    prompt: &dyn Prompt,
    mut take: impl FnMut(Stanza) -> &'static str,
) -> io::Result<Vec<String>> {
    request.push(message("done", NONE, &[]));
    let folder = tempfile::tempdir()?;
    let mut running = plugin.start(machine, folder.path())?;
    let (input, output) = (running.child.stdin.take(), running.child.stdout.take());
    let (Some(input), Some(output)) = (input, output) else {
        return Err(plugin.fault("it cannot be asked"));
    };
    // A thread writes and reads, because the plugin may do neither.
    let (to, replies) = mpsc::channel();
    let (messages, from) = mpsc::sync_channel(1);
    let thread = || std::thread::Builder::new().name("age-plugin".to_owned());
    thread().spawn(move || talk(input, output, request, &replies, &messages))?;

    let mut listener = Listener {
        plugin,
        prompt,
        from,
        patience: prompt.plugin_patience(),
        waited: Duration::ZERO,
        has_told: false,
    };
    let mut faults = Vec::new();
    loop {
        let said = listener.next()?;
        let text = || cut(&String::from_utf8_lossy(&said.body));
        let answer = |body: Option<&[u8]>| match body {
            Some(body) => message(OK, NONE, body),
            None => message(FAIL, NONE, &[]),
        };
        let reply = match said.tag.as_str() {
            "done" => break,
            "msg" => {
                prompt.show(&text());
                answer(Some(&[]))
            }
            "confirm" => match confirm(prompt, &text(), &said.args) {
                Some(true) => message(OK, &["yes"], &[]),
                Some(false) => message(OK, &["no"], &[]),
                None => answer(None),
            },
            "request-public" => answer(prompt.text(&text()).as_deref().map(str::as_bytes)),
            "request-secret" => {
                let secret = prompt.passphrase(&text());
                answer(secret.as_ref().map(Passphrase::expose))
            }
            "error" => {
                faults.push(text());
                answer(Some(&[]))
            }
            _ => message(take(said), NONE, &[]),
        };
        // If the plugin has ended, listening to it shows that.
        let _ = to.send(reply);
    }
    // Let it end by itself in the time of another conversation, since it may have to clean up.
    let deadline = Instant::now() + listener.patience;
    thread().spawn(move || {
        let is_early = || (Instant::now() < deadline).then_some(());
        let _ = running.wait(|| is_early().ok_or(io::ErrorKind::TimedOut.into()));
        drop((running, folder));
    })?;
    Ok(faults)
}

/// Asks for one of the two answers that the arguments name.
fn confirm(prompt: &dyn Prompt, text: &str, args: &[String]) -> Option<bool> {
    let word = |n: usize| {
        let word = BASE64_STANDARD_NO_PAD.decode(args.get(n)?).ok()?;
        Some(cut(&String::from_utf8_lossy(&word)))
    };
    prompt.confirm(text, &word(0)?, word(1).as_deref())
}

/// Writes the request to the plugin. Then passes on each of its messages, or what is wrong with it,
/// and writes the reply to it.
fn talk(
    mut input: ChildStdin,
    output: ChildStdout,
    request: Vec<Message>,
    replies: &Receiver<Message>,
    messages: &SyncSender<Result<Stanza, String>>,
) {
    // Writing to an ended plugin must fail instead of killing this program.
    #[cfg(unix)]
    {
        use nix::sys::signal::{SigSet, Signal};
        let _ = SigSet::from(Signal::SIGPIPE).thread_block();
    }
    // Usually large enough: a buffer that grows leaves secrets behind.
    let mut heard = Zeroizing::new(Vec::with_capacity(64 << 10));
    let mut buffer = Zeroizing::new(vec![0; 8 << 10]);
    let mut output = output.take(MAX_BYTES as u64 + 1);
    let _ = request.iter().try_for_each(|one| input.write_all(one));
    loop {
        let said = match read::age_stanza(&heard) {
            Ok((rest, stanza)) => {
                let (n, stanza) = (heard.len() - rest.len(), Stanza::from(stanza));
                heard.drain(..n);
                Ok(stanza)
            }
            Err(fault) if fault.is_incomplete() => match output.read(&mut buffer) {
                Ok(n @ 1..) => {
                    heard.extend_from_slice(buffer.get(..n).unwrap_or_default());
                    continue;
                }
                _ if output.limit() == 0 => {
                    Err(format!("it says more than {MAX_BYTES} bytes, the limit"))
                }
                _ => return,
            },
            Err(_) => Err("it does not keep to the protocol".to_owned()),
        };
        if messages.send(said).is_err() {
            return;
        }
        let Ok(reply) = replies.recv() else { return };
        let _ = input.write_all(&reply);
    }
}

/// Listens to a plugin for as long as the user lets it.
struct Listener<'a> {
    plugin: &'a Plugin,
    prompt: &'a dyn Prompt,
    from: Receiver<Result<Stanza, String>>,
    /// The plugin's time in total, without the time that the user takes to answer.
    patience: Duration,
    waited: Duration,
    has_told: bool,
}

impl Listener<'_> {
    fn next(&mut self) -> io::Result<Stanza> {
        let seconds = self.patience.as_secs();
        loop {
            let began = Instant::now();
            let left = self.patience.saturating_sub(self.waited);
            let left = if self.has_told {
                left
            } else {
                left.min(SILENCE)
            };
            let heard = self.from.recv_timeout(left);
            self.waited += began.elapsed();
            let fault = match heard {
                Ok(Ok(said)) => return Ok(said),
                Ok(Err(fault)) => fault,
                Err(RecvTimeoutError::Timeout) if self.waited < self.patience => {
                    self.has_told = true;
                    let program = &self.plugin.program;
                    let waits = format!("waiting for {program}, at most {seconds} seconds in all");
                    self.prompt.show(&waits);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {
                    format!("it did not answer within {seconds} seconds, the limit")
                }
                Err(RecvTimeoutError::Disconnected) => "it ended without an answer".to_owned(),
            };
            return Err(self.plugin.fault(&fault));
        }
    }
}

/// Returns the start of a text.
fn cut(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(MAX_SHOWN_CHARS).collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}
