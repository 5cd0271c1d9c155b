//! Scores of units, from scores of elements.

use std::collections::BTreeMap;

use crate::hidden::{Hidden, HiddenTensor};
use crate::subject::Subject;
use crate::weights::{Numbers, decode, numbers};

/// Scores of a model's weights: by a tensor's protobuf path, one for each unit of its elements, in their order, for each byte
/// of the unit. At least 0.
pub(super) struct Scores {
    pub(super) tensors: BTreeMap<String, Vec<f64>>,
}

/// The numbers of a tensor; none where its elements are not taken for numbers.
pub(super) fn values(subject: &Subject, tensor: &HiddenTensor) -> Option<Vec<f32>> {
    decode(
        tensor.data_type,
        &tensor.gather(subject.files()),
        tensor.n_elements,
    )
}

/// The energy of each element, as a share of the tensor's: of whole numbers, that of the distance from the middle.
pub(super) fn energy(tensor: &HiddenTensor, values: &[f32]) -> Vec<f64> {
    let center = match numbers(tensor.data_type) {
        Some(Numbers::Whole(low, high)) if low >= 0.0 => f64::from((high + 1.0) / 2.0),
        _ => 0.0,
    };
    let square = |value: &f32| {
        let distance = f64::from(*value) - center;
        if distance.is_finite() {
            distance * distance
        } else {
            0.0
        }
    };
    let squares: Vec<f64> = values.iter().map(square).collect();
    let sum: f64 = squares.iter().sum();
    squares
        .into_iter()
        .map(|square| square / sum.max(1e-300))
        .collect()
}

/// Scores of units, from one of each element; tensors that have none are left out.
pub(super) fn scores(
    hidden: &Hidden,
    unit_bytes: u64,
    elements: impl Fn(&HiddenTensor) -> Option<Vec<f64>>,
) -> Scores {
    let mut tensors = BTreeMap::new();
    for tensor in &hidden.tensors {
        if let Some(elements) = elements(tensor) {
            tensors.insert(
                tensor.path.clone(),
                units(&elements, tensor.element_bits, unit_bytes),
            );
        }
    }
    Scores { tensors }
}

/// Sums over units, for each byte.
fn units(elements: &[f64], element_bits: u32, unit_bytes: u64) -> Vec<f64> {
    let per_unit = usize::try_from(unit_bytes * 8 / u64::from(element_bits.max(1)))
        .unwrap_or(1)
        .max(1);
    let unit = |part: &[f64]| {
        let bytes = (part.len() as f64 * f64::from(element_bits) / 8.0).max(1e-3);
        part.iter().filter(|value| value.is_finite()).sum::<f64>() / bytes
    };
    elements.chunks(per_unit).map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_sums_for_each_byte() {
        assert_eq!(
            units(&[1.0, 2.0, 3.0, 4.0, 10.0], 32, 16),
            [10.0 / 16.0, 10.0 / 4.0]
        );
        assert_eq!(units(&[1.0; 40], 4, 16), [2.0, 2.0]);
    }
}
