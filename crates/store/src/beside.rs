//! External data: files beside a model, reached by relative paths in the model.
//!
//! Source: <https://onnx.ai/onnx/repo-docs/ExternalData.html>

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::Result as IoResult;
use std::path::{Path, PathBuf};

use crate::error::{Error, FileFault, io};
use crate::location::folder_of;
use crate::no_links::open_any;

/// The most characters of a location in a message.
const MAX_SHOWN_CHARS: usize = 100;

/// Opens one external data file of the file `model` for reading, given its normalised location.
/// Returns its canonical path too.
///
/// As in ONNX Runtime, the location is a path in the folder of `model`. If it leads through symbolic
/// links, then to a file below that folder, or below the folder of the file that `model` itself
/// leads to: caches keep both files elsewhere, under other names.
///
/// The open file is the one at that path even if folders and links change meanwhile: on Unix every
/// part of the path is opened in the folder before it, and none may have become a link. Does not
/// block on a pipe.
pub fn open(model: &Path, location: &str) -> Result<(PathBuf, File), Error> {
    check_normalised(location)?;
    let canonical = |path: &Path| fs::canonicalize(path).map_err(io("read", path));
    let folder = canonical(folder_of(model))?;
    let path = canonical(&folder.join(location))?;
    let below = |folder: &Path| {
        let inner = path.strip_prefix(folder).ok()?;
        Some((folder.to_owned(), inner.to_owned()))
    };
    let found = below(&folder).or_else(|| below(folder_of(&fs::canonicalize(model).ok()?)));
    let Some((folder, inner)) = found else {
        return Err(fault(location, FileFault::Outside(path)));
    };
    let check = |metadata: IoResult<Metadata>| match metadata.map_err(io("read", &path))?.is_file()
    {
        true => Ok(()),
        false => Err(fault(location, FileFault::NotRegular)),
    };
    check(fs::metadata(&path))?;
    let file = open_any(&folder, &inner).map_err(io("read", &path))?;
    check(file.metadata())?;
    Ok((path, file))
}

/// Fails unless a location is a relative path without empty parts, `.` and `..`, separated by `/`,
/// whose parts name files on this system.
pub fn check_normalised(location: &str) -> Result<(), Error> {
    let is_name = |part: &str| {
        !matches!(part, "" | "." | "..") && (cfg!(not(windows)) || is_windows_name(part))
    };
    let has_drive = matches!(location.as_bytes(), [drive, b':', ..] if drive.is_ascii_alphabetic());
    let strange = has_drive || location.contains(['\\', '\0']);
    match location.split('/').all(is_name) && !strange {
        true => Ok(()),
        false => Err(fault(location, FileFault::NotNormalised)),
    }
}

/// Returns whether Windows takes `part` as the name of a file: not as a device, as a stream in
/// another file (`a:b`), or as another name (it drops dots and spaces at the end).
///
/// Source: <https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file>
fn is_windows_name(part: &str) -> bool {
    const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];
    // Superscript digits count.
    const DIGITS: &str = "0123456789\u{b9}\u{b2}\u{b3}";
    let stem = part.split('.').next().unwrap_or_default();
    let stem = stem.trim_end_matches(' ').to_ascii_lowercase();
    let port = stem.strip_prefix("com").or(stem.strip_prefix("lpt"));
    let is_port = port.is_some_and(|rest| rest.chars().count() == 1 && DIGITS.contains(rest));
    let strange = |c: char| c < ' ' || "<>:\"|?*".contains(c);
    !DEVICES.contains(&&*stem) && !is_port && !part.contains(strange) && !part.ends_with(['.', ' '])
}

fn fault(location: &str, fault: FileFault) -> Error {
    let location = location.chars().take(MAX_SHOWN_CHARS).collect();
    Error::External { location, fault }
}

/// Fails if two locations lead to one file, or one leads to the model file. Each comes with its
/// file's canonical path; `model` is the model file's.
pub(crate) fn check_apart<'a>(
    model: &'a Path,
    found: impl Iterator<Item = (&'a String, &'a Path)>,
) -> Result<(), Error> {
    let mut owners = HashMap::from([(model, "the model")]);
    for (location, path) in found {
        if let Some(other) = owners.insert(path, location) {
            return Err(Error::External {
                location: location.clone(),
                fault: FileFault::Shared(other.to_owned()),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_windows_takes_for_something_else_is_no_name() {
        for name in [
            "w.bin", "console", "com", "com10", "lpt.x", "a b", ".hidden", "\u{e9}",
        ] {
            assert!(is_windows_name(name), "{name}");
        }
        for name in [
            "con",
            "NUL",
            "nul.bin",
            "Aux .x",
            "com1",
            "COM\u{b2}.bin",
            "lpt9",
            "CONIN$",
            "ab:c",
            "w.",
            "w ",
            "a\tb",
            "w?",
            "\"w\"",
        ] {
            assert!(!is_windows_name(name), "{name}");
            assert_eq!(check_normalised(name).is_err(), cfg!(windows), "{name}");
        }
    }
}
