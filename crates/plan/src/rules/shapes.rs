//! Inputs from whose values shapes are computed, and operators that compute with such values.
//!
//! ONNX's checker and shape inference read these inputs, so they stay in clear: a protected file is
//! a valid model. Sources as in the table of rules.

/// The most elements of a tensor that counts as a shape: rank times two, with much room.
pub(crate) const MAX_SHAPE_ELEMENTS: u64 = 256;

/// Inputs that shape inference reads, by domain and operator type.
#[rustfmt::skip]
static INPUTS: &[(&str, &str, &[u32])] = &[
    ("", "AffineGrid", &[1]),
    ("", "BlackmanWindow", &[0]),
    ("", "CenterCropPad", &[1]),
    ("", "Col2Im", &[1, 2]),
    ("", "ConstantOfShape", &[0]),
    ("", "DFT", &[1, 2]),
    ("", "Expand", &[1]),
    ("", "HammingWindow", &[0]),
    ("", "HannWindow", &[0]),
    ("", "Loop", &[0, 1]),
    ("", "MaxUnpool", &[2]),
    ("", "MelWeightMatrix", &[0, 1, 2, 3, 4]),
    ("", "OneHot", &[1]),
    ("", "Pad", &[1, 3]),
    ("", "Range", &[0, 1, 2]),
    ("", "ReduceL1", &[1]),
    ("", "ReduceL2", &[1]),
    ("", "ReduceLogSum", &[1]),
    ("", "ReduceLogSumExp", &[1]),
    ("", "ReduceMax", &[1]),
    ("", "ReduceMean", &[1]),
    ("", "ReduceMin", &[1]),
    ("", "ReduceProd", &[1]),
    ("", "ReduceSum", &[1]),
    ("", "ReduceSumSquare", &[1]),
    ("", "Reshape", &[1]),
    ("", "Resize", &[1, 2, 3]),
    ("", "STFT", &[1, 3]),
    ("", "Slice", &[1, 2, 3, 4]),
    ("", "Split", &[1]),
    ("", "SplitToSequence", &[1]),
    ("", "Squeeze", &[1]),
    ("", "Tile", &[1, 2]),
    ("", "TopK", &[1]),
    ("", "Unsqueeze", &[1]),
    ("", "Upsample", &[1]),
    ("com.microsoft", "ConvTransposeWithDynamicPads", &[2]),
    ("com.microsoft", "CropAndResize", &[3]),
    ("com.microsoft", "ExpandDims", &[1]),
    ("com.microsoft", "Irfft", &[1]),
    ("com.microsoft", "Pad", &[1]),
    ("com.microsoft", "Range", &[0, 1, 2]),
    ("com.microsoft", "ReduceSumInteger", &[1]),
    ("com.microsoft", "Rfft", &[1]),
    ("com.ms.internal.nhwc", "Resize", &[1, 2, 3]),
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
        let is_row = |row: &&(&str, &str, &[u32])| (row.0, row.1) == (domain, op_type);
        let others = match (domain, op_type) {
            ("", "Shape" | "Size") => ShapeUse::Ignored,
            ("", op_type) if ARITHMETIC.contains(&op_type) => ShapeUse::Passed,
            _ => ShapeUse::Data,
        };
        ShapeRow {
            read: INPUTS.iter().find(is_row).map_or(&[], |row| row.2),
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
    use super::*;
    use crate::rules;

    #[test]
    fn operators_are_known_and_sorted() {
        let names: Vec<_> = INPUTS
            .iter()
            .map(|(domain, name, _)| (*domain, *name))
            .collect();
        assert!(names.is_sorted_by(|a, b| a < b));
        assert!(ARITHMETIC.is_sorted_by(|a, b| a < b));
        let arithmetic = ARITHMETIC.iter().map(|name| ("", *name));
        for (domain, name) in names.into_iter().chain(arithmetic) {
            assert!(rules::find(domain, name).is_some(), "{name}");
        }
    }
}
