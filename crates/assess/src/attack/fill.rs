//! Replaces encrypted numbers by values made from visible ones.

use chacha20::ChaCha8Rng;
use onnxseal_data::random::gaussian;
use onnxseal_plan::Role;
use rand::Rng;

use crate::assessment::Fill;
use crate::hidden::HiddenTensor;
use crate::weights::{Numbers, numbers};

/// Returns the rows and columns of a tensor as a matrix: the first axis longer than 1, by all
/// others.
fn matrix(tensor: &HiddenTensor) -> (usize, usize) {
    let mut long = tensor.dims.iter().filter(|dim| **dim > 1);
    let rows = match (long.next(), long.next()) {
        (Some(rows), Some(_)) => usize::try_from(*rows).unwrap_or(1),
        _ => 1,
    };
    (rows, (tensor.n_elements / rows).max(1))
}

/// Mean and deviation of some visible numbers, and their count.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    n: usize,
    mean: f64,
    deviation: f64,
}

/// Computes the moments of the visible numbers of each of `n` lines. `line` says in which line the
/// number at an index is.
fn moments(values: &[f32], mask: &[bool], n: usize, line: impl Fn(usize) -> usize) -> Vec<Moments> {
    let visible = || {
        let numbers = values.iter().zip(mask).enumerate();
        let numbers = numbers.filter(|(_, (value, hidden))| !**hidden && value.is_finite());
        numbers.map(|(i, (value, _))| (line(i), f64::from(*value)))
    };
    let mut lines = vec![Moments::default(); n];
    for (line, value) in visible() {
        lines[line].n += 1;
        lines[line].mean += value;
    }
    for line in &mut lines {
        line.mean /= line.n.max(1) as f64;
    }
    for (line, value) in visible() {
        lines[line].deviation += (value - lines[line].mean).powi(2);
    }
    for line in &mut lines {
        line.deviation = (line.deviation / line.n.max(1) as f64).sqrt();
    }
    lines
}

/// Replaces the encrypted numbers among a tensor's `values`. Where the public base lacks them, they
/// become means of channels.
pub(super) fn fill(tensor: &HiddenTensor, fill: Fill, values: &mut [f32], random: &mut ChaCha8Rng) {
    let mask = tensor.mask();
    let whole = match numbers(tensor.data_type) {
        Some(Numbers::Whole(low, high)) => Some((low, high)),
        _ => None,
    };
    // Whole numbers of 4 to 16 bits, as quantised weights are.
    let narrow = whole.filter(|(low, high)| (15.0..=65535.0).contains(&(high - low)));
    // Zero points usually are in the middle of such a type's numbers; 0 for signed ones.
    let center = match narrow {
        Some((low, high)) if low >= 0.0 => ((high + 1.0) / 2.0).floor(),
        _ => 0.0,
    };
    // Attackers guess the range of whole numbers from what these index or scale.
    let limits = whole.map(|_| {
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        (low, values.iter().copied().fold(low, f32::max))
    });
    let center = limits.map_or(center, |(low, high)| center.clamp(low, high));
    // Zero the encrypted numbers first, so that no attack can use them.
    put(values, &mask, |_| 0.0);
    let (rows, columns) = matrix(tensor);
    if tensor.is_whole() || fill == Fill::Random {
        // A matrix is none of a channel's numbers, whatever operator reads it.
        let is_matrix = rows > 1 && columns > 1;
        // A quarter of the range of whole numbers.
        let spread = whole.map_or_else(|| spread(tensor), |(low, high)| (high - low) / 4.0);
        put(values, &mask, |_| match (tensor.role, limits) {
            (Role::Mean, _) => 0.0,
            (Role::Variance, _) => 1.0,
            (Role::Bias, _) if !is_matrix => 0.0,
            (Role::Scale, _) if !is_matrix => 1.0,
            // Spreads weights of 4 bits about as widely as a matrix's.
            (Role::BlockScale, _) => 0.02,
            _ if fill == Fill::Zero => center,
            // Other numbers may be no index, no truth value, or no zero point.
            (_, Some((low, high))) if low == high || narrow.is_none() => {
                let share = random.next_u64() as f64 / u64::MAX as f64;
                let steps = f64::from(high - low) + 1.0;
                (low + (share * steps).floor() as f32).min(high)
            }
            _ => center + spread * gaussian(random),
        });
        return;
    }
    let is_of_rows = fill == Fill::RowMean;
    let line = |i: usize| if is_of_rows { i % columns } else { i / columns };
    let n_lines = if is_of_rows { columns } else { rows };
    let lines = moments(values, &mask, n_lines, line);
    let all = moments(values, &mask, 1, |_| 0)[0];
    let enough = if fill == Fill::ChannelGaussian { 2 } else { 1 };
    put(values, &mask, |i| {
        let of_line = lines[line(i)];
        let of_line = if of_line.n >= enough { of_line } else { all };
        match fill {
            Fill::Zero => center,
            Fill::ChannelGaussian => {
                of_line.mean as f32 + of_line.deviation as f32 * gaussian(random)
            }
            _ => of_line.mean as f32,
        }
    });
}

/// Replaces the encrypted values.
fn put(values: &mut [f32], mask: &[bool], mut by: impl FnMut(usize) -> f32) {
    for (i, (value, hidden)) in values.iter_mut().zip(mask).enumerate() {
        if *hidden {
            *value = by(i);
        }
    }
}

/// Returns the deviation of weights before training: `sqrt(2 / n)` for sums of n products (He et
/// al., "Delving deep into rectifiers", 2015).
fn spread(tensor: &HiddenTensor) -> f32 {
    let (rows, columns) = matrix(tensor);
    // `[in, out]`. Others sum over the last axes, or the difference is small.
    let has_inputs_first = matches!(tensor.op_type.as_str(), "MatMul" | "Attention");
    let n_products = if has_inputs_first && rows > 1 {
        rows
    } else {
        columns
    };
    (2.0 / n_products as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use onnxseal_onnx::proto::tensor_proto::DataType;

    use super::*;
    use onnxseal_data::random::rng;

    /// A 3 x 4 tensor that hides the second element of the first row, all of the second row, and
    /// the last element.
    fn tensor() -> HiddenTensor {
        HiddenTensor {
            name: "w".into(),
            path: "graph.initializer[0]".into(),
            op_type: "Gemm".into(),
            role: Role::Weight,
            data_type: DataType::Float,
            dims: vec![1, 3, 4],
            n_elements: 12,
            ranges: vec![1..2, 4..8, 11..12],
            node: None,
            node_name: String::new(),
            file: 0,
            start: 0,
            element_bits: 32,
            stride: None,
        }
    }

    fn filled(by: Fill) -> Vec<f32> {
        let mut values = vec![1.0, 0.0, 3.0, 5.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 5.0, 0.0];
        fill(&tensor(), by, &mut values, &mut rng(0, "x"));
        values
    }

    #[test]
    fn fills_worked_by_hand() {
        // The encrypted elements.
        let of = |by| {
            let filled = filled(by);
            assert_eq!(
                [0, 2, 3, 8, 9, 10].map(|i| filled[i]),
                [1.0, 3.0, 5.0, 3.0, 4.0, 5.0]
            );
            [1, 4, 5, 6, 7, 11].map(|i| filled[i])
        };
        let mean = 21.0 / 6.0;
        assert_eq!(of(Fill::Zero), [0.0; 6]);
        assert_eq!(of(Fill::ChannelMean), [3.0, mean, mean, mean, mean, 4.0]);
        assert_eq!(of(Fill::RowMean), [4.0, 2.0, 4.0, 4.0, 5.0, 5.0]);
        let gaussian = filled(Fill::ChannelGaussian);
        assert_eq!((gaussian[0], gaussian[2]), (1.0, 3.0));
        assert!(gaussian[1] != 0.0 && (gaussian[1] - 3.0).abs() < 10.0);
    }

    #[test]
    fn whole_tensors_are_what_untrained_ones_are() {
        let whole = |role, data_type, by| {
            let tensor = HiddenTensor {
                role,
                data_type,
                dims: vec![20, 100],
                n_elements: 2000,
                ..tensor()
            };
            let tensor = tensor.whole();
            let mut values = vec![0.0; 2000];
            values[..2].copy_from_slice(&[-128.0, 200.0]);
            fill(&tensor, by, &mut values, &mut rng(0, "x"));
            let moments = moments(&values, &[false; 2000], 1, |_| 0)[0];
            (moments.mean as f32, moments.deviation as f32)
        };
        for (role, data_type, by, want) in [
            (Role::Weight, DataType::Float, Fill::Zero, 0.0),
            (Role::Weight, DataType::Uint8, Fill::Zero, 128.0),
        ] {
            assert_eq!(whole(role, data_type, by), (want, 0.0), "{role:?} {by:?}");
        }
        let channels = |role| {
            let tensor = HiddenTensor {
                role,
                dims: vec![12],
                ..tensor()
            };
            let mut values = vec![0.0; 12];
            fill(
                &tensor.whole(),
                Fill::ChannelMean,
                &mut values,
                &mut rng(0, "x"),
            );
            values
        };
        assert_eq!(
            (channels(Role::Scale), channels(Role::Bias)),
            (vec![1.0; 12], vec![0.0; 12])
        );
        let he = (2.0_f32 / 100.0).sqrt();
        for (data_type, by, spread, near) in [
            (DataType::Float, Fill::Random, he, 0.02),
            (DataType::Int8, Fill::ChannelMean, 63.75, 5.0),
        ] {
            let (mean, deviation) = whole(Role::Weight, data_type, by);
            let is_near = mean.abs() < near && (deviation - spread).abs() < near;
            assert!(is_near, "{by:?}: {mean} {deviation}");
        }
    }
}
