//! The canonical encoding of a wrapped data key: an age file in armor, within limits.

use std::io::{self, Read as _, Write as _};

use age::armor::{ArmoredReader, ArmoredWriter, Format};

use crate::error::Error;
use crate::limited::check_limit;

/// The longest wrapped key to read or write, in bytes: room for some 900 recipients.
///
/// The work of reading a header grows with the square of its length, and age sets no limit.
pub const MAX_WRAPPED_BYTES: usize = 128 << 10;

const MAX_HEADER_LINES: usize = 4096;

pub(super) fn armor(file: &[u8]) -> Result<String, Error> {
    let write = || -> io::Result<Vec<u8>> {
        let mut writer = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
        writer.write_all(file)?;
        writer.finish()
    };
    let armored = write().map_err(|_| Error::Backend)?;
    let armored = String::from_utf8(armored).map_err(|_| Error::Backend)?;
    // On Windows age writes other line ends.
    Ok(armored.replace("\r\n", "\n"))
}

/// Removes the armor, if the text is exactly what [`armor`] would write.
pub(super) fn dearmor(armored: &str) -> Result<Vec<u8>, Error> {
    check_limits(armored, &[])?;
    let file = unarmored(armored.as_bytes())?;
    if armor(&file)? != armored {
        return Err(Error::MalformedKey("its armor is not canonical"));
    }
    check_limits(armored, &file)?;
    Ok(file)
}

/// Removes armor of any form, if there is one.
pub(super) fn unarmored(file: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bare = Vec::new();
    let read = ArmoredReader::new(file).read_to_end(&mut bare);
    read.map_err(|_| Error::MalformedKey("its armor is invalid"))?;
    Ok(bare)
}

pub(super) fn check_limits(armored: &str, file: &[u8]) -> Result<(), Error> {
    let what = "wrapped data key length in bytes";
    check_limit(armored.len(), MAX_WRAPPED_BYTES, what)?;
    let lines = file.split(|byte| *byte == b'\n');
    let lines = lines.take_while(|line| !line.starts_with(b"---"));
    let what = "wrapped data key's header lines";
    check_limit(lines.count(), MAX_HEADER_LINES, what)
}
