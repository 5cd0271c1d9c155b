//! Estimates the statistics inside a filled model again, from inputs without labels.
//!
//! BatchNormalization gets the statistics of the filled model's own values. Most exporters fold it
//! into the Conv before it, whose channels keep its mean and deviation: with a public base, each
//! channel of a Conv is scaled and shifted until it matches the base's on the same inputs.
//! LayerNormalization and the like store no statistics: filling their scales is enough.

use std::collections::{BTreeSet, HashSet};

use onnxseal_engine::{Files, Net, Table};
use onnxseal_onnx::Model;
use onnxseal_onnx::model::{Node, TensorRole};

use crate::bench::Bench;
use crate::error::{Result, attempt};
use crate::hidden::{Hidden, HiddenTensor};
use crate::weights::{Numbers, decode, encode, numbers};

/// The most rounds; after round k the first k layers are right.
const MAX_ROUNDS: usize = 16;

/// The most samples for estimating statistics.
const MAX_SAMPLES: usize = 256;

/// Samples, and values per channel, that are enough for its statistics.
const ENOUGH: (usize, usize) = (64, 4096);

/// Samples per run, whose values are in memory at once.
const AT_ONCE: usize = 16;

/// Rounds end when no channel of a convolution moves by more than this share of its deviation.
const SETTLED: f64 = 0.01;

/// The largest factor that scales a channel.
const MAX_GAIN: f64 = 10.0;

/// A layer whose statistics are estimated again.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Index of its node among those of the main graph.
    node: usize,
    /// The value that the statistics describe.
    value: String,
    /// Mean and variance of a BatchNormalization, or bias and weight of a Conv; the first has a
    /// number for each channel.
    tensors: [HiddenTensor; 2],
    /// The statistics that a Conv's outputs get.
    like: Option<Statistics>,
}

/// Mean and variance of each channel.
type Statistics = Vec<(f64, f64)>;

/// Returns the nodes of the main graph.
fn main<'m, 'a>(model: &'m Model<'a>) -> impl Iterator<Item = &'m Node<'a>> {
    model.nodes.iter().filter(|node| node.graph == model.main())
}

/// Returns a tensor of floats that is an initializer of the main graph, wholly hidden so that it
/// can be replaced.
fn whole(model: &Model<'_>, name: &str) -> Option<HiddenTensor> {
    let found = model.tensors.iter().find(|tensor| {
        tensor.name == name
            && tensor.graph == model.main()
            && tensor.place == TensorRole::Initializer
    });
    let tensor = HiddenTensor::new(model, found?, None)?.whole();
    (numbers(tensor.data_type) == Some(Numbers::Float)).then_some(tensor)
}

/// Returns the layers worth estimating, in file order: BatchNormalizations of the main graph, and
/// those of `convolutions`, that are encrypted or come after something encrypted.
pub(crate) fn layers(model: &Model<'_>, hidden: &Hidden, convolutions: &[Layer]) -> Vec<Layer> {
    let encrypted = hidden.tensors.iter().filter(|tensor| tensor.n_hidden() > 0);
    let names: HashSet<&str> = encrypted.map(|tensor| tensor.name.as_str()).collect();
    let reads_hidden = |node: &Node<'_>| node.inputs.iter().any(|input| names.contains(input));
    let first = match main(model).position(reads_hidden) {
        Some(first) => first,
        // Encrypted in a subgraph or an attribute.
        None if !names.is_empty() => 0,
        None => return Vec::new(),
    };
    let norm = |(at, node): (usize, &Node<'_>)| {
        if node.op_type != "BatchNormalization" || !node.domain.is_empty() {
            return None;
        }
        let mean = whole(model, node.inputs.get(3)?)?;
        Some(Layer {
            node: at,
            value: (*node.inputs.first()?).to_owned(),
            tensors: [mean, whole(model, node.inputs.get(4)?)?],
            like: None,
        })
    };
    let mut found: Vec<Layer> = main(model).enumerate().filter_map(norm).collect();
    found.extend(convolutions.iter().cloned());
    found.retain(|layer| layer.node >= first);
    found.sort_by_key(|layer| layer.node);
    found
}

/// Finds the convolutions of the main graph with a bias and without a BatchNormalization after
/// them, and measures the statistics of their outputs in the model in `files`.
pub(crate) fn convolutions(
    model: &Model<'_>,
    files: &Files,
    bench: &Bench<'_>,
) -> Result<Vec<Layer>> {
    let norms = main(model).filter(|node| node.op_type == "BatchNormalization");
    let normalised = norms.filter_map(|node| node.inputs.first().copied());
    let normalised: HashSet<&str> = normalised.collect();
    let convolution = |(at, node): (usize, &Node<'_>)| {
        let value = *node.outputs.first()?;
        if node.op_type != "Conv" || !node.domain.is_empty() || normalised.contains(value) {
            return None;
        }
        let bias = whole(model, node.inputs.get(2)?)?;
        let weight = whole(model, node.inputs.get(1)?)?;
        // `[M, C/group, kH, kW]`: M channels of the output.
        (weight.dims.first() == Some(&(bias.n_elements as u64))).then(|| Layer {
            node: at,
            value: value.to_owned(),
            tensors: [bias, weight],
            like: None,
        })
    };
    let mut found: Vec<Layer> = main(model).enumerate().filter_map(convolution).collect();
    if found.is_empty() {
        return Ok(found);
    }
    let Ok(measured) = attempt(measure(files, &found, bench))? else {
        // ONNX Runtime does not return these values.
        return Ok(Vec::new());
    };
    for (layer, statistics) in found.iter_mut().zip(measured) {
        layer.like = Some(statistics.unwrap_or_default());
    }
    Ok(found)
}

/// Replaces the statistics of `layers` in the model in `files` by those of its own values.
pub(crate) fn estimate(files: &Files, layers: &[Layer], bench: &Bench<'_>) -> Result<Files> {
    let mut files = files.clone();
    for _ in 0..layers.len().min(MAX_ROUNDS) {
        let measured = measure(&files, layers, bench)?;
        let (before, mut moved) = (files.clone(), 0_f64);
        let mut put = |tensor: &HiddenTensor, values: &[f32]| {
            let mut elements = tensor.gather(&before);
            encode(tensor.data_type, values, 0..values.len(), &mut elements);
            tensor.scatter(&elements, &mut files);
        };
        for (layer, own) in layers.iter().zip(measured) {
            let (Some(own), [first, second]) = (own, &layer.tensors) else {
                continue;
            };
            let Some(like) = &layer.like else {
                let floats = own.iter().map(|of| (of.0 as f32, of.1 as f32));
                let (means, variances): (Vec<f32>, Vec<f32>) = floats.unzip();
                put(first, &means);
                put(second, &variances);
                // Each round changes the inputs of later layers, so all rounds are needed.
                moved = f64::INFINITY;
                continue;
            };
            let of = |tensor: &HiddenTensor| {
                decode(tensor.data_type, &tensor.gather(&before), tensor.n_elements)
            };
            let (Some(mut biases), Some(mut weights)) = (of(first), of(second)) else {
                continue;
            };
            let n_row = weights.len() / first.n_elements.max(1);
            let rows = weights.chunks_exact_mut(n_row.max(1)).zip(&mut biases);
            let channels = rows.zip(own).zip(like);
            for (((row, bias), (mean, variance)), (to_mean, to_variance)) in channels {
                let gain = if variance > 0.0 {
                    (to_variance / variance).sqrt().min(MAX_GAIN)
                } else {
                    1.0
                };
                let shift = (to_mean - mean).abs() / variance.sqrt().max(f64::MIN_POSITIVE);
                moved = moved.max((gain - 1.0).abs()).max(shift);
                row.iter_mut().for_each(|value| *value *= gain as f32);
                *bias = (to_mean + gain * (f64::from(*bias) - mean)) as f32;
            }
            put(first, &biases);
            put(second, &weights);
        }
        if moved < SETTLED {
            break;
        }
    }
    Ok(files)
}

/// Measures the statistics of the layers' values on the attacker's samples; `None` for a value that is
/// missing or has other channels.
fn measure(files: &Files, layers: &[Layer], bench: &Bench<'_>) -> Result<Vec<Option<Statistics>>> {
    let rows = &bench.split.attacker;
    let rows = &rows[..rows.len().min(MAX_SAMPLES)];
    let names: BTreeSet<&str> = layers.iter().map(|layer| layer.value.as_str()).collect();
    let names = Vec::from_iter(names);
    let name = "the model with estimated statistics";
    let mut net = Net::new(&bench.engine, files, &names, name)?;
    let n_outputs = net.outputs().len();
    let wanted: Vec<usize> = (n_outputs - names.len()..n_outputs).collect();
    let sums = layers
        .iter()
        .map(|layer| Some(Sums::of(layer.tensors[0].n_elements)));
    let mut sums: Vec<Option<Sums>> = sums.collect();
    for (i, part) in rows.chunks(AT_ONCE).enumerate() {
        let has_enough = |sums: &Sums| sums.n >= ENOUGH.1;
        if i * AT_ONCE >= ENOUGH.0 && sums.iter().flatten().all(has_enough) {
            break;
        }
        let tables = net.run(&bench.samples, part, &wanted)?;
        for (layer, sums) in layers.iter().zip(&mut sums) {
            let table = names.binary_search(&layer.value.as_str()).ok();
            let table = table.and_then(|at| tables.get(at));
            sums.take_if(|sums| !table.is_some_and(|table| sums.add(table)));
        }
    }
    let statistics = sums.into_iter().map(|sums| sums.map(Sums::statistics));
    Ok(statistics.collect())
}

/// The sum and the sum of squares over samples, for each channel.
struct Sums {
    n: usize,
    channels: Vec<(f64, f64)>,
}

impl Sums {
    fn of(n_channels: usize) -> Sums {
        let channels = vec![(0.0, 0.0); n_channels];
        Sums { n: 0, channels }
    }

    /// Adds samples whose first axis counts channels. Returns whether it does.
    fn add(&mut self, table: &Table) -> bool {
        let n_channels = self.channels.len();
        if n_channels == 0 || table.width == 0 || !table.width.is_multiple_of(n_channels) {
            return false;
        }
        let each = table.width / n_channels;
        for row in table.values.chunks_exact(table.width) {
            for (part, (sum, squares)) in row.chunks_exact(each).zip(&mut self.channels) {
                for value in part.iter().filter(|value| value.is_finite()) {
                    *sum += f64::from(*value);
                    *squares += f64::from(*value).powi(2);
                }
            }
        }
        self.n += table.n_rows() * each;
        true
    }

    fn statistics(self) -> Statistics {
        let n = self.n.max(1) as f64;
        let of = |(sum, squares): (f64, f64)| {
            let mean = sum / n;
            (mean, (squares / n - mean * mean).max(0.0))
        };
        self.channels.into_iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use onnxseal_onnx::{Limits, locate};
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;
    use crate::error::Error;
    use crate::options::{Options, Silent};
    use crate::subject::Subject;

    #[test]
    fn statistics_are_of_channels() {
        // Two samples of two channels of two numbers.
        let values = vec![1.0, 3.0, 10.0, 10.0, 5.0, 7.0, 10.0, 14.0];
        let table = Table {
            dims: vec![2, 2],
            width: 4,
            values,
        };
        let mut sums = Sums::of(2);
        assert!(sums.add(&table));
        assert_eq!(sums.statistics(), [(4.0, 5.0), (11.0, 3.0)]);
        assert!(!Sums::of(3).add(&table));
    }

    /// Does some work on random samples of a model, half of which the attacker has, if ONNX
    /// Runtime is there.
    fn on_samples(files: &Files, work: impl FnOnce(&Bench<'_>) -> Result<()>) {
        let subject = Subject::from_files("x".to_owned(), files.clone()).unwrap();
        let options = Options {
            seed: 1,
            ..Options::default()
        };
        match Bench::with(&subject, None, &options, &[], &Silent, work) {
            Err(Error::Engine(error @ onnxseal_engine::Error::NoLibrary { .. })) => {
                eprintln!("skipped: {error}");
            }
            done => done.unwrap(),
        }
    }

    /// Returns a model's answers.
    fn answers(files: &Files, bench: &Bench<'_>) -> Vec<f32> {
        bench.run(files, false, "x").unwrap().answers.values
    }

    fn assert_near(got: &[f32], want: &[f32]) {
        for (got, want) in got.iter().zip(want) {
            let off = (got - want).abs();
            assert!(off < 1e-3 * (1.0 + want.abs()), "{got} {want}");
        }
    }

    /// Makes a model with the statistics of the samples, encrypts these, and estimates them again.
    #[test]
    fn statistics_come_back_where_onnx_runtime_is_there() {
        let first = ["h", "scale", "bias", "mean", "variance"];
        let second = ["m", "scale", "bias", "mean2", "variance2"];
        let bytes = GraphBuilder::new("g")
            .input("x", &[16, 4])
            .output("y", &[16, 4])
            .initializer(weights("w", &[4, 4], 1))
            .initializer(weights("scale", &[4], 2))
            .initializer(weights("bias", &[4], 3))
            .initializer(weights("mean", &[4], 4))
            .initializer(weights("variance", &[4], 5))
            .node(node("MatMul", &["x", "w"], &["h"]))
            .node(node("BatchNormalization", &first, &["n"]))
            .node(node("MatMul", &["n", "w"], &["m"]))
            .node(node("BatchNormalization", &second, &["y"]))
            .initializer(weights("mean2", &[4], 6))
            .initializer(weights("variance2", &[4], 7))
            .encode();
        let files = Files::new(&bytes, Vec::new());
        let model = locate(&bytes, &Limits::default()).unwrap();
        let hidden_of = |names: &[&str]| Hidden {
            tensors: (names.iter())
                .map(|name| whole(&model, name).unwrap())
                .collect(),
            weight_bytes: 0,
        };
        let of_first = layers(&model, &hidden_of(&["w"]), &[]);
        assert_eq!(of_first.len(), 2);
        assert_eq!(layers(&model, &hidden_of(&["mean2"]), &[]).len(), 1);
        assert_eq!(layers(&model, &hidden_of(&[]), &[]).len(), 0);
        on_samples(&files, |bench| {
            let right = estimate(&files, &of_first, bench)?;
            assert_ne!(right.model, files.model);
            let hidden = hidden_of(&["mean", "mean2", "variance", "variance2"]);
            let zero = crate::assessment::Fill::Zero;
            let filled = crate::attack::filled(&right, &hidden, zero, None, 0);
            assert_ne!(filled.model, right.model);
            let again = estimate(&filled, &of_first, bench)?;
            assert_near(&answers(&again, bench), &answers(&right, bench));
            Ok(())
        });
    }

    /// Scales and shifts each channel of two convolutions; with the earlier statistics, the answers
    /// come back.
    #[test]
    fn convolutions_get_the_statistics_of_the_base_where_onnx_runtime_is_there() {
        let bytes = GraphBuilder::new("g")
            .input("x", &[16, 2, 4, 4])
            .output("y", &[16, 2, 4, 4])
            .initializer(weights("w", &[3, 2, 1, 1], 1))
            .initializer(weights("b", &[3], 2))
            .initializer(weights("v", &[2, 3, 1, 1], 3))
            .initializer(weights("c", &[2], 4))
            .node(node("Conv", &["x", "w", "b"], &["h"]))
            .node(node("Relu", &["h"], &["r"]))
            .node(node("Conv", &["r", "v", "c"], &["y"]))
            .encode();
        let base = Files::new(&bytes, Vec::new());
        let model = locate(&bytes, &Limits::default()).unwrap();
        let mut changed = base.clone();
        for name in ["w", "b", "v", "c"] {
            let tensor = whole(&model, name).unwrap();
            let mut elements = tensor.gather(&base);
            let mut values = decode(tensor.data_type, &elements, tensor.n_elements).unwrap();
            let n_row = values.len() / tensor.dims[0] as usize;
            for (i, value) in values.iter_mut().enumerate() {
                *value *= 0.5 + (i / n_row) as f32;
                *value += if tensor.dims.len() == 1 { 0.7 } else { 0.0 };
            }
            encode(tensor.data_type, &values, 0..values.len(), &mut elements);
            tensor.scatter(&elements, &mut changed);
        }
        on_samples(&base, |bench| {
            let found = convolutions(&model, &base, bench)?;
            assert_eq!(found.len(), 2);
            let again = estimate(&changed, &found, bench)?;
            assert_near(&answers(&again, bench), &answers(&base, bench));
            Ok(())
        });
    }
}
