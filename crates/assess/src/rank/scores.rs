//! Makes scores of units from scores of elements.

use std::collections::BTreeMap;

use crate::hidden::{Hidden, HiddenTensor};
use crate::subject::Subject;
use crate::weights::{Numbers, decode, numbers};

/// Scores of a model's weights, by the tensor's protobuf path: one per unit of its elements, in
/// order, 0 or more, divided by the unit's bytes.
pub(super) type Scores = BTreeMap<String, Vec<f64>>;

/// Returns the numbers of a tensor, or `None` if its elements are not read as numbers.
pub(super) fn values(subject: &Subject, tensor: &HiddenTensor) -> Option<Vec<f32>> {
    let bytes = tensor.gather(subject.files());
    decode(tensor.data_type, &bytes, tensor.n_elements)
}

/// Computes the energy of each element, as a share of the tensor's. Whole numbers count from the
/// middle of their range.
pub(super) fn energy(tensor: &HiddenTensor, values: &[f32]) -> Vec<f64> {
    let center = match numbers(tensor.data_type) {
        Some(Numbers::Whole(low, high)) if low >= 0.0 => f64::from((high + 1.0) / 2.0),
        _ => 0.0,
    };
    let distances = values.iter().map(|value| f64::from(*value) - center);
    let square = |distance: f64| {
        if distance.is_finite() {
            distance * distance
        } else {
            0.0
        }
    };
    shares(distances.map(square).collect())
}

/// Divides each value by the sum of all.
pub(super) fn shares(mut values: Vec<f64>) -> Vec<f64> {
    let sum = values.iter().sum::<f64>().max(1e-300);
    values.iter_mut().for_each(|value| *value /= sum);
    values
}

/// Makes scores of units from scores of elements, and leaves out tensors without any.
pub(super) fn scores(
    hidden: &Hidden,
    unit_bytes: u64,
    elements: impl Fn(&HiddenTensor) -> Option<Vec<f64>>,
) -> Scores {
    let scored = hidden.tensors.iter().filter_map(|tensor| {
        let units = units(&elements(tensor)?, tensor.element_bits, unit_bytes);
        Some((tensor.path.clone(), units))
    });
    scored.collect()
}

/// Returns the number of elements in a unit.
pub(super) fn per_unit(element_bits: u32, unit_bytes: u64) -> usize {
    let n = unit_bytes * 8 / u64::from(element_bits.max(1));
    usize::try_from(n).unwrap_or(1).max(1)
}

/// Sums scores over units, and divides by the unit's bytes.
fn units(elements: &[f64], element_bits: u32, unit_bytes: u64) -> Vec<f64> {
    let unit = |part: &[f64]| {
        let bytes = (part.len() as f64 * f64::from(element_bits) / 8.0).max(1e-3);
        part.iter().filter(|value| value.is_finite()).sum::<f64>() / bytes
    };
    let parts = elements.chunks(per_unit(element_bits, unit_bytes));
    parts.map(unit).collect()
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
