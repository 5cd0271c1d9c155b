//! The rows of a report.

use std::borrow::Cow;

use onnxseal_onnx::model::Tensor;
use serde::Serialize;

use crate::format::manifest::{self, Operator};
use crate::pass::states::Volume;

/// One tier: an edition of the model.
#[derive(Clone, Debug, Serialize)]
pub struct TierRow {
    /// Its name.
    pub name: String,
    /// Encrypted bytes that this tier adds to the next lower one.
    pub bytes: u64,
    /// The share of all encrypted bytes that this tier and lower ones open, 0 to 1.
    pub share: f64,
    /// How many recipients have its key. Only [`inspect`](crate::inspect()) fills it in.
    pub recipients: u64,
}

/// One recipient of a data key.
#[derive(Clone, Debug, Serialize)]
pub struct RecipientRow {
    /// The kind, as age calls it: `X25519`, `ssh-ed25519`, `scrypt`, ...
    pub kind: String,
}

/// All operators of a type.
#[derive(Clone, Debug, Serialize)]
pub struct TypeRow {
    /// `op_type`, with its domain in front unless `ai.onnx`.
    pub op_type: Cow<'static, str>,
    /// Number of operators that own weights.
    pub operators: u64,
    /// Their weights.
    #[serde(flatten)]
    pub volume: Volume,
}

/// One operator.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OperatorRow {
    /// `op_type`, with its domain in front unless `ai.onnx`.
    pub op_type: Cow<'static, str>,
    /// Node name, often empty.
    pub node: String,
    /// The data volume coefficient; absent if only the metadata is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coefficient: Option<f64>,
    /// Why the preset takes all weights of this operator, though it takes less of others of the
    /// type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole_because: Option<&'static str>,
    /// Its weights.
    #[serde(flatten)]
    pub volume: Volume,
    /// The tensors with its weights.
    pub tensors: Vec<TensorRow>,
}

/// One weight tensor of an operator.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TensorRow {
    /// Name in the graph.
    pub name: String,
    /// Protobuf path in `ModelProto`.
    pub at: String,
    /// Name of the element type in `TensorProto.DataType`.
    pub data_type: Cow<'static, str>,
    /// Shape.
    pub dims: Vec<u64>,
    /// Its elements.
    #[serde(flatten)]
    pub volume: Volume,
    /// Elements in a subsequence; a tensor that stays in clear is one subsequence.
    pub unit: u64,
    /// Number of subsequences.
    pub n: u64,
    /// Number of encrypted subsequences.
    pub k: u64,
    /// The encrypted subsequences: `[skip, take, skip, take, ...]`.
    pub targets: Vec<u64>,
    /// Encrypted bytes of each tier, the least first; absent for a model of one edition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<u64>,
    /// How targets of tiers above the first are encrypted; absent for a model of one edition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<manifest::Mode>,
    /// Other operators that use this tensor, which is encrypted and counted once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shared_with: Vec<Operator>,
}

/// A tensor that stays wholly in clear.
#[derive(Clone, Debug, Serialize)]
pub struct ClearRow {
    /// Name in the graph.
    pub name: String,
    /// Protobuf path in `ModelProto`.
    pub at: String,
    /// Name of the element type in `TensorProto.DataType`.
    pub data_type: Cow<'static, str>,
    /// Shape.
    pub dims: Vec<u64>,
    /// Length in bytes.
    pub bytes: u64,
    /// Why it stays in clear.
    pub reason: Cow<'static, str>,
    /// The operators that use it.
    pub operators: Vec<Operator>,
}

/// A part of the file that may hold weights and was not searched. It stays in clear.
#[derive(Clone, Debug, Serialize)]
pub struct PassedOverRow {
    /// Its protobuf path in `ModelProto`.
    pub at: String,
    /// Length in bytes.
    pub bytes: u64,
}

/// Bytes of an external data file in which no tensor lies.
#[derive(Clone, Debug, Serialize)]
pub struct GapRow {
    /// Path of the file, relative to the model's folder.
    pub file: String,
    /// Offset of the first byte.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// What was rewritten before a model was protected. The original that `unprotect` gives is the
/// rewritten model, which is equal in every value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RepackedRow {
    /// Tensors whose elements moved to `raw_data`.
    pub tensors: u64,
    /// Bytes of external data files that became zeros, because no tensor lies there.
    pub zeroed_bytes: u64,
}

/// Numbers and text.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct SettingsRow {
    /// How many attributes or entries.
    pub n: u64,
    /// Bytes that they take in the file.
    pub bytes: u64,
}

/// An attribute of a node with more than 64 bytes of numbers or text.
#[derive(Clone, Debug, Serialize)]
pub struct LongSettingRow {
    /// Its name.
    pub attribute: String,
    /// Its protobuf path in `ModelProto`.
    pub at: String,
    /// `op_type` of the node, with its domain in front unless `ai.onnx`.
    pub op_type: Cow<'static, str>,
    /// Bytes of its value in the file.
    pub bytes: u64,
    /// Whether it may hold weights, because no rule says what the operator is.
    pub may_hold_weights: bool,
}

impl TensorRow {
    /// Makes the row of a tensor from its entry in a manifest. Returns it with the operator that
    /// owns it, which has no name if no operator reads the tensor.
    pub(crate) fn of_entry(mut entry: manifest::Tensor) -> (Operator, TensorRow) {
        // What stays in clear has no cut: an inspection, which has no entry for it, could not tell.
        let is_clear = entry.targets.is_empty();
        let is_tiered = entry.targets.n_tiers > 1 && !is_clear;
        let mut tiers = Vec::new();
        if is_tiered {
            tiers.resize(entry.targets.highest_tier().into(), 0);
        }
        entry.add_tier_bytes(&mut tiers);
        let shared_with = entry.operators.split_off(entry.operators.len().min(1));
        if is_clear {
            entry.unit = entry.elements().unwrap_or(0);
        }
        let row = TensorRow {
            volume: Volume::new(entry.len_bytes(), entry.encrypted_bytes()),
            unit: entry.unit,
            n: entry.n(),
            k: entry.n_targets(),
            mode: is_tiered.then_some(entry.mode),
            name: entry.name,
            at: entry.at,
            data_type: entry.data_type.name().into(),
            dims: entry.dims,
            targets: entry.targets.runs,
            tiers,
            shared_with,
        };
        (entry.operators.pop().unwrap_or_default(), row)
    }

    /// Makes the row of a weight of `bytes` bytes that is wholly in clear. Other operators use it
    /// too.
    pub(crate) fn in_clear(
        tensor: &Tensor<'_>,
        bytes: u64,
        shared_with: Vec<Operator>,
    ) -> TensorRow {
        TensorRow {
            name: tensor.name.to_owned(),
            at: tensor.path.clone(),
            data_type: tensor.data_type.as_str_name().into(),
            dims: tensor.dims.clone(),
            volume: Volume::new(bytes, 0),
            unit: tensor.n_elements,
            n: 1,
            shared_with,
            ..TensorRow::default()
        }
    }
}

impl ClearRow {
    pub(crate) fn new(
        tensor: &Tensor<'_>,
        bytes: u64,
        reason: Cow<'static, str>,
        operators: Vec<Operator>,
    ) -> ClearRow {
        ClearRow {
            name: tensor.name.to_owned(),
            at: tensor.path.clone(),
            data_type: tensor.data_type.as_str_name().into(),
            dims: tensor.dims.clone(),
            bytes,
            reason,
            operators,
        }
    }
}
