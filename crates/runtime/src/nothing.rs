//! A folder with an empty file, to which skeletons refer.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

/// The empty file, which must exist for ONNX Runtime.
pub(crate) const NOTHING: &str = "null";

/// A folder with only an empty file, writable by this user alone. It is made on first use, and
/// again if it was cleaned away.
#[derive(Debug, Default)]
pub(crate) struct Nothing(Mutex<Option<TempDir>>);

impl Nothing {
    /// Returns the path of the folder, which exists until this value is dropped.
    ///
    /// # Errors
    /// Fails if the system cannot make a temporary folder.
    pub(crate) fn folder(&self) -> io::Result<String> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = |folder: &TempDir| folder.path().join(NOTHING).exists();
        let folder = match slot.take().filter(is_there) {
            Some(folder) => folder,
            None => make()?,
        };
        let path = folder.path().to_str().map(str::to_owned);
        *slot = Some(folder);
        path.ok_or_else(|| {
            io::Error::other("the path of the folder for temporary files is not UTF-8")
        })
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
