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

use std::collections::{BTreeMap, HashSet};
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

use crate::error::{Error, start_of};
use crate::wrap::prompt::{Passphrase, Prompt};
use crate::wrap::running::Running;

/// The most bytes of a plugin in one conversation. A wrapped data key has at most 128 KiB.
const MAX_BYTES: usize = 1 << 20;
/// The most characters of a plugin's text to show.
const MAX_SHOWN_CHARS: usize = 1000;
/// After this time, the user learns what the call waits for.
const SILENCE: Duration = Duration::from_secs(10);

/// Returns the name of the plugin that a recipient is for.
pub(super) fn name_in_recipient(text: &str) -> Option<String> {
    #[cfg(any(unix, windows))]
    {
        let recipient: age::plugin::Recipient = text.parse().ok()?;
        Some(recipient.plugin().to_owned())
    }
    // Elsewhere no program runs: the name is for the error.
    #[cfg(not(any(unix, windows)))]
    {
        let (name, _) = text.strip_prefix("age1")?.rsplit_once('1')?;
        Some(name.to_owned())
    }
}

/// Returns the name of the plugin that an identity is for.
pub(super) fn name_in_identity(text: &str) -> Option<String> {
    #[cfg(any(unix, windows))]
    {
        let identity: age::plugin::Identity = text.parse().ok()?;
        Some(identity.plugin().to_owned())
    }
    #[cfg(not(any(unix, windows)))]
    {
        let (name, _) = text.strip_prefix("AGE-PLUGIN-")?.rsplit_once("-1")?;
        Some(name.to_ascii_lowercase())
    }
}

/// Searches `PATH` for the plugin of this name, which age's parser accepted. Returns its program's
/// name and path.
pub(super) fn find(name: &str) -> Result<(String, PathBuf), Error> {
    let program = format!("age-plugin-{name}");
    // Linux on Windows runs the programs of Windows too.
    let found = which::which(&program).or_else(|_| which::which(format!("{program}.exe")));
    match found.ok().and_then(|path| path.canonicalize().ok()) {
        Some(path) => Ok((program, path)),
        None => Err(Error::PluginMissing(program)),
    }
}

/// A plugin, and the recipients or the identities that it has to serve.
pub(super) struct PluginKeys {
    program: String,
    path: PathBuf,
    keys: Vec<Zeroizing<String>>,
    prompt: Arc<dyn Prompt>,
}

/// Finds the plugins for recipients or identities, each of which comes after its plugin's name.
pub(super) fn by_plugin(
    all: Vec<(String, &str)>,
    prompt: &Arc<dyn Prompt>,
) -> Result<Vec<PluginKeys>, Error> {
    let mut plugins: BTreeMap<String, Vec<Zeroizing<String>>> = BTreeMap::new();
    for (name, key) in all {
        let keys = plugins.entry(name).or_default();
        keys.push(Zeroizing::new(key.to_owned()));
    }
    let with_program = |(name, keys): (String, _)| {
        let (program, path) = find(&name)?;
        let prompt = Arc::clone(prompt);
        Ok(PluginKeys {
            program,
            path,
            keys,
            prompt,
        })
    };
    plugins.into_iter().map(with_program).collect()
}

impl age::Recipient for PluginKeys {
    fn wrap_file_key(
        &self,
        file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let request = [
            message("extension-labels", &[], &[]),
            message("wrap-file-key", &[], file_key.expose_secret()),
        ];
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
        if let Some(fault) = self.converse("recipient", request.into_iter(), take)? {
            return Err(fault.into());
        }
        if stanzas.is_empty() {
            return Err(self.fault("it wrapped to nobody").into());
        }
        Ok((stanzas, labels.unwrap_or_default()))
    }
}

impl age::Identity for PluginKeys {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        let request = stanzas.iter().map(|stanza| {
            let args = ["0", &stanza.tag].into_iter();
            let args: Vec<&str> = args.chain(stanza.args.iter().map(String::as_str)).collect();
            message("recipient-stanza", &args, &stanza.body)
        });
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
        match self.converse("identity", request, take) {
            Err(fault) => Some(Err(fault.into())),
            // An unusable identity is no fault if another one worked.
            Ok(fault) => file_key.map(Ok).or(fault.map(|fault| Err(fault.into()))),
        }
    }
}

/// Replies to a command of the plugin.
const OK: &str = "ok";
const FAIL: &str = "fail";
const UNSUPPORTED: &str = "unsupported";

type Message = Zeroizing<Vec<u8>>;

fn message(command: &str, args: &[&str], body: &[u8]) -> Message {
    // Large enough for all of it: a buffer that grows leaves secrets behind.
    let len_args: usize = args.iter().map(|arg| arg.len() + 1).sum();
    let buffer = Vec::with_capacity(len_args + body.len() * 2 + 4096);
    let written = cookie_factory::gen_simple(write::age_stanza(command, args, body), buffer);
    // Writing to memory does not fail.
    Zeroizing::new(written.unwrap_or_default())
}

impl PluginKeys {
    fn fault(&self, reason: &str) -> io::Error {
        io::Error::other(format!("{}: {reason}", self.program))
    }

    fn start(&self, what: &str, folder: &Path) -> io::Result<Running> {
        let is_watched = std::env::var_os("AGEDEBUG").is_some_and(|value| value == "plugin");
        let mut command = Command::new(&self.path);
        command
            .arg(format!("--age-plugin={what}-v1"))
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if !is_watched {
            command.stderr(Stdio::null());
        }
        let running = Running::spawn(&mut command, false);
        running.map_err(|error| self.fault(&format!("it cannot be run: {error}")))
    }

    /// Runs the plugin, sends its keys and the request to it, and answers it until it is done: the
    /// questions to the user through the prompt, all other commands through `take`. Returns the
    /// faults that it reported.
    fn converse(
        &self,
        what: &str,
        request: impl Iterator<Item = Message>,
        mut take: impl FnMut(Stanza) -> &'static str,
    ) -> io::Result<Option<io::Error>> {
        let (add, prompt) = (format!("add-{what}"), &*self.prompt);
        let mut all = Vec::from_iter(self.keys.iter().map(|key| message(&add, &[key], &[])));
        all.extend(request.chain([message("done", &[], &[])]));
        let folder = tempfile::tempdir()?;
        let mut running = self.start(what, folder.path())?;
        let (input, output) = (running.child.stdin.take(), running.child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else {
            return Err(self.fault("it cannot be asked"));
        };
        // A thread writes and reads, because the plugin may do neither.
        let (to, replies) = mpsc::channel();
        let (messages, from) = mpsc::sync_channel(1);
        let thread = || std::thread::Builder::new().name("age-plugin".to_owned());
        thread().spawn(move || talk(input, output, all, &replies, &messages))?;

        let patience = prompt.plugin_patience();
        let (mut waited, mut faults) = (Duration::ZERO, Vec::new());
        loop {
            let said = self.hear(&from, &mut waited, patience)?;
            let text = || shown(&said.body);
            let answer = |body: Option<&[u8]>| match body {
                Some(body) => message(OK, &[], body),
                None => message(FAIL, &[], &[]),
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
                _ => message(take(said), &[], &[]),
            };
            // If the plugin has ended, listening to it shows that.
            let _ = to.send(reply);
        }
        // Let it end by itself in the time of another conversation, since it may have to clean up.
        let deadline = Instant::now() + patience;
        thread().spawn(move || {
            let is_early = || (Instant::now() < deadline).then_some(());
            let _ = running.wait(|| is_early().ok_or(io::ErrorKind::TimedOut.into()));
            drop((running, folder));
        })?;
        let all = faults.join("; ");
        Ok((!faults.is_empty()).then(|| self.fault(&start_of(&all, MAX_SHOWN_CHARS))))
    }

    /// Listens to the plugin as long as the user's patience lasts. `waited` adds up its time, without
    /// the time that the user takes to answer.
    fn hear(
        &self,
        from: &Receiver<Result<Stanza, String>>,
        waited: &mut Duration,
        patience: Duration,
    ) -> io::Result<Stanza> {
        let seconds = patience.as_secs();
        loop {
            let began = Instant::now();
            let until = if *waited < SILENCE {
                SILENCE.min(patience)
            } else {
                patience
            };
            let heard = from.recv_timeout(until.saturating_sub(*waited));
            *waited += began.elapsed();
            let fault = match heard {
                Ok(Ok(said)) => return Ok(said),
                Ok(Err(fault)) => fault,
                Err(RecvTimeoutError::Disconnected) => "it ended without an answer".to_owned(),
                Err(RecvTimeoutError::Timeout) if *waited >= patience => {
                    format!("it did not answer within {seconds} seconds, the limit")
                }
                Err(RecvTimeoutError::Timeout) => {
                    let program = &self.program;
                    let waits = format!("waiting for {program}, at most {seconds} seconds in all");
                    self.prompt.show(&waits);
                    continue;
                }
            };
            return Err(self.fault(&fault));
        }
    }
}

/// Asks for one of the two answers that the arguments name.
fn confirm(prompt: &dyn Prompt, text: &str, args: &[String]) -> Option<bool> {
    let word = |n: usize| Some(shown(&BASE64_STANDARD_NO_PAD.decode(args.get(n)?).ok()?));
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

fn shown(text: &[u8]) -> String {
    start_of(&String::from_utf8_lossy(text), MAX_SHOWN_CHARS)
}
