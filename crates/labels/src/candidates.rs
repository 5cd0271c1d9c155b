//! Makes inputs for traces that are unlike a data set's, by mixing, shuffling and adding noise to
//! samples.

use rand::RngExt;

use onnxseal_data::Values;
use onnxseal_data::npy::Stored;
use onnxseal_data::random::{gaussian, rng, shuffled};
use onnxseal_engine::Samples;

/// The noise to add, in standard deviations of all values.
const NOISE: f64 = 1.0;

#[derive(Clone, Copy)]
enum Change {
    /// The mean of two samples.
    Mixed,
    /// The values of a sample in another order.
    Shuffled,
    /// A sample with noise.
    Noisy,
}

/// Makes `n` inputs from the samples: a third each is mixed, shuffled and made noisy. Whole numbers
/// come from the samples.
pub fn unlike(samples: &[Samples], n: usize, seed: u64) -> Vec<Samples> {
    let mut random = rng(seed, "candidates");
    let count = |input: &Samples| input.values.len() / input.dims.iter().product::<usize>().max(1);
    let n_samples = samples.iter().map(count).min().unwrap_or(0).max(1);
    let draws: Vec<(Change, usize, usize)> = (0..n)
        .map(|i| {
            let change = [Change::Mixed, Change::Shuffled, Change::Noisy][i % 3];
            let (one, other) = (
                random.random_range(0..n_samples),
                random.random_range(0..n_samples),
            );
            (change, one, other)
        })
        .collect();
    let of_input = |input: &Samples| {
        let width = input.dims.iter().product::<usize>().max(1);
        let (is_whole, deviation) = (input.element.is_whole(), deviation(&input.values));
        let mut values = Vec::with_capacity(n * width);
        for (change, one, other) in &draws {
            let at = |sample: usize, i: usize| input.values.at(sample * width + i);
            let order = match change {
                Change::Shuffled => shuffled(width, &mut random),
                _ => Vec::new(),
            };
            values.extend((0..width).map(|i| match change {
                Change::Mixed if is_whole => at(if random.random() { *one } else { *other }, i),
                Change::Mixed => (at(*one, i) + at(*other, i)) / 2.0,
                Change::Shuffled => at(*one, order[i]),
                // One value in four from another sample.
                Change::Noisy if is_whole => match random.random_range(0..4) {
                    0 => at(random.random_range(0..n_samples), i),
                    _ => at(*one, i),
                },
                Change::Noisy => at(*one, i) + NOISE * deviation * f64::from(gaussian(&mut random)),
            }));
        }
        Samples {
            values: like(&input.values, values),
            ..input.clone()
        }
    };
    samples.iter().map(of_input).collect()
}

fn deviation(values: &Values) -> f64 {
    let n = values.len().max(1) as f64;
    let all = || (0..values.len()).map(|i| values.at(i));
    let mean = all().sum::<f64>() / n;
    (all().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt()
}

/// Makes values of the type of `values`.
fn like(values: &Values, numbers: Vec<f64>) -> Values {
    match values {
        Values::F32(_) => Values::F32(numbers.into_iter().map(|value| value as f32).collect()),
        Values::F64(_) => Values::F64(numbers),
        Values::I64(_) => Values::I64(
            numbers
                .into_iter()
                .map(|value| value.round() as i64)
                .collect(),
        ),
    }
}

/// Returns some of the samples for an `.npz`: whole inputs, with the batch axis first.
pub fn picked(samples: &[Samples], rows: &[usize]) -> Vec<Stored> {
    let of_input = |input: &Samples| {
        let width = input.dims.iter().product::<usize>().max(1);
        let places = || rows.iter().flat_map(|row| row * width..(row + 1) * width);
        let (descr, bytes) = match &input.values {
            Values::F32(values) => (
                "<f4",
                places().flat_map(|i| values[i].to_le_bytes()).collect(),
            ),
            Values::F64(values) => (
                "<f8",
                places().flat_map(|i| values[i].to_le_bytes()).collect(),
            ),
            Values::I64(values) => (
                "<i8",
                places().flat_map(|i| values[i].to_le_bytes()).collect(),
            ),
        };
        Stored {
            name: input.name.clone(),
            descr,
            dims: [&[rows.len()], &input.dims[..]].concat(),
            bytes,
        }
    };
    samples.iter().map(of_input).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use onnxseal_engine::{Batch, Element};

    #[test]
    fn candidates_are_no_samples() {
        let samples = vec![Samples {
            name: "x".into(),
            element: Element::F32,
            dims: vec![4],
            batch: Batch::Any,
            values: Values::F32((0..40).map(|i| i as f32).collect()),
        }];
        let made = unlike(&samples, 9, 1);
        assert_eq!(made[0].values.len(), 36);
        assert_eq!(unlike(&samples, 9, 1)[0].values, made[0].values);
        assert_ne!(unlike(&samples, 9, 2)[0].values, made[0].values);
        let stored = picked(&made, &[3, 0]);
        assert_eq!(
            (stored[0].dims.as_slice(), stored[0].bytes.len()),
            (&[2, 4][..], 32)
        );
        let first = made[0].values.at(12) as f32;
        assert_eq!(stored[0].bytes[..4], first.to_le_bytes());
    }
}
