//! Finds a tensor of the original in a leaked model, and what differs.

use onnxseal_crypto::labels::sha256;
use onnxseal_rewrite::Graph;

use crate::error::Result;
use crate::fit;
use crate::numbers::floats;
use crate::weights::{Strength, Weight};

/// A tensor of the original.
pub struct Original {
    /// SHA-256 of its elements, and its path: marks depend on both.
    pub digest: [u8; 32],
    pub at: String,
    pub values: Vec<f32>,
    pub columns: usize,
    pub strength: Strength,
}

impl Original {
    pub fn load(graph: &Graph<'_>, weight: &Weight<'_>) -> Result<Original> {
        let elements = graph.load(weight.id)?;
        let values = floats(&elements);
        Ok(Original {
            digest: sha256(elements.raw()),
            at: weight.tensor.path.clone(),
            strength: Strength::new(&values, weight.columns),
            values,
            columns: weight.columns,
        })
    }
}

/// What differs between a tensor of the original and its copy, weighted: where a mark is strong and
/// other differences are small, it counts most.
pub struct Residual {
    pub r: Vec<f32>,
    /// The name of the copy in the leak.
    pub copy: String,
    /// How it was found.
    pub how: &'static str,
    /// The z that a mark of full strength would have, squared.
    pub quality: f64,
}

/// The tensors of a leaked model.
pub struct Leak<'g, 'a> {
    graph: &'g Graph<'a>,
}

impl<'g, 'a> Leak<'g, 'a> {
    pub fn new(graph: &'g Graph<'a>) -> Leak<'g, 'a> {
        Leak { graph }
    }

    /// Finds the copy of a tensor.
    pub fn find(
        &self,
        weight: &Weight<'_>,
        original: &Original,
        strength: f64,
    ) -> Result<Option<Residual>> {
        let model = self.graph.model();
        let n = weight.tensor.n_elements;
        let mut all = model.tensors_with_ids();
        let named = all.find(|(_, of)| of.name == weight.tensor.name && of.n_elements == n);
        let Some((id, tensor)) = named else {
            return Ok(None);
        };
        let copy = floats(&self.graph.load(id)?);
        let fitted = fit::residual(original, &copy, strength);
        Ok(Some(Residual {
            r: fitted.r,
            copy: tensor.name.to_owned(),
            how: "as it was",
            quality: fitted.quality,
        }))
    }
}
