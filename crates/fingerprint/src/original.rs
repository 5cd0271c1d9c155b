//! The tensors of the original, as numbers.

use onnxseal_rewrite::Graph;

use crate::error::Result;
use crate::weights::{Strength, Weight};

/// A tensor of the original.
pub struct Original {
    /// SHA-256 of its elements, and its path: marks depend on both.
    pub digest: [u8; 32],
    pub at: String,
    /// Its sides, without those of one element.
    pub dims: Vec<usize>,
    pub values: Vec<f32>,
    pub columns: usize,
    pub strength: Strength,
}

impl Original {
    pub fn load(graph: &Graph<'_>, weight: &Weight<'_>) -> Result<Original> {
        let mut values = Vec::new();
        let (digest, strength) = weight.read(graph, |piece| values.extend_from_slice(piece))?;
        let dims = weight.tensor.dims.iter().map(|dim| *dim as usize);
        Ok(Original {
            digest,
            at: weight.tensor.path.clone(),
            dims: dims.filter(|dim| *dim != 1).collect(),
            strength,
            values,
            columns: weight.columns,
        })
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }
}
