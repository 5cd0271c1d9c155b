//! Variants of a model that an attacker makes from its visible parts.

pub(crate) mod base;
mod fill;
pub(crate) mod normal;
pub(crate) mod probe;

use chacha20::ChaCha8Rng;
use onnxseal_data::random::rng;
use onnxseal_engine::Files;
use rand::Rng;

use crate::assessment::Fill;
use crate::hidden::{Hidden, HiddenTensor};
use crate::weights::{byte_range, decode, encode};
use base::Base;

/// Makes the model in `files` with random bytes, like ciphertext, for its `hidden` elements.
pub(crate) fn ciphertext(files: &Files, hidden: &Hidden, seed: u64) -> Files {
    replaced(files, hidden, seed, |tensor, bytes, random| {
        for range in &tensor.ranges {
            let range = byte_range(range, tensor.element_bits);
            random.fill_bytes(bytes.get_mut(range).unwrap_or_default());
        }
    })
}

/// Makes the model in `files` with the elements of a `base`, or else the values of a `fill`, for its
/// `hidden` elements. Elements that are not numbers become bytes of 0.
pub(crate) fn filled(
    files: &Files,
    hidden: &Hidden,
    fill: Fill,
    base: Option<&Base>,
    seed: u64,
) -> Files {
    replaced(files, hidden, seed, |tensor, bytes, random| {
        if let Some(of_base) = base.and_then(|base| base.elements(tensor)) {
            *bytes = of_base;
        } else if let Some(mut values) = decode(tensor.data_type, bytes, tensor.n_elements) {
            fill::fill(tensor, fill, &mut values, random);
            for range in &tensor.ranges {
                encode(tensor.data_type, &values, range.clone(), bytes);
            }
        } else {
            for range in &tensor.ranges {
                let range = byte_range(range, tensor.element_bits);
                bytes.get_mut(range).unwrap_or_default().fill(0);
            }
        }
    })
}

/// Lets `replace` change the bytes of each tensor with encrypted elements, and takes these from it.
fn replaced(
    files: &Files,
    hidden: &Hidden,
    seed: u64,
    replace: impl Fn(&HiddenTensor, &mut Vec<u8>, &mut ChaCha8Rng),
) -> Files {
    let mut made = files.clone();
    for tensor in hidden.tensors.iter().filter(|tensor| tensor.n_hidden() > 0) {
        let mut bytes = tensor.gather(files);
        // Seeded by path, so that a tensor's values do not depend on the other encrypted tensors.
        replace(tensor, &mut bytes, &mut rng(seed, &tensor.path));
        tensor.scatter(&bytes, &mut made);
    }
    made
}
