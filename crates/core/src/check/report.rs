//! The report on a model: which weights are encrypted, and which stay in clear. `plan`, `protect`
//! and `inspect` return it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use onnxseal_crypto::signature::ClaimedSigner;
use onnxseal_onnx::model::{LongSetting, Model, NodeId};
use onnxseal_plan::rules::qualified;
use onnxseal_plan::{Gap, OfOpTypes, is_opaque};
use serde::Serialize;

use crate::check::rows::{
    ClearRow, GapRow, LongSettingRow, OperatorRow, PassedOverRow, RecipientRow, RepackedRow,
    SettingsRow, TensorRow, TierRow, TypeRow,
};
use crate::error::first;
use crate::format::manifest::{File, Operator};
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
    /// The external data files that the model had, if [`rotate`](crate::rotate()) replaced it in
    /// place: they stay beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_files: Vec<File>,
    /// Whether the model has the lock, with which programs refuse it without the key. In a plan:
    /// whether it would have it.
    pub locked: bool,
    /// All tensors together, whether they can be encrypted or not, with `gaps`, `passed_over` and
    /// `long_settings` that may hold weights.
    pub weights: Volume,
    /// The publisher's statements; trust them only if the caller verified the model.
    pub claims: BTreeMap<String, String>,
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
    /// Parts of external data files in which no tensor lies, and which are not all zeros. They stay
    /// in clear.
    pub gaps: Vec<GapRow>,
    /// Numbers and text in attributes of nodes, which stay in clear.
    pub settings: SettingsRow,
    /// The longest of these, in file order.
    pub long_settings: Vec<LongSettingRow>,
    /// Entries of the original's `metadata_props`, which stay in clear.
    pub metadata: SettingsRow,
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
    pub signature: Option<ClaimedSigner>,
    /// What `protect` rewrote because it could not be encrypted where it lay; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repacked: Option<RepackedRow>,
    /// The demands of the policy that the plan does not meet.
    pub violations: Vec<String>,
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
    pub(crate) report: Report,
    /// Bytes of all tensors and gaps.
    total_bytes: u64,
    /// Each with the index of its node; that of tensors that no node reads comes last.
    operators: Vec<(usize, OperatorRow)>,
    /// The index in `operators` of each node's.
    places: HashMap<usize, usize>,
}

impl Builder {
    pub(crate) fn new(
        path: &Path,
        files: Vec<File>,
        model: &Model<'_>,
        total_bytes: u64,
        gaps: &[Gap],
    ) -> Builder {
        let passed_over = model.passed_over.iter().map(|part| PassedOverRow {
            at: part.path.clone(),
            bytes: part.field.len,
        });
        let gaps = gaps.iter().map(|gap| GapRow {
            file: model.location(gap.file).unwrap_or_default().to_owned(),
            offset: gap.span.start,
            bytes: gap.span.len,
        });
        let entries = &model.metadata_props;
        let report = Report {
            model: path.display().to_string(),
            files,
            passed_over: passed_over.collect(),
            gaps: gaps.collect(),
            settings: SettingsRow {
                n: model.settings.n,
                bytes: model.settings.bytes,
            },
            long_settings: long_settings(model),
            metadata: SettingsRow {
                n: entries.len() as u64,
                bytes: entries.iter().map(|entry| entry.field.len).sum(),
            },
            ..Report::default()
        };
        Builder {
            report,
            total_bytes,
            operators: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Adds `row` to the operator at node `id`, or to the tensors that no node reads, and returns the
    /// operator's row.
    pub(crate) fn add(
        &mut self,
        id: Option<NodeId>,
        operator: impl FnOnce() -> Operator,
        row: TensorRow,
    ) -> &mut OperatorRow {
        let index = id.map_or(usize::MAX, NodeId::index);
        let place = *self.places.entry(index).or_insert_with(|| {
            let Operator { op_type, node } = operator();
            let row = OperatorRow {
                op_type,
                node,
                // Most operators have one tensor, and `push` reserves room for four.
                tensors: Vec::with_capacity(1),
                ..OperatorRow::default()
            };
            self.operators.push((index, row));
            self.operators.len() - 1
        });
        let (_, of_node) = &mut self.operators[place];
        of_node.tensors.push(row);
        of_node
    }

    pub(crate) fn finish(mut self) -> Report {
        let mut report = self.report;
        self.operators.sort_unstable_by_key(|(node, _)| *node);
        report.operators = self.operators.into_iter().map(|(_, row)| row).collect();
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
        let encrypted = Volume::sum(report.operators.iter().map(|row| row.volume));
        report.weights = Volume::new(self.total_bytes, encrypted.encrypted_bytes);
        report
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

    pub(crate) fn of(&self, node: NodeId) -> Operator {
        let op_type = self.op_types.get(node, qualified);
        let name = self.model.nodes.get(node.index()).map(|node| node.name);
        Operator {
            op_type: op_type.cloned().unwrap_or_default(),
            node: name.unwrap_or_default().to_owned(),
        }
    }
}

fn long_settings(model: &Model<'_>) -> Vec<LongSettingRow> {
    let (operators, is_opaque) = (Operators::new(model), is_opaque(model));
    let row = |setting: &LongSetting<'_>| LongSettingRow {
        attribute: setting.attribute.to_owned(),
        at: setting.path.clone(),
        op_type: operators.of(setting.node).op_type,
        bytes: setting.bytes,
        may_hold_weights: is_opaque(&setting),
    };
    model.long_settings.iter().map(row).collect()
}

/// The most shortfalls in a list: a hostile model may have a million.
const MAX_LISTED: usize = 100;

/// Lists the first shortfalls as text, and the number of the others.
pub(crate) fn list(shortfalls: &[impl ToString]) -> Vec<String> {
    let texts = shortfalls.iter().map(ToString::to_string);
    first(MAX_LISTED, texts, |more| {
        format!("and {more} more like these")
    })
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
