//! Surveys each model before the work: its files, and the memory that it will need.

use onnxseal_core::manifest::DEFAULT_CHUNK_BYTES;
use onnxseal_core::{BYTES_FOR_STRUCTURE, Manifest, Outline, Policy, Result};
use onnxseal_store::parallel::n_cores;
use onnxseal_store::{Input, Location};

use crate::discover::Found;
use crate::request::Operation;

/// Memory of a working thread with chunks of the default size: two buffers of a chunk.
pub(crate) const THREAD_BYTES: u64 = 2 * DEFAULT_CHUNK_BYTES + (512 << 10);

/// Further memory of a thread that waits for a request: the store's answer so far.
pub(crate) const REQUEST_BYTES: u64 = 2 * DEFAULT_CHUNK_BYTES;

const MODEL_BYTES: u64 = 64 << 10;

/// Memory for a byte of a protected model's tail, parsed and, by some operations, written again.
const FOR_TAIL: u64 = 12;

/// Memory to survey an object of unknown length: enough for one with 2 MiB of structure.
const FOR_OBJECT: u64 = 16 << 20;

#[derive(Debug)]
pub(crate) struct Survey {
    /// The external files that it will write, relative to the output's folder.
    pub(crate) external: Vec<String>,
    /// Its external files, relative to its folder.
    pub(crate) read: Vec<String>,
    pub(crate) bytes: u64,
    /// Memory that it will need, without the buffers of [`THREAD_BYTES`].
    pub(crate) need: u64,
}

impl Survey {
    /// Surveys a model that cannot be read: it will fail when its turn comes.
    pub(crate) fn unreadable() -> Survey {
        Survey {
            external: Vec::new(),
            read: Vec::new(),
            bytes: 0,
            need: MODEL_BYTES,
        }
    }

    pub(crate) fn of(
        found: &Found,
        operation: &Operation<'_>,
        out: Option<&Location>,
    ) -> Result<Survey> {
        let outline = Outline::of(Input::open(&found.location)?);
        let (mut survey, lens) = match operation {
            Operation::Protect { options, .. } => {
                Survey::of_original(found, &outline, &options.policy)?
            }
            _ => Survey::of_protected(operation, &outline)?,
        };
        if let Some(out) = out {
            survey.need = survey.need.saturating_add(out.bytes_held(&lens));
        }
        Ok(survey)
    }

    /// Returns the memory that [`Survey::of`] itself may need.
    pub(crate) fn own_need(found: &Found) -> u64 {
        match &found.location {
            Location::Object(_) => FOR_OBJECT,
            file => (file.len_bytes().unwrap_or(0)).saturating_mul(BYTES_FOR_STRUCTURE / 8),
        }
    }

    /// Surveys an unprotected model. Returns the length of each of its files too.
    fn of_original(
        found: &Found,
        outline: &Outline,
        policy: &Policy,
    ) -> Result<(Survey, Vec<u64>)> {
        let (read, structure) = outline.structure(outline.input().len, Some(policy))?;
        let external = read.iter();
        let external = external.filter_map(|file| found.location.beside(file).len_bytes());
        let lens: Vec<u64> = std::iter::once(outline.input().len)
            .chain(external)
            .collect();
        let survey = Survey {
            bytes: lens.iter().fold(0, |sum, len| sum.saturating_add(*len)),
            need: MODEL_BYTES + structure,
            read: read.clone(),
            external: read,
        };
        Ok((survey, lens))
    }

    /// Surveys a protected model. Returns the length of each of its files too.
    fn of_protected(operation: &Operation<'_>, outline: &Outline) -> Result<(Survey, Vec<u64>)> {
        let Some(manifest) = outline.manifest()? else {
            let survey = Survey {
                bytes: outline.input().len,
                ..Survey::unreadable()
            };
            return Ok((survey, Vec::new()));
        };
        let len = manifest.model_bytes();
        let tail = outline.input().len - len;
        let structure = match operation {
            Operation::Rotate { options, .. } => outline.structure(len, options.policy.as_ref())?.1,
            Operation::Verify { checks } => outline.structure(len, checks.policy)?.1,
            // The structure is fetched, and kept until the model is done.
            _ if outline.input().is_remote() => outline.structure(len, None)?.1,
            _ => 0,
        };
        let (files, restored) = match operation {
            Operation::Unprotect { .. } if manifest.restores_names() => {
                // The model file is put together in memory.
                (manifest.original_files(), 2 * len)
            }
            _ => (manifest.files().to_vec(), 0),
        };
        let external = files.iter().skip(1);
        let lens = external.clone().map(|file| file.bytes);
        let lens = std::iter::once(outline.input().len).chain(lens).collect();
        let survey = Survey {
            bytes: manifest.total_bytes() + tail,
            need: MODEL_BYTES + structure + restored + FOR_TAIL * tail + large_chunks(&manifest),
            external: external.map(|file| file.path.clone()).collect(),
            read: (manifest.files().iter().skip(1))
                .map(|file| file.path.clone())
                .collect(),
        };
        Ok((survey, lens))
    }
}

/// Returns the memory of buffers beyond [`THREAD_BYTES`], for chunks larger than the default.
fn large_chunks(manifest: &Manifest) -> u64 {
    let largest = manifest.files().iter().map(|file| file.bytes).max();
    let buffers = 2 * manifest.chunk_bytes().min(largest.unwrap_or(0));
    buffers.saturating_sub(THREAD_BYTES) * n_cores() as u64
}
