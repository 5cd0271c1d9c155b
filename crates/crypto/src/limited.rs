//! Reads files with keys whole, up to a limit.

use std::io::{self, Read};

use zeroize::Zeroizing;

use crate::error::Error;

/// Bytes to read before allocating more memory.
const FIRST: usize = 64 << 10;

/// Reads a file that may be secret: all of it, or one byte more than `limit`, which tells the
/// caller that it is too long. Leaves no copies in memory, as a vector that grows by itself would.
///
/// # Errors
/// The system's error.
pub fn read_secret(mut file: impl Read, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let most = limit.saturating_add(1);
    let mut bytes = Zeroizing::new(vec![0; FIRST.min(most)]);
    let mut len = 0;
    while len < most {
        if len == bytes.len() {
            let mut larger = Zeroizing::new(vec![0; len.saturating_mul(2).min(most)]);
            larger[..len].copy_from_slice(&bytes);
            bytes = larger;
        }
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Reads a whole file of at most `limit` bytes, the limit called `what` in errors. `name` is for
/// errors too.
pub(crate) fn read_limited(
    file: impl Read,
    name: &str,
    limit: usize,
    what: &'static str,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let bytes = read_secret(file, limit).map_err(|source| Error::Io {
        name: name.to_owned(),
        source,
    })?;
    if bytes.len() > limit {
        Err(Error::LimitExceeded { what, limit })
    } else {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A reader that returns a few bytes at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let n = into.len().min(1000);
            self.0.read(&mut into[..n])
        }
    }

    #[test]
    fn files_are_read_to_their_end_or_one_byte_beyond_the_limit() {
        let all: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        for len in [0, 1, FIRST - 1, FIRST, FIRST + 1, 2 * FIRST, all.len()] {
            let whole = &all[..len];
            assert_eq!(*read_secret(whole, len).unwrap(), whole);
            assert_eq!(*read_secret(Slow(whole), all.len()).unwrap(), whole);
            let part = len.saturating_sub(1);
            assert_eq!(
                read_secret(Slow(whole), part).unwrap().len(),
                len.min(part + 1)
            );
        }
        assert!(read_limited(&all[..9], "key", 8, "length").is_err());
        assert_eq!(
            *read_limited(&all[..8], "key", 8, "length").unwrap(),
            all[..8]
        );
    }
}
