//! Activation energy: `w^2 E[x^2] / E[y^2]`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use onnxseal_data::DataSet;
use onnxseal_engine::{Engine, Error as RunError, Net, Samples, Table};
use onnxseal_onnx::Model;
use onnxseal_onnx::model::Node;
use onnxseal_plan::Role;

use crate::bench::samples;
use crate::error::Result;
use crate::hidden::{Hidden, HiddenTensor};
use crate::options::{Options, Progress};
use crate::rank::scores::{Scores, per_unit};
use crate::subject::Subject;
use crate::weights::{Numbers, decode, numbers};

/// The most samples to use.
const MAX_SAMPLES: usize = 256;

/// Samples per run, which keeps all its values in memory.
const BATCH: usize = 32;

/// Mean squares of a value's numbers.
#[derive(Clone, Debug, Default)]
struct Power {
    /// By position on the first axis of a sample.
    first: Vec<f64>,
    /// By position on the last axis.
    last: Vec<f64>,
    n: f64,
}

impl Power {
    fn add(&mut self, table: &Table) {
        let (Some(n_first), Some(n_last)) = (table.dims.first(), table.dims.last()) else {
            return;
        };
        self.first.resize(*n_first, 0.0);
        self.last.resize(*n_last, 0.0);
        let each = table.width.checked_div(*n_first).unwrap_or(1).max(1);
        for row in table.values.chunks_exact(table.width.max(1)) {
            for (i, value) in row.iter().enumerate() {
                if !value.is_finite() {
                    continue;
                }
                let square = f64::from(*value).powi(2);
                if let Some(sum) = self.first.get_mut(i / each) {
                    *sum += square / each as f64;
                }
                if let Some(sum) = self.last.get_mut(i % n_last.max(&1)) {
                    *sum += square / (table.width / n_last.max(&1)) as f64;
                }
            }
            self.n += 1.0;
        }
    }

    /// Returns the mean squares on the axis of length `n`, by default the first if both have it.
    fn on(&self, n: usize, last_first: bool) -> Option<Vec<f64>> {
        let mut axes = [&self.first, &self.last];
        if last_first {
            axes.reverse();
        }
        let axis = axes.into_iter().find(|axis| axis.len() == n && n > 0)?;
        Some(axis.iter().map(|sum| sum / self.n.max(1.0)).collect())
    }

    /// Returns the sum of mean squares over channels.
    fn sum(&self) -> f64 {
        self.first.iter().sum::<f64>() / self.n.max(1.0)
    }
}

pub(super) fn rank(
    engine: &Engine,
    subject: &Subject,
    hidden: &Hidden,
    unit_bytes: u64,
    data: Option<&DataSet>,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Scores> {
    let model = subject.located()?;
    let values = values(&model, hidden);
    let mut net = Net::new(engine, subject.files(), &values, "the original")?;
    let samples = samples(&net, data, options)?;
    let powers = powers(&mut net, &samples, progress)?;
    let scored = hidden.tensors.iter().filter_map(|tensor| {
        let bytes = tensor.gather(subject.files());
        let values = decode(tensor.data_type, &bytes, tensor.n_elements)?;
        let is_float = numbers(tensor.data_type) == Some(Numbers::Float);
        let node = node_of(&model, tensor).filter(|_| is_float);
        let weighted = node.and_then(|node| weighted(node, tensor, &values, &powers));
        let elements = weighted.unwrap_or_else(|| energy(tensor, &values));
        let units = elements.chunks(per_unit(tensor.element_bits, unit_bytes));
        let units = units.map(|unit| unit.iter().filter(|of| of.is_finite()).sum());
        Some((tensor.path.clone(), units.collect()))
    });
    Ok(scored.collect())
}

/// Computes the energy of each element, as a share of the tensor's. Whole numbers count from the
/// middle of their range.
fn energy(tensor: &HiddenTensor, values: &[f32]) -> Vec<f64> {
    let center = match numbers(tensor.data_type) {
        Some(Numbers::Whole(low, high)) if low >= 0.0 => f64::from((high + 1.0) / 2.0),
        _ => 0.0,
    };
    let distances = values.iter().map(|value| f64::from(*value) - center);
    shares(distances.map(|distance| distance * distance).collect())
}

/// Divides each value by the sum of those that are finite.
fn shares(mut values: Vec<f64>) -> Vec<f64> {
    let finite = values.iter().filter(|value| value.is_finite());
    let sum = finite.sum::<f64>().max(1e-300);
    values.iter_mut().for_each(|value| *value /= sum);
    values
}

/// Returns the node that owns a tensor, if it is in the main graph.
fn node_of<'m, 'b>(model: &'m Model<'b>, tensor: &HiddenTensor) -> Option<&'m Node<'b>> {
    let node = model.nodes.get(tensor.node?)?;
    (node.graph == model.main()).then_some(node)
}

/// Returns the inputs and outputs of operators with weights, but those of the model.
fn values<'b>(model: &Model<'b>, hidden: &Hidden) -> Vec<&'b str> {
    let known = model.graphs.first().into_iter();
    let known = known.flat_map(|graph| graph.inputs.iter().chain(&graph.outputs));
    let known = known.chain(model.tensors.iter().map(|tensor| &tensor.name));
    let known: HashSet<&str> = known.copied().chain([""]).collect();
    let tensors = hidden.tensors.iter();
    let nodes = tensors.filter_map(|tensor| node_of(model, tensor));
    let values = nodes.flat_map(|node| (node.inputs.iter().take(2)).chain(node.outputs.first()));
    let values = values.copied().filter(|name| !known.contains(name));
    Vec::from_iter(values.collect::<BTreeSet<_>>())
}

/// Measures the powers of the inputs and outputs of `net`.
fn powers(
    net: &mut Net,
    (samples, n): &(Vec<Samples>, usize),
    progress: &dyn Progress,
) -> Result<BTreeMap<String, Power>> {
    let of_numbers = |index: &usize| net.outputs()[*index].element.is_some();
    let wanted: Vec<usize> = (0..net.outputs().len()).filter(of_numbers).collect();
    let rows: Vec<usize> = (0..(*n).min(MAX_SAMPLES)).collect();
    let mut powers: BTreeMap<String, Power> = BTreeMap::new();
    let mut n_done = 0;
    for part in rows.chunks(BATCH) {
        progress.step("values of operators");
        let ran = match progress.is_cancelled() {
            true => Err(RunError::Cancelled),
            false => net.run(samples, part, &wanted),
        };
        // With fewer samples the means are rougher, for all tensors alike.
        if n_done > 0 && matches!(ran, Err(RunError::Cancelled)) {
            progress.cut_short(n_done, rows.len(), "samples");
            break;
        }
        for (index, table) in wanted.iter().zip(&ran?) {
            let name = net.outputs()[*index].name.clone();
            powers.entry(name).or_default().add(table);
        }
        n_done += part.len();
    }
    for input in samples {
        let power = powers.entry(input.name.clone()).or_default();
        power.add(&input.table(n_done));
    }
    Ok(powers)
}

/// Computes the weighted energy of each element. Returns `None` if the operator forms no products,
/// or was not measured.
fn weighted(
    node: &Node<'_>,
    tensor: &HiddenTensor,
    values: &[f32],
    powers: &BTreeMap<String, Power>,
) -> Option<Vec<f64>> {
    let output = match node.op_type {
        // States and gates are about 1 inside these.
        "LSTM" | "GRU" => None,
        _ => Some(powers.get(*node.outputs.first()?)?.sum()),
    };
    let output = output.filter(|power| *power > 0.0);
    let square = |value: &f32| f64::from(*value).powi(2);
    match tensor.role {
        // Here x is 1, or normalised.
        Role::Bias | Role::Scale => {
            let output = output?;
            return Some(values.iter().map(|value| square(value) / output).collect());
        }
        Role::Weight => {}
        _ => return None,
    }
    let long = |dim: &u64| usize::try_from(*dim).unwrap_or(0);
    let long: Vec<usize> = tensor.dims.iter().map(long).collect();
    let own = node.inputs.iter().position(|name| *name == tensor.name);
    let mut inputs = node.inputs.iter().enumerate();
    let x = inputs.find_map(|(i, name)| powers.get(*name).filter(|_| Some(i) != own))?;
    let weigh = |index: &dyn Fn(usize) -> usize, x: &[f64], output: f64| -> Vec<f64> {
        let weight = |(i, value): (usize, &f32)| {
            square(value) * x.get(index(i)).copied().unwrap_or(1.0) / output
        };
        values.iter().enumerate().map(weight).collect()
    };
    match (node.op_type, &long[..]) {
        // `[M, C / group, ...]`: the number of channels tells the group of a filter.
        ("Conv" | "FusedConv", [n_filters, n_channels, kernel @ ..]) => {
            let each: usize = kernel.iter().product();
            let n_inputs = x.first.len();
            let groups = n_inputs.checked_div(*n_channels)?.max(1);
            let x = x.on(n_inputs, false)?;
            let filter = n_channels * each;
            let index = |i: usize| {
                let group = (i / filter.max(1)) / (n_filters / groups).max(1);
                group * n_channels + (i / each.max(1)) % n_channels.max(&1)
            };
            Some(weigh(&index, &x, output?))
        }
        // `[C, M / group, ...]`
        ("ConvTranspose", [n_channels, ..]) => {
            let x = x.on(*n_channels, false)?;
            let each = values.len().checked_div(*n_channels)?.max(1);
            Some(weigh(&|i| i / each, &x, output?))
        }
        // `[1, gates, input]`; R is multiplied by a state, about 1.
        ("LSTM" | "GRU", [_, _, n_inputs]) => {
            let x = match own {
                Some(1) => x.on(*n_inputs, true)?,
                _ => vec![1.0; *n_inputs],
            };
            Some(shares(weigh(&|i| i % n_inputs.max(&1), &x, 1.0)))
        }
        // `[out, in]` with transB, as frameworks write it, or `[in, out]`: the length of x tells
        // them apart.
        ("Gemm" | "FusedGemm", [rows, columns]) => {
            if let Some(x) = x.on(*columns, true) {
                return Some(weigh(&|i| i % columns.max(&1), &x, output?));
            }
            let x = x.on(*rows, true)?;
            Some(weigh(&|i| i / columns.max(&1), &x, output?))
        }
        ("MatMul" | "FusedMatMul", [.., n_inputs, columns]) => {
            let x = x.on(*n_inputs, true)?;
            let index = |i| (i / columns.max(&1)) % n_inputs.max(&1);
            Some(weigh(&index, &x, output?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn powers_are_mean_squares_on_axes() {
        let mut power = Power::default();
        let table = Table {
            dims: vec![2, 3],
            width: 6,
            values: vec![1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 0.0, 0.0, 0.0],
        };
        power.add(&table);
        assert_eq!(power.on(2, false).unwrap(), [5.0, 2.0]);
        for got in power.on(3, false).unwrap() {
            assert!((got - 3.5).abs() < 1e-9);
        }
        assert_eq!(power.sum(), 7.0);
        assert!(power.on(5, true).is_none());
    }
}
