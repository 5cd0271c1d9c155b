//! A first look at a model, before a call works on it: its files, and the memory that it needs.

use onnxseal_crypto::wrap::Identities;
use onnxseal_onnx::element_bits;
use onnxseal_onnx::model::{Model, Payload};
use onnxseal_plan::n_subsequences;
use onnxseal_store::{Input, Location};

use crate::error::Result;
use crate::format::artifact::Artifact;
use crate::format::manifest::Manifest;
use crate::open::protected::Protected;
use crate::pass::source::Source;

/// Bytes of memory to locate, plan and report one byte of a model's structure: of all but its weights.
pub const BYTES_FOR_STRUCTURE: u64 = 48;

/// Bytes of memory to plan a run of subsequences and write it to a manifest.
const BYTES_FOR_RUN: u64 = 96;

/// A model file, open, that nobody has looked into yet.
#[derive(Debug)]
pub struct Outline(Source);

impl Outline {
    /// Opens the model at `location`.
    ///
    /// # Errors
    /// `Io`; `Malformed` for an object with too much structure.
    pub fn open(location: &Location) -> Result<Outline> {
        Ok(Outline(Source::open(location)?))
    }

    /// Length of the model file in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.0.input.len
    }

    /// Whether reading waits for a network.
    pub fn is_remote(&self) -> bool {
        self.0.input.is_remote()
    }

    /// The manifest; `None` if the model is not protected. Nobody has authenticated it.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn manifest(&self) -> Result<Option<Manifest>> {
        let artifact = Artifact::parse(&self.0.input.path, self.0.bytes())?;
        Ok(artifact.map(|artifact| artifact.manifest))
    }

    /// The external data files that the first `len` bytes of the model file name, and the bytes of memory
    /// that it takes to locate, plan and report the structure in them.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn structure(&self, len: u64) -> Result<(Vec<String>, u64)> {
        let model = self.0.locate(len)?;
        let bytes = structure_bytes(&model, len);
        Ok((model.external_files, bytes))
    }
}

/// The bytes of memory for the structure of `model`, whose file has `len` bytes.
fn structure_bytes(model: &Model<'_>, len: u64) -> u64 {
    let (mut payload, mut runs) = (0u64, 0u64);
    for tensor in &model.tensors {
        if let Payload::Dense { file, span, .. } = &tensor.payload
            // A sparse file may claim more than anybody has.
            && (1..1 << 50).contains(&span.len)
            && tensor.n_elements > 0
        {
            if file.0 == 0 {
                payload = payload.saturating_add(span.len);
            }
            // At worst every second subsequence is chosen, each a run of its own.
            let bits = element_bits(tensor.data_type).unwrap_or(8);
            runs += n_subsequences(&tensor.dims, bits).div_ceil(2);
        }
    }
    BYTES_FOR_STRUCTURE * len.saturating_sub(payload) + BYTES_FOR_RUN * runs
}

/// The manifest of the protected model in `input`. Nobody has authenticated it.
///
/// # Errors
/// `Usage` if the model is not protected; `Malformed`; `Io`.
pub fn read_manifest(input: Input) -> Result<Manifest> {
    let protected = Protected::of(Source::of(input)?)?;
    Ok(protected.artifact.manifest)
}

/// Checks that one of `identities` opens the protected model at `location`: its data key, manifest and
/// tags. The weights are not read.
///
/// # Errors
/// As [`open`](crate::open()).
pub fn check_identities(location: &Location, identities: &Identities) -> Result<()> {
    Protected::open(location)?.data_key(identities).map(drop)
}

/// Whether ONNX Runtime would take the file for a model, by its content.
///
/// # Errors
/// `Io`.
pub fn is_model(input: Input) -> Result<bool> {
    if input.is_remote() {
        // Only the bytes that `sniff` asks for are fetched.
        let read = |part: &mut [u8], offset| input.read_exact_at(part, offset);
        return Ok(onnxseal_onnx::sniff_by(input.len, read)?);
    }
    Ok(onnxseal_onnx::sniff(Source::of(input)?.bytes()))
}
