//! The roles of tensors in their operators, which suggest a value for an unknown tensor.

use onnxseal_onnx::model::Node;

use crate::dataflow::Slot;

/// The role of a tensor in its operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix or kernel, replaced by random numbers.
    Weight,
    /// Added, replaced by 0.
    Bias,
    /// Multiplied, replaced by 1.
    Scale,
    /// The running mean of a BatchNormalization, replaced by 0.
    Mean,
    /// The running variance of a BatchNormalization, replaced by 1.
    Variance,
    /// The scale of a block of quantised weights, replaced by a small positive number.
    BlockScale,
}

use Role::{Bias, BlockScale, Mean, Scale, Variance, Weight};

/// Inputs whose role differs from what their shape suggests: biases with one axis, weights with
/// more. Source: the operators' pages, as for the rules.
#[rustfmt::skip]
static INPUTS: &[(&str, u32, Role)] = &[
    ("BatchNormalization", 1, Scale), ("BatchNormalization", 2, Bias),
    ("BatchNormalization", 3, Mean), ("BatchNormalization", 4, Variance),
    ("InstanceNormalization", 1, Scale), ("InstanceNormalization", 2, Bias),
    ("LayerNormalization", 1, Scale), ("LayerNormalization", 2, Bias),
    ("GroupNormalization", 1, Scale), ("GroupNormalization", 2, Bias),
    ("GroupNorm", 1, Scale), ("GroupNorm", 2, Bias),
    ("SkipGroupNorm", 1, Scale), ("SkipGroupNorm", 2, Bias), ("SkipGroupNorm", 4, Bias),
    ("RMSNormalization", 1, Scale), ("SimplifiedLayerNormalization", 1, Scale),
    ("SkipLayerNormalization", 2, Scale), ("SkipLayerNormalization", 3, Bias), ("SkipLayerNormalization", 4, Bias),
    ("SkipSimplifiedLayerNormalization", 2, Scale), ("SkipSimplifiedLayerNormalization", 3, Bias),
    ("PRelu", 1, Scale),
    ("Mul", 0, Scale), ("Mul", 1, Scale), ("Div", 0, Scale), ("Div", 1, Scale),
    ("Add", 0, Bias), ("Add", 1, Bias), ("Sub", 0, Bias), ("Sub", 1, Bias),
    ("LSTM", 3, Bias), ("LSTM", 7, Bias), ("GRU", 3, Bias), ("RNN", 3, Bias),
    ("MatMulNBits", 2, BlockScale), ("GatherBlockQuantized", 2, BlockScale),
    ("MatMulBlockQuantizedFp4Weight", 2, BlockScale), ("MatMulBlockQuantizedFp8Weight", 2, BlockScale),
    ("DequantizeLinear", 1, BlockScale),
];

/// Attributes of `ai.onnx.ml`; others are weights.
#[rustfmt::skip]
static ATTRIBUTES: &[(&str, Role)] = &[
    ("intercepts", Bias), ("offset", Bias), ("rho", Bias), ("base_values", Bias), ("scale", Scale),
];

/// Returns the role of a tensor of shape `dims` at `slot` of `node`.
pub fn role(node: &Node<'_>, slot: Slot<'_>, dims: &[u64]) -> Role {
    match slot {
        Slot::Attribute(name) => {
            let row = ATTRIBUTES.iter().find(|(known, _)| *known == name);
            row.map_or(Weight, |(_, role)| *role)
        }
        Slot::Input(input) => {
            let mut rows = INPUTS.iter();
            match rows.find(|(of, slot, _)| *of == node.op_type && *slot == input) {
                Some((.., role)) => *role,
                None if dims.iter().filter(|dim| **dim > 1).count() <= 1 => Bias,
                None => Weight,
            }
        }
    }
}
