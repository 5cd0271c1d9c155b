//! Optional notes in a wrapped data key: a comment, and the recipients' public keys. Both are
//! stanzas of the age header that wrap nothing, which readers of age files skip. They are in clear.
//! The header's MAC covers them, so only recipients can change them unnoticed.

use std::collections::HashSet;

use age::EncryptError;
use age_core::format::{AgeStanza, FileKey, Stanza};

use crate::error::Error;
use crate::limited::check_limit;

const COMMENT: &str = "onnxseal-comment";
const RECIPIENT: &str = "onnxseal-recipient";

/// The longest comment, in bytes.
const MAX_COMMENT_BYTES: usize = 1024;

/// The longest public key to show, in bytes: an RSA key of 16384 bits has 2.8 KB.
const MAX_RECIPIENT_BYTES: usize = 4096;

/// The notes of a wrapped data key, in clear and not authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderNotes {
    /// The maker's comment: one line, at most 1024 bytes.
    pub comment: Option<String>,
    /// The public keys of the recipients, if its maker listed them.
    pub recipients: Vec<String>,
}

impl HeaderNotes {
    /// Takes the note in a stanza, unless we would write it differently.
    pub(super) fn take(&mut self, stanza: &AgeStanza<'_>) {
        let Ok(text) = String::from_utf8(stanza.body()) else {
            return;
        };
        if stanza.tag == COMMENT && check_comment(&text).is_ok() {
            self.comment = Some(text);
        } else if stanza.tag == RECIPIENT && is_recipient(&text) {
            self.recipients.push(text);
        }
    }

    fn stanzas(&self) -> impl Iterator<Item = Stanza> {
        let stanza = |tag: &str, text: &str| Stanza {
            tag: tag.to_owned(),
            args: Vec::new(),
            body: text.as_bytes().to_vec(),
        };
        let comment = self.comment.iter().map(move |text| stanza(COMMENT, text));
        let recipients = self.recipients.iter();
        comment.chain(recipients.map(move |text| stanza(RECIPIENT, text)))
    }
}

/// Returns whether a stanza with this tag is a note, which wraps nothing.
pub(super) fn is_note(tag: &str) -> bool {
    tag == COMMENT || tag == RECIPIENT
}

/// A recipient whose stanzas the notes follow. It keeps its labels, so that age combines it as
/// before.
pub(super) struct Noted<'a> {
    pub(super) recipient: &'a dyn age::Recipient,
    pub(super) notes: &'a HeaderNotes,
}

impl age::Recipient for Noted<'_> {
    fn wrap_file_key(
        &self,
        file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let (mut stanzas, labels) = self.recipient.wrap_file_key(file_key)?;
        stanzas.extend(self.notes.stanzas());
        Ok((stanzas, labels))
    }
}

/// Fails unless it is one line of at most 1024 bytes, without control characters.
pub(super) fn check_comment(comment: &str) -> Result<(), Error> {
    if comment.contains(char::is_control) {
        let rule = "a comment is one line, without control characters";
        return Err(Error::Misuse(rule));
    }
    let what = "comment length in bytes";
    check_limit(comment.len(), MAX_COMMENT_BYTES, what)
}

fn is_recipient(text: &str) -> bool {
    let printable = |byte: u8| (b' '..=b'~').contains(&byte);
    !text.is_empty() && text.len() <= MAX_RECIPIENT_BYTES && text.bytes().all(printable)
}
