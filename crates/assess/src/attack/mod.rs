//! Variants of a model that an attacker makes from its visible parts.

pub(crate) mod base;
mod fill;
pub(crate) mod normal;
pub(crate) mod probe;

use onnxseal_data::random::rng;
use onnxseal_engine::Files;
use rand::Rng;

use crate::assessment::Fill;
use crate::hidden::{Hidden, HiddenTensor};
use crate::weights::{Numbers, byte_range, decode, encode, numbers};

/// The source of values for encrypted elements.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Instead<'b> {
    /// Random bytes, like ciphertext.
    Ciphertext,
    /// The values of a fill.
    Fill(Fill),
    /// The elements of another model, and the means of channels where that model lacks them.
    Base(&'b base::Base),
}

/// A model with other values for its encrypted elements.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) files: Files,
    /// Notes for people on what was not done as asked.
    pub(crate) notes: Vec<String>,
}

/// Makes the model in `files` with `instead` in place of its `hidden` elements.
pub(crate) fn variant(files: &Files, hidden: &Hidden, instead: Instead<'_>, seed: u64) -> Variant {
    let (mut filled, mut notes) = (files.clone(), Vec::new());
    for tensor in hidden.tensors.iter().filter(|tensor| tensor.n_hidden() > 0) {
        let elements = elements(files, tensor, instead, seed, &mut notes);
        tensor.scatter(&elements, &mut filled);
    }
    notes.sort();
    notes.dedup();
    Variant {
        files: filled,
        notes,
    }
}

/// Returns the elements of a tensor, with the encrypted ones replaced.
fn elements(
    files: &Files,
    tensor: &HiddenTensor,
    instead: Instead<'_>,
    seed: u64,
    notes: &mut Vec<String>,
) -> Vec<u8> {
    let mut bytes = tensor.gather(files);
    // Seeded by path, so that a tensor's values do not depend on the other encrypted tensors.
    let mut random = rng(seed, &tensor.path);
    let part = |range| byte_range(range, tensor.element_bits);
    let parts = || tensor.ranges.iter().map(part);
    let of_fill = match instead {
        Instead::Ciphertext => {
            for part in parts() {
                random.fill_bytes(bytes.get_mut(part).unwrap_or_default());
            }
            return bytes;
        }
        Instead::Base(base) => match base.elements(tensor) {
            Some(of_base) => return of_base,
            None => Fill::ChannelMean,
        },
        Instead::Fill(fill) => fill,
    };
    let Some(mut values) = decode(tensor.data_type, &bytes, tensor.n_elements) else {
        let (path, of) = (&tensor.path, tensor.data_type.as_str_name());
        notes.push(format!("{path} of type {of} was filled with bytes of 0"));
        for part in parts() {
            bytes.get_mut(part).unwrap_or_default().fill(0);
        }
        return bytes;
    };
    // Attackers guess the range of whole numbers from what these index or scale.
    let whole = matches!(numbers(tensor.data_type), Some(Numbers::Whole(..)));
    let limits = whole.then(|| range(&values));
    // Zero the encrypted elements first, so that no attack can use them.
    for range in &tensor.ranges {
        values.get_mut(range.clone()).unwrap_or_default().fill(0.0);
    }
    fill::fill(tensor, of_fill, limits, &mut values, &mut random);
    for range in &tensor.ranges {
        encode(tensor.data_type, &values, range.clone(), &mut bytes);
    }
    bytes
}

/// Returns the least and the largest of numbers.
fn range(values: &[f32]) -> (f32, f32) {
    let ends = (f32::INFINITY, f32::NEG_INFINITY);
    values.iter().fold(ends, |(low, high), &value| {
        (low.min(value), high.max(value))
    })
}
