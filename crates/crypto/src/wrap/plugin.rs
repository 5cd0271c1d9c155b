//! Plugins of age: other programs, `age-plugin-NAME`, that wrap and unwrap the key of an age file
//! (<https://c2sp.org/age-plugin>).
//!
//! The `age` crate can run plugins too, but waits for them indefinitely and accepts lines of any
//! length. Here both have a limit. age's own code reads and writes the messages:
//!
//! ```text
//! -> COMMAND ARGUMENT...
//! base64 of a body, in lines of 64 columns, of which the last is shorter
//! ```

use std::collections::HashSet;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret as _;
use age::{DecryptError, EncryptError};
use age_core::format::{FileKey, Stanza, read, write};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::wrap::prompt::Prompt;

/// The most bytes of a plugin in one conversation. A wrapped data key has at most 128 KiB.
const MAX_BYTES: usize = 1 << 20;
/// The most characters of a plugin's text to show.
const MAX_SHOWN_CHARS: usize = 1000;
/// After this time, the user learns what the call waits for.
const SILENCE: Duration = Duration::from_secs(10);

/// An installed plugin.
#[derive(Clone, Debug)]
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
            None => Err(Error::PluginMissing { program }),
        }
    }
}

/// All recipients of one plugin.
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
        let mut talk = Conversation::begin(&self.plugin, "recipient-v1", &*self.prompt)?;
        for recipient in &self.recipients {
            talk.send("add-recipient", &[recipient], &[])?;
        }
        talk.send("extension-labels", NONE, &[])?;
        talk.send("wrap-file-key", NONE, file_key.expose_secret())?;
        talk.send("done", NONE, &[])?;

        let (mut stanzas, mut labels) = (Vec::new(), None);
        talk.answer(|mut message| match message.tag.as_str() {
            // For the only file, number 0.
            "recipient-stanza" if message.args.len() >= 2 && message.args[0] == "0" => {
                message.args.remove(0);
                message.tag = message.args.remove(0);
                stanzas.push(message);
                Reply::Ok
            }
            "labels" if labels.is_none() => {
                labels = Some(message.args.into_iter().collect());
                Reply::Ok
            }
            "recipient-stanza" | "labels" => Reply::Fail,
            _ => Reply::Unsupported,
        })
        .and_then(|faults| self.plugin.check(&faults))?;
        if stanzas.is_empty() {
            Err(self.plugin.fault("it wrapped to nobody").into())
        } else {
            Ok((stanzas, labels.unwrap_or_default()))
        }
    }
}

/// All identities of one plugin.
pub(super) struct PluginIdentities {
    pub(super) plugin: Plugin,
    pub(super) identities: Vec<Zeroizing<String>>,
    pub(super) prompt: Arc<dyn Prompt>,
}

impl PluginIdentities {
    /// Unwraps the file key. Returns `None` if no identity matches.
    fn unwrap(&self, stanzas: &[Stanza]) -> io::Result<Option<FileKey>> {
        let mut talk = Conversation::begin(&self.plugin, "identity-v1", &*self.prompt)?;
        for identity in &self.identities {
            talk.send("add-identity", &[identity.as_str()], &[])?;
        }
        for stanza in stanzas {
            let args = ["0", &stanza.tag].into_iter();
            let args: Vec<&str> = args.chain(stanza.args.iter().map(String::as_str)).collect();
            talk.send("recipient-stanza", &args, &stanza.body)?;
        }
        talk.send("done", NONE, &[])?;

        let mut file_key = None;
        let faults = talk.answer(|message| match message.tag.as_str() {
            "file-key" if file_key.is_none() && message.args == ["0"] => {
                let body = Zeroizing::new(message.body);
                let Ok(bytes) = <&[u8; 16]>::try_from(body.as_slice()) else {
                    return Reply::Fail;
                };
                file_key = Some(FileKey::init_with_mut(|key| key.copy_from_slice(bytes)));
                Reply::Ok
            }
            "file-key" => Reply::Fail,
            _ => Reply::Unsupported,
        })?;
        // An unusable identity is no fault if another one worked.
        if file_key.is_none() {
            self.plugin.check(&faults)?;
        }
        Ok(file_key)
    }
}

impl age::Identity for PluginIdentities {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let stanza = Stanza {
            tag: stanza.tag.clone(),
            args: stanza.args.clone(),
            body: stanza.body.clone(),
        };
        self.unwrap_stanzas(&[stanza])
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        self.unwrap(stanzas).map_err(DecryptError::from).transpose()
    }
}

const NONE: &[&str] = &[];

/// The reply to a command of the plugin.
enum Reply {
    Ok,
    Fail,
    Unsupported,
}

/// A running plugin, which is killed if this is dropped before its end.
struct Conversation<'a> {
    plugin: &'a Plugin,
    prompt: &'a dyn Prompt,
    child: Option<Child>,
    /// Bytes for the plugin, written by a thread because the plugin may not read.
    to: mpsc::Sender<Zeroizing<Vec<u8>>>,
    /// Bytes from the plugin, read by a thread because the plugin may be silent.
    from: mpsc::Receiver<Zeroizing<Vec<u8>>>,
    /// The received part of the next message.
    heard: Zeroizing<Vec<u8>>,
    n_bytes: usize,
    /// The plugin's time in total, without the time that the user takes to answer.
    patience: Duration,
    waited: Duration,
    has_told: bool,
    /// The folder where it runs, removed once it has ended.
    folder: Option<TempDir>,
}

impl<'a> Conversation<'a> {
    fn begin(
        plugin: &'a Plugin,
        machine: &str,
        prompt: &'a dyn Prompt,
    ) -> io::Result<Conversation<'a>> {
        let folder = tempfile::tempdir()?;
        let is_watched = std::env::var_os("AGEDEBUG").is_some_and(|value| value == "plugin");
        let mut child = Command::new(&plugin.path)
            .arg(format!("--age-plugin={machine}"))
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if is_watched {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .spawn()
            .map_err(|error| plugin.fault(&format!("it cannot be run: {error}")))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (to, sent) = mpsc::channel::<Zeroizing<Vec<u8>>>();
        let (heard, from) = mpsc::sync_channel(1);
        let conversation = Conversation {
            plugin,
            prompt,
            child: Some(child),
            to,
            from,
            // Usually large enough: a buffer that grows leaves secrets behind.
            heard: Zeroizing::new(Vec::with_capacity(64 << 10)),
            n_bytes: 0,
            patience: prompt.plugin_patience(),
            waited: Duration::ZERO,
            has_told: false,
            folder: Some(folder),
        };
        let thread = || std::thread::Builder::new().name("age-plugin".to_owned());
        if let Some(mut input) = input {
            thread().spawn(move || {
                // Writing to an ended plugin must fail instead of killing this program.
                #[cfg(unix)]
                {
                    use nix::sys::signal::{SigSet, Signal};
                    let _ = SigSet::from(Signal::SIGPIPE).thread_block();
                }
                while sent
                    .recv()
                    .is_ok_and(|bytes| input.write_all(&bytes).is_ok())
                {}
            })?;
        }
        if let Some(mut output) = output {
            thread().spawn(move || {
                let mut buffer = Zeroizing::new(vec![0; 8 << 10]);
                while let Ok(n @ 1..) = output.read(&mut buffer) {
                    let part = buffer.get(..n).unwrap_or_default().to_vec();
                    if heard.send(Zeroizing::new(part)).is_err() {
                        break;
                    }
                }
            })?;
        }
        Ok(conversation)
    }

    fn send<S: AsRef<str>>(&mut self, command: &str, args: &[S], body: &[u8]) -> io::Result<()> {
        // Ignore a failure: if the plugin has ended, listening to it shows that.
        let stanza = write::age_stanza(command, args, body);
        // Large enough for all of it: a buffer that grows leaves secrets behind.
        let len_args: usize = args.iter().map(|arg| arg.as_ref().len() + 1).sum();
        let buffer = Vec::with_capacity(len_args + body.len() * 2 + 4096);
        match cookie_factory::gen_simple(stanza, buffer) {
            Ok(bytes) => {
                let _ = self.to.send(Zeroizing::new(bytes));
                Ok(())
            }
            Err(_) => Err(self.plugin.fault("it cannot be asked")),
        }
    }

    /// Answers the plugin until it is done, and passes messages that are not for the user to
    /// `take`. Returns the faults that the plugin reported.
    fn answer(mut self, mut take: impl FnMut(Stanza) -> Reply) -> io::Result<Vec<String>> {
        let mut faults = Vec::new();
        loop {
            let message = self.receive()?;
            let text = || cut(&String::from_utf8_lossy(&message.body));
            let mut body = None;
            let reply = match message.tag.as_str() {
                "done" => break,
                "msg" => {
                    self.prompt.show(&text());
                    Reply::Ok
                }
                "confirm" => {
                    let word = |n: usize| {
                        let word = BASE64_STANDARD_NO_PAD.decode(message.args.get(n)?).ok()?;
                        Some(cut(&String::from_utf8_lossy(&word)))
                    };
                    let no = word(1);
                    let said =
                        word(0).and_then(|yes| self.prompt.confirm(&text(), &yes, no.as_deref()));
                    match said {
                        Some(said) => {
                            self.send("ok", &[if said { "yes" } else { "no" }], &[])?;
                            continue;
                        }
                        None => Reply::Fail,
                    }
                }
                "request-public" => {
                    body =
                        (self.prompt.text(&text())).map(|text| Zeroizing::new(text.into_bytes()));
                    reply_if(body.is_some())
                }
                "request-secret" => {
                    let secret = self.prompt.passphrase(&text());
                    body = secret.map(|secret| Zeroizing::new(secret.expose().to_vec()));
                    reply_if(body.is_some())
                }
                "error" => {
                    faults.push(text());
                    Reply::Ok
                }
                _ => take(message),
            };
            let body = body.as_deref().map_or(&[][..], |body| body);
            match reply {
                Reply::Ok => self.send("ok", NONE, body)?,
                Reply::Fail => self.send("fail", NONE, &[])?,
                Reply::Unsupported => self.send("unsupported", NONE, &[])?,
            }
        }
        // Let it end by itself in its remaining time, since it may have to clean up.
        if let Some(child) = self.child.take() {
            let (folder, deadline) = (self.folder.take(), Instant::now() + self.patience);
            let thread = std::thread::Builder::new().name("age-plugin".to_owned());
            thread.spawn(move || {
                end(child, deadline);
                drop(folder);
            })?;
        }
        Ok(faults)
    }

    /// Returns the plugin's next message.
    fn receive(&mut self) -> io::Result<Stanza> {
        loop {
            match read::age_stanza(&self.heard) {
                Ok((rest, stanza)) => {
                    let (n_rest, stanza) = (rest.len(), Stanza::from(stanza));
                    let n = self.heard.len() - n_rest;
                    self.heard.drain(..n);
                    return Ok(stanza);
                }
                Err(fault) if fault.is_incomplete() => self.listen()?,
                Err(_) => return Err(self.plugin.fault("it does not keep to the protocol")),
            }
        }
    }

    /// Waits for more bytes from the plugin.
    fn listen(&mut self) -> io::Result<()> {
        let began = Instant::now();
        let left = self.patience.saturating_sub(self.waited);
        let heard = self.from.recv_timeout(if self.has_told {
            left
        } else {
            left.min(SILENCE)
        });
        self.waited += began.elapsed();
        match heard {
            Ok(part) => {
                self.n_bytes += part.len();
                if self.n_bytes > MAX_BYTES {
                    let said = format!("it says more than {MAX_BYTES} bytes, the limit");
                    return Err(self.plugin.fault(&said));
                }
                self.heard.extend_from_slice(&part);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) if self.waited < self.patience => {
                self.has_told = true;
                let (program, seconds) = (&self.plugin.program, self.patience.as_secs());
                self.prompt.show(&format!(
                    "waiting for {program}, at most {seconds} seconds in all"
                ));
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.patience.as_secs();
                let said = format!("it did not answer within {seconds} seconds, the limit");
                Err(self.plugin.fault(&said))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(self.plugin.fault("it ended without an answer"))
            }
        }
    }
}

/// Waits for a plugin that is done, and kills it at the deadline.
fn end(mut child: Child, deadline: Instant) {
    const STEP: Duration = Duration::from_millis(20);
    while let Ok(None) = child.try_wait() {
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(STEP);
    }
}

impl Drop for Conversation<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Plugin {
    fn fault(&self, reason: &str) -> io::Error {
        io::Error::other(format!("{}: {reason}", self.program))
    }

    /// Fails if the plugin reported a fault.
    fn check(&self, faults: &[String]) -> io::Result<()> {
        if faults.is_empty() {
            Ok(())
        } else {
            Err(self.fault(&cut(&faults.join("; "))))
        }
    }
}

fn reply_if(is_answered: bool) -> Reply {
    if is_answered { Reply::Ok } else { Reply::Fail }
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
