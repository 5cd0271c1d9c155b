//! An existing file, compared with states that were recorded.

use std::cell::OnceCell;

use onnxseal_core::{FileState, Progress, digest_file};
use onnxseal_store::{Input, Stamp};

use crate::error::Result;

pub(crate) struct Existing<'a> {
    path: &'a str,
    pub(crate) input: Input,
    progress: &'a dyn Progress,
    /// Computed on first use.
    digest: OnceCell<String>,
}

impl<'a> Existing<'a> {
    pub(crate) fn new(path: &'a str, input: Input, progress: &'a dyn Progress) -> Existing<'a> {
        Existing {
            path,
            input,
            progress,
            digest: OnceCell::new(),
        }
    }

    /// Returns which of the `known` files it is, even if it is incomplete.
    pub(crate) fn find<'k>(&self, known: &'k [FileState]) -> Result<Option<&'k FileState>> {
        for file in known {
            if self.is_unchanged(file, true)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Returns whether it equals the `known` state, by its digest or, if `by_stamp`, by its stamp.
    pub(crate) fn is_unchanged(&self, known: &FileState, by_stamp: bool) -> Result<bool> {
        if self.path != known.path || self.input.len != known.bytes {
            return Ok(false);
        }
        let fits = |known: &Stamp| self.input.stamp().is_some_and(|there| known.fits(&there));
        if by_stamp && known.stamp.as_ref().is_some_and(fits) {
            return Ok(true);
        }
        Ok(match &known.blake3 {
            Some(known) => self.digest()? == known,
            None => false,
        })
    }

    /// Returns its state, with enough to recognise it again.
    pub(crate) fn state(&self) -> Result<FileState> {
        let stamp = self.input.stamp();
        if stamp.is_none() {
            self.digest()?;
        }
        Ok(FileState {
            path: self.path.to_owned(),
            bytes: self.input.len,
            blake3: self.digest.get().cloned(),
            stamp,
        })
    }

    fn digest(&self) -> Result<&String> {
        if let Some(digest) = self.digest.get() {
            return Ok(digest);
        }
        let digest = digest_file(&self.input, self.progress)?;
        Ok(self.digest.get_or_init(|| digest))
    }
}
