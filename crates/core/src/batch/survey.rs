//! A look at each model before anything is done: which files it has, what memory it will need.

use std::fs;
use std::path::PathBuf;

use onnxseal_onnx::element_bits;
use onnxseal_onnx::model::{Model, Payload};
use onnxseal_plan::n_subsequences;

use super::{Found, Operation};
use crate::artifact::Artifact;
use crate::error::Result;
use crate::manifest::{DEFAULT_CHUNK_BYTES, Manifest};
use crate::parallel::n_cores;
use crate::protected::folder_of;
use crate::source::Source;

/// Memory of a thread at work on chunks of the default size: two buffers of a chunk.
pub(super) const THREAD_BYTES: u64 = 2 * DEFAULT_CHUNK_BYTES + (512 << 10);

/// Memory that a model needs whatever is in it.
const MODEL_BYTES: u64 = 64 << 10;

/// Memory for a byte of a model's structure: all but the weights, located, planned and reported.
const FOR_STRUCTURE: u64 = 48;

/// Memory for a byte of a protected model's tail, parsed and, by some operations, written anew.
const FOR_TAIL: u64 = 12;

/// Memory for a run of subsequences, planned and written to a manifest.
const FOR_RUN: u64 = 96;

/// What is known of a model before its turn comes.
#[derive(Debug)]
pub(super) struct Survey {
    /// Its external files, relative to its folder.
    pub(super) external: Vec<String>,
    /// Length of all its files.
    pub(super) bytes: u64,
    /// Memory that it will need, but for the buffers of [`THREAD_BYTES`].
    pub(super) need: u64,
}

impl Survey {
    /// Of a model that cannot be read: when its turn comes, it fails.
    pub(super) fn unreadable() -> Survey {
        let (external, bytes, need) = (Vec::new(), 0, MODEL_BYTES);
        Survey {
            external,
            bytes,
            need,
        }
    }

    pub(super) fn of(found: &Found, operation: &Operation<'_>) -> Result<Survey> {
        let source = Source::open(&(&found.path).into())?;
        match operation {
            Operation::Protect { .. } => Survey::of_original(found, &source),
            _ => Survey::of_protected(operation, &source),
        }
    }

    /// Memory that [`Survey::of`] itself may need for a file of `bytes`.
    pub(super) fn own_need(bytes: u64) -> u64 {
        bytes.saturating_mul(FOR_STRUCTURE / 8)
    }

    fn of_original(found: &Found, source: &Source) -> Result<Survey> {
        let model = source.locate(source.input.len)?;
        let folder = folder_of(&found.path);
        let paths: Vec<PathBuf> = (model.external_files.iter())
            .map(|file| folder.join(file))
            .collect();
        let lengths = paths.iter().filter_map(|path| fs::metadata(path).ok());
        let external_bytes: u64 = lengths.map(|file| file.len()).sum();
        Ok(Survey {
            bytes: source.input.len + external_bytes,
            need: MODEL_BYTES + structure(&model, source.input.len),
            external: model.external_files,
        })
    }

    fn of_protected(operation: &Operation<'_>, source: &Source) -> Result<Survey> {
        let Some(artifact) = Artifact::parse(&source.input.path, source.bytes())? else {
            return Ok(Survey {
                bytes: source.input.len,
                ..Survey::unreadable()
            });
        };
        let manifest = &artifact.manifest;
        let len = manifest.model_bytes();
        let tail = source.input.len - len;
        let structure = match operation {
            Operation::Rotate { .. } | Operation::Verify { .. } => {
                structure(&source.locate(len)?, len)
            }
            _ => 0,
        };
        let external = manifest.files.iter().skip(1);
        Ok(Survey {
            bytes: manifest.total_bytes() + tail,
            need: MODEL_BYTES + structure + FOR_TAIL * tail + large_chunks(manifest),
            external: external.map(|file| file.path.clone()).collect(),
        })
    }
}

/// Memory for the structure of a model file of `len` bytes, and for what is planned with it.
fn structure(model: &Model<'_>, len: u64) -> u64 {
    let (mut payload, mut runs) = (0u64, 0u64);
    for tensor in &model.tensors {
        if let Payload::Dense { file, span, .. } = &tensor.payload
            && (1..1 << 50).contains(&span.len)
            && tensor.n_elements > 0
        {
            if file.0 == 0 {
                payload = payload.saturating_add(span.len);
            }
            // With a gap between any two that are chosen.
            let bits = element_bits(tensor.data_type).unwrap_or(8);
            runs += n_subsequences(&tensor.dims, bits).div_ceil(2);
        }
    }
    FOR_STRUCTURE * len.saturating_sub(payload) + FOR_RUN * runs
}

/// What buffers need beyond [`THREAD_BYTES`] where chunks are larger than by default.
fn large_chunks(manifest: &Manifest) -> u64 {
    let largest = manifest.files.iter().map(|file| file.bytes).max();
    let buffers = 2 * manifest.chunk.min(largest.unwrap_or(0));
    buffers.saturating_sub(THREAD_BYTES) * n_cores() as u64
}
