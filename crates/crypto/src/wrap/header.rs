//! The clear parts of a wrapped data key: the kinds of its recipients, and notes.

use super::armor;
use super::notes::HeaderNotes;
use crate::error::Error;

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
    ///
    /// # Errors
    /// [`Error::MalformedKey`] and [`Error::LimitExceeded`] if it is not a wrapped data key.
    pub fn read(armored: &str) -> Result<Header, Error> {
        let file = armor::dearmor(armored)?;
        Ok(Header {
            kinds: armor::recipient_kinds(&file),
            notes: HeaderNotes::read(&file),
        })
    }
}
