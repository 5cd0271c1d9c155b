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

    /// Encodes the bytes to be authenticated, which [`Manifest::parse`](crate::Manifest::parse)
    /// checks.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        // Counted first: a buffer that grows may take twice the memory.
        let n_bytes = count_bytes(self)?;
        check_len(n_bytes).map_err(Error::Usage)?;
        let mut bytes = Vec::with_capacity(n_bytes);
        write(self, &mut bytes)?;
        Ok(bytes)
    }
}

pub(crate) fn count_bytes(value: &impl Serialize) -> Result<usize> {
    let mut count = Count(0);
    write(value, &mut count)?;
    Ok(count.0)
}

fn write(value: &impl Serialize, out: &mut impl io::Write) -> Result<()> {
    serde_json::to_writer(out, value).map_err(|_| Error::Internal("the manifest cannot be written"))
}

/// A writer that counts bytes and drops them.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
