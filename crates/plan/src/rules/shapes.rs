//! Inputs from whose values shapes are computed, and operators that compute with such values.
//!
//! ONNX's checker and shape inference read these inputs, so they stay in clear: a protected file is
//! a valid model. Sources as in the table of rules.

/// The most elements of a tensor that counts as a shape: rank times two, with much room.
pub(crate) const MAX_SHAPE_ELEMENTS: u64 = 256;

/// Inputs that shape inference reads, by domain and slots.
#[rustfmt::skip]
static INPUTS: &[(&str, &[u32], &str)] = &[
    ("", &[0], "BlackmanWindow ConstantOfShape HammingWindow HannWindow"),
    ("", &[0, 1], "Loop"),
    ("", &[0, 1, 2], "Range"),
    ("", &[0, 1, 2, 3, 4], "MelWeightMatrix"),
    ("", &[1], "
        AffineGrid CenterCropPad Expand OneHot ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
        ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Reshape Split
        SplitToSequence Squeeze TopK Unsqueeze Upsample
    "),
    ("", &[1, 2], "Col2Im DFT Tile"),
    ("", &[1, 2, 3], "Resize"),
    ("", &[1, 2, 3, 4], "Slice"),
    ("", &[1, 3], "Pad STFT"),
    ("", &[2], "MaxUnpool"),
    ("com.microsoft", &[0, 1, 2], "Range"),
    ("com.microsoft", &[1], "ExpandDims Irfft Pad ReduceSumInteger Rfft"),
    ("com.microsoft", &[2], "ConvTransposeWithDynamicPads"),
    ("com.microsoft", &[3], "CropAndResize"),
    ("com.ms.internal.nhwc", &[1, 2, 3], "Resize"),
];

/// Operators whose outputs are shapes if their inputs are.
#[rustfmt::skip]
static ARITHMETIC: &[&str] = &[
    "Abs", "Add", "Cast", "CastLike", "Ceil", "Concat", "Div", "Equal", "Expand", "Flatten", "Floor",
    "Gather", "GatherElements", "GatherND", "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul",
    "Neg", "Not", "Pad", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round",
    "ScatterElements", "ScatterND", "Slice", "Split", "Squeeze", "Sub", "Tile", "Transpose",
    "Unsqueeze", "Where",
];

/// Attributes that shape inference reads, by operator type of `ai.onnx`.
static ATTRIBUTES: &[(&str, &str)] = &[("Upsample", "scales")];

/// How an operator uses a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShapeUse {
    /// A shape is computed from it.
    Read,
    /// Its own shape is read, and not its elements.
    Ignored,
    /// The operator's outputs are values of this kind.
    Passed,
    /// It is data.
    Data,
}

/// How an operator uses its inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShapeRow {
    read: &'static [u32],
    others: ShapeUse,
}

impl ShapeRow {
    /// Returns the row of an operator type.
    pub fn of(domain: &str, op_type: &str) -> ShapeRow {
        let is_row = |&&(of, _, names): &&(&str, &[u32], &str)| {
            of == domain && names.split_whitespace().any(|name| name == op_type)
        };
        let others = match (domain, op_type) {
            ("", "Shape" | "Size") => ShapeUse::Ignored,
            ("", op_type) if ARITHMETIC.contains(&op_type) => ShapeUse::Passed,
            _ => ShapeUse::Data,
        };
        ShapeRow {
            read: INPUTS.iter().find(is_row).map_or(&[], |row| row.1),
            others,
        }
    }

    /// Returns how the operator uses its input `slot`.
    pub fn input(self, slot: u32) -> ShapeUse {
        if self.read.contains(&slot) {
            ShapeUse::Read
        } else {
            self.others
        }
    }
}

/// Returns whether shape inference reads an attribute of an operator.
pub(crate) fn is_shape_attribute(domain: &str, op_type: &str, attribute: &str) -> bool {
    domain.is_empty() && ATTRIBUTES.contains(&(op_type, attribute))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::rules;

    #[test]
    fn operators_are_known_once() {
        let inputs = INPUTS.iter().flat_map(|(domain, _, names)| {
            let names = names.split_whitespace();
            names.map(move |name| (*domain, name))
        });
        let inputs: Vec<_> = inputs.collect();
        let once: HashSet<_> = inputs.iter().collect();
        assert_eq!(once.len(), inputs.len());
        assert!(ARITHMETIC.is_sorted_by(|a, b| a < b));
        let arithmetic = ARITHMETIC.iter().map(|name| ("", *name));
        for (domain, name) in inputs.into_iter().chain(arithmetic) {
            assert!(rules::find(domain, name).is_some(), "{name}");
        }
    }
}
