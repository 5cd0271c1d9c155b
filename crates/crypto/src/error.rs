//! Errors, one variant for each fault that callers handle differently.

use std::{fmt, io};

use crate::opens_with::opens_with;

/// An error of an operation on keys or chunks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tag or MAC is wrong. The error deliberately says no more.
    #[error("authentication failed")]
    Unauthentic,
    #[error("no identity opens the data key: it opens with {}", opens_with(.recipients))]
    NoMatchingKey {
        /// The kind of each recipient as its age stanza names it: `X25519`, `ssh-ed25519`,
        /// `scrypt`, ...
        recipients: Vec<String>,
    },
    #[error("wrapped data key is malformed: {0}")]
    MalformedKey(&'static str),
    #[error("not a sealed blob: {0}")]
    MalformedBlob(&'static str),
    /// The passphrase is not that of this key file, or of `the data key`.
    #[error("wrong passphrase for {0}")]
    WrongPassphrase(String),
    #[error("{0} needs a passphrase, and none was given")]
    PassphraseNeeded(String),
    /// No identity was given for this encrypted file.
    #[error("{0} is encrypted with age, and no identity was given")]
    IdentityNeeded(&'static str),
    /// The start of an unusable recipient, and what the string looks like instead.
    #[error("\"{0}\" is {1}")]
    InvalidRecipient(String, &'static str),
    /// A line of a recipients file, with the file's name, is no recipient.
    #[error("{0}: unusable recipient")]
    RecipientsFile(String, #[source] Box<Error>),
    #[error(
        "the data key is wrapped to {present} recipient(s), and the public keys of {unknown} of them are not known: the wrapped key does not list them"
    )]
    UnknownRecipients { present: usize, unknown: usize },
    #[error("these recipients cannot be combined: {0}")]
    IncompatibleRecipients(&'static str),
    #[error("the plugin {0} is not installed: there is no such program in PATH")]
    PluginMissing(String),
    /// A plugin failed: its message, or how it ended.
    #[error("an age plugin failed: {0}")]
    Plugin(String),
    /// A publisher's signature is not the canonical encoding of an SSH signature in our namespace.
    #[error("signature is malformed: {0}")]
    MalformedSignature(String),
    /// A publisher's signature is invalid: it is of other bytes or by another key.
    #[error("the signature does not hold")]
    BadSignature,
    /// The allowed signers file does not allow the key, named by its fingerprint, of a valid signature.
    #[error("the key {0} is not allowed to sign: {1}")]
    SignerNotAllowed(String, NotAllowed),
    /// A file with keys, recipients, allowed signers or a passphrase cannot be used: its name, as the
    /// caller gave it, and what is wrong with it; no part of its contents.
    #[error("{0}")]
    Unusable(String),
    #[error("cannot read {0}")]
    Io(String, #[source] io::Error),
    /// An input, with its unit, is larger than the crate accepts at most.
    #[error("{0} exceeds the limit of {1}")]
    LimitExceeded(&'static str, usize),
    #[error("there is no memory for {0} bytes")]
    Memory(usize),
    #[error("misuse: {0}")]
    Misuse(&'static str),
    #[error("no randomness from the operating system")]
    Randomness(#[source] getrandom::Error),
    /// The cryptographic library refused a legal call, for example because it had no memory.
    #[error("the cryptographic library failed")]
    Backend,
}

impl Error {
    pub(crate) fn unusable(name: &str, reason: impl fmt::Display) -> Error {
        Error::Unusable(format!("{name}: {reason}"))
    }
}

/// Returns the start of a text, for a message.
pub(crate) fn start_of(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Why the key of a valid signature is not allowed, from the furthest miss to the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum NotAllowed {
    #[error("no allowed signer has it")]
    UnknownKey,
    #[error("it is not a key of the signer asked for")]
    Principal,
    #[error("it is not allowed in the namespace \"onnxseal\"")]
    Namespace,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("it is no longer valid")]
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_summarised_by_kind() {
        let recipients = ["X25519", "scrypt", "X25519"].map(String::from).to_vec();
        assert_eq!(
            Error::NoMatchingKey { recipients }.to_string(),
            "no identity opens the data key: it opens with 2 age keys (X25519), 1 passphrase"
        );
        let recipients = Vec::new();
        assert_eq!(
            Error::NoMatchingKey { recipients }.to_string(),
            "no identity opens the data key: it opens with no key that is known"
        );
    }
}
