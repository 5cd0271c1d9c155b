//! The recipients of data keys.

use std::fmt;
use std::io::{self, Read, Write as _};
use std::sync::Arc;

use age::{EncryptError, Encryptor, scrypt, tag, tagpq, x25519};
use x25519_dalek::PublicKey;

use crate::error::{Error, start_of};
use crate::keys::{DataKey, joined};
use crate::limited::read_limited;
use crate::wrap::armor::{armor, check_limits};
use crate::wrap::header::{Noted, check_comment};
use crate::wrap::plugin::{self, by_plugin};
use crate::wrap::prompt::{NoPrompt, Passphrase, Prompt};
use crate::wrap::{LOW_ORDER, MAX_KEY_FILE_BYTES, has_prime_order_part, pq, ssh};

/// The work factor of passphrases, log2 of scrypt's N, equal to the `age` command's: 256 MiB of
/// memory and about a second of work.
pub(super) const WORK_FACTOR: u8 = 18;

const MAX_SHOWN_CHARS: usize = 12;

/// The recipients of a data key: at least one, all different.
pub struct Recipients {
    recipients: Vec<Recipient>,
    prompt: Arc<dyn Prompt>,
    pub(super) comment: Option<String>,
    pub(super) is_listed: bool,
}

opaque_debug!(Recipients, |all| all.recipients.len());

struct Recipient {
    /// Its canonical spelling, to recognise it.
    text: String,
    kind: Kind,
    /// What wraps to it, unless it is a plugin's, which wraps to all of its recipients at once.
    own: Option<Box<dyn age::Recipient + Send + Sync>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A public key on an elliptic curve, or an RSA key.
    Classic,
    /// A hybrid with ML-KEM, which age does not combine with weaker ones.
    PostQuantum,
    /// A passphrase, which age does not combine with others.
    Passphrase,
    /// For another program.
    Plugin,
}

impl Recipients {
    /// Reads recipients: X25519 (`age1...`), post-quantum (`age1pq1...`), tagged (`age1tag1...`,
    /// `age1tagpq1...`), ssh public keys (`ssh-ed25519 ...`, `ssh-rsa ...`) and those of plugins
    /// (`age1NAME1...`).
    pub fn parse(recipients: &[impl AsRef<str>]) -> Result<Recipients, Error> {
        let mut all = of(Vec::new());
        for text in recipients {
            all.add(parse(text.as_ref())?)?;
        }
        if all.recipients.is_empty() {
            let rule = "a data key is wrapped to at least one recipient";
            return Err(Error::Misuse(rule));
        }
        Ok(all)
    }

    /// Reads a file with one recipient per line, and skips empty lines and those that begin with
    /// `#`. `name` is for error messages.
    pub fn read(file: impl Read, name: &str) -> Result<Recipients, Error> {
        let what = "recipients file length in bytes";
        let text = read_limited(file, name, MAX_KEY_FILE_BYTES, what)?;
        let mut all = of(Vec::new());
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            parse(&String::from_utf8_lossy(line))
                .and_then(|recipient| all.add(recipient))
                .map_err(|fault| {
                    let line = format!("{name}, line {}", index + 1);
                    Error::RecipientsFile(line, Box::new(fault))
                })?;
        }
        if all.recipients.is_empty() {
            return Err(Error::Unusable(format!("{name} holds no recipient")));
        }
        Ok(all)
    }

    /// Wraps only to those who know the passphrase.
    pub fn passphrase(passphrase: &Passphrase) -> Recipients {
        of(vec![Recipient {
            text: String::new(),
            kind: Kind::Passphrase,
            own: Some(Box::new(scrypt_recipient(passphrase))),
        }])
    }

    /// Adds the recipients of `other` that are not among these already, if age combines them.
    pub fn merge(&mut self, other: Recipients) -> Result<(), Error> {
        (other.recipients.into_iter()).try_for_each(|recipient| self.add(recipient))
    }

    fn add(&mut self, recipient: Recipient) -> Result<(), Error> {
        for present in &self.recipients {
            check_compatible([present.kind, recipient.kind])?;
        }
        let is_new = |present: &Recipient| present.text != recipient.text;
        if self.recipients.iter().all(is_new) {
            self.recipients.push(recipient);
        }
        Ok(())
    }

    /// Writes `comment` into the wrapped key, readable by anyone: what it is, or who has the keys, in
    /// a line of at most 1024 bytes. A passphrase takes none, for age allows nothing beside it.
    pub fn with_comment(self, comment: &str) -> Result<Recipients, Error> {
        check_comment(comment)?;
        let comment = Some(comment.to_owned());
        self.check_takes_notes()?;
        Ok(Recipients { comment, ..self })
    }

    /// Has the wrapped key list the public keys of its recipients, in clear: everybody sees who
    /// opens it, and a recipient can add others without losing one. A passphrase cannot be listed.
    pub fn listed(self) -> Result<Recipients, Error> {
        self.check_takes_notes()?;
        let is_listed = true;
        Ok(Recipients { is_listed, ..self })
    }

    fn check_takes_notes(&self) -> Result<(), Error> {
        if self.names().any(str::is_empty) {
            Err(Error::IncompatibleRecipients(ALONE))
        } else {
            Ok(())
        }
    }

    /// Combines these and `others`. Keeps the comment of these, or else theirs, and lists the
    /// recipients if either does.
    pub fn and(&self, others: Recipients) -> Result<Recipients, Error> {
        self.check_takes_notes()?;
        let names: Vec<&str> = self.names().collect();
        let mut all = others;
        all.merge(Recipients::parse(&names)?)?;
        all.comment = self.comment.clone().or(all.comment);
        all.is_listed |= self.is_listed;
        Ok(all.with_prompt(Arc::clone(&self.prompt)))
    }

    /// Returns the public keys, each in its canonical spelling; an empty text for a passphrase.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.recipients.iter().map(|one| one.text.as_str())
    }

    /// Lets plugins ask the user through `prompt`; without it, questions are refused.
    pub fn with_prompt(mut self, prompt: Arc<dyn Prompt>) -> Recipients {
        self.prompt = prompt;
        self
    }

    /// Wraps the data key to every one of the recipients, as an armored age file.
    pub fn wrap(&self, key: &DataKey) -> Result<String, Error> {
        self.wrap_all(&[key])
    }

    /// Wraps several data keys, in their order, as [`Recipients::wrap`] wraps one.
    pub fn wrap_all(&self, keys: &[&DataKey]) -> Result<String, Error> {
        let file = self.file(&joined(keys))?;
        let armored = armor(&file)?;
        check_limits(&armored, &file)?;
        Ok(armored)
    }

    /// Encrypts a text to every one of the recipients, as an armored age file.
    pub fn encrypt_text(&self, text: &str) -> Result<String, Error> {
        let file = self.file(text.as_bytes())?;
        let (header, _) = file.split_at(file.len() - text.len());
        let armored = armor(&file)?;
        check_limits("", header)?;
        Ok(armored)
    }

    fn file(&self, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let of_plugins = self.recipients.iter().filter(|one| one.own.is_none());
        let of_plugins = of_plugins.filter_map(|one| Some((plugin_of(&one.text)?, &*one.text)));
        let plugins = by_plugin(of_plugins.collect(), &self.prompt)?;
        let own = self.recipients.iter().flat_map(|one| &one.own);
        let own = own.map(|one| &**one as &dyn age::Recipient);
        let mut wrappers: Vec<_> = own.chain(plugins.iter().map(|one| one as _)).collect();
        let noted = wrappers.pop().map(|recipient| Noted {
            recipient,
            comment: self.comment.as_deref(),
            listed: self.names().filter(|_| self.is_listed).collect(),
        });
        wrappers.extend(noted.iter().map(|last| last as &dyn age::Recipient));
        encrypt(wrappers.into_iter(), payload)
    }
}

/// Makes the age file with `payload` for `recipients`, without armor.
pub(super) fn encrypt<'a>(
    recipients: impl Iterator<Item = &'a dyn age::Recipient>,
    payload: &[u8],
) -> Result<Vec<u8>, Error> {
    let encryptor = Encryptor::with_recipients(recipients).map_err(|fault| match fault {
        // Only plugins do I/O here.
        EncryptError::Io(fault) => Error::Plugin(fault.to_string()),
        EncryptError::MixedRecipientAndPassphrase => Error::IncompatibleRecipients(ALONE),
        EncryptError::IncompatibleRecipients { .. } => Error::IncompatibleRecipients(
            "one of them, of a plugin, does not allow the others beside it",
        ),
        _ => Error::Backend,
    })?;
    let write = || -> io::Result<Vec<u8>> {
        let mut writer = encryptor.wrap_output(Vec::new())?;
        writer.write_all(payload)?;
        writer.finish()
    };
    write().map_err(|_| Error::Backend)
}

pub(super) fn scrypt_recipient(passphrase: &Passphrase) -> scrypt::Recipient {
    let mut recipient = scrypt::Recipient::new(passphrase.secret());
    // By default it would depend on the speed of this machine.
    recipient.set_work_factor(WORK_FACTOR);
    recipient
}

fn of(recipients: Vec<Recipient>) -> Recipients {
    Recipients {
        recipients,
        prompt: Arc::new(NoPrompt),
        comment: None,
        is_listed: false,
    }
}

const ALONE: &str = "a passphrase stands alone in an age file";

fn check_compatible(kinds: [Kind; 2]) -> Result<(), Error> {
    let reason = if kinds.contains(&Kind::Passphrase) {
        ALONE
    } else if kinds.contains(&Kind::PostQuantum) && kinds.contains(&Kind::Classic) {
        "beside another key, a post-quantum one protects from no quantum computer: give every \
         reader a post-quantum key, or protect a copy for each kind"
    } else {
        return Ok(());
    };
    Err(Error::IncompatibleRecipients(reason))
}

fn parse(text: &str) -> Result<Recipient, Error> {
    let invalid = |kind| invalid_recipient(text, kind);
    if let Ok(recipient) = text.parse::<x25519::Recipient>() {
        return match point_of(text) {
            Some(point) if has_prime_order_part(&point) => Ok(own(Kind::Classic, recipient)),
            _ => Err(invalid(LOW_ORDER)),
        };
    }
    if let Ok(recipient) = text.parse::<tag::Recipient>() {
        return Ok(own(Kind::Classic, recipient));
    }
    if let Ok(recipient) = text.parse::<tagpq::Recipient>() {
        return Ok(own(Kind::PostQuantum, recipient));
    }
    if let Ok(recipient) = text.parse::<pq::Recipient>() {
        return Ok(own(Kind::PostQuantum, recipient));
    }
    if ssh::looks_public(text) {
        let recipient = ssh::recipient(text).map_err(invalid)?;
        return Ok(own(Kind::Classic, recipient));
    }
    // Fail early if the plugin is missing.
    plugin::find(&plugin_of(text).ok_or_else(|| invalid(kind_of(text)))?)?;
    Ok(Recipient {
        text: text.to_owned(),
        kind: Kind::Plugin,
        own: None,
    })
}

fn own<R>(kind: Kind, recipient: R) -> Recipient
where
    R: age::Recipient + fmt::Display + Send + Sync + 'static,
{
    Recipient {
        text: recipient.to_string(),
        kind,
        own: Some(Box::new(recipient)),
    }
}

fn point_of(recipient: &str) -> Option<PublicKey> {
    let (_, bytes) = bech32::decode(recipient).ok()?;
    <[u8; 32]>::try_from(bytes).ok().map(PublicKey::from)
}

/// Names the plugin of a recipient, unless this is of a kind that needs no plugin.
fn plugin_of(text: &str) -> Option<String> {
    plugin::name_in_recipient(text).filter(|name| !["pq", "tag", "tagpq"].contains(&&**name))
}

fn kind_of(text: &str) -> &'static str {
    let lower = text.to_ascii_lowercase();
    let starts = |prefix| lower.starts_with(prefix);
    if starts("age-secret-key-") || starts("age-plugin-") || starts("-----begin") {
        return "an identity, which is secret";
    }
    if starts("age1") {
        "an age recipient with a typing error"
    } else {
        "no recipient"
    }
}

fn invalid_recipient(text: &str, kind: &'static str) -> Error {
    let shown = start_of(text, MAX_SHOWN_CHARS).escape_debug().to_string();
    Error::InvalidRecipient(shown, kind)
}
