//! Files that a caller or the environment names, opened, and key files, which their owner alone reads.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use onnxseal_store::{
    Readers, There, holds_secret, open_handed_over, shown, write_unsynced, write_whole,
};

use crate::error::{Error, Result, io};
use crate::format::licence::{Licence, MAX_LICENCE_BYTES};

/// The variable that names an identity file, or a descriptor as `fd:N`, for calls without an identity.
pub const IDENTITY_VARIABLE: &str = "ONNXSEAL_IDENTITY";

/// Returns the path of the identity file or descriptor that [`IDENTITY_VARIABLE`] names.
pub fn identity_of_environment() -> Result<Option<PathBuf>> {
    let Some(value) = std::env::var_os(IDENTITY_VARIABLE) else {
        return Ok(None);
    };
    let text = value.to_string_lossy();
    let fault = match text.strip_prefix("fd:").map(str::parse::<u32>) {
        // As in CI, where a secret is missing: a check without the key would pass for one with it.
        _ if text.is_empty() => " is empty: name an identity file, or unset it".to_owned(),
        _ if holds_secret(&text) => " holds a key; it must name a file, or fd:N".to_owned(),
        Some(Ok(n)) => return Ok(Some(path_of_descriptor(n))),
        Some(Err(_)) => format!(": {text} is not a descriptor"),
        None => return Ok(Some(value.into())),
    };
    Err(Error::Usage(format!("{IDENTITY_VARIABLE}{fault}")))
}

/// The variable that names a licence, for calls without one.
pub const LICENCE_VARIABLE: &str = "ONNXSEAL_LICENCE";

/// Reads the licence at `path`, which a caller names as `what`.
pub fn read_licence(path: &Path, what: &str) -> Result<Licence> {
    let (file, _) = open_named(path, what)?;
    let mut bytes = Vec::new();
    // One byte beyond the limit shows that it is too long.
    let read = file
        .take(MAX_LICENCE_BYTES as u64 + 1)
        .read_to_end(&mut bytes);
    read.map_err(io("read", path))?;
    Licence::parse(path, bytes)
}

/// Reads the licence that [`LICENCE_VARIABLE`] names. Models that it does not list open without it.
pub fn licence_of_environment() -> Result<Option<Licence>> {
    let Some(path) = std::env::var_os(LICENCE_VARIABLE) else {
        return Ok(None);
    };
    if path.is_empty() {
        let fault = format!("{LICENCE_VARIABLE} is empty: name a licence, or unset it");
        return Err(Error::Usage(fault));
    }
    let mut licence = read_licence(Path::new(&path), LICENCE_VARIABLE)?;
    licence.is_optional = true;
    Ok(Some(licence))
}

/// Returns the path of an open descriptor of this process. Opening it leaves the descriptor open.
pub fn path_of_descriptor(n: u32) -> PathBuf {
    format!("/dev/fd/{n}").into()
}

/// Opens a file or a pipe that a caller names as `what`. Returns it with its name for messages.
pub fn open_named(path: &Path, what: &str) -> Result<(File, String)> {
    if holds_secret(&path.to_string_lossy()) {
        let fault = format!("{what} holds a key; it must name a file");
        return Err(Error::Usage(fault));
    }
    let file = open_handed_over(path).map_err(io("open", path))?;
    Ok((file, shown(path).to_string()))
}

/// Reads a file that is called `name`, and fails if it has more than `max_bytes`, too many for `what`.
pub fn read_named(file: impl Read, name: &str, what: &str, max_bytes: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte beyond the limit shows that the file is too long.
    let read = file.take(max_bytes as u64 + 1).read_to_end(&mut bytes);
    read.map_err(io("read", Path::new(name)))?;
    if bytes.len() > max_bytes {
        let fault = format!("{name} is longer than {max_bytes} bytes, too long for {what}");
        return Err(Error::Usage(fault));
    }
    Ok(bytes)
}

/// Writes the text of a key to a new file, whole or not at all, and waits for the disk. Only the
/// owner can read the file. A stream at `path` gets the text.
pub fn write_key(path: &Path, text: &str) -> Result<()> {
    key_written(
        path,
        write_whole(path, text.as_bytes(), false, Readers::Owner),
    )
}

/// Writes a key to a new file as [`write_key`] does, without waiting for the disk: for keys that can
/// be made again.
pub fn write_key_unsynced(path: &Path, text: &str) -> Result<()> {
    key_written(path, write_unsynced(path, text.as_bytes()))
}

fn key_written(path: &Path, written: io::Result<()>) -> Result<()> {
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => key_exists(path),
        _ => io("write", path)(error),
    })
}

/// Fails if a file exists at the path of a new key.
pub fn check_key(path: &Path) -> Result<()> {
    match There::at(path)? {
        There::File => Err(key_exists(path)),
        _ => Ok(()),
    }
}

fn key_exists(path: &Path) -> Error {
    Error::Usage(format!(
        "{} exists already; keys are never overwritten: move it away, or choose another name",
        shown(path)
    ))
}
