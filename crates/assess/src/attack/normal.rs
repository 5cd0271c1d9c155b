//! Statistics of BatchNormalization, estimated anew from inputs without labels.
//!
//! LayerNormalization and its like keep none: a fill of their scales is all there is to do.

use std::collections::BTreeMap;

use onnxseal_onnx::Model;
use onnxseal_onnx::model::TensorRole;
use onnxseal_plan::Role;

use crate::attack::replaced;
use crate::engine::{Engine, Files, Net, Samples, Table};
use crate::error::Result;
use crate::hidden::{Hidden, HiddenTensor};
use crate::weights::{Numbers, encode, numbers};

/// Rounds, at most: after round k the first k layers are right.
const MAX_ROUNDS: usize = 16;

/// Samples that statistics are estimated from, at most.
const MAX_SAMPLES: usize = 256;

/// A BatchNormalization of the main graph whose statistics are initializers.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    input: String,
    mean: HiddenTensor,
    variance: HiddenTensor,
}

/// The layers whose statistics an attacker has reason to estimate: those that come after something encrypted, or are
/// encrypted themselves, in file order.
pub(crate) fn layers(model: &Model<'_>, hidden: &Hidden) -> Vec<Layer> {
    let tensor = |name: &str, role| {
        let found = model.tensors.iter().find(|tensor| {
            tensor.name == name
                && tensor.graph == model.main()
                && tensor.place == TensorRole::Initializer
        });
        let mut tensor = HiddenTensor::new(found?, "BatchNormalization", role)?;
        tensor.ranges = std::iter::once(0..tensor.n_elements).collect();
        (numbers(tensor.data_type) == Some(Numbers::Float)).then_some(tensor)
    };
    let names: Vec<&str> = hidden
        .tensors
        .iter()
        .filter(|t| t.n_hidden() > 0)
        .map(|t| t.name.as_str())
        .collect();
    let main: Vec<_> = model
        .nodes
        .iter()
        .filter(|node| node.graph == model.main())
        .collect();
    let reads_hidden = |node: &&onnxseal_onnx::model::Node<'_>| {
        node.inputs.iter().any(|input| names.contains(input))
    };
    let mut first = main.iter().position(reads_hidden);
    if first.is_none() && !names.is_empty() {
        // Encrypted in a subgraph, or an attribute.
        first = Some(0);
    }
    let after = main.iter().skip(first.unwrap_or(usize::MAX));
    let norms = after.filter(|node| node.op_type == "BatchNormalization" && node.domain.is_empty());
    let layer = |node: &&onnxseal_onnx::model::Node<'_>| {
        Some(Layer {
            input: (*node.inputs.first()?).to_owned(),
            mean: tensor(node.inputs.get(3)?, Role::Mean)?,
            variance: tensor(node.inputs.get(4)?, Role::Variance)?,
        })
    };
    norms.filter_map(layer).collect()
}

/// The model in `files` with the statistics that its own values have on the samples `rows`.
///
/// # Errors
/// As [`Net::run`].
pub(crate) fn estimate(
    engine: &Engine,
    files: &Files,
    layers: &[Layer],
    samples: &[Samples],
    rows: &[usize],
) -> Result<Files> {
    let mut files = files.clone();
    let rows = &rows[..rows.len().min(MAX_SAMPLES)];
    let mut names: Vec<&str> = layers.iter().map(|layer| layer.input.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for _ in 0..layers.len().min(MAX_ROUNDS) {
        let mut net = Net::new(
            engine,
            &files,
            &names,
            "the model with estimated statistics",
        )?;
        let first = net.outputs().len() - names.len();
        let wanted: Vec<usize> = (first..net.outputs().len()).collect();
        let tables = net.run(samples, rows, &wanted)?;
        let mut changed: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for layer in layers {
            let Some(table) = names
                .iter()
                .position(|name| *name == layer.input)
                .and_then(|i| tables.get(i))
            else {
                continue;
            };
            let Some((means, variances)) = statistics(table, layer.mean.n_elements) else {
                continue;
            };
            for (tensor, values) in [(&layer.mean, means), (&layer.variance, variances)] {
                let mut elements = tensor.gather(&files);
                encode(
                    tensor.data_type,
                    &values,
                    0..tensor.n_elements,
                    &mut elements,
                );
                let file = changed
                    .entry(tensor.file)
                    .or_insert_with(|| files.bytes(tensor.file).to_vec());
                tensor.scatter(&elements, file);
            }
        }
        files = replaced(&files, changed);
    }
    Ok(files)
}

/// Mean and variance of each channel, the first axis of a sample.
fn statistics(table: &Table, n_channels: usize) -> Option<(Vec<f32>, Vec<f32>)> {
    if n_channels == 0 || table.width == 0 || !table.width.is_multiple_of(n_channels) {
        return None;
    }
    let each = table.width / n_channels;
    let (mut sums, mut squares) = (vec![0.0_f64; n_channels], vec![0.0_f64; n_channels]);
    for row in table.values.chunks_exact(table.width) {
        for ((part, sum), square) in row.chunks_exact(each).zip(&mut sums).zip(&mut squares) {
            for value in part.iter().filter(|value| value.is_finite()) {
                *sum += f64::from(*value);
                *square += f64::from(*value).powi(2);
            }
        }
    }
    let n = (table.n_rows() * each).max(1) as f64;
    let means: Vec<f64> = sums.iter().map(|sum| sum / n).collect();
    let variances = squares
        .iter()
        .zip(&means)
        .map(|(square, mean)| (square / n - mean * mean).max(0.0) as f32);
    let variances = variances.collect();
    Some((means.iter().map(|mean| *mean as f32).collect(), variances))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn statistics_are_of_channels() {
        // Two samples of two channels of two numbers.
        let values = vec![1.0, 3.0, 10.0, 10.0, 5.0, 7.0, 10.0, 14.0];
        let table = Table {
            dims: vec![2, 2],
            width: 4,
            values,
        };
        let (means, variances) = statistics(&table, 2).unwrap();
        assert_eq!((means, variances), (vec![4.0, 11.0], vec![5.0, 3.0]));
        assert!(statistics(&table, 3).is_none());
    }

    /// A model whose statistics are those of the samples; they are then encrypted, and estimated anew.
    #[test]
    fn statistics_come_back_where_onnx_runtime_is_there() {
        use onnxseal_onnx::{Limits, locate};
        use onnxseal_testkit::build::{GraphBuilder, node, weights};

        let Ok(engine) = Engine::load() else {
            return eprintln!("skipped: no ONNX Runtime");
        };
        let bytes = GraphBuilder::new("g")
            .input("x", &[16, 4])
            .output("y", &[16, 4])
            .initializer(weights("w", &[4, 4], 1))
            .initializer(weights("scale", &[4], 2))
            .initializer(weights("bias", &[4], 3))
            .initializer(weights("mean", &[4], 4))
            .initializer(weights("variance", &[4], 5))
            .node(node("MatMul", &["x", "w"], &["h"]))
            .node(node(
                "BatchNormalization",
                &["h", "scale", "bias", "mean", "variance"],
                &["n"],
            ))
            .node(node("MatMul", &["n", "w"], &["m"]))
            .node(node(
                "BatchNormalization",
                &["m", "scale", "bias", "mean2", "variance2"],
                &["y"],
            ))
            .initializer(weights("mean2", &[4], 6))
            .initializer(weights("variance2", &[4], 7))
            .encode();
        let files = Files {
            model: bytes.clone().into(),
            external: Vec::new(),
        };
        let model = locate(&bytes, &Limits::default()).unwrap();
        let hidden_of = |names: &[&str]| {
            let tensors = model
                .tensors
                .iter()
                .filter(|tensor| names.contains(&tensor.name));
            let whole = |tensor| {
                let mut tensor =
                    HiddenTensor::new(tensor, "BatchNormalization", Role::Mean).unwrap();
                tensor.ranges = std::iter::once(0..tensor.n_elements).collect();
                tensor
            };
            Hidden {
                tensors: tensors.map(whole).collect(),
                operators: Vec::new(),
                weight_bytes: 0,
            }
        };
        let of_first = layers(&model, &hidden_of(&["w"]));
        assert_eq!(of_first.len(), 2);
        assert_eq!(layers(&model, &hidden_of(&["mean2"])).len(), 1);
        assert_eq!(layers(&model, &hidden_of(&[])).len(), 0);
        let net = Net::new(&engine, &files, &[], "x").unwrap();
        let samples = crate::data::random(net.inputs(), 64, 1);
        let rows: Vec<usize> = (0..64).collect();
        let right = estimate(&engine, &files, &of_first, &samples, &rows).unwrap();
        assert_ne!(right.model, files.model);
        let hidden = hidden_of(&["mean", "mean2", "variance", "variance2"]);
        let zero = crate::attack::Instead::Fill(crate::assessment::Fill::Zero);
        let filled = crate::attack::variant(&right, &hidden, zero, 0).files;
        assert_ne!(filled.model, right.model);
        let again = estimate(&engine, &filled, &of_first, &samples, &rows).unwrap();
        let mut net = Net::new(&engine, &again, &[], "x").unwrap();
        let got = net.run(&samples, &rows, &[0]).unwrap();
        let mut net = Net::new(&engine, &right, &[], "x").unwrap();
        let want = net.run(&samples, &rows, &[0]).unwrap();
        for (got, want) in got[0].values.iter().zip(&want[0].values) {
            assert!(
                (got - want).abs() < 1e-3 * (1.0 + want.abs()),
                "{got} {want}"
            );
        }
    }
}
