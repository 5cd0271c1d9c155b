//! Compares the metadata of a protected model with its graph, without a key.

use std::collections::HashMap;
use std::path::Path;

use onnxseal_crypto::signature::fingerprint_of;
use onnxseal_crypto::wrap::Header;
use onnxseal_onnx::model::{self, NodeId};
use onnxseal_onnx::{Model, excerpt, tail};
use onnxseal_plan::{Classified, Gap, classify, total_bytes};
use onnxseal_store::{Input, Location};

use crate::check::report::{Builder, Operators, Report, tier_rows};
use crate::check::rows::{ClearRow, RecipientRow, TensorRow};
use crate::error::{Error, Result, metadata};
use crate::format::manifest::tensor::Place;
use crate::format::manifest::{self, ElementType, Manifest, Operator};
use crate::pass::gaps::gaps;
use crate::pass::source::Source;

/// Reports which weights of the protected model at `location` are encrypted, and which are in
/// clear.
///
/// The report comes from metadata and graph, which are in clear and not authenticated here: see
/// [`verify`](crate::verify).
pub fn inspect(location: impl Into<Location>) -> Result<Report> {
    let source = Source::open(&location.into())?;
    let path = &source.input.path;
    let artifact = source.artifact()?.ok_or_else(|| source.not_protected())?;
    let model = source.locate(artifact.manifest.model_bytes())?;
    // Whoever has the model file alone sees what it says; the rest counts as in clear.
    let external = source.open_external(&model).unwrap_or_default();
    let gaps = gaps(&model, &external)?;
    let mut report = examine(path, &model, &artifact.manifest, &gaps)?;
    for (tier, wrapped) in artifact.keys.0.iter().enumerate() {
        let Some(wrapped) = wrapped else { continue };
        // Leave an unreadable wrapped key to those who open the model.
        let header = Header::read(wrapped).unwrap_or_default();
        if let Some(row) = report.tiers.get_mut(tier) {
            row.recipients = header.kinds.len() as u64;
        }
        let rows = header.kinds.into_iter().map(|kind| RecipientRow { kind });
        report.recipients.extend(rows);
        report.comment = report.comment.or(header.comment);
        report.public_keys.extend(header.recipients);
    }
    // Leave an unreadable signature to those who demand one.
    let signature = artifact.signature.as_deref();
    report.signature = signature.and_then(|armored| fingerprint_of(armored).ok());
    Ok(report)
}

/// Returns whether the model at `location` has the metadata of a protected one.
pub fn is_protected(location: impl Into<Location>) -> Result<bool> {
    match Source::open(&location.into())?.artifact() {
        Err(Error::Unprotectable { .. }) => Ok(false),
        parsed => Ok(parsed?.is_some()),
    }
}

/// Returns whether the file at `location`, which need not be a model, has any part of the metadata
/// or of the lock that [`protect`](crate::protect) writes.
///
/// For callers that cannot tell by [`is_protected`], and leave all other files to other programs.
pub fn is_marked(location: impl Into<Location>) -> Result<bool> {
    const PIECE: u64 = 1 << 20;
    let input = Input::open(&location.into())?;
    let mut piece = Vec::new();
    for start in (0..input.len).step_by(PIECE as usize) {
        // A mark may lie across two pieces.
        let len = (input.len - start).min(PIECE + tail::MARK_BYTES as u64);
        piece.resize(len as usize, 0);
        input.read_exact_at(&mut piece, start)?;
        if tail::is_marked(&piece) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Checks that `manifest` describes `model`, and reports on it.
pub(crate) fn examine(
    path: &Path,
    model: &Model<'_>,
    manifest: &Manifest,
    gaps: &[Gap],
) -> Result<Report> {
    let malformed = metadata(path);
    check_files(path, model, manifest)?;
    // A manifest lists no tensor twice, so the paths are unique.
    let entries = manifest.tensors().iter().map(|entry| (&*entry.at, entry));
    let mut described: HashMap<&str, &manifest::Tensor> = entries.collect();
    let operators = Operators::new(model);
    let named = nodes_by_name(model, &operators);
    let classified = classify(model);
    let in_gaps = gaps.iter().map(|gap| gap.span.len);
    let total = in_gaps.fold(total_bytes(model, &classified), u64::saturating_add);
    let mut builder = Builder::new(path, manifest.files().to_vec(), model, total, gaps);
    for (tensor, classified) in model.tensors.iter().zip(classified) {
        match described.remove(tensor.path.as_str()) {
            Some(found) => {
                if !describes(found, tensor) {
                    let name = excerpt(tensor.name);
                    return Err(malformed(format!("tensor {name:?} differs from the graph")));
                }
                let owner = owner(&operators, &named, found, &classified);
                if owner.is_none() && !found.operators.is_empty() {
                    let name = excerpt(&found.name);
                    return Err(malformed(format!("no operator of tensor {name:?}")));
                }
                let (operator, row) = TensorRow::of_entry(found.clone());
                builder.add(owner, || operator, row);
            }
            None => {
                // A weight that could have been encrypted has no reason in the classification.
                let reason = match &classified.reason {
                    Some(reason) => reason.to_string().into(),
                    None => "it was not selected".into(),
                };
                if classified.reason.is_none()
                    && let Some(owner) = classified.consumers.iter().find(|c| c.as_weight)
                {
                    let others = classified.nodes().filter(|node| *node != owner.node);
                    let shared_with = others.map(|node| operators.of(node)).collect();
                    let row = TensorRow::in_clear(tensor, classified.bytes, shared_with);
                    builder.add(Some(owner.node), || operators.of(owner.node), row);
                }
                let consumers = classified.nodes().map(|node| operators.of(node)).collect();
                let row = ClearRow::new(tensor, classified.bytes, reason, consumers);
                builder.report.clear.push(row);
            }
        }
    }
    // The loop has removed every entry that the graph has.
    if let Some(tensor) = described.values().next() {
        return Err(malformed(format!(
            "tensor {:?} is not in the graph",
            excerpt(&tensor.at)
        )));
    }
    let mut report = builder.finish();
    report.locked = manifest.is_locked();
    report.claims = manifest.claims().clone();
    let names = manifest.tier_names();
    let mut tier_bytes = vec![0; names.len()];
    let tensors = manifest.tensors().iter();
    tensors.for_each(|tensor| tensor.add_tier_bytes(&mut tier_bytes));
    report.tiers = tier_rows(names, tier_bytes);
    if manifest.original.is_some() {
        report.original_files = manifest.original_files();
    }
    Ok(report)
}

pub(crate) fn check_files(path: &Path, model: &Model<'_>, manifest: &Manifest) -> Result<()> {
    let external = manifest.files().iter().skip(1).map(|file| &file.path);
    if !model.external_files.iter().eq(external) {
        let reason = "its files are not the external data files of the graph";
        return Err(metadata(path)(reason.into()));
    }
    Ok(())
}

fn describes(entry: &manifest::Tensor, tensor: &model::Tensor<'_>) -> bool {
    entry.name == tensor.name
        && Some(entry.data_type) == ElementType::of(tensor.data_type)
        && entry.dims == tensor.dims
        && Place::of(tensor) == Some(entry.place())
}

/// Indexes the nodes by their names in a manifest; of several with one name, the first.
fn nodes_by_name(model: &Model<'_>, operators: &Operators<'_, '_>) -> HashMap<Operator, NodeId> {
    let mut named = HashMap::with_capacity(model.nodes.len());
    for (id, _) in model.nodes_with_ids() {
        named.entry(operators.of(id)).or_insert(id);
    }
    named
}

/// Returns the node for which `entry` was planned.
///
/// It prefers a consumer with the name in `entry`, and otherwise takes any node with that name,
/// because another version of the planner may have found other consumers.
fn owner(
    operators: &Operators<'_, '_>,
    named: &HashMap<Operator, NodeId>,
    entry: &manifest::Tensor,
    found: &Classified<'_>,
) -> Option<NodeId> {
    let owner = entry.operators.first()?;
    let mut consumers = found.consumers.iter().map(|consumer| consumer.node);
    consumers
        .find(|&node| operators.of(node) == *owner)
        .or_else(|| named.get(owner).copied())
}
