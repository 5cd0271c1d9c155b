//! New identities, of the kinds that age has keys for itself.

use age::secrecy::ExposeSecret as _;
use age::{DecryptError, x25519};
use age_core::format::{FileKey, Stanza};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::wrap::armor::armor;
use crate::wrap::notes::check_comment;
use crate::wrap::pq;
use crate::wrap::prompt::Passphrase;
use crate::wrap::recipients::{encrypt, scrypt_recipient};

/// A secret key of age itself.
pub(super) enum Own {
    X25519(x25519::Identity),
    PostQuantum(pq::Identity),
}

impl Own {
    /// Parses an identity, `AGE-SECRET-KEY-1...` or `AGE-SECRET-KEY-PQ-1...`.
    pub(super) fn parse(text: &str) -> Option<Own> {
        let x25519 = text.parse().map(Own::X25519).ok();
        x25519.or_else(|| text.parse().map(Own::PostQuantum).ok())
    }

    pub(super) fn recipient(&self) -> String {
        match self {
            Own::X25519(key) => key.to_public().to_string(),
            Own::PostQuantum(key) => key.to_public().to_string(),
        }
    }

    fn to_text(&self) -> Zeroizing<String> {
        match self {
            Own::X25519(key) => Zeroizing::new(key.to_string().expose_secret().to_owned()),
            Own::PostQuantum(key) => key.to_text(),
        }
    }
}

impl age::Identity for Own {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        match self {
            Own::X25519(key) => key.unwrap_stanza(stanza),
            Own::PostQuantum(key) => key.unwrap_stanza(stanza),
        }
    }
}

/// A new secret key.
pub struct Identity {
    pub(super) own: Own,
    comment: String,
}

opaque_debug!(Identity);

/// Makes a new X25519 identity, as `age-keygen` does.
pub fn generate_identity() -> Identity {
    Identity {
        own: Own::X25519(x25519::Identity::generate()),
        comment: String::new(),
    }
}

/// Makes a new post-quantum identity, as `age-keygen -pq` does.
pub fn generate_pq_identity() -> Result<Identity, Error> {
    Ok(Identity {
        own: Own::PostQuantum(pq::Identity::generate()?),
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
        let (recipient, secret) = (self.recipient(), self.own.to_text());
        let len = 64 + self.comment.len() + recipient.len() + secret.len();
        let mut text = Zeroizing::new(String::with_capacity(len));
        if !self.comment.is_empty() {
            text.push_str("# comment: ");
            text.push_str(&self.comment);
            text.push('\n');
        }
        text.push_str("# public key: ");
        text.push_str(&recipient);
        text.push('\n');
        text.push_str(&secret);
        text.push('\n');
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
        self.own.recipient()
    }
}
