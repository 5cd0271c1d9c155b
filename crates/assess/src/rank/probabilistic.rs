//! Scores by random masks, with forward passes only: how much losing a part spoils the answers.
//!
//! Each mask takes a random share of the parts and sets them to 0 (the gates of "Probabilistic
//! selective encryption", arXiv 2105.12344, at random). Ridge regression of the loss on the masks
//! tells what each part adds to it. The parts are groups of units at first; then, within the groups
//! that add most, units.

use std::ops::Range;

use nalgebra::DMatrix;
use onnxseal_data::DataSet;
use onnxseal_data::random::rng;
use onnxseal_engine::Table;
use rand::RngExt;

use crate::assessment::Fill;
use crate::attack::filled;
use crate::bench::Bench;
use crate::error::{Error, Result, attempt};
use crate::heads::Basis;
use crate::hidden::{Hidden, HiddenTensor};
use crate::options::{Options, Progress};
use crate::rank::scores::{Scores, per_unit};
use crate::subject::Subject;

/// The approximate number of groups.
const N_GROUPS: usize = 128;

/// The most units to score within the best groups.
const MAX_UNITS: usize = 512;

/// The fewest masks that make a ranking; a call cancelled before fails.
const MIN_MASKS: usize = 16;

/// The largest loss of a sample, also for outputs that are not numbers.
const MAX_LOSS: f64 = 20.0;

/// Some units of one tensor.
#[derive(Clone, Debug)]
struct Part {
    tensor: usize,
    first: usize,
    count: usize,
    bytes: f64,
}

impl Part {
    /// Returns its range among the units of the tensor.
    fn units(&self) -> Range<usize> {
        self.first..self.first + self.count
    }
}

/// Scores units by `n_masks` masks, each of which takes a `share` of the bytes.
pub(super) fn rank(
    subject: &Subject,
    hidden: &Hidden,
    unit_bytes: u64,
    (share, n_masks): (f64, usize),
    data: Option<&DataSet>,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Scores> {
    if !(share > 0.0 && share < 1.0) || n_masks < 2 * MIN_MASKS {
        return Err(Error::Usage(format!(
            "{n_masks} masks of a share of {share}: expected at least {} masks, of a share between 0 and 1",
            2 * MIN_MASKS
        )));
    }
    progress.begin(n_masks as u64 + 1);
    Bench::with(subject, data, options, &[], progress, |bench| {
        let masking = Masking {
            bench,
            hidden,
            unit_bytes,
            progress,
        };
        masking.rank(share, n_masks)
    })
}

struct Masking<'t> {
    bench: &'t Bench<'t>,
    hidden: &'t Hidden,
    unit_bytes: u64,
    progress: &'t dyn Progress,
}

impl Masking<'_> {
    fn rank(&self, share: f64, n_masks: usize) -> Result<Scores> {
        // The judge's answers may come from other optimizations than the masks run with: compute
        // them again.
        let files = self.bench.subject.files();
        let original = &self.bench.run(files, false, "the original")?.answers;
        let groups = self.groups();
        let of_groups = self.worth(&groups, share, n_masks / 2, original, "groups");
        let (of_groups, mut n_done) = of_groups?;
        let nothing = |tensor| vec![0.0; self.n_units(tensor)];
        let mut units: Vec<Vec<f64>> = self.hidden.tensors.iter().map(nothing).collect();
        for (group, worth) in groups.iter().zip(&of_groups) {
            for unit in group.units() {
                let bytes = self.part(group.tensor, unit, 1).bytes;
                units[group.tensor][unit] = worth / group.bytes * bytes;
            }
        }
        // The groups that add most for their bytes, up to the limit of units.
        let mut order: Vec<usize> = (0..groups.len()).collect();
        let per_byte = |i: &usize| of_groups[*i] / groups[*i].bytes;
        order.sort_by(|a, b| per_byte(b).total_cmp(&per_byte(a)));
        let mut best = Vec::new();
        for i in order {
            let group = &groups[i];
            if best.len() + group.count > MAX_UNITS || of_groups[i] <= 0.0 {
                break;
            }
            best.extend((group.units()).map(|first| self.part(group.tensor, first, 1)));
        }
        if best.len() > 1 && !self.progress.is_cancelled() {
            let of_units = self.worth(&best, share, n_masks - n_masks / 2, original, "units");
            let (of_units, n_of_units) = match of_units {
                // The scores of the groups remain.
                Err(Error::Cancelled) => (Vec::new(), 0),
                found => found?,
            };
            n_done += n_of_units;
            // Units of the best groups rank above all others: their worth adds to their group's.
            for (unit, worth) in best.iter().zip(of_units) {
                units[unit.tensor][unit.first] += worth;
            }
        }
        if self.progress.is_cancelled() {
            self.progress.cut_short(n_done, n_masks, "masks");
        }
        let paths = self.hidden.tensors.iter().map(|tensor| tensor.path.clone());
        Ok(paths.zip(units).collect())
    }

    fn n_units(&self, tensor: &HiddenTensor) -> usize {
        let per_unit = per_unit(tensor.element_bits, self.unit_bytes);
        tensor.n_elements.div_ceil(per_unit)
    }

    /// Returns the elements of some units of a tensor.
    fn elements(&self, tensor: &HiddenTensor, units: Range<usize>) -> Range<usize> {
        let at = |unit| unit * per_unit(tensor.element_bits, self.unit_bytes);
        at(units.start)..at(units.end).min(tensor.n_elements)
    }

    fn part(&self, tensor: usize, first: usize, count: usize) -> Part {
        let of = &self.hidden.tensors[tensor];
        let n_elements = self.elements(of, first..first + count).len();
        Part {
            tensor,
            first,
            count,
            bytes: (n_elements as f64 * f64::from(of.element_bits) / 8.0).max(1e-3),
        }
    }

    /// Makes groups of units of about equal size, each within one tensor.
    fn groups(&self) -> Vec<Part> {
        let tensors = self.hidden.tensors.iter();
        let n_units: Vec<usize> = tensors.map(|tensor| self.n_units(tensor)).collect();
        let per_group = n_units.iter().sum::<usize>().div_ceil(N_GROUPS).max(1);
        let mut groups = Vec::new();
        for (i, n) in n_units.into_iter().enumerate() {
            let firsts = (0..n).step_by(per_group);
            groups.extend(firsts.map(|first| self.part(i, first, per_group.min(n - first))));
        }
        groups
    }

    /// Estimates what each part adds to the loss, at least 0. Returns the number of masks too.
    fn worth(
        &self,
        parts: &[Part],
        share: f64,
        n_masks: usize,
        original: &Table,
        label: &str,
    ) -> Result<(Vec<f64>, usize)> {
        let mut random = rng(self.bench.options.seed, label);
        let loss_of_original = self.loss(original, original);
        let (mut rows, mut losses): (Vec<Vec<f32>>, _) = (Vec::new(), Vec::new());
        for i in 0..n_masks {
            let step = format!("{label}: mask {} of {n_masks}", i + 1);
            match self.bench.step(&step) {
                Err(Error::Cancelled) if i >= MIN_MASKS => break,
                step => step?,
            }
            let is_taken = parts.iter().map(|_| random.random_bool(share));
            let is_taken: Vec<bool> = is_taken.collect();
            let mut masked = self.hidden.clone();
            for (part, _) in parts.iter().zip(&is_taken).filter(|(_, taken)| **taken) {
                let tensor = &mut masked.tensors[part.tensor];
                tensor.ranges.push(self.elements(tensor, part.units()));
            }
            let (files, seed) = (self.bench.subject.files(), self.bench.options.seed);
            let changed = filled(files, &masked, Fill::Zero, None, seed);
            let loss = match self.bench.run(&changed, false, "the model with a mask") {
                Err(Error::Cancelled) if i >= MIN_MASKS => break,
                ran => attempt(ran)?.map_or(MAX_LOSS, |ran| self.loss(&ran.answers, original)),
            };
            rows.push(is_taken.into_iter().map(f32::from).collect());
            losses.push(loss - loss_of_original);
        }
        let targets = DMatrix::from_column_slice(losses.len(), 1, &losses);
        let ridge = Basis::of(&rows)?.ridge(&targets);
        let slopes = ridge.slopes();
        Ok((slopes.map(|slope| slope.max(0.0)).collect(), losses.len()))
    }

    /// Computes the cross-entropy with labels or the original's classes, or else the squared
    /// distance from the original relative to its size.
    fn loss(&self, answers: &Table, original: &Table) -> f64 {
        let n = answers.n_rows().max(1);
        let sample = |row: usize| {
            let (output, before) = (answers.row(row), original.row(row));
            let loss = match self.bench.judge.label(row) {
                Some(label) if output.len() > 1 => cross_entropy(output, label),
                _ => {
                    let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
                    let distance: f64 = output.iter().zip(before).map(square).sum();
                    let size: f64 = before.iter().map(|b| f64::from(*b).powi(2)).sum();
                    distance / size.max(1e-12)
                }
            };
            if loss.is_nan() {
                return MAX_LOSS;
            }
            loss.clamp(0.0, MAX_LOSS)
        };
        (0..n).map(sample).sum::<f64>() / n as f64
    }
}

/// Computes `-log` of the label's probability. Outputs that are shares of 1 count as probabilities,
/// others as logarithms up to a constant.
fn cross_entropy(output: &[f32], label: usize) -> f64 {
    let (values, of_label) = (output.iter().copied().map(f64::from), output.get(label));
    let of_label = of_label.map_or(f64::NAN, |value| f64::from(*value));
    let is_share = output.iter().all(|value| (0.0..=1.0).contains(value));
    if is_share && (values.clone().sum::<f64>() - 1.0).abs() < 1e-3 {
        return -of_label.max(1e-9).ln();
    }
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    values.map(|value| (value - most).exp()).sum::<f64>().ln() + most - of_label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_of_probabilities_or_logits() {
        assert!((cross_entropy(&[0.25, 0.75], 0) - 4.0_f64.ln()).abs() < 1e-9);
        assert!((cross_entropy(&[1.0, 1.0 + 3.0_f32.ln()], 0) - 4.0_f64.ln()).abs() < 1e-6);
        assert!(cross_entropy(&[f32::NAN, 1.0], 0).is_nan());
    }
}
