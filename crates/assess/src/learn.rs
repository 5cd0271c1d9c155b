//! Measures what an attacker learns from labelled samples, by ridge regression on visible features.

use onnxseal_data::random::{rng, shuffled};
use onnxseal_engine::Table;

use crate::assessment::Head;
use crate::attack::probe::Features;
use crate::error::Result;

/// The number of draws of training samples; the mean counts.
const DRAWS: u64 = 5;

/// Computes the share of other samples that ridge regression on `n` labelled ones gets right, as
/// the mean over draws. `features` has one row per sample.
///
/// # Errors
/// [`crate::Error::Usage`] if there are too few samples.
pub fn accuracy(features: &Table, labels: &[i64], n: usize, seed: u64) -> Result<f64> {
    let features = Features(features.clone());
    let class = |label: &i64| u32::try_from(*label).unwrap_or(u32::MAX);
    let labels: Vec<u32> = labels.iter().map(class).collect();
    let mut sum = 0.0;
    for draw in 0..DRAWS {
        let order = shuffled(labels.len(), &mut rng(seed.wrapping_add(draw), "learn"));
        let (train, test) = order.split_at(n.min(order.len()));
        let probe = features.probe(train, &labels, &[Head::Ridge])?;
        let found = features.classes(&probe, test);
        let label = |row: &usize| labels.get(*row).map(|label| *label as usize);
        let is_right = |(class, row): &(&Option<usize>, &usize)| **class == label(row);
        let right = found.iter().zip(test).filter(is_right).count();
        sum += right as f64 / test.len().max(1) as f64;
    }
    Ok(sum / DRAWS as f64)
}
