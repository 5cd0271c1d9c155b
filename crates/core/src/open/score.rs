//! Computes the energy of subsequences of a protected model, to choose or check what is encrypted.

use onnxseal_onnx::model::Model;
use onnxseal_plan::{Scores, Wanted};
use onnxseal_store::{Input, Progress};

use crate::error::Result;
use crate::open::protected::Unlocked;
use crate::pass::chunks;
use crate::pass::score::{Scorer, Unseen};
use crate::pass::structure::Structure;

/// Scores the tensors of `model`, located in `structure`, from the protected model that `unlocked`
/// opens.
pub(crate) fn score_protected(
    unlocked: &Unlocked<'_>,
    structure: &Structure,
    model: &Model<'_>,
    wanted: &[Wanted],
    progress: &dyn Progress,
) -> Result<Scores> {
    let (path, manifest) = (unlocked.path(), unlocked.manifest());
    let scorer = Scorer::new(path, manifest, model, wanted)?;
    let inputs: Vec<&Input> = unlocked.files().collect();
    let (tags, progress) = (unlocked.tags(), Unseen(progress));
    chunks::for_each_read(
        false,
        manifest,
        &inputs,
        tags,
        &progress,
        |chunk, bytes, tools, tag| {
            structure.check(chunk, bytes)?;
            unlocked.open_chunk(chunk, bytes, tag, tools)?;
            scorer.take(chunk, bytes);
            Ok(())
        },
    )?;
    Ok(scorer.finish())
}
