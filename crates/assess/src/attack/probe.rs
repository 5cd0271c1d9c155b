//! Probes: linear classifiers on the inputs of a model's layers.

use std::collections::{BTreeSet, HashSet};

use nalgebra::DMatrix;
use onnxseal_data::random::rng;
use onnxseal_engine::Table;
use onnxseal_onnx::Model;
use onnxseal_onnx::model::{Tensor, TensorRole};
use rand::Rng;

use crate::assessment::Head;
use crate::error::Result;
use crate::heads::{Basis, Linear, largest};

/// Operators with features as an input.
const LAYERS: [&str; 12] = [
    "Gemm",
    "MatMul",
    "Conv",
    "FusedGemm",
    "FusedMatMul",
    "FusedConv",
    "MatMulInteger",
    "MatMulNBits",
    "QLinearMatMul",
    "QGemm",
    "QLinearConv",
    "DynamicQuantizeMatMul",
];

/// The most features of a probe. More features are summed into this many, with random signs, which
/// preserves products of samples on average (Weinberger et al., "Feature hashing for large scale
/// multitask learning", 2009).
const MAX_FEATURES: usize = 2048;

/// The most layers to probe.
const MAX_LAYERS: usize = 8;

/// The most classes for logistic regression, which is slow with many.
const MAX_CLASSES: usize = 64;

/// The heads that attackers try.
pub(crate) const HEADS: [Head; 2] = [Head::Ridge, Head::Logistic];

/// Returns the values of the main graph to probe: the inputs of the Gemms, MatMuls and Convs on the
/// way to `output`, the last first. From many, it takes the last and others at equal distances.
///
/// An attacker with the file can choose the layer: if late ones are encrypted, early ones may still
/// tell classes apart.
pub(crate) fn features_of(model: &Model<'_>, output: &str) -> Vec<String> {
    let in_main = |graph| graph == model.main();
    let is_constant = |tensor: &&Tensor<'_>| {
        use TensorRole::{Attribute, Initializer};
        in_main(tensor.graph) && matches!(tensor.place, Initializer | Attribute { .. })
    };
    let constants = model.tensors.iter().filter(is_constant);
    let constants: HashSet<&str> = constants.map(|tensor| tensor.name).collect();
    let mut wanted: HashSet<&str> = HashSet::from([output]);
    let mut found: Vec<&str> = Vec::new();
    for node in model.nodes.iter().rev().filter(|node| in_main(node.graph)) {
        let mut outputs = node.outputs.iter();
        if !outputs.any(|name| !name.is_empty() && wanted.contains(name)) {
            continue;
        }
        if LAYERS.contains(&node.op_type) {
            // Skips products of two constants.
            let mut factors = node.inputs.iter().take(2);
            let input = factors.find(|name| !name.is_empty() && !constants.contains(**name));
            if let Some(input) = input
                && !found.contains(input)
            {
                found.push(input);
            }
        }
        wanted.extend(node.inputs.iter().filter(|name| !name.is_empty()));
    }
    let n = found.len().min(MAX_LAYERS);
    let step = |i: usize| i * (found.len() - 1) / (n - 1).max(1);
    let chosen = (0..n).filter_map(|i| found.get(step(i)));
    chosen.map(|name| (*name).to_owned()).collect()
}

/// The features of all samples, one row each.
#[derive(Debug)]
pub(crate) struct Features(pub(crate) Table);

impl Features {
    pub(crate) fn of(table: Table) -> Features {
        if table.width <= MAX_FEATURES {
            return Features(table);
        }
        // A fixed seed, so that the features of all models are comparable sums.
        let mut random = rng(0, "features");
        let place = |_| {
            let number = random.next_u64();
            let sign = if number >> 63 == 0 { 1.0 } else { -1.0 };
            (number as usize % MAX_FEATURES, sign)
        };
        let places: Vec<(usize, f32)> = (0..table.width).map(place).collect();
        let mut values = vec![0.0; table.n_rows() * MAX_FEATURES];
        let rows = table.values.chunks_exact(table.width);
        for (row, sums) in rows.zip(values.chunks_exact_mut(MAX_FEATURES)) {
            for (value, (place, sign)) in row.iter().zip(&places) {
                if let (Some(sum), true) = (sums.get_mut(*place), value.is_finite()) {
                    *sum += sign * value;
                }
            }
        }
        Features(Table {
            dims: vec![MAX_FEATURES],
            width: MAX_FEATURES,
            values,
        })
    }

    /// Trains the best of `heads` for the samples `known` with `labels`: the one that
    /// cross-validation gets most right, the first among equals.
    pub(crate) fn probe(&self, known: &[usize], labels: &[u32], heads: &[Head]) -> Result<Probe> {
        let features: Vec<&[f32]> = known.iter().map(|row| self.0.row(*row)).collect();
        let label = |row: &usize| labels.get(*row).copied().unwrap_or(u32::MAX);
        let classes: Vec<u32> = Vec::from_iter(known.iter().map(label).collect::<BTreeSet<_>>());
        let place = |row: &usize| classes.binary_search(&label(row)).unwrap_or_default();
        let places: Vec<usize> = known.iter().map(place).collect();
        let basis = Basis::of(&features)?;
        let fit = |head: &Head| {
            let linear = match head {
                Head::Ridge => {
                    basis.ridge(&DMatrix::from_fn(known.len(), classes.len(), |i, class| {
                        if places[i] == class { 1.0 } else { -1.0 }
                    }))
                }
                Head::Logistic => basis.logistic(&places, classes.len()),
            };
            Probe {
                n_right: linear.chosen.0,
                linear,
                classes: classes.clone(),
                head: *head,
            }
        };
        let is_fast = |head: &&Head| **head == Head::Ridge || classes.len() <= MAX_CLASSES;
        // The first among equals.
        let probes = heads.iter().rev().filter(is_fast).map(fit);
        let best = probes.max_by_key(|probe| probe.n_right);
        best.ok_or_else(|| crate::Error::Usage("no head was tried".into()))
    }

    /// Predicts the classes of the samples `rows` with `probe`.
    pub(crate) fn classes(&self, probe: &Probe, rows: &[usize]) -> Vec<Option<usize>> {
        let class = |row: &usize| {
            let place = largest(probe.linear.predict(self.0.row(*row)).iter().copied())?;
            probe.classes.get(place).map(|class| *class as usize)
        };
        rows.iter().map(class).collect()
    }
}

/// A trained linear classifier.
#[derive(Debug)]
pub(crate) struct Probe {
    linear: Linear,
    /// The classes of its outputs.
    classes: Vec<u32>,
    /// Its kind.
    pub(crate) head: Head,
    /// How many training samples cross-validation gets right.
    pub(crate) n_right: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use onnxseal_onnx::{Limits, locate};
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;
    use onnxseal_data::random::gaussian;

    #[test]
    fn products_on_the_way_to_the_output_are_looked_at() {
        let bytes = GraphBuilder::new("g")
            .initializer(weights("w", &[16, 16], 1))
            .initializer(weights("v", &[16, 4], 1))
            .initializer(weights("aside", &[16, 4], 1))
            .node(node("MatMul", &["x", "w"], &["h"]))
            .node(node("Relu", &["h"], &["r"]))
            .node(node("MatMul", &["r", "v"], &["s"]))
            .node(node("Softmax", &["s"], &["y"]))
            .node(node("MatMul", &["x", "aside"], &["z"]))
            .encode();
        let model = locate(&bytes, &Limits::default()).unwrap();
        assert_eq!(features_of(&model, "y"), ["r", "x"]);
        assert_eq!(features_of(&model, "z"), ["x"]);
        assert!(features_of(&model, "x").is_empty());
    }

    #[test]
    fn of_many_layers_some_are_looked_at_the_last_among_them() {
        let mut graph = GraphBuilder::new("g").initializer(weights("w", &[16, 16], 1));
        for i in 0..20 {
            let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
            graph = graph.node(node("MatMul", &[&from, "w"], &[&to]));
        }
        let bytes = graph.encode();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let found = features_of(&model, "v20");
        assert_eq!(found.len(), MAX_LAYERS);
        assert_eq!((found[0].as_str(), found[7].as_str()), ("v19", "v0"));
    }

    #[test]
    fn a_probe_tells_classes_apart() {
        let mut random = rng(1, "probe");
        let labels: Vec<u32> = (0..200).map(|i| i % 3).collect();
        let width = MAX_FEATURES + 5;
        let places = labels
            .iter()
            .flat_map(|label| (0..width).map(|j| j % 3 == *label as usize));
        let features = Features::of(Table {
            dims: vec![width],
            width,
            values: places
                .map(|is_its| f32::from(is_its) + 0.5 * gaussian(&mut random))
                .collect(),
        });
        let (known, rows): (Vec<usize>, Vec<usize>) = (0..200).partition(|i| *i < 60);
        for head in HEADS {
            let probe = features.probe(&known, &labels, &[head]).unwrap();
            let found = features.classes(&probe, &rows);
            let label = |row: &usize| Some(labels[*row] as usize);
            let wanted: Vec<_> = rows.iter().map(label).collect();
            let right = found.iter().zip(&wanted).filter(|(a, b)| a == b).count();
            assert!(right > 130, "{head:?}: {right}");
            assert!(probe.n_right > 50, "{head:?}: {}", probe.n_right);
        }
    }
}
