//! Why a model cannot be rewritten.

use std::fmt;

use onnxseal_onnx::excerpt;
use onnxseal_onnx::model::Node;

/// Why a model, or one of its inputs, cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The name and operator of the node at fault.
    pub node: Option<String>,
    pub reason: String,
    pub advice: Option<&'static str>,
}

impl Refusal {
    /// Refuses the model as a whole.
    pub fn new(reason: impl Into<String>) -> Refusal {
        Refusal {
            node: None,
            reason: reason.into(),
            advice: None,
        }
    }

    /// Adds the node, unless one is named already.
    pub fn at(mut self, node: &Node<'_>) -> Refusal {
        self.node.get_or_insert_with(|| shown(node));
        self
    }

    /// Adds advice, unless there is some already.
    pub fn advise(mut self, advice: &'static str) -> Refusal {
        self.advice.get_or_insert(advice);
        self
    }
}

/// Returns the name of a node in messages: its own, or that of its first output.
pub fn shown(node: &Node<'_>) -> String {
    let name = match node.name {
        "" => node.outputs.first().copied().unwrap_or_default(),
        name => name,
    };
    format!("{:?} ({})", excerpt(name), excerpt(node.op_type))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "node {node}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}
