//! Finds the layer that answers, and replaces it.
//!
//! The last Gemm, MatMul (and Add) or Conv before an output gives answers instead of classes. The
//! nodes after it, the *tail*, move behind decoding: they become a small model of their own in the
//! table.

mod layer;
mod tail;
mod write;

use onnxseal_rewrite::{self as rewrite, DataType, Graph, Refusal, Source, shown};

use crate::error::{Error, Result};
use crate::table::Table;
use layer::{EXPORT, Layer, is_static, layer_at};
use tail::{Tail, check_op};

pub use crate::stored::Stored;
pub use crate::table::KEY;
pub use write::Rows;

/// The layer that answers, and its tail.
#[derive(Debug)]
pub struct Head {
    /// K, the number of classes.
    pub classes: usize,
    /// D, the number of weights of a class: features, or channels times the window of a Conv.
    pub columns: usize,
    /// Weights, `[K, D]`.
    pub weights: Vec<f64>,
    pub bias: Option<Vec<f64>>,
    /// The node: its name and operator.
    pub node: String,
    pub input: String,
    /// The output of the rewritten model with the answers: the name of the layer's own result.
    pub answers: String,
    /// The name of the decoded logits: the tail's input, or an output.
    pub logits: String,
    /// The axis of classes: 1, or -1 for the last.
    pub axis: i32,
    pub outputs: Vec<String>,
    /// The tail, a `ModelProto`; empty if the logits are the output.
    pub tail: Vec<u8>,
    layer: Layer,
    moved: Tail,
}

impl Head {
    /// Finds the layer before `output`, or before the only output that has one.
    ///
    /// # Errors
    /// [`Error::Rewrite`] if no layer can be rewritten; [`Error::Usage`] if there is no such
    /// output, or several layers.
    pub fn find(source: &Source<'_>, output: Option<&str>) -> Result<Head> {
        let model = source.model;
        if model.metadata_props.iter().any(|prop| prop.key == KEY) {
            return Err(Error::Usage(
                "the model's labels are protected already".into(),
            ));
        }
        let graph = Graph::new(*source);
        let main = model.graphs.first();
        let outputs: Vec<&str> = main.map(|main| main.outputs.clone()).unwrap_or_default();
        let names = match output {
            Some(name) if !outputs.contains(&name) => {
                return Err(Error::Usage(format!(
                    "the model has no output {:?}; its outputs are {}",
                    onnxseal_onnx::excerpt(name),
                    listed(&outputs)
                )));
            }
            Some(name) => vec![name],
            None => outputs.clone(),
        };
        let mut found: Vec<(&str, Layer)> = Vec::new();
        let mut refused = None;
        for name in names {
            match behind(&graph, name) {
                Ok(layer) if found.iter().any(|(_, other)| other.result == layer.result) => {}
                Ok(layer) => found.push((name, layer)),
                Err(rewrite::Error::Refused(refusal)) => refused = refused.or(Some(refusal)),
                Err(error) => return Err(error.into()),
            }
        }
        if found.len() > 1 {
            let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
            return Err(Error::Usage(format!(
                "outputs {} come of different layers: name the one whose labels are to be protected",
                listed(&names)
            )));
        }
        let Some((_, layer)) = found.pop() else {
            let none = || Box::new(Refusal::new("the model has no output"));
            return Err(rewrite::Error::Refused(refused.unwrap_or_else(none)).into());
        };
        Ok(Head::new(&graph, layer, &outputs)?)
    }

    /// Returns whether the layer computes in 32-bit floats. A layer of 16 bits is rewritten to do
    /// so.
    pub fn is_float(&self) -> bool {
        self.logits == self.answers
    }

    fn new(graph: &Graph<'_>, mut layer: Layer, outputs: &[&str]) -> rewrite::Result<Head> {
        let node = graph.node(layer.node)?;
        let (classes, columns) = (layer.rows, layer.columns);
        if classes < 2 {
            let reason = "it has one output: a score or a regression has no classes to hide";
            return Err(Refusal::new(reason).at(node).into());
        }
        let moved = Tail::find(graph, &layer)?;
        let is_float = layer.weights.data_type == DataType::Float;
        let logits = if is_float {
            layer.result.clone()
        } else {
            graph.free_name("onnxseal.logits")
        };
        let tail = moved.model(graph, &layer, &logits, outputs)?;
        Ok(Head {
            classes,
            columns,
            // From now on, only the layer's place in the graph is needed.
            weights: std::mem::take(&mut layer.weights.values),
            bias: (layer.bias.as_mut()).map(|bias| std::mem::take(&mut bias.values)),
            node: shown(node),
            input: layer.input.clone(),
            answers: layer.result.clone(),
            logits,
            axis: layer.kind.axis(),
            outputs: outputs.iter().map(|name| (*name).to_owned()).collect(),
            tail,
            layer,
            moved,
        })
    }
}

/// Returns the input of the layer that gives the value `answers`.
#[cfg(feature = "engine")]
pub(crate) fn input_of(source: &Source<'_>, answers: &str) -> Result<String> {
    Ok(giving(&Graph::new(*source), answers)?.input)
}

/// Reads and verifies the table in a model. Unless the whole model is protected, also verifies that
/// it belongs to the model's rows.
pub fn table_of(source: &Source<'_>) -> Result<Table> {
    let props = &source.model.metadata_props;
    let prop = props.iter().find(|prop| prop.key == KEY);
    let table = Table::parse(prop.ok_or(Error::NoTable)?.value)?;
    table.verify()?;
    // The weights of a wholly protected model are encrypted, and authenticated together with the
    // table.
    if !props.iter().any(|prop| prop.key.starts_with("onnxseal.")) {
        check_rows(source, &table)?;
    }
    Ok(table)
}

/// Verifies that a table belongs to the rows that give the answers, in a model that is not
/// protected as a whole. A wholly protected model has encrypted weights, and authenticates rows and
/// table together.
pub fn check_rows(source: &Source<'_>, table: &Table) -> Result<()> {
    let graph = Graph::new(*source);
    let layer = giving(&graph, table.answers())?;
    let weights = layer.weights.tensor;
    let bias = layer.bias.as_ref().map(|bias| bias.tensor);
    let bias = bias.map(|bias| graph.load(bias)).transpose()?;
    let stored = Stored {
        dims: graph.tensor(weights)?.dims.clone(),
        weights: graph.load(weights)?.into_raw(),
        bias: bias.map(onnxseal_rewrite::Elements::into_raw),
    };
    if table.description(&stored).digest() != *table.digest() {
        return Err(Error::Unauthentic {
            reason: "the table belongs to other rows",
        });
    }
    Ok(())
}

/// Returns the layer whose result is the value `answers`.
fn giving(graph: &Graph<'_>, answers: &str) -> rewrite::Result<Layer> {
    let none = || Refusal::new("no layer gives the answers that the table speaks of");
    let (id, _) = graph.producer(answers).ok_or_else(none)?;
    Ok(layer_at(graph, id)?.ok_or_else(none)?)
}

/// Returns the layer before an output: the one node with weights on all ways to it.
fn behind(graph: &Graph<'_>, output: &str) -> rewrite::Result<Layer> {
    let no_layer = || {
        let name = onnxseal_onnx::excerpt(output);
        Refusal::new(format!(
            "no layer with weights stands before output {name:?}"
        ))
        .advise(EXPORT)
    };
    let (first, _) = graph.producer(output).ok_or_else(no_layer)?;
    // In descending order, so that a node comes after all its readers.
    let mut open = std::collections::BTreeMap::from([(graph.node(first)?.position, first)]);
    while let Some((_, id)) = open.pop_last() {
        let node = graph.node(id)?;
        if let Some(layer) = layer_at(graph, id)? {
            return if open.is_empty() {
                Ok(layer)
            } else {
                Err(
                    Refusal::new("it is one of several layers that the output comes of")
                        .at(node)
                        .advise(EXPORT)
                        .into(),
                )
            };
        }
        check_op(node)?;
        for name in node.inputs.iter().filter(|name| !name.is_empty()) {
            if is_static(graph, name) {
                continue;
            }
            let (id, before) = graph.producer(name).ok_or_else(no_layer)?;
            open.insert(before.position, id);
        }
    }
    Err(no_layer().into())
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names
        .iter()
        .map(|name| format!("{:?}", onnxseal_onnx::excerpt(name)))
        .collect();
    quoted.join(", ")
}
