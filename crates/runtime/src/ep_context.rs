//! Compiled caches of execution providers, sealed in a folder.
//!
//! A compiled model holds the weights in another form, so it is as secret as the model. An
//! [`EpContextStore`] keeps it in files sealed under the model's data key ("Sealed blobs" in
//! `docs/FORMAT.md`); [`EpContextCallbacks`] lets ONNX Runtime 1.31 use that store.

mod callbacks;
mod ffi;

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use callbacks::EpContextCallbacks;
pub use ffi::{
    OrtAllocator, OrtApiBase, OrtModelCompilationOptions, OrtReadNamedBufferFunc,
    OrtSessionOptions, OrtStatus, OrtWriteNamedBufferFunc,
};
use onnxseal_core::BlobKey;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::model::Model;

/// The suffix of every blob's file name, which marks the file as sealed.
const SUFFIX: &str = ".sealed";
/// The limit of file systems, in bytes, with the suffix.
const MAX_FILE_NAME_BYTES: usize = 255;

/// A folder of blobs that belong to one model, sealed under its data key.
///
/// A blob that opens was sealed by a holder of that key under the same name. It may be outdated:
/// anyone who can write to the folder can put an older one back, or remove it.
#[derive(Clone, Debug)]
pub struct EpContextStore {
    folder: PathBuf,
    key: Arc<BlobKey>,
    /// The limit, shared by all clones.
    max_bytes: Arc<AtomicU64>,
}

/// The default limit for files of compiled caches, in bytes: 4 GiB.
pub const MAX_BLOB_BYTES: u64 = 4 << 30;

/// A blob as it is stored.
struct Stored {
    path: PathBuf,
    bytes: Vec<u8>,
    plaintext_len: usize,
}

impl Model {
    /// Returns a store for compiled caches of this model in `folder`, which must exist. The store
    /// outlives the model.
    ///
    /// # Errors
    /// `Io` if `folder` is not a folder.
    pub fn ep_context(&self, folder: impl Into<PathBuf>) -> Result<EpContextStore> {
        let folder = folder.into();
        let metadata = fs::metadata(&folder).map_err(|source| store("open", &folder, source))?;
        if !metadata.is_dir() {
            let source = io::Error::from(io::ErrorKind::NotADirectory);
            return Err(store("open", &folder, source));
        }
        let key = self.opened.blob_key();
        Ok(EpContextStore {
            folder,
            key,
            max_bytes: Arc::new(AtomicU64::new(MAX_BLOB_BYTES)),
        })
    }
}

impl EpContextStore {
    /// Sets the limit for files of compiled caches, in bytes; the default is [`MAX_BLOB_BYTES`]. It
    /// limits memory: files are read whole, and anyone who can write to the folder can make them
    /// large.
    pub fn set_max_bytes(&self, max_bytes: u64) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// Seals `bytes` under `name`, and replaces a blob of that name.
    ///
    /// The file, readable only by this user, appears whole or not at all.
    ///
    /// # Errors
    /// `Usage` if `name` is not a plain file name; `Malformed` if the blob would be too large to
    /// read again; `Io`; `Internal` if memory runs out.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name)?;
        self.check_size(&path, bytes.len() as u64)?;
        let blob = self.key.seal(name, bytes);
        let blob = blob.map_err(|source| failed(&path, source))?;
        onnxseal_core::replace_whole(&path, &blob).map_err(|source| store("write", &path, source))
    }

    /// Opens the blob that was sealed under `name`.
    ///
    /// # Errors
    /// `Usage` if `name` is not a plain file name; `Io`, with [`io::ErrorKind::NotFound`] if the
    /// file does not exist; `Malformed` if the file is not a blob, or too large; `Authentication`
    /// if it was changed, or sealed under another name or for another model; `Internal` if memory
    /// runs out.
    pub fn read(&self, name: &str) -> Result<Zeroizing<Vec<u8>>> {
        let stored = self.load(name)?;
        let opened = self.key.open(name, &stored.bytes);
        opened.map_err(|source| failed(&stored.path, source))
    }

    /// Returns the path of the file for the blob called `name`.
    ///
    /// # Errors
    /// `Usage` if `name` is not a plain file name: it is empty, `.`, `..` or too long, or has a
    /// separator, a colon or a control character.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let is_plain = !matches!(name, "" | "." | "..")
            && name.len() <= MAX_FILE_NAME_BYTES - SUFFIX.len()
            && !name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control());
        if is_plain {
            Ok(self.folder.join(format!("{name}{SUFFIX}")))
        } else {
            Err(Error::Usage(format!(
                "{name:?} cannot name a compiled cache: expected a plain file name"
            )))
        }
    }

    fn load(&self, name: &str) -> Result<Stored> {
        let path = self.path(name)?;
        let bytes = self.read_file(&path)?;
        match BlobKey::plaintext_len(&bytes) {
            Ok(plaintext_len) => Ok(Stored {
                path,
                bytes,
                plaintext_len,
            }),
            Err(source) => Err(failed(&path, source)),
        }
    }

    /// Reads all bytes of a file, up to the store's limit.
    fn read_file(&self, path: &Path) -> Result<Vec<u8>> {
        let failed = |source| store("read", path, source);
        // Check first: opening a pipe would block.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(failed(io::Error::other("it is not a regular file")));
        }
        let file = fs::File::open(path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        self.check_size(path, len)?;
        let mut bytes = Vec::new();
        let reserved = usize::try_from(len).map(|len| bytes.try_reserve_exact(len));
        if !matches!(reserved, Ok(Ok(()))) {
            return Err(failed(io::ErrorKind::OutOfMemory.into()));
        }
        file.take(len).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn check_size(&self, path: &Path, len_bytes: u64) -> Result<()> {
        let max_bytes = self.max_bytes.load(Ordering::Relaxed);
        if len_bytes <= max_bytes {
            return Ok(());
        }
        let path = path.display();
        Err(Error::Malformed(format!(
            "the compiled cache {path} has {len_bytes} bytes, more than the limit of {max_bytes}"
        )))
    }

    /// Opens a blob into `plaintext`, which has the plaintext's length. On failure `plaintext` is
    /// zeroized.
    fn open_into(&self, name: &str, stored: &Stored, plaintext: &mut [u8]) -> Result<()> {
        let opened = self.key.open_into(name, &stored.bytes, plaintext);
        opened.map_err(|source| failed(&stored.path, source))
    }
}

fn store(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Core(onnxseal_core::io(action, path)(source))
}

fn failed(path: &Path, source: onnxseal_core::KeyError) -> Error {
    Error::Blob {
        path: path.to_owned(),
        source,
    }
}
