//! The report on a model: which weights are encrypted, and which stay in clear. `plan`, `protect`
//! and `inspect` return it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use onnxseal_onnx::model::{Model, NodeId, Tensor};
use onnxseal_plan::OfOpTypes;
use onnxseal_plan::rules::qualified;
use serde::Serialize;

use crate::check::smaller::SmallerRow;
use crate::error::{Error, Result};
use crate::format::manifest::{self, File, Operator};
use crate::pass::states::Volume;

/// Says which weights of a model are encrypted, and which stay in clear.
///
/// Serialises to the JSON of `--json`; members are only ever added.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Path of the model.
    pub model: String,
    /// Its files; the model file has an empty path.
    pub files: Vec<File>,
    /// The files of the original, if its external data files have other names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub original_files: Vec<File>,
    /// Whether the model has the lock, with which programs refuse it without the key. In a plan:
    /// whether it would have it.
    pub locked: bool,
    /// The weights of all operators together.
    pub weights: Volume,
    /// The tiers, the least first; absent for a model of one edition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TierRow>,
    /// Per operator type, in alphabetical order.
    pub types: Vec<TypeRow>,
    /// Per operator, in file order.
    pub operators: Vec<OperatorRow>,
    /// Tensors that stay wholly in clear, in file order.
    pub clear: Vec<ClearRow>,
    /// Parts of the file that may hold weights and that were not searched, in file order.
    pub passed_over: Vec<PassedOverRow>,
    /// Numbers and text in Constant nodes, which stay in clear.
    pub plain_constants: PlainConstantsRow,
    /// The publisher's statements; trust them only if the caller verified the model.
    pub claims: BTreeMap<String, String>,
    /// The recipients that can open the model, as far as its wrapped data key tells. Only
    /// [`inspect`](crate::inspect()) fills them in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<RecipientRow>,
    /// The comment from when the data key was wrapped: readable by anyone, and not authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The public keys of the recipients, if they were listed when the data key was wrapped; not
    /// authenticated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<String>,
    /// The key that the model's signature names, if it has one. The signature is unchecked: anyone
    /// can put any key there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureRow>,
    /// The presets that would encrypt less, from the most to the least, if the machine has no AES
    /// instructions. Callers fill this in with [`smaller_presets`](crate::smaller_presets()).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub smaller: Vec<SmallerRow>,
    /// The demands of the policy that the plan does not meet.
    pub violations: Vec<String>,
}

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

/// The key that a signature names.
#[derive(Clone, Debug, Serialize)]
pub struct SignatureRow {
    /// Type of the key, such as `ssh-ed25519`.
    pub key_type: String,
    /// Fingerprint of the key, `SHA256:...`.
    pub fingerprint: String,
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
#[derive(Clone, Debug, Serialize)]
pub struct OperatorRow {
    /// `op_type`, with its domain in front unless `ai.onnx`.
    pub op_type: Cow<'static, str>,
    /// Node name, often empty.
    pub node: String,
    /// The data volume coefficient; absent if only the metadata is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coefficient: Option<f64>,
    /// Bytes that the plan allots to the operator; absent if only the metadata is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_bytes: Option<u64>,
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
#[derive(Clone, Debug, Serialize)]
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

/// Numbers and text in attributes of Constant nodes, such as `value_float` and `value_ints`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PlainConstantsRow {
    /// How many attributes.
    pub n: u64,
    /// Bytes that their values take in the file.
    pub bytes: u64,
}

/// Makes the rows of the tiers called `names`, with the encrypted bytes of each.
pub(crate) fn tier_rows(names: &[String], bytes: Vec<u64>) -> Vec<TierRow> {
    let total: u64 = bytes.iter().sum();
    let mut opened = 0;
    let rows = names.iter().zip(bytes).map(|(name, bytes)| {
        opened += bytes;
        TierRow {
            name: name.clone(),
            bytes,
            share: opened as f64 / total.max(1) as f64,
            recipients: 0,
        }
    });
    rows.collect()
}

/// Builds a report. [`Builder::add`] takes operators in any order.
pub(crate) struct Builder {
    report: Report,
    /// The node of each of `operators`.
    nodes: Vec<NodeId>,
    operators: Vec<OperatorRow>,
    /// For each node, its index in `operators`.
    places: Vec<Option<u32>>,
}

impl Builder {
    /// Begins the report on the model at `path`.
    pub(crate) fn new(path: &Path, files: Vec<File>, model: &Model<'_>) -> Builder {
        let passed_over = model.passed_over.iter().map(|part| PassedOverRow {
            at: part.path.clone(),
            bytes: part.field.len,
        });
        let report = Report {
            model: path.display().to_string(),
            files,
            passed_over: passed_over.collect(),
            plain_constants: PlainConstantsRow {
                n: model.plain_constants.n,
                bytes: model.plain_constants.bytes,
            },
            ..Report::default()
        };
        Builder {
            report,
            nodes: Vec::new(),
            operators: Vec::new(),
            places: vec![None; model.nodes.len()],
        }
    }

    /// Adds `row` to the operator at `node`, and returns the operator's row.
    pub(crate) fn add(
        &mut self,
        node: NodeId,
        operator: impl FnOnce() -> Operator,
        row: TensorRow,
    ) -> Result<&mut OperatorRow> {
        const LOST: Error = Error::Internal("a node of another model");
        let place = self.places.get_mut(node.index()).ok_or(LOST)?;
        let place = *place.get_or_insert_with(|| {
            let Operator {
                op_type,
                node: name,
            } = operator();
            let row = OperatorRow {
                op_type,
                node: name,
                coefficient: None,
                volume_bytes: None,
                whole_because: None,
                volume: Volume::default(),
                // Most operators have one tensor, and `push` reserves room for four.
                tensors: Vec::with_capacity(1),
            };
            self.nodes.push(node);
            self.operators.push(row);
            self.operators.len() as u32 - 1
        });
        let operator = self.operators.get_mut(place as usize).ok_or(LOST)?;
        operator.tensors.push(row);
        Ok(operator)
    }

    /// Reserves room for this many operators, and tensors that stay in clear.
    pub(crate) fn reserve(&mut self, operators: usize, clear: usize) {
        self.nodes.reserve_exact(operators);
        self.operators.reserve_exact(operators);
        self.report.clear.reserve_exact(clear);
    }

    /// Adds a tensor that stays in clear.
    pub(crate) fn add_clear(&mut self, row: ClearRow) {
        self.report.clear.push(row);
    }

    /// Sums up the volumes and finishes the report.
    pub(crate) fn finish(self) -> Report {
        let Builder {
            mut report,
            nodes,
            mut operators,
            ..
        } = self;
        if !nodes.is_sorted() {
            let mut both: Vec<_> = nodes.into_iter().zip(operators).collect();
            both.sort_by_key(|&(node, _)| node);
            operators = both.into_iter().map(|(_, row)| row).collect();
        }
        report.operators = operators;
        let mut types: BTreeMap<&str, TypeRow> = BTreeMap::new();
        for row in &mut report.operators {
            row.volume = Volume::sum(row.tensors.iter().map(|tensor| tensor.volume));
            let of_type = types.entry(&row.op_type).or_insert_with(|| TypeRow {
                op_type: row.op_type.clone(),
                operators: 0,
                volume: Volume::default(),
            });
            of_type.operators += 1;
            of_type.volume = Volume::sum([of_type.volume, row.volume].into_iter());
        }
        report.types = types.into_values().collect();
        report.weights = Volume::sum(report.operators.iter().map(|row| row.volume));
        report
    }
}

impl TensorRow {
    /// Makes the row of a tensor from its entry in a manifest. Returns it with the operator that
    /// owns it.
    ///
    /// Returns `None` for an entry without operators, which a manifest cannot contain.
    pub(crate) fn of_entry(mut entry: manifest::Tensor) -> Option<(Operator, TensorRow)> {
        // What stays in clear has no cut: an inspection, which has no entry for it, could not tell.
        let is_clear = entry.targets.is_empty();
        let is_tiered = entry.targets.n_tiers() > 1 && !is_clear;
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
            targets: entry.targets.into_runs(),
            tiers,
            shared_with,
        };
        Some((entry.operators.pop()?, row))
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
            k: 0,
            targets: Vec::new(),
            tiers: Vec::new(),
            mode: None,
            shared_with,
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

/// The nodes of a model as a manifest and a report name them.
pub(crate) struct Operators<'m, 'a> {
    model: &'m Model<'a>,
    op_types: OfOpTypes<'m, 'a, Cow<'static, str>>,
}

impl<'m, 'a> Operators<'m, 'a> {
    pub(crate) fn new(model: &'m Model<'a>) -> Operators<'m, 'a> {
        let op_types = OfOpTypes::new(model);
        Operators { model, op_types }
    }

    /// The name of `node`.
    pub(crate) fn of(&self, node: NodeId) -> Operator {
        let op_type = self.op_types.get(node, qualified);
        let name = self.model.nodes.get(node.index()).map(|node| node.name);
        Operator {
            op_type: op_type.cloned().unwrap_or_default(),
            node: name.unwrap_or_default().to_owned(),
        }
    }
}

/// The most shortfalls in a list: a hostile model may have a million.
const MAX_LISTED: usize = 100;

/// Lists the first shortfalls as text, and the number of the others.
pub(crate) fn list(shortfalls: &[impl ToString]) -> Vec<String> {
    let mut listed: Vec<String> = shortfalls
        .iter()
        .take(MAX_LISTED)
        .map(ToString::to_string)
        .collect();
    if let Some(more @ 1..) = shortfalls.len().checked_sub(MAX_LISTED) {
        listed.push(format!("and {more} more like these"));
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_everything_is_listed() {
        assert_eq!(list(&vec!["a"; 100]).len(), 100);
        let listed = list(&vec!["a"; 1000]);
        assert_eq!(
            (listed.len(), &*listed[100]),
            (101, "and 900 more like these")
        );
    }
}
