//! The clear parts of a wrapped data key: the kinds of its recipients, and optional notes, a comment
//! and the recipients' public keys. Notes are stanzas of the age header that wrap nothing, which
//! readers of age files skip. The header's MAC covers them, so only recipients can change them
//! unnoticed.

use std::collections::HashSet;

use age::EncryptError;
use age_core::format::{AgeStanza, FileKey, Stanza, read};

use super::armor;
use crate::error::Error;
use crate::limited::check_limit;

const FIRST_LINE: &[u8] = b"age-encryption.org/v1\n";
const MAX_KIND_CHARS: usize = 32;

const COMMENT: &str = "onnxseal-comment";
const RECIPIENT: &str = "onnxseal-recipient";

/// The longest comment, in bytes.
const MAX_COMMENT_BYTES: usize = 1024;

/// The longest public key to show, in bytes: an RSA key of 16384 bits has 2.8 KB.
const MAX_RECIPIENT_BYTES: usize = 4096;

/// The header of a wrapped data key, in clear and not authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The kind of each recipient as its age stanza names it: `X25519`, `ssh-ed25519`, `scrypt`,
    /// ... age hides who the recipients are, but not their kinds.
    pub kinds: Vec<String>,
    /// The maker's comment: one line, at most 1024 bytes.
    pub comment: Option<String>,
    /// The public keys of the recipients, if its maker listed them.
    pub recipients: Vec<String>,
}

impl Header {
    pub fn read(armored: &str) -> Result<Header, Error> {
        Ok(Header::of(&armor::dearmor(armored)?))
    }

    /// Reads the header of an age file as far as it is well-formed. Leaves out the stanzas that age
    /// adds at random, so that readers learn to ignore unknown ones, and notes that we would write
    /// differently.
    pub(super) fn of(file: &[u8]) -> Header {
        let mut header = Header::default();
        for stanza in stanzas(file) {
            let note = || String::from_utf8(stanza.body()).ok();
            match stanza.tag {
                COMMENT => {
                    let comment = note().filter(|text| check_comment(text).is_ok());
                    header.comment = comment.or(header.comment);
                }
                RECIPIENT => header
                    .recipients
                    .extend(note().filter(|text| is_public(text))),
                tag if tag.ends_with("-grease") => {}
                tag => (header.kinds).push(tag.chars().take(MAX_KIND_CHARS).collect()),
            }
        }
        header
    }
}

/// As age reads them, old spellings too: a recipient that stays hidden would be lost by `rekey`.
fn stanzas(file: &[u8]) -> impl Iterator<Item = AgeStanza<'_>> {
    let mut rest = file.strip_prefix(FIRST_LINE).unwrap_or_default();
    std::iter::from_fn(move || {
        let (after, stanza) = read::legacy_age_stanza(rest).ok()?;
        rest = after;
        Some(stanza)
    })
}

/// A recipient whose stanzas the notes follow. It keeps its labels, so that age combines it as
/// before.
pub(super) struct Noted<'a> {
    pub(super) recipient: &'a dyn age::Recipient,
    pub(super) comment: Option<&'a str>,
    pub(super) listed: Vec<&'a str>,
}

impl age::Recipient for Noted<'_> {
    fn wrap_file_key(
        &self,
        file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let (mut stanzas, labels) = self.recipient.wrap_file_key(file_key)?;
        let comment = self.comment.iter().map(|text| (COMMENT, text));
        let listed = self.listed.iter().map(|text| (RECIPIENT, text));
        stanzas.extend(comment.chain(listed).map(|(tag, text)| Stanza {
            tag: tag.to_owned(),
            args: Vec::new(),
            body: text.as_bytes().to_vec(),
        }));
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

fn is_public(text: &str) -> bool {
    let printable = |byte: u8| (b' '..=b'~').contains(&byte);
    !text.is_empty() && text.len() <= MAX_RECIPIENT_BYTES && text.bytes().all(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_after_one_in_the_old_spelling_are_seen() {
        // A body whose last line is full, and no short line after it.
        let line = "A".repeat(64);
        let file = format!(
            "age-encryption.org/v1\n-> X25519 a\n{line}\n-> ssh-ed25519 b c\nAAAA\n--- {line}\n"
        );
        assert_eq!(Header::of(file.as_bytes()).kinds, ["X25519", "ssh-ed25519"]);
    }
}
