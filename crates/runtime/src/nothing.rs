//! A folder in which ONNX Runtime finds nothing to read.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

/// The file in it: it is there, since ONNX Runtime wants to see it, and has no bytes.
pub(crate) const NOTHING: &str = "null";

/// A folder with a file that has no bytes, and nothing else: only this user can put anything there.
/// It is made when it is first asked for, and made anew where somebody has cleaned it away.
#[derive(Debug, Default)]
pub(crate) struct Nothing(Mutex<Option<TempDir>>);

impl Nothing {
    /// The path of the folder, which stays as long as this does.
    ///
    /// # Errors
    /// The system's, where there is no place for temporary files.
    pub(crate) fn folder(&self) -> io::Result<String> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = |folder: &TempDir| folder.path().join(NOTHING).exists();
        let folder = match slot.take().filter(is_there) {
            Some(folder) => folder,
            None => make()?,
        };
        let path = text(folder.path())?;
        *slot = Some(folder);
        Ok(path)
    }
}

fn make() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("onnxseal-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o700));
    }
    let folder = builder.tempdir()?;
    File::create(folder.path().join(NOTHING))?;
    Ok(folder)
}

/// ONNX Runtime takes the path as text.
fn text(path: &Path) -> io::Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| io::Error::other("the path of the folder for temporary files is no UTF-8"))
}
