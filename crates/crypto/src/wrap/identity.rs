//! New identities, of the kinds that age has keys for itself.

use age::secrecy::ExposeSecret as _;
use age::x25519;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::wrap::armor::armor;
use crate::wrap::header::check_comment;
use crate::wrap::pq;
use crate::wrap::prompt::Passphrase;
use crate::wrap::recipients::{encrypt, scrypt_recipient};

/// A secret key of age itself, and its recipient.
pub(super) struct Own {
    pub(super) key: Box<dyn age::Identity + Send + Sync>,
    pub(super) recipient: String,
}

impl Own {
    fn new(recipient: impl ToString, key: impl age::Identity + Send + Sync + 'static) -> Own {
        let (recipient, key) = (recipient.to_string(), Box::new(key));
        Own { key, recipient }
    }

    /// Parses an identity, `AGE-SECRET-KEY-1...` or `AGE-SECRET-KEY-PQ-1...`.
    pub(super) fn parse(text: &str) -> Option<Own> {
        if let Ok(key) = text.parse::<x25519::Identity>() {
            return Some(Own::new(key.to_public(), key));
        }
        let key: pq::Identity = text.parse().ok()?;
        Some(Own::new(key.to_public(), key))
    }
}

/// A new secret key.
pub struct Identity {
    pub(super) own: Own,
    secret: Zeroizing<String>,
    comment: String,
}

opaque_debug!(Identity);

/// Makes a new X25519 identity, as `age-keygen` does.
pub fn generate_identity() -> Identity {
    let key = x25519::Identity::generate();
    let secret = Zeroizing::new(key.to_string().expose_secret().to_owned());
    Identity {
        own: Own::new(key.to_public(), key),
        secret,
        comment: String::new(),
    }
}

/// Makes a new post-quantum identity, as `age-keygen -pq` does.
pub fn generate_pq_identity() -> Result<Identity, Error> {
    let key = pq::Identity::generate()?;
    let secret = key.to_text();
    Ok(Identity {
        own: Own::new(key.to_public(), key),
        secret,
        comment: String::new(),
    })
}

impl Identity {
    /// Adds a comment for the identity's file, such as whose it is: a line of at most 1024 bytes.
    pub fn with_comment(self, comment: &str) -> Result<Identity, Error> {
        check_comment(comment)?;
        let comment = comment.to_owned();
        Ok(Identity { comment, ..self })
    }

    /// Returns the text of an identity file: the comment, if any, and the recipient as comments,
    /// then the secret key.
    pub fn to_file_text(&self) -> Zeroizing<String> {
        // Allocated once: a string that grows leaves secrets behind.
        let recipient = &self.own.recipient;
        let len = 64 + self.comment.len() + recipient.len() + self.secret.len();
        let mut text = Zeroizing::new(String::with_capacity(len));
        let comment = ["# comment: ", &self.comment, "\n"];
        let comment = comment.into_iter().filter(|_| !self.comment.is_empty());
        text.extend(comment.chain(["# public key: ", recipient, "\n", &self.secret, "\n"]));
        text
    }

    /// Returns the text of an identity file encrypted with a passphrase: an armored age file that
    /// contains [`Identity::to_file_text`].
    pub fn to_encrypted_file_text(&self, passphrase: &Passphrase) -> Result<String, Error> {
        let recipient = scrypt_recipient(passphrase);
        let recipients = std::iter::once(&recipient as &dyn age::Recipient);
        armor(&encrypt(recipients, self.to_file_text().as_bytes())?)
    }

    /// Returns the recipient, `age1...` or `age1pq1...`, with which others wrap data keys to this
    /// identity.
    pub fn recipient(&self) -> String {
        self.own.recipient.clone()
    }
}
