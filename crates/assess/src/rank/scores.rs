//! Scores of units.

/// By a tensor's protobuf path, the scores of the units of its elements, in order.
pub(super) type Scores = Vec<(String, Vec<f64>)>;

/// Returns the number of elements in a unit.
pub(super) fn per_unit(element_bits: u32, unit_bytes: u64) -> usize {
    let n = unit_bytes * 8 / u64::from(element_bits.max(1));
    usize::try_from(n).unwrap_or(1).max(1)
}
