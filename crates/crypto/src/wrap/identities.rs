//! The secrets that unwrap data keys.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor, scrypt, ssh};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::keys::DataKey;
use crate::limited::{read_limited, read_secret};
use crate::secret::Secret;
use crate::wrap::armor::{check_limits, dearmor, unarmored};
use crate::wrap::header::Header;
use crate::wrap::identity::{Identity, Own};
use crate::wrap::plugin::{by_plugin, name_in_identity};
use crate::wrap::prompt::{NoPrompt, Passphrase, Prompt, ask};
use crate::wrap::recipients::Recipients;
use crate::wrap::ssh::{looks_private, looks_public, read_private};
use crate::wrap::{MAX_KEY_FILE_BYTES, malformed_identities};

/// The highest accepted work factor of a passphrase, log2 of scrypt's N, for a data key or an
/// identity file: 1 GiB of memory and some seconds. age writes 18.
pub const MAX_WORK_FACTOR: u8 = 20;

const LENGTH: &str = "identity file length in bytes";

const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
const AGE_FILE: &[u8] = b"age-encryption.org/";

/// Returns whether a file is an age file, with or without armor.
pub(super) fn is_encrypted(file: &[u8]) -> bool {
    let start = file.trim_ascii_start();
    start.starts_with(ARMOR) || start.starts_with(AGE_FILE)
}

/// The secrets that unwrap data keys; may be empty.
#[derive(Default)]
pub struct Identities(Vec<Known>);

opaque_debug!(Identities, |all| all.0.len());

struct Known {
    identity: Box<dyn age::Identity + Send + Sync>,
    /// Its public key; none of a passphrase or a plugin.
    recipient: Option<String>,
    turn: Turn,
}

/// When an identity is tried.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Keys of age itself, all together: they are cheap, and without faults that would keep others
    /// from their turn.
    Own,
    /// An ssh key or a passphrase.
    Other,
    /// A plugin, which may ask the user.
    Plugin,
}

impl From<Own> for Known {
    fn from(own: Own) -> Known {
        Known {
            identity: own.key,
            recipient: Some(own.recipient),
            turn: Turn::Own,
        }
    }
}

impl Identities {
    /// Reads an identity file as [`Identities::read_with`] does, without asking for passphrases.
    pub fn read(file: impl Read, name: &str) -> Result<Identities, Error> {
        Identities::read_with(file, name, Arc::new(NoPrompt))
    }

    /// Reads an identity file: an age file, with identities of age or of plugins, plain or
    /// encrypted with a passphrase; or an ssh private key, ed25519 or RSA. This asks `prompt` for
    /// passphrases at once; plugins ask it when they unwrap. `name` is the file's name for `prompt`
    /// and in messages.
    pub fn read_with(
        file: impl Read,
        name: &str,
        prompt: Arc<dyn Prompt>,
    ) -> Result<Identities, Error> {
        let file = read_limited(file, name, MAX_KEY_FILE_BYTES, LENGTH)?;
        if is_encrypted(&file) {
            let text = decrypt_file(&file, name, &*prompt)?;
            return parse_lines(&text, name, &prompt);
        }
        if looks_private(&file) {
            let key = read_private(&file, name, &*prompt)?;
            let recipient = ssh::Recipient::try_from(key.clone());
            return Ok(Identities(vec![Known {
                recipient: recipient.ok().map(|public| public.to_string()),
                identity: Box::new(key),
                turn: Turn::Other,
            }]));
        }
        parse_lines(&file, name, &prompt)
    }

    /// Makes an identity from a passphrase, for a data key wrapped to one.
    pub fn passphrase(passphrase: &Passphrase) -> Identities {
        Identities(vec![Known {
            identity: Box::new(scrypt_identity(passphrase)),
            recipient: None,
            turn: Turn::Other,
        }])
    }

    /// Returns the recipients of these identities, except those of plugins and passphrases.
    pub fn recipients(&self) -> Vec<String> {
        self.0
            .iter()
            .flat_map(|one| one.recipient.clone())
            .collect()
    }

    /// Returns all recipients of a data key, and its notes. If its maker did not list the
    /// recipients, each must belong to one of these identities, of age's own kind or of ssh, or
    /// they are [`Error::UnknownRecipients`]. A list is only a claim; [`Identities::unwrap`] proves
    /// that a recipient made it.
    pub fn recipients_of(&self, armored: &str) -> Result<Recipients, Error> {
        let file = dearmor(armored)?;
        let header = Header::of(&file);
        let present = header.kinds.len();
        let is_listed = !header.recipients.is_empty();
        let mut known = BTreeSet::from_iter(header.recipients);
        for one in self.0.iter().filter(|one| one.recipient.is_some()) {
            let opened = decrypt_with(&file, &[one], &|payload: &mut dyn Read| {
                read_data_keys(payload, 1)
            });
            if matches!(opened, Ok(Some(_))) {
                known.extend(one.recipient.clone());
            }
        }
        if known.len() == present {
            let mut recipients = Recipients::parse(&Vec::from_iter(known))?;
            (recipients.comment, recipients.is_listed) = (header.comment, is_listed);
            Ok(recipients)
        } else {
            Err(Error::UnknownRecipients {
                present,
                unknown: present.saturating_sub(known.len()),
            })
        }
    }

    /// Adds the identities of another file to these.
    pub fn merge(&mut self, other: Identities) {
        self.0.extend(other.0);
    }

    /// Unwraps a data key, in exactly the encoding that
    /// [`Recipients::wrap`](crate::wrap::Recipients::wrap) writes.
    ///
    /// # Errors
    /// [`Error::NoMatchingKey`] if no identity matches, [`Error::WrongPassphrase`] if the only
    /// recipient is another passphrase, [`Error::Unauthentic`] if an identity matches but header or
    /// payload were changed, [`Error::Plugin`] if no identity matches and a plugin failed,
    /// [`Error::MalformedKey`] and [`Error::LimitExceeded`] if it is not a wrapped data key.
    pub fn unwrap(&self, armored: &str) -> Result<DataKey, Error> {
        let mut keys = self.unwrap_all(armored, 1)?;
        keys.pop().ok_or(Error::Backend)
    }

    /// Unwraps `n` data keys that [`Recipients::wrap_all`](crate::wrap::Recipients::wrap_all)
    /// wrapped, with the errors of [`Identities::unwrap`].
    pub fn unwrap_all(&self, armored: &str, n: usize) -> Result<Vec<DataKey>, Error> {
        let file = dearmor(armored)?;
        self.decrypt(&file, |payload| read_data_keys(payload, n))
    }

    /// Decrypts a text that [`Recipients::encrypt_text`](crate::wrap::Recipients::encrypt_text) or
    /// `age` encrypted, with or without armor. The caller limits the length: the call takes at most
    /// twice the file's length in memory.
    pub fn decrypt_text(&self, file: &[u8]) -> Result<Zeroizing<String>, Error> {
        let plain = unarmored(file)?;
        check_limits("", &plain)?;
        self.decrypt(&plain, |payload| read_text(payload, plain.len()))
    }

    /// Decrypts an age file with the first identity that matches.
    fn decrypt<T>(
        &self,
        file: &[u8],
        read: impl Fn(&mut dyn Read) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut by_turn: Vec<&Known> = self.0.iter().collect();
        by_turn.sort_by_key(|one| one.turn);
        let n_own = by_turn.partition_point(|one| one.turn == Turn::Own);
        let (own, others) = by_turn.split_at(n_own);
        let mut first_fault = None;
        for identities in std::iter::once(own).chain(others.chunks(1)) {
            match decrypt_with(file, identities, &read) {
                Ok(Some(payload)) => return Ok(payload),
                Ok(None) => {}
                // Go on with the others.
                Err(
                    fault @ (Error::Unauthentic
                    | Error::WrongPassphrase { .. }
                    | Error::Plugin { .. }),
                ) => {
                    first_fault.get_or_insert(fault);
                }
                Err(fault) => return Err(fault),
            }
        }
        let recipients = Header::of(file).kinds;
        Err(first_fault.unwrap_or(Error::NoMatchingKey { recipients }))
    }
}

impl From<Identity> for Identities {
    fn from(identity: Identity) -> Self {
        Identities(vec![identity.own.into()])
    }
}

fn scrypt_identity(passphrase: &Passphrase) -> scrypt::Identity {
    let mut identity = scrypt::Identity::new(passphrase.secret());
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    identity
}

/// Checks, as far as possible without an identity, that `armored` is a wrapped data key.
pub fn check_wrapped(armored: &str) -> Result<(), Error> {
    decryptor(&dearmor(armored)?).map(drop)
}

fn decryptor(file: &[u8]) -> Result<Decryptor<&[u8]>, Error> {
    Decryptor::new_buffered(file).map_err(|fault| match fault {
        DecryptError::UnknownFormat => Error::MalformedKey("its age version is unknown"),
        _ => Error::MalformedKey("its age header is invalid"),
    })
}

/// Decrypts `file` with one of `identities`, and calls `read` on the payload. Returns `None` if none
/// matches.
fn decrypt_with<T>(
    file: &[u8],
    identities: &[&Known],
    read: &impl Fn(&mut dyn Read) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    let decryptor = decryptor(file)?;
    let is_scrypt = decryptor.is_scrypt();
    let identities = identities.iter().map(|one| &*one.identity as _);
    let fault = match decryptor.decrypt(identities) {
        Ok(mut payload) => return read(&mut payload).map(Some),
        Err(DecryptError::NoMatchingKeys) => return Ok(None),
        Err(fault) => fault,
    };
    Err(match fault {
        DecryptError::InvalidHeader => Error::MalformedKey("a recipient stanza is invalid"),
        DecryptError::ExcessiveWork { .. } => excessive_work(),
        DecryptError::DecryptionFailed if is_scrypt => {
            Error::WrongPassphrase("the data key".to_owned())
        }
        // A plugin failed, since the file is in memory.
        DecryptError::Io(fault) => Error::Plugin(fault.to_string()),
        _ => Error::Unauthentic,
    })
}

/// Reads the payload, which must be a text of at most `longest` bytes.
fn read_text(payload: &mut dyn Read, longest: usize) -> Result<Zeroizing<String>, Error> {
    let bytes = read_secret(payload, longest).map_err(|_| Error::Unauthentic)?;
    let text = str::from_utf8(&bytes).map_err(|_| Error::MalformedKey("its payload is no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads the payload, which must be exactly `n` data keys.
fn read_data_keys(payload: &mut dyn Read, n: usize) -> Result<Vec<DataKey>, Error> {
    let bytes = read_secret(payload, 32 * n).map_err(|_| Error::Unauthentic)?;
    let (keys, rest) = bytes.as_chunks();
    if keys.len() != n || !rest.is_empty() {
        let reason = "its payload has not the 32 bytes of each data key";
        return Err(Error::MalformedKey(reason));
    }
    Ok(keys.iter().map(|key| DataKey(Secret::copy(key))).collect())
}

/// Decrypts an identity file with its passphrase, to its text.
fn decrypt_file(file: &[u8], name: &str, prompt: &dyn Prompt) -> Result<Zeroizing<Vec<u8>>, Error> {
    let malformed = |reason: &str| malformed_identities(name, reason);
    let decryptor = Decryptor::new(ArmoredReader::new(file))
        .map_err(|_| malformed("it is no intact age file"))?;
    if !decryptor.is_scrypt() {
        return Err(malformed(
            "it is encrypted, and not with a passphrase: decrypt it with age first",
        ));
    }
    let identity = scrypt_identity(&ask(prompt, "the identity file", name)?);
    let content = decryptor
        .decrypt(std::iter::once(&identity as &dyn age::Identity))
        .map_err(|fault| match fault {
            DecryptError::DecryptionFailed => Error::WrongPassphrase(name.to_owned()),
            DecryptError::ExcessiveWork { .. } => excessive_work(),
            _ => malformed("its age header is damaged"),
        })?;
    read_limited(content, name, MAX_KEY_FILE_BYTES, LENGTH).map_err(|fault| match fault {
        Error::Io { .. } => malformed("it was changed or cut since it was encrypted"),
        fault => fault,
    })
}

fn parse_lines(text: &[u8], name: &str, prompt: &Arc<dyn Prompt>) -> Result<Identities, Error> {
    let (mut all, mut of_plugins) = (Vec::new(), Vec::new());
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let line = str::from_utf8(line).unwrap_or_default();
        if let Some(identity) = Own::parse(line) {
            all.push(Known::from(identity));
        } else if let Some(plugin) = name_in_identity(line) {
            of_plugins.push((plugin, line));
        } else {
            let what = kind_of(line);
            let reason = format_args!("line {} is {what}", index + 1);
            return Err(malformed_identities(name, reason));
        }
    }
    for keys in by_plugin(of_plugins, prompt)? {
        all.push(Known {
            identity: Box::new(keys),
            recipient: None,
            turn: Turn::Plugin,
        });
    }
    if all.is_empty() {
        return Err(malformed_identities(name, "it holds no identity"));
    }
    Ok(Identities(all))
}

/// Says what a line is if it is not an identity, without quoting it, since it may be secret.
fn kind_of(line: &str) -> &'static str {
    let lower = Zeroizing::new(line.to_ascii_lowercase());
    let starts = |prefix| lower.starts_with(prefix);
    if starts("age-secret-key-") || starts("age-plugin-") {
        return "an identity with a typing error";
    }
    if starts("age1") || looks_public(&lower) {
        "a recipient, which is public, not an identity"
    } else {
        "no identity"
    }
}

fn excessive_work() -> Error {
    let what = "work factor of a passphrase, log2 of scrypt's N,";
    Error::LimitExceeded(what, MAX_WORK_FACTOR.into())
}
