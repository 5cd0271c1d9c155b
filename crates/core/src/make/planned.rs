//! A model's plan, as entries of a manifest and as a report. A large model has a hundred thousand
//! tensors, so an entry becomes its row of the report without a copy of its text.

use std::path::Path;

use onnxseal_onnx::Model;
use onnxseal_onnx::model::{self, TensorId};
use onnxseal_plan::{self as plan, OperatorPlan, Plan, Policy, TensorPlan};

use crate::check::report::{Builder, Operators, Report, list, tier_rows};
use crate::check::rows::{ClearRow, TensorRow};
use crate::error::{Error, Result};
use crate::format::manifest::draft::{Draft, check_len, count_bytes};
use crate::format::manifest::targets::TierRun;
use crate::format::manifest::tensor::Place;
use crate::format::manifest::{ElementType, File, Mode, Operator, Targets, Tensor};

/// The error for a tensor that is missing: it would otherwise stay in clear.
const LOST: Error = Error::Internal("the plan is not of this model");

pub(crate) struct Planned {
    /// The report, without the rows of `entries`.
    pub(crate) builder: Builder,
    operators: Vec<OperatorPlan>,
    /// The entries of all tensors, in the order of a manifest. [`Purpose::Report`] leaves it empty,
    /// because rows are made at once.
    entries: Vec<(Key, Tensor)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A report, which fails if the manifest would be too long.
    Report,
    /// A protected model.
    Seal,
}

/// A tensor of the graph, and the index of its owner in [`Planned::operators`].
type Key = (TensorId, usize);

impl Planned {
    pub(crate) fn new(
        path: &Path,
        files: &[File],
        mut model: Model<'_>,
        policy: &Policy,
        purpose: Purpose,
        mut plan: Plan,
    ) -> Result<Planned> {
        let mut builder =
            Builder::new(path, files.to_vec(), &model, plan.total_bytes(), &plan.gaps);
        builder.report.violations =
            list(&plan.violations(&model, policy, plan.encrypted_bytes() > 0));
        builder.report.clear.reserve_exact(plan.clear.len());
        let mut planned = Planned {
            builder,
            operators: std::mem::take(&mut plan.operators),
            entries: Vec::new(),
        };
        let mut located = std::mem::take(&mut model.tensors);
        let operators = Operators::new(&model);
        // A large plan takes much memory: each part is freed once it has its row or entry.
        for clear in std::mem::take(&mut plan.clear) {
            let tensor = located.get(clear.tensor.index()).ok_or(LOST)?;
            let consumers = plan.consumers(clear.tensor).iter();
            let consumers = consumers.map(|&node| operators.of(node)).collect();
            let row = ClearRow::new(
                tensor,
                clear.bytes,
                clear.reason.to_string().into(),
                consumers,
            );
            planned.builder.report.clear.push(row);
        }
        let tensors = std::mem::take(&mut plan.tensors);
        // The length of the manifest, with a comma after each tensor.
        let tiers = tier_names(policy);
        let mut tier_bytes = vec![0; tiers.len()];
        let mut n_bytes = count_bytes(&Draft {
            tiers: tiers.clone(),
            ..Draft::of_files(files.to_vec())
        })?;
        let n_tiers = policy.tiers().len().max(1) as u8;
        for of_plan in tensors {
            let (id, operator) = (of_plan.tensor, of_plan.operator);
            let owner = planned.operators.get(operator).ok_or(LOST)?;
            let consumers = plan.consumers(id);
            let others = consumers.iter().filter(|&&node| Some(node) != owner.node);
            // The owner first, as the format demands.
            let mut names = Vec::with_capacity(consumers.len());
            names.extend(owner.node.map(|node| operators.of(node)));
            names.extend(others.map(|&node| operators.of(node)));
            let tensor = located.get_mut(id.index()).ok_or(LOST)?;
            let entry = take_entry(tensor, names, of_plan, n_tiers).ok_or(LOST)?;
            entry.add_tier_bytes(&mut tier_bytes);
            match purpose {
                Purpose::Seal => planned.entries.push(((id, operator), entry)),
                Purpose::Report => {
                    if !entry.targets.is_empty() {
                        n_bytes += count_bytes(&entry)? + 1;
                    }
                    planned.add_row(operator, entry)?;
                }
            }
        }
        if purpose == Purpose::Report {
            check_len(n_bytes.saturating_sub(1)).map_err(Error::Usage)?;
        }
        planned.builder.report.tiers = tier_rows(&tiers, tier_bytes);
        // Most often they are sorted, and sorting would take more memory.
        let place = |(_, tensor): &(Key, Tensor)| (tensor.file, tensor.offset);
        if !planned.entries.is_sorted_by_key(place) {
            planned.entries.sort_by_key(place);
        }
        Ok(planned)
    }

    fn add_row(&mut self, operator: usize, entry: Tensor) -> Result<()> {
        let plan = self.operators.get(operator).ok_or(LOST)?;
        let (owner, row) = TensorRow::of_entry(entry);
        let row = self.builder.add(plan.node, || owner, row);
        row.coefficient = Some(plan.coefficient);
        row.whole_because = plan.whole.then_some("the model is small");
        Ok(())
    }

    /// Puts the tensors to encrypt in the model at `path` into `draft`, encodes it, and makes the
    /// report, which takes their text out of `draft`. Fails if the plan falls short of the policy's
    /// demands.
    pub(crate) fn encode(mut self, path: &Path, draft: &mut Draft) -> Result<(Vec<u8>, Report)> {
        let violations = std::mem::take(&mut self.builder.report.violations);
        if !violations.is_empty() {
            let path = path.to_owned();
            return Err(Error::PolicyNotMet { path, violations });
        }
        let is_selected = |(_, tensor): &(Key, Tensor)| !tensor.targets.is_empty();
        let entries = std::mem::take(&mut self.entries).into_iter();
        let (selected, mut entries): (Vec<_>, Vec<_>) = entries.partition(is_selected);
        let (keys, tensors): (Vec<Key>, _) = selected.into_iter().unzip();
        draft.tensors = tensors;
        let manifest_bytes = draft.encode()?;
        entries.extend(keys.into_iter().zip(std::mem::take(&mut draft.tensors)));
        entries.sort_unstable_by_key(|(key, _)| *key);
        for ((_, operator), tensor) in entries {
            self.add_row(operator, tensor)?;
        }
        let mut report = self.builder.finish();
        if let Some(original) = &draft.original {
            report.original_files = original.files(&draft.files);
        }
        Ok((manifest_bytes, report))
    }
}

pub(crate) fn tier_names(policy: &Policy) -> Vec<String> {
    let tiers = policy.tiers().iter();
    tiers.map(|tier| tier.name.clone()).collect()
}

/// Makes the manifest's entry for a tensor that `operators` read, in a plan of `n_tiers` tiers.
/// Moves path and shape out of `tensor`. Returns `None` if its elements cannot be encrypted.
fn take_entry(
    tensor: &mut model::Tensor<'_>,
    operators: Vec<Operator>,
    planned: TensorPlan,
    n_tiers: u8,
) -> Option<Tensor> {
    let place = Place::of(tensor)?;
    let mut runs = Vec::with_capacity(2 * planned.targets.len());
    (planned.targets.iter()).for_each(|run| runs.extend([run.skip, run.take]));
    let tiers = planned.tiers.iter();
    let tiers = tiers.map(|&plan::TierRun { tier, take }| TierRun { tier, take });
    let targets = Targets {
        runs,
        tiers: tiers.collect(),
        n_tiers,
    };
    Some(Tensor {
        name: tensor.name.to_owned(),
        at: std::mem::take(&mut tensor.path),
        data_type: ElementType::of(tensor.data_type)?,
        dims: std::mem::take(&mut tensor.dims),
        operators,
        file: place.file,
        offset: place.offset,
        stride: place.stride,
        unit: planned.unit_elements,
        targets,
        mode: match planned.mode {
            plan::Mode::Mask => Mode::Mask,
            plan::Mode::Shuffle => Mode::Shuffle,
            _ => Mode::Bytes,
        },
        fill: planned.fill,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use onnxseal_onnx::{Limits, locate};
    use onnxseal_plan::{Preset, Scores, Wanted};
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;

    #[test]
    fn no_planned_tensor_goes_missing() {
        let bytes = GraphBuilder::new("g")
            .initializer(weights("w", &[16, 16], 1))
            .initializer(weights("nothing", &[0], 1))
            .node(node("MatMul", &["x", "w"], &["y"]))
            .encode();
        let model = || locate(&bytes, &Limits::default()).unwrap();
        let policy = Policy::preset(Preset::Full);
        let never = |_: &[Wanted]| Err::<Scores, _>(Error::Internal("nothing is to choose"));
        let plan = || plan::plan(&model(), &policy, never).unwrap();
        let planned = |plan| {
            let path = Path::new("m");
            Planned::new(path, &[], model(), &policy, Purpose::Seal, plan)
        };
        let whole = planned(plan()).ok().unwrap();
        let mut draft = Draft::of_files(Vec::new());
        let (bytes, report) = whole.encode(Path::new("m"), &mut draft).unwrap();
        assert_eq!(Draft::parse(&bytes).unwrap().tensors.len(), 1);
        assert_eq!(report.operators[0].tensors[0].name, "w");
        let without_a_place = model().tensors_with_ids().nth(1).unwrap().0;
        let mut of_another = plan();
        of_another.tensors[0].tensor = without_a_place;
        assert!(matches!(planned(of_another), Err(Error::Internal(_))));
        let mut of_another = plan();
        of_another.operators.clear();
        assert!(matches!(planned(of_another), Err(Error::Internal(_))));
        // Another model lacks the plan's tensors.
        let bytes = GraphBuilder::new("empty").encode();
        let empty = locate(&bytes, &Limits::default()).unwrap();
        let of_empty = Planned::new(Path::new("m"), &[], empty, &policy, Purpose::Seal, plan());
        assert!(matches!(of_empty, Err(Error::Internal(_))));
    }

    #[test]
    fn a_length_is_that_of_the_bytes() {
        let graph = |n: u32| {
            let graph = GraphBuilder::new("g").initializer(weights("first \"w\"", &[16, 16], 1));
            let graph = graph.node(node("MatMul", &["x0", "first \"w\""], &["x1"]));
            (1..n).fold(graph, |graph, i| {
                let [name, x, y] = [format!("w{i}"), format!("x{i}"), format!("x{}", i + 1)];
                let graph = graph.initializer(weights(&name, &[16, 16], i));
                graph.node(node("MatMul", &[&x, &name], &[&y]))
            })
        };
        for n in [1, 2, 9000] {
            let bytes = graph(n).encode();
            let model = locate(&bytes, &Limits::default()).unwrap();
            let policy = Policy::preset(Preset::Full);
            let path = Path::new("m");
            let none = |_: &[Wanted]| Ok::<_, Error>(Scores::new());
            let plan = plan::plan(&model, &policy, none).unwrap();
            let planned = Planned::new(path, &[], model, &policy, Purpose::Seal, plan);
            let mut draft = Draft::of_files(Vec::new());
            let mut n_bytes = count_bytes(&draft).unwrap();
            let (encoded, _) = planned.unwrap().encode(path, &mut draft).unwrap();
            for tensor in &Draft::parse(&encoded).unwrap().tensors {
                n_bytes += count_bytes(tensor).unwrap() + 1;
            }
            assert_eq!(n_bytes - 1, encoded.len(), "{n} tensors");
        }
    }
}
