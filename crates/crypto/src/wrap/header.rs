//! The clear parts of a wrapped data key: the kinds of its recipients, and notes.

use age_core::format::{AgeStanza, read};

use super::armor;
use super::notes::{HeaderNotes, is_note};
use crate::error::Error;

const FIRST_LINE: &[u8] = b"age-encryption.org/v1\n";
const MAX_KIND_CHARS: usize = 32;

/// The header of a wrapped data key, in clear and not authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The kind of each recipient as its age stanza names it: `X25519`, `ssh-ed25519`, `scrypt`,
    /// ... age hides who the recipients are, but not their kinds.
    pub kinds: Vec<String>,
    /// The notes that its maker left.
    pub notes: HeaderNotes,
}

impl Header {
    /// Reads the header of a wrapped data key.
    pub fn read(armored: &str) -> Result<Header, Error> {
        Ok(Header::of(&armor::dearmor(armored)?))
    }

    /// Reads the header of an age file as far as it is well-formed. Leaves out the stanzas that age
    /// adds at random, so that readers learn to ignore unknown ones.
    pub(super) fn of(file: &[u8]) -> Header {
        let mut header = Header::default();
        for stanza in stanzas(file) {
            if is_note(stanza.tag) {
                header.notes.take(&stanza);
            } else if !stanza.tag.ends_with("-grease") {
                let kind = stanza.tag.chars().take(MAX_KIND_CHARS);
                header.kinds.push(kind.collect());
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
