//! Names of files, which tell most formats.

use std::path::Path;

/// The end of a file's name behind the last dot, in small letters.
pub fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_string_lossy().to_ascii_lowercase())
}
