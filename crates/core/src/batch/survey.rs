//! A look at each model before anything is done: which files it has, what memory it will need.

use onnxseal_onnx::element_bits;
use onnxseal_onnx::model::{Model, Payload};
use onnxseal_plan::n_subsequences;

use super::{Found, Operation};
use crate::error::Result;
use crate::format::artifact::Artifact;
use crate::format::manifest::{DEFAULT_CHUNK_BYTES, Manifest};
use crate::pass::source::Source;
use onnxseal_store::Location;
use onnxseal_store::parallel::n_cores;

/// Memory of a thread at work on chunks of the default size: two buffers of a chunk.
pub(super) const THREAD_BYTES: u64 = 2 * DEFAULT_CHUNK_BYTES + (512 << 10);

/// Memory of a thread that waits for a request beyond that: what a store has answered so far.
pub(super) const REQUEST_BYTES: u64 = 2 * DEFAULT_CHUNK_BYTES;

/// Memory that a model needs whatever is in it.
const MODEL_BYTES: u64 = 64 << 10;

/// Memory for a byte of a model's structure: all but the weights, located, planned and reported.
const FOR_STRUCTURE: u64 = 48;

/// Memory for a byte of a protected model's tail, parsed and, by some operations, written anew.
const FOR_TAIL: u64 = 12;

/// Memory for a run of subsequences, planned and written to a manifest.
const FOR_RUN: u64 = 96;

/// Memory for a look at an object, whose length is not known before: that of one with 2 MiB of
/// structure.
const FOR_OBJECT: u64 = 16 << 20;

/// What is known of a model before its turn comes.
#[derive(Debug)]
pub(super) struct Survey {
    /// The external files that are made of it, relative to the output's folder.
    pub(super) external: Vec<String>,
    /// Its external files, relative to its folder.
    pub(super) read: Vec<String>,
    /// Length of all its files.
    pub(super) bytes: u64,
    /// Memory that it will need, but for the buffers of [`THREAD_BYTES`].
    pub(super) need: u64,
}

impl Survey {
    /// Of a model that cannot be read: when its turn comes, it fails.
    pub(super) fn unreadable() -> Survey {
        Survey {
            external: Vec::new(),
            read: Vec::new(),
            bytes: 0,
            need: MODEL_BYTES,
        }
    }

    pub(super) fn of(
        found: &Found,
        operation: &Operation<'_>,
        out: Option<&Location>,
    ) -> Result<Survey> {
        let source = Source::open(&found.location)?;
        let (mut survey, lens) = match operation {
            Operation::Protect { .. } => Survey::of_original(found, &source)?,
            _ => Survey::of_protected(operation, &source)?,
        };
        if out.is_some_and(Location::is_object) {
            survey.need = survey.need.saturating_add(held_by_uploads(&lens));
        }
        Ok(survey)
    }

    /// Memory that [`Survey::of`] itself may need.
    pub(super) fn own_need(found: &Found) -> u64 {
        match &found.location {
            Location::Object(_) => FOR_OBJECT,
            file => (file.len_bytes().unwrap_or(0)).saturating_mul(FOR_STRUCTURE / 8),
        }
    }

    /// Of a model, with the length of each of its files.
    fn of_original(found: &Found, source: &Source) -> Result<(Survey, Vec<u64>)> {
        let model = source.locate(source.input.len)?;
        let external = model.external_files.iter();
        let external = external.filter_map(|file| found.location.beside(file).len_bytes());
        let lens: Vec<u64> = std::iter::once(source.input.len).chain(external).collect();
        let survey = Survey {
            bytes: lens.iter().fold(0, |sum, len| sum.saturating_add(*len)),
            need: MODEL_BYTES + structure(&model, source.input.len),
            read: model.external_files.clone(),
            external: model.external_files,
        };
        Ok((survey, lens))
    }

    /// Of a protected model, likewise.
    fn of_protected(operation: &Operation<'_>, source: &Source) -> Result<(Survey, Vec<u64>)> {
        let Some(artifact) = Artifact::parse(&source.input.path, source.bytes())? else {
            let survey = Survey {
                bytes: source.input.len,
                ..Survey::unreadable()
            };
            return Ok((survey, Vec::new()));
        };
        let manifest = &artifact.manifest;
        let len = manifest.model_bytes();
        let tail = source.input.len - len;
        let structure = match operation {
            Operation::Rotate { .. } | Operation::Verify { .. } => {
                structure(&source.locate(len)?, len)
            }
            // It is fetched, and kept until the model is done.
            _ if source.input.is_remote() => structure(&source.locate(len)?, len),
            _ => 0,
        };
        let (files, restored) = match operation {
            Operation::Unprotect { .. } if manifest.original.is_some() => {
                // It is put together in memory.
                (manifest.original_files(), 2 * len)
            }
            _ => (manifest.files.clone(), 0),
        };
        let external = files.iter().skip(1);
        let lens = external.clone().map(|file| file.bytes);
        let lens = std::iter::once(source.input.len).chain(lens).collect();
        let survey = Survey {
            bytes: manifest.total_bytes() + tail,
            need: MODEL_BYTES + structure + restored + FOR_TAIL * tail + large_chunks(manifest),
            external: external.map(|file| file.path.clone()).collect(),
            read: (manifest.files.iter().skip(1))
                .map(|file| file.path.clone())
                .collect(),
        };
        Ok((survey, lens))
    }
}

/// Memory for the uploads of the outputs of files of so many bytes.
fn held_by_uploads(lens: &[u64]) -> u64 {
    #[cfg(feature = "object-store")]
    return onnxseal_store::object::upload::held_bytes(
        lens,
        onnxseal_store::parallel::N_REQUESTS as u64,
    );
    #[cfg(not(feature = "object-store"))]
    {
        let _ = lens;
        0
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
