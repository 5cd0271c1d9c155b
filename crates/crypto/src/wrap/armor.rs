//! The canonical encoding of a wrapped data key: an age file in armor, within limits.

use std::io::{Read as _, Write as _};

use age::armor::{ArmoredReader, ArmoredWriter, Format};

use crate::error::Error;
use crate::wrap::malformed;
use crate::wrap::notes::is_note;

/// The longest wrapped key to read or write, in bytes: room for some 900 recipients.
///
/// The work of reading a header grows with the square of its length, and age sets no limit.
pub const MAX_WRAPPED_BYTES: usize = 128 << 10;

const MAX_HEADER_LINES: usize = 4096;
const MAX_KIND_CHARS: usize = 32;

pub(super) fn armor(file: &[u8]) -> Result<String, Error> {
    let mut writer =
        ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).map_err(|_| Error::Backend)?;
    writer.write_all(file).map_err(|_| Error::Backend)?;
    let armored = writer.finish().map_err(|_| Error::Backend)?;
    let armored = String::from_utf8(armored).map_err(|_| Error::Backend)?;
    // On Windows age writes other line ends.
    Ok(armored.replace("\r\n", "\n"))
}

/// Removes the armor, if the text is exactly what [`armor`] would write.
pub(super) fn dearmor(armored: &str) -> Result<Vec<u8>, Error> {
    check_limits(armored, &[])?;
    let mut file = Vec::new();
    ArmoredReader::new(armored.as_bytes())
        .read_to_end(&mut file)
        .map_err(|_| malformed("its armor is invalid"))?;
    if armor(&file)? != armored {
        return Err(malformed("its armor is not canonical"));
    }
    check_limits(armored, &file)?;
    Ok(file)
}

pub(super) fn check_limits(armored: &str, file: &[u8]) -> Result<(), Error> {
    if armored.len() > MAX_WRAPPED_BYTES {
        let what = "wrapped data key length in bytes";
        return Err(Error::LimitExceeded {
            what,
            limit: MAX_WRAPPED_BYTES,
        });
    }
    if header_lines(file).count() > MAX_HEADER_LINES {
        let what = "wrapped data key's header lines";
        return Err(Error::LimitExceeded {
            what,
            limit: MAX_HEADER_LINES,
        });
    }
    Ok(())
}

/// Returns the kind of each recipient by its stanza, `-> KIND ARGUMENT ...`, without notes and the
/// random stanzas that age adds so that readers learn to ignore unknown ones.
pub(super) fn recipient_kinds(file: &[u8]) -> Vec<String> {
    header_lines(file)
        .filter_map(|line| line.strip_prefix(b"-> "))
        .filter_map(|line| line.split(|byte| *byte == b' ').next())
        .filter(|kind| !kind.ends_with(b"-grease") && !is_note(kind))
        .map(|kind| {
            String::from_utf8_lossy(kind)
                .chars()
                .take(MAX_KIND_CHARS)
                .collect()
        })
        .collect()
}

/// Returns the lines of an age header before its MAC.
fn header_lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n')
        .take_while(|line| !line.starts_with(b"---"))
}
