//! Compiled caches: what execution providers make of a model, sealed in a folder.
//!
//! A compiled model holds the weights in another form, so it is as secret as the model. An
//! [`EpContextStore`] keeps it in files sealed under the model's data key ("Sealed blobs" in
//! `docs/FORMAT.md`); [`EpContextCallbacks`] is the same store as ONNX Runtime 1.31 calls it.

mod callbacks;
mod ffi;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onnxseal_core::BlobKey;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::model::Model;

pub use callbacks::EpContextCallbacks;
pub use ffi::{
    OrtAllocator, OrtApiBase, OrtModelCompilationOptions, OrtReadNamedBufferFunc,
    OrtSessionOptions, OrtStatus, OrtWriteNamedBufferFunc,
};

/// Behind the name of every blob, so that nobody takes one for what it was made of.
const SUFFIX: &str = ".sealed";
/// As file systems have it; in bytes, with the suffix.
const MAX_FILE_NAME_BYTES: usize = 255;

/// A folder of blobs that belong to one model, sealed under its data key.
///
/// What it opens is what some holder of that key has sealed under this very name, but not
/// necessarily the last: who can write to the folder can put an older one back, or remove it.
#[derive(Clone, Debug)]
pub struct EpContextStore {
    folder: PathBuf,
    key: Arc<BlobKey>,
}

/// A blob as it is stored.
struct Stored {
    path: PathBuf,
    bytes: Vec<u8>,
    plaintext_len: usize,
}

impl Model {
    /// The compiled caches of this model in `folder`, which exists. The store needs the model no
    /// longer.
    ///
    /// # Errors
    /// `Io` where `folder` is none.
    pub fn ep_context(&self, folder: impl Into<PathBuf>) -> Result<EpContextStore> {
        let folder = folder.into();
        let metadata = fs::metadata(&folder).map_err(|source| store("open", &folder, source))?;
        if !metadata.is_dir() {
            let source = io::Error::from(io::ErrorKind::NotADirectory);
            return Err(store("open", &folder, source));
        }
        let key = self.opened.blob_key();
        Ok(EpContextStore { folder, key })
    }
}

impl EpContextStore {
    /// Seals `bytes` under `name`, in place of what had that name.
    ///
    /// The file, readable by nobody else, appears whole or not at all.
    ///
    /// # Errors
    /// `Usage` where `name` is no plain file name; `Io`.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name)?;
        let blob = self.key.seal(name, bytes);
        let blob = blob.map_err(|source| failed(&path, source))?;
        self.replace(&path, &blob)
            .map_err(|source| store("write", &path, source))
    }

    /// Opens what was sealed under `name`.
    ///
    /// # Errors
    /// `Usage` where `name` is no plain file name; `Io`, with [`io::ErrorKind::NotFound`] where there
    /// is none; `Malformed` where it is no blob; `Authentication` where it was changed, is of
    /// another name, or of another model.
    pub fn read(&self, name: &str) -> Result<Zeroizing<Vec<u8>>> {
        let stored = self.load(name)?;
        let mut plaintext = Zeroizing::new(vec![0; stored.plaintext_len]);
        self.open_into(name, &stored, &mut plaintext)?;
        Ok(plaintext)
    }

    /// The file that holds what is sealed under `name`.
    ///
    /// # Errors
    /// `Usage` where `name` is no plain file name: it is empty or too long, has a separator, a colon
    /// or a control character, or leads elsewhere.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let is_plain = !matches!(name, "" | "." | "..")
            && name.len() <= MAX_FILE_NAME_BYTES - SUFFIX.len()
            && !name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control());
        match is_plain {
            true => Ok(self.folder.join(format!("{name}{SUFFIX}"))),
            false => Err(Error::BlobName { name: name.into() }),
        }
    }

    fn load(&self, name: &str) -> Result<Stored> {
        let path = self.path(name)?;
        let bytes = read(&path).map_err(|source| store("read", &path, source))?;
        match BlobKey::plaintext_len(&bytes) {
            Ok(plaintext_len) => Ok(Stored {
                path,
                bytes,
                plaintext_len,
            }),
            Err(source) => Err(failed(&path, source)),
        }
    }

    /// Opens a blob into `plaintext`, of its length; where it does not open, zeroizes that.
    fn open_into(&self, name: &str, stored: &Stored, plaintext: &mut [u8]) -> Result<()> {
        let opened = self.key.open_into(name, &stored.bytes, plaintext);
        opened.map_err(|source| failed(&stored.path, source))
    }

    fn replace(&self, path: &Path, blob: &[u8]) -> io::Result<()> {
        // Made with mode 0600, beside the file that it becomes.
        let mut file = tempfile::Builder::new()
            .prefix(".onnxseal-")
            .tempfile_in(&self.folder)?;
        file.write_all(blob)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        #[cfg(unix)]
        fs::File::open(&self.folder)?.sync_all()?;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Not what blocks when it is opened, such as a pipe.
    match fs::metadata(path)?.is_file() {
        true => fs::read(path),
        false => Err(io::Error::other("it is no regular file")),
    }
}

fn store(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Core(onnxseal_core::Error::Io {
        action,
        path: path.to_owned(),
        source,
    })
}

fn failed(path: &Path, source: onnxseal_core::KeyError) -> Error {
    Error::Blob {
        path: path.to_owned(),
        source,
    }
}
