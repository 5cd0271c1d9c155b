//! The plan: the owners of weights, and the subsequences to encrypt of every weight tensor.

use onnxseal_onnx::model::{FileId, NodeId, Span, TensorId};

use crate::classify::Reason;
use crate::lists::Lists;
use crate::position::Run;
use crate::tiers::{Mode, TierRun};

/// The encrypted parts of a model, and the parts in clear.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Operators that own weights, in file order.
    pub operators: Vec<OperatorPlan>,
    /// Weight tensors that can be encrypted, in file order.
    pub tensors: Vec<TensorPlan>,
    /// Every tensor that stays completely in clear, in file order.
    pub clear: Vec<Clear>,
    /// Tensors that share a budget and are chosen from by score. All others follow from the policy
    /// alone, whatever the weights are.
    pub pools: Vec<Pool>,
    /// Bytes of external data files in which no tensor lies. A plan knows no files: who knows them
    /// adds these.
    pub gaps: Vec<Gap>,
    /// Bytes of the model, without gaps, that a share is a share of.
    pub(crate) total_bytes: u64,
    pub(crate) consumers: Lists<NodeId>,
}

/// Bytes of an external data file in which no tensor lies, and which are not all zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub file: FileId,
    /// The file's location in the original, which may have another name for it.
    pub location: String,
    pub span: Span,
}

/// Tensors that share a budget, spent on their subsequences with the highest scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Bytes to encrypt of all together; the encrypted bytes exceed it by less than a subsequence.
    pub budget_bytes: u64,
    /// The tensors, as indices into [`Plan::tensors`].
    pub tensors: Vec<usize>,
}

/// One operator that owns weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperatorPlan {
    /// The node; `None` for the tensors that no node reads.
    pub node: Option<NodeId>,
    /// The coefficient of the operator: its type's, or an override's.
    pub coefficient: f64,
    /// Whether the preset takes all weights of this operator because the model is small.
    pub whole: bool,
    /// Whether an override names it.
    pub(crate) overridden: bool,
    /// Bytes of a subsequence, unless the model is large.
    pub(crate) unit_bytes: u64,
}

/// One weight tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorPlan {
    pub tensor: TensorId,
    /// The operator that owns it, as an index into [`Plan::operators`].
    pub operator: usize,
    pub bytes: u64,
    /// Elements in a subsequence; the last may be shorter.
    pub unit_elements: u64,
    pub n: u64,
    /// The encrypted subsequences; empty if the volume is 0.
    pub targets: Vec<Run>,
    pub encrypted_bytes: u64,
    /// The tiers of the targets, in their order; empty in a plan without tiers.
    pub tiers: Vec<TierRun>,
    /// How the targets of tiers above the first are encrypted.
    pub mode: Mode,
    /// The bytes that replace an element a tier lacks; empty for zeros. For elements of less than 8
    /// bits, a byte of them.
    pub fill: Vec<u8>,
}

/// A tensor that stays completely in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clear {
    pub tensor: TensorId,
    pub bytes: u64,
    pub reason: Reason,
}

impl TensorPlan {
    /// Returns the encrypted elements, as ranges `(first, end)` in ascending order, each with its
    /// tier, or 1 without tiers. The last may reach past the tensor's end.
    pub fn tier_elements(&self) -> Vec<((u64, u64), u8)> {
        let mut tiers = self.tiers.iter().map(|run| (run.tier, run.take));
        let (mut tier, mut left) = tiers.next().unwrap_or((1, u64::MAX));
        let (mut at, mut found) = (0, Vec::new());
        for run in &self.targets {
            at += run.skip;
            let end = at + run.take;
            while at < end {
                if left == 0 {
                    let Some(next) = tiers.next() else { break };
                    (tier, left) = next;
                }
                let n = left.min(end - at);
                let elements = (at * self.unit_elements, (at + n) * self.unit_elements);
                found.push((elements, tier));
                (at, left) = (at + n, left - n);
            }
        }
        found
    }
}

impl Plan {
    /// Returns the nodes that read a tensor, each once, in file order.
    pub fn consumers(&self, tensor: TensorId) -> &[NodeId] {
        self.consumers.of(tensor.index() as u32)
    }

    /// Returns the bytes that a share is a share of: all tensors, whether they can be encrypted or
    /// not, gaps, and parts of the model that may hold weights.
    pub fn total_bytes(&self) -> u64 {
        let gaps = self.gaps.iter().map(|gap| gap.span.len);
        gaps.fold(self.total_bytes, u64::saturating_add)
    }

    /// Returns the encrypted bytes.
    pub fn encrypted_bytes(&self) -> u64 {
        self.tensors.iter().map(|plan| plan.encrypted_bytes).sum()
    }

    /// Returns the encrypted share of [`Plan::total_bytes`].
    pub fn share(&self) -> f64 {
        self.encrypted_bytes() as f64 / self.total_bytes().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use onnxseal_onnx::{Limits, locate};
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;

    #[test]
    fn runs_become_ranges_with_their_tiers() {
        let bytes = GraphBuilder::new("g")
            .initializer(weights("w", &[10, 10], 1))
            .node(node("MatMul", &["x", "w"], &["y"]))
            .encode();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let elements = |unit: u64, targets: &[(u64, u64)], tiers: &[(u8, u64)]| {
            let run = |&(skip, take): &(u64, u64)| Run { skip, take };
            let tier_run = |&(tier, take): &(u8, u64)| TierRun { tier, take };
            let planned = TensorPlan {
                tensor: model.tensors_with_ids().next().unwrap().0,
                operator: 0,
                bytes: 400,
                unit_elements: unit,
                n: 10,
                targets: targets.iter().map(run).collect(),
                encrypted_bytes: 0,
                tiers: tiers.iter().map(tier_run).collect(),
                mode: Mode::Bytes,
                fill: Vec::new(),
            };
            planned.tier_elements()
        };
        let without = elements(4, &[(0, 1), (2, 3)], &[]);
        assert_eq!(without, [((0, 4), 1), ((12, 24), 1)]);
        let with = elements(10, &[(1, 2), (1, 3)], &[(2, 1), (1, 2), (3, 2)]);
        let expected = [((10, 20), 2), ((20, 30), 1), ((40, 50), 1), ((50, 70), 3)];
        assert_eq!(with, expected);
        assert_eq!(elements(10, &[], &[]), []);
    }
}
