//! Replaces encrypted numbers by values made from visible ones.

use chacha20::ChaCha8Rng;
use onnxseal_data::random::gaussian;
use onnxseal_plan::Role;
use rand::Rng;

use crate::assessment::Fill;
use crate::hidden::HiddenTensor;
use crate::weights::{Numbers, numbers};

/// A tensor as a matrix: the first axis longer than 1, by all others.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Matrix {
    rows: usize,
    columns: usize,
}

impl Matrix {
    fn of(dims: &[u64], n_elements: usize) -> Matrix {
        let long = dims.iter().filter(|dim| **dim > 1).count();
        let rows = match (long, dims.iter().find(|dim| **dim > 1)) {
            (2.., Some(rows)) => usize::try_from(*rows).unwrap_or(1).max(1),
            _ => 1,
        };
        Matrix {
            rows,
            columns: n_elements / rows,
        }
    }
}

/// Mean and deviation of the visible numbers, and their count.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    n: usize,
    mean: f32,
    deviation: f32,
}

impl Moments {
    fn of(values: impl Iterator<Item = f32> + Clone) -> Moments {
        let finite = values.filter(|value| value.is_finite());
        let n = finite.clone().count();
        let sum: f64 = finite.clone().map(f64::from).sum();
        let mean = sum / n.max(1) as f64;
        let squares: f64 = finite.map(|value| (f64::from(value) - mean).powi(2)).sum();
        Moments {
            n,
            mean: mean as f32,
            deviation: (squares / n.max(1) as f64).sqrt() as f32,
        }
    }
}

/// Replaces the encrypted numbers among a tensor's `values`. `limits` are the least and the largest
/// of whole numbers.
pub(super) fn fill(
    tensor: &HiddenTensor,
    fill: Fill,
    limits: Option<(f32, f32)>,
    values: &mut [f32],
    random: &mut ChaCha8Rng,
) {
    let mask = tensor.mask();
    let matrix = Matrix::of(&tensor.dims, values.len());
    let center = match limits {
        Some((low, high)) if low <= high => center(tensor).clamp(low, high),
        _ => center(tensor),
    };
    let is_whole = tensor.is_whole();
    if is_whole || fill == Fill::Random {
        let spread = spread(tensor);
        // A matrix is none of a channel's numbers, whatever operator reads it.
        let is_matrix = matrix.rows > 1 && matrix.columns > 1;
        let role = match tensor.role {
            Role::Bias | Role::Scale if is_matrix => Role::Weight,
            role => role,
        };
        for (value, hidden) in values.iter_mut().zip(&mask) {
            if *hidden {
                *value = match role {
                    Role::Weight if fill == Fill::Zero => center,
                    Role::Weight => match limits {
                        // Other numbers may be no index, no truth value, or no zero point.
                        Some((low, high)) if low == high || !is_narrow(tensor) => {
                            let share = random.next_u64() as f64 / u64::MAX as f64;
                            let steps = f64::from(high - low) + 1.0;
                            (low + (share * steps).floor() as f32).min(high)
                        }
                        _ => center + spread * gaussian(random),
                    },
                    Role::Bias | Role::Mean => 0.0,
                    Role::Scale | Role::Variance => 1.0,
                    // Spreads weights of 4 bits about as widely as a matrix's.
                    Role::BlockScale => 0.02,
                };
            }
        }
        return;
    }
    let columns = matrix.columns.max(1);
    let all = Moments::of(visible(values, &mask, 0, 1));
    let channels = |values: &[f32]| -> Vec<Moments> {
        let rows = values.chunks(columns).zip(mask.chunks(columns));
        rows.map(|(values, mask)| Moments::of(visible(values, mask, 0, 1)))
            .collect()
    };
    let mean = |of_line: &Moments| {
        if of_line.n > 0 {
            of_line.mean
        } else {
            all.mean
        }
    };
    match fill {
        Fill::Zero => put(values, &mask, |_| center),
        Fill::RowMean => {
            let of_column = |column| Moments::of(visible(values, &mask, column, matrix.columns));
            let lines: Vec<Moments> = (0..matrix.columns).map(of_column).collect();
            put(values, &mask, |i| mean(&lines[i % columns]));
        }
        Fill::ChannelMean => {
            let lines = channels(values);
            put(values, &mask, |i| mean(&lines[i / columns]));
        }
        Fill::ChannelGaussian => {
            let lines = channels(values);
            put(values, &mask, |i| {
                let of_line = lines[i / columns];
                let moments = if of_line.n >= 2 { of_line } else { all };
                moments.mean + moments.deviation * gaussian(random)
            });
        }
        // `Random` is done above, and `PublicBase` elsewhere.
        Fill::Random | Fill::PublicBase => {}
    }
}

/// Returns the visible ones of every `step`-th value from `first` on.
fn visible<'v>(
    values: &'v [f32],
    mask: &'v [bool],
    first: usize,
    step: usize,
) -> impl Iterator<Item = f32> + Clone + 'v {
    let pairs = values.iter().zip(mask).skip(first).step_by(step.max(1));
    pairs
        .filter(|(_, hidden)| !**hidden)
        .map(|(value, _)| *value)
}

/// Replaces the encrypted values.
fn put(values: &mut [f32], mask: &[bool], mut by: impl FnMut(usize) -> f32) {
    for (i, (value, hidden)) in values.iter_mut().zip(mask).enumerate() {
        if *hidden {
            *value = by(i);
        }
    }
}

/// Returns the middle of a type's numbers, where zero points usually are; 0 for signed ones.
fn center(tensor: &HiddenTensor) -> f32 {
    match numbers(tensor.data_type) {
        Some(Numbers::Whole(low, high)) if low >= 0.0 && is_narrow(tensor) => {
            ((high + 1.0) / 2.0).floor()
        }
        _ => 0.0,
    }
}

/// Returns whether elements are whole numbers of 4 to 16 bits, as quantised weights are.
fn is_narrow(tensor: &HiddenTensor) -> bool {
    let numbers = numbers(tensor.data_type);
    matches!(numbers, Some(Numbers::Whole(low, high)) if (15.0..=65535.0).contains(&(high - low)))
}

/// Returns the deviation of weights before training: `sqrt(2 / n)` for sums of n products (He et
/// al., "Delving deep into rectifiers", 2015), or a quarter of the range of whole numbers.
fn spread(tensor: &HiddenTensor) -> f32 {
    if let Some(Numbers::Whole(low, high)) = numbers(tensor.data_type) {
        return (high - low) / 4.0;
    }
    let matrix = Matrix::of(&tensor.dims, tensor.n_elements);
    let n_products = match (tensor.op_type.as_str(), matrix.rows) {
        (_, 1) => matrix.columns,
        // `[in, out]`. Others sum over the last axes, or the difference is small.
        ("MatMul" | "Attention", rows) => rows,
        _ => matrix.columns,
    };
    (2.0 / n_products.max(1) as f32).sqrt()
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
        fill(&tensor(), by, None, &mut values, &mut rng(0, "x"));
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
            let limits = match numbers(data_type) {
                Some(Numbers::Whole(..)) => Some((-128.0, 200.0)),
                _ => None,
            };
            let mut values = vec![0.0; 2000];
            fill(&tensor, by, limits, &mut values, &mut rng(0, "x"));
            let moments = Moments::of(values.iter().copied());
            (moments.mean, moments.deviation)
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
                None,
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
