//! Passphrases, and the questions that only the user can answer.

use std::io::Read;
use std::time::Duration;

use age::secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::limited::to_utf8;

/// The longest passphrase that is read, in bytes.
pub const MAX_PASSPHRASE_BYTES: usize = 1024;

/// How long a plugin may take unless a [`Prompt`] says otherwise.
pub const PLUGIN_PATIENCE: Duration = Duration::from_secs(120);

/// Asks the user on behalf of this crate, which has no terminal. A question that an implementation
/// leaves out is refused.
pub trait Prompt: Send + Sync {
    /// Asks for the passphrase that `description` names. Returns `None` without an answer.
    fn passphrase(&self, _description: &str) -> Option<Passphrase> {
        None
    }

    /// Asks for something that is not secret. Returns `None` without an answer.
    fn text(&self, _description: &str) -> Option<String> {
        None
    }

    /// Asks for one of two answers; `no` may lack a name. Returns `None` without an answer.
    fn confirm(&self, _message: &str, _yes: &str, _no: Option<&str>) -> Option<bool> {
        None
    }

    /// Shows a message that needs no answer, such as to touch a hardware token.
    fn show(&self, _message: &str) {}

    /// Returns how long a plugin may take for one data key, without the time that the user takes to
    /// answer: long enough to find a hardware token and touch it.
    fn plugin_patience(&self) -> Duration {
        PLUGIN_PATIENCE
    }
}

/// Refuses every question.
#[derive(Clone, Copy, Debug)]
pub struct NoPrompt;

impl Prompt for NoPrompt {}

/// Asks for the passphrase of `what`, which has this name.
pub(super) fn ask(prompt: &dyn Prompt, what: &str, name: &str) -> Result<Passphrase, Error> {
    let passphrase = prompt.passphrase(&format!("passphrase for {what} {name}"));
    passphrase.ok_or_else(|| Error::PassphraseNeeded(name.to_owned()))
}

/// A non-empty passphrase, zeroized on drop.
pub struct Passphrase(SecretString);

opaque_debug!(Passphrase);

/// Answers each question for a passphrase with this one.
impl Prompt for Passphrase {
    fn passphrase(&self, _: &str) -> Option<Passphrase> {
        Some(Passphrase(self.secret()))
    }
}

impl Passphrase {
    /// Copies `text`, which has at most [`MAX_PASSPHRASE_BYTES`], and which the caller must zeroize.
    /// `name` is for error messages.
    pub fn new(text: &str, name: &str) -> Result<Passphrase, Error> {
        match text.len() {
            0 => Err(invalid(name, "it is empty")),
            1..=MAX_PASSPHRASE_BYTES => Ok(Passphrase(SecretString::from(text))),
            _ => Err(invalid(name, "it is longer than 1024 bytes")),
        }
    }

    /// Reads the first line, without its line end, and nothing after it: byte by byte, so that no
    /// buffer keeps the passphrase and a pipe need not be closed. `name` is for error messages.
    #[allow(clippy::unbuffered_bytes)]
    pub fn read(file: impl Read, name: &str) -> Result<Passphrase, Error> {
        // Allocated once: a buffer that grows leaves secrets behind.
        let mut line = Zeroizing::new(Vec::with_capacity(MAX_PASSPHRASE_BYTES + 2));
        for byte in file.bytes().take(MAX_PASSPHRASE_BYTES + 2) {
            match byte.map_err(|fault| Error::Io(name.to_owned(), fault))? {
                b'\n' => break,
                byte => line.push(byte),
            }
        }
        if line.len() <= MAX_PASSPHRASE_BYTES {
            line = to_utf8(line);
        }
        let text = str::from_utf8(&line).map_err(|_| invalid(name, "it is not UTF-8"))?;
        Passphrase::new(text.strip_suffix('\r').unwrap_or(text), name)
    }

    /// Returns whether both are equal, for a passphrase that is typed twice.
    pub fn is_same(&self, other: &Passphrase) -> bool {
        use subtle::ConstantTimeEq as _;
        self.expose().ct_eq(other.expose()).into()
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }

    /// Returns a copy for age, which wants its own.
    pub(crate) fn secret(&self) -> SecretString {
        self.0.clone()
    }
}

fn invalid(name: &str, reason: &str) -> Error {
    Error::unusable(name, format_args!("invalid passphrase: {reason}"))
}
