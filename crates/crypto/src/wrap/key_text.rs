//! The text of files with keys that age may have encrypted.

use zeroize::Zeroizing;

use super::identities::{Identities, is_encrypted};
use crate::error::Error;

/// Returns the text of a file, decrypted with `identities` if it is an age file, or `None` if it is
/// no text. Errors call it `what`. The caller limits the length.
pub fn key_text(
    file: &[u8],
    identities: Option<&Identities>,
    what: &'static str,
) -> Result<Option<Zeroizing<String>>, Error> {
    if !is_encrypted(file) {
        return Ok(str::from_utf8(file).ok().map(|text| text.to_owned().into()));
    }
    let identities = identities.ok_or(Error::IdentityNeeded(what))?;
    identities.decrypt_text(file).map(Some)
}
