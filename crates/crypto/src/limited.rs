//! Reads files with keys whole, up to a limit.

use std::io::{self, Read};

use zeroize::Zeroizing;

use crate::error::Error;

/// Bytes to read before allocating more memory.
const FIRST: usize = 64 << 10;

/// Reads a file that may be secret: all of it, or one byte more than `limit`, which tells the
/// caller that it is too long. Leaves no copies in memory, as a vector that grows by itself would.
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

/// Turns text that is UTF-16, or begins with a byte order mark, as editors and PowerShell on Windows
/// write it, into UTF-8. Returns all else as it is.
pub(crate) fn to_utf8(bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let (unit, rest): (fn([u8; 2]) -> u16, _) = match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, rest @ ..] => return Zeroizing::new(rest.to_vec()),
        [0xff, 0xfe, rest @ ..] => (u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => (u16::from_be_bytes, rest),
        _ => return bytes,
    };
    let (units, _) = rest.as_chunks();
    // A unit takes at most 3 bytes. A string that grows leaves secrets behind.
    let mut text = Zeroizing::new(String::with_capacity(3 * units.len()));
    for read in char::decode_utf16(units.iter().map(|bytes| unit(*bytes))) {
        match read {
            Ok(c) => text.push(c),
            Err(_) => return bytes,
        }
    }
    Zeroizing::new(std::mem::take(&mut *text).into_bytes())
}

/// Reads a whole file of at most `limit` bytes, the limit called `what` in errors, as UTF-8 if it is
/// text. `name` is for errors too.
pub(crate) fn read_limited(
    file: impl Read,
    name: &str,
    limit: usize,
    what: &'static str,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let bytes = read_secret(file, limit).map_err(|fault| Error::Io(name.to_owned(), fault))?;
    check_limit(bytes.len(), limit, what)?;
    Ok(to_utf8(bytes))
}

/// Fails if `found` is above the limit called `what` in errors.
pub(crate) fn check_limit(found: usize, limit: usize, what: &'static str) -> Result<(), Error> {
    if found > limit {
        return Err(Error::LimitExceeded(what, limit));
    }
    Ok(())
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

    #[test]
    fn text_of_windows_becomes_utf_8() {
        let read = |bytes: &[u8]| read_limited(bytes, "key", 99, "length").unwrap().to_vec();
        let text = "kä\u{10ffff}y\r\n";
        let units = || text.encode_utf16();
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        for (mark, bytes) in [
            (&[0xff, 0xfe][..], &little[..]),
            (&[0xfe, 0xff], &big),
            (&[0xef, 0xbb, 0xbf], text.as_bytes()),
            (&[], text.as_bytes()),
        ] {
            assert_eq!(read(&[mark, bytes].concat()), text.as_bytes());
        }
        // Half a pair.
        let bytes = [0xff, 0xfe, 0, 0xd8];
        assert_eq!(read(&bytes), bytes);
    }
}
