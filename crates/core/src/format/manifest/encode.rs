//! Makes manifests, and their bytes.

use std::collections::BTreeMap;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onnxseal_onnx::edit::Edits;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::format::manifest::draft::{
    DEFAULT_CHUNK_BYTES, Draft, FORMAT, File, OriginalDraft, SUITE, check_len,
};
use crate::format::manifest::tensor::Tensor;

impl OriginalDraft {
    /// Describes an original of `bytes` bytes with external data files at `paths`, which `edits`
    /// restore.
    pub(crate) fn new(bytes: u64, paths: Vec<String>, edits: &Edits) -> OriginalDraft {
        let texts = edits.texts().iter().map(|text| STANDARD.encode(text));
        OriginalDraft {
            bytes,
            paths,
            texts: texts.collect(),
            edits: edits.numbers().to_vec(),
        }
    }
}

impl Draft {
    /// Makes a manifest that cuts `files` into chunks and encrypts nothing.
    pub(crate) fn of_files(files: Vec<File>) -> Draft {
        Draft {
            format: FORMAT,
            suite: SUITE.to_owned(),
            chunk: DEFAULT_CHUNK_BYTES,
            lock: false,
            tiers: Vec::new(),
            files,
            claims: BTreeMap::new(),
            tensors: Vec::new(),
            original: None,
        }
    }

    /// The length of the manifest.
    fn count_bytes(&self) -> Result<usize> {
        let count = Count::of(self)?;
        check_len(count).map_err(Error::Usage)?;
        Ok(count)
    }

    /// Encodes the bytes to be authenticated, which [`Manifest::parse`](crate::Manifest::parse)
    /// checks.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        // Counted first: a buffer that grows may take twice the memory.
        let mut bytes = Vec::with_capacity(self.count_bytes()?);
        write(self, &mut bytes)?;
        Ok(bytes)
    }
}

/// Counts the length of a manifest, tensor by tensor, without storing it.
pub(crate) struct Length {
    bytes: usize,
    has_tensors: bool,
}

impl Length {
    /// Starts with the length of `draft`, whose list of tensors is empty.
    pub(crate) fn of(draft: &Draft) -> Result<Length> {
        Ok(Length {
            bytes: Count::of(draft)?,
            has_tensors: false,
        })
    }

    pub(crate) fn add(&mut self, tensor: &Tensor) -> Result<()> {
        let comma = usize::from(self.has_tensors);
        self.has_tensors = true;
        self.bytes += comma + Count::of(tensor)?;
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn check(self) -> Result<()> {
        check_len(self.bytes).map_err(Error::Usage)
    }
}

fn write(value: &impl Serialize, out: &mut impl io::Write) -> Result<()> {
    serde_json::to_writer(out, value).map_err(|_| Error::Internal("the manifest cannot be written"))
}

/// A writer that counts bytes and drops them.
struct Count(usize);

impl Count {
    /// The length of the JSON of `value`.
    fn of(value: &impl Serialize) -> Result<usize> {
        let mut count = Count(0);
        write(value, &mut count)?;
        Ok(count.0)
    }
}

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
