//! Files with keys, read whole if they are not too long.

use std::io::Read;

use zeroize::Zeroizing;

use crate::error::Error;

/// Reads all of a file of at most `limit` bytes, which measures `what`. `name` is for errors.
pub(crate) fn read_limited(
    file: impl Read,
    name: &str,
    limit: usize,
    what: &'static str,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Allocated once: a buffer that grows leaves secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Io {
            name: name.to_owned(),
            source,
        })?;
    match bytes.len() > limit {
        true => Err(Error::LimitExceeded { what, limit }),
        false => Ok(bytes),
    }
}
