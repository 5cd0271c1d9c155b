//! One tensor on its way into a plan.

use onnxseal_onnx::model::TensorId;

use crate::position::Run;
use crate::subsequence::Cut;
use crate::tiers::TierRun;

/// One weight tensor on its way into the plan.
pub(crate) struct Draft {
    pub tensor: TensorId,
    pub operator: usize,
    pub bytes: u64,
    /// Whether its operator uses it as weights. If not, the first tier opens it.
    pub is_weight: bool,
    /// The coefficient that an override gives to this tensor alone.
    pub coefficient: Option<f64>,
    pub volume: u64,
    pub cut: Option<Cut>,
    pub targets: Vec<Run>,
    pub tiers: Vec<TierRun>,
}

impl Draft {
    /// Takes all subsequences.
    pub fn take_whole(&mut self) {
        self.volume = self.bytes;
        let n = self.cut.map_or(0, |cut| cut.n);
        self.targets = vec![Run { skip: 0, take: n }];
    }
}

/// Returns the indices of the subsequences in runs.
pub(crate) fn indices(targets: &[Run]) -> impl Iterator<Item = u64> {
    let mut next = 0;
    targets.iter().flat_map(move |run| {
        let first = next + run.skip;
        next = first + run.take;
        first..next
    })
}
