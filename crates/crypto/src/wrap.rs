//! Data keys wrapped to recipients: one ASCII-armored [age](https://age-encryption.org/v1) file
//! whose payload is the 32 bytes of the key.

use std::fmt;
use std::io::{Read, Write as _};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::ExposeSecret as _;
use age::{DecryptError, Decryptor, Encryptor, IdentityFile, x25519};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::keys::DataKey;
use crate::secret::Secret;

/// The longest wrapped key that is read or written, in bytes: room for some 900 recipients.
///
/// The work of reading a header grows with the square of its length, and age sets no limit.
pub const MAX_WRAPPED_BYTES: usize = 128 << 10;

/// The longest identity file that is read, in bytes.
pub const MAX_IDENTITY_FILE_BYTES: usize = 256 << 10;

const MAX_HEADER_LINES: usize = 4096;
const MAX_SHOWN_CHARS: usize = 12;
const MAX_KIND_CHARS: usize = 32;

/// Those to whom a data key is wrapped: at least one.
pub struct Recipients(Vec<Box<dyn age::Recipient + Send + Sync>>);

impl Recipients {
    /// Reads X25519 age recipients, `age1...`.
    ///
    /// # Errors
    /// [`Error::InvalidRecipient`] for a string that is none, [`Error::Misuse`] for no string.
    pub fn parse(recipients: &[impl AsRef<str>]) -> Result<Recipients, Error> {
        if recipients.is_empty() {
            let rule = "a data key is wrapped to at least one recipient";
            return Err(Error::Misuse { rule });
        }
        recipients
            .iter()
            .map(|text| parse_recipient(text.as_ref()))
            .collect::<Result<_, _>>()
            .map(Recipients)
    }

    /// Wraps the data key to every one of the recipients, as an armored age file.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] where there are so many recipients that no reader would accept it.
    pub fn wrap(&self, key: &DataKey) -> Result<String, Error> {
        let recipients = self
            .0
            .iter()
            .map(|recipient| &**recipient as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(recipients).map_err(|_| Error::Backend)?;
        let mut file = Vec::new();
        let mut writer = encryptor
            .wrap_output(&mut file)
            .map_err(|_| Error::Backend)?;
        writer.write_all(key.expose()).map_err(|_| Error::Backend)?;
        writer.finish().map_err(|_| Error::Backend)?;

        let armored = armor(&file)?;
        check_limits(&armored, &file)?;
        Ok(armored)
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recipients(recipients) = self;
        write!(f, "Recipients({})", recipients.len())
    }
}

/// The secret keys that unwrap data keys; possibly none.
#[derive(Default)]
pub struct Identities(Vec<Box<dyn age::Identity + Send + Sync>>);

impl Identities {
    /// Reads an age identity file, as `age-keygen` writes it. `name` is for error messages.
    ///
    /// # Errors
    /// [`Error::MalformedIdentities`] for a line that is no identity, and for a file with none.
    pub fn read(file: impl Read, name: &str) -> Result<Identities, Error> {
        let malformed = |reason: String| Error::MalformedIdentities {
            name: name.to_owned(),
            reason,
        };
        // Allocated once: a buffer that grows leaves secrets behind.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_IDENTITY_FILE_BYTES + 1));
        file.take(MAX_IDENTITY_FILE_BYTES as u64 + 1)
            .read_to_end(&mut text)
            .map_err(|source| Error::Io {
                name: name.to_owned(),
                source,
            })?;
        if text.len() > MAX_IDENTITY_FILE_BYTES {
            let what = "identity file length in bytes";
            return Err(Error::LimitExceeded {
                what,
                limit: MAX_IDENTITY_FILE_BYTES,
            });
        }
        let identities = IdentityFile::from_buffer(text.as_slice())
            .map_err(|fault| malformed(fault.to_string()))?
            .into_identities()
            .map_err(|fault| malformed(fault.to_string()))?;
        match identities.is_empty() {
            true => Err(malformed("it holds no identity".to_owned())),
            false => Ok(Identities(identities)),
        }
    }

    /// Adds the identities of another file to these.
    pub fn merge(&mut self, other: Identities) {
        self.0.extend(other.0);
    }

    /// Unwraps a data key, accepting no encoding of it but the one that
    /// [`Recipients::wrap`] writes.
    ///
    /// # Errors
    /// [`Error::NoMatchingKey`] where no identity matches, [`Error::Unauthentic`] where one does
    /// but header or payload were changed, [`Error::MalformedKey`] and [`Error::LimitExceeded`]
    /// where it is no wrapped data key at all.
    pub fn unwrap(&self, armored: &str) -> Result<DataKey, Error> {
        let file = dearmor(armored)?;
        let decryptor = Decryptor::new_buffered(file.as_slice()).map_err(|fault| match fault {
            DecryptError::UnknownFormat => malformed("its age version is unknown"),
            _ => malformed("its age header is invalid"),
        })?;
        let identities = self
            .0
            .iter()
            .map(|identity| &**identity as &dyn age::Identity);
        let payload = decryptor.decrypt(identities).map_err(|fault| match fault {
            DecryptError::NoMatchingKeys => Error::NoMatchingKey {
                recipients: recipient_kinds(&file),
            },
            DecryptError::InvalidHeader => malformed("a recipient stanza is invalid"),
            _ => Error::Unauthentic,
        })?;
        read_data_key(payload)
    }
}

impl From<Identity> for Identities {
    fn from(identity: Identity) -> Self {
        Identities(vec![Box::new(identity.0)])
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identities(identities) = self;
        write!(f, "Identities({})", identities.len())
    }
}

/// A new X25519 secret key.
pub struct Identity(x25519::Identity);

/// Makes a new X25519 identity, as `age-keygen` does.
pub fn generate_identity() -> Identity {
    Identity(x25519::Identity::generate())
}

impl Identity {
    /// The text of an identity file: the recipient in a comment, then the secret key.
    pub fn to_file_text(&self) -> Zeroizing<String> {
        // Allocated once: a string that grows leaves secrets behind.
        let mut text = Zeroizing::new(String::with_capacity(256));
        text.push_str("# public key: ");
        text.push_str(&self.recipient());
        text.push('\n');
        text.push_str(self.0.to_string().expose_secret());
        text.push('\n');
        text
    }

    /// The recipient, `age1...`: what others need to wrap a data key to this identity.
    pub fn recipient(&self) -> String {
        self.0.to_public().to_string()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity(_) = self;
        f.write_str("Identity(..)")
    }
}

fn parse_recipient(text: &str) -> Result<Box<dyn age::Recipient + Send + Sync>, Error> {
    match text.parse::<x25519::Recipient>() {
        Ok(recipient) if has_prime_order_part(text) => Ok(Box::new(recipient)),
        Ok(_) => Err(invalid_recipient(text, "a public key of low order")),
        Err(_) => Err(invalid_recipient(text, kind_of(text))),
    }
}

/// Whether a shared secret with this X25519 recipient depends on the secret key (RFC 7748,
/// section 6.1). Where it does not, anyone could unwrap, and age panics.
fn has_prime_order_part(recipient: &str) -> bool {
    let Ok((_, bytes)) = bech32::decode(recipient) else {
        return false;
    };
    let Ok(point) = <[u8; 32]>::try_from(bytes) else {
        return false;
    };
    // Any scalar will do: X25519 makes a multiple of 8 of it.
    StaticSecret::from([1; 32])
        .diffie_hellman(&PublicKey::from(point))
        .was_contributory()
}

fn kind_of(text: &str) -> &'static str {
    let lower = text.to_ascii_lowercase();
    let starts = |prefix| lower.starts_with(prefix);
    if starts("age-secret-key-") || starts("age-plugin-") {
        return "an identity, which is secret";
    }
    if starts("ssh-") || starts("ecdsa-") {
        return "an ssh public key";
    }
    match lower.strip_prefix("age1") {
        Some(rest) if rest.contains('1') => "a plugin's recipient",
        Some(_) => "an age recipient with a typing error",
        None => "no recipient",
    }
}

fn invalid_recipient(text: &str, kind: &'static str) -> Error {
    let mut chars = text.chars();
    let mut shown: String = chars
        .by_ref()
        .take(MAX_SHOWN_CHARS)
        .flat_map(char::escape_debug)
        .collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    Error::InvalidRecipient { kind, shown }
}

fn armor(file: &[u8]) -> Result<String, Error> {
    let mut writer =
        ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).map_err(|_| Error::Backend)?;
    writer.write_all(file).map_err(|_| Error::Backend)?;
    let armored = writer.finish().map_err(|_| Error::Backend)?;
    let armored = String::from_utf8(armored).map_err(|_| Error::Backend)?;
    // On Windows age ends lines otherwise.
    Ok(armored.replace("\r\n", "\n"))
}

/// Takes the armor off, if it is the very text that [`armor`] gives.
fn dearmor(armored: &str) -> Result<Vec<u8>, Error> {
    check_limits(armored, &[])?;
    let mut file = Vec::new();
    ArmoredReader::new(armored.as_bytes())
        .read_to_end(&mut file)
        .map_err(|_| malformed("its armor is invalid"))?;
    if armor(&file)? != armored {
        return Err(malformed("its armor is not canonical"));
    }
    check_limits(armored, &file)?;
    Ok(file)
}

fn check_limits(armored: &str, file: &[u8]) -> Result<(), Error> {
    if armored.len() > MAX_WRAPPED_BYTES {
        let what = "wrapped data key length in bytes";
        return Err(Error::LimitExceeded {
            what,
            limit: MAX_WRAPPED_BYTES,
        });
    }
    if header_lines(file).count() > MAX_HEADER_LINES {
        let what = "wrapped data key's header lines";
        return Err(Error::LimitExceeded {
            what,
            limit: MAX_HEADER_LINES,
        });
    }
    Ok(())
}

/// The kind of each recipient by its stanza, `-> KIND ARGUMENT ...`, but for those that age puts
/// in so that readers learn to ignore what they do not know.
fn recipient_kinds(file: &[u8]) -> Vec<String> {
    header_lines(file)
        .filter_map(|line| line.strip_prefix(b"-> "))
        .filter_map(|line| line.split(|byte| *byte == b' ').next())
        .filter(|kind| !kind.ends_with(b"-grease"))
        .map(|kind| {
            String::from_utf8_lossy(kind)
                .chars()
                .take(MAX_KIND_CHARS)
                .collect()
        })
        .collect()
}

/// The lines of an age header before its MAC.
fn header_lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n')
        .take_while(|line| !line.starts_with(b"---"))
}

/// Reads the payload, which must be a data key and no more.
fn read_data_key(payload: impl Read) -> Result<DataKey, Error> {
    // Room for one byte too many, so that the buffer need not grow.
    let mut bytes = Zeroizing::new(Vec::with_capacity(33));
    payload
        .take(33)
        .read_to_end(&mut bytes)
        .map_err(|_| Error::Unauthentic)?;
    let key = <&[u8; 32]>::try_from(bytes.as_slice())
        .map_err(|_| malformed("its payload is not the 32 bytes of a data key"))?;
    Ok(DataKey::new(Secret::copy(key)))
}

fn malformed(reason: &'static str) -> Error {
    Error::MalformedKey { reason }
}

#[cfg(test)]
mod tests;
