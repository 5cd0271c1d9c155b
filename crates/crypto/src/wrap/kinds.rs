//! The kinds of a data key's recipients. age hides who the recipients are, but not their kinds.

use super::armor;
use super::notes::HeaderNotes;
use crate::error::Error;

/// The kind of each recipient of a wrapped data key as its age stanza names it: `X25519`,
/// `ssh-ed25519`, `scrypt`, ...
///
/// # Errors
/// [`Error::MalformedKey`] and [`Error::LimitExceeded`] if it is no wrapped data key at all.
pub fn recipient_kinds(armored: &str) -> Result<Vec<String>, Error> {
    Ok(armor::recipient_kinds(&armor::dearmor(armored)?))
}

/// The notes that a wrapped data key holds in clear.
///
/// # Errors
/// [`Error::MalformedKey`] and [`Error::LimitExceeded`] where it is no wrapped data key at all.
pub fn notes_of(armored: &str) -> Result<HeaderNotes, Error> {
    Ok(HeaderNotes::read(&armor::dearmor(armored)?))
}
