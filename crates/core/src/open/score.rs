//! Computes the energy of subsequences of a protected model, to choose or check what is encrypted.

use onnxseal_onnx::model::Model;
use onnxseal_plan::{Scores, Wanted};
use onnxseal_store::Progress;

use crate::error::Result;
use crate::open::protected::Unlocked;
use crate::pass::score::{Scorer, Unseen};
use crate::pass::structure::Structure;

/// Scores the tensors of `model`, located in `structure`, from the protected model that `unlocked`
/// opens.
pub(crate) fn score_protected(
    unlocked: &Unlocked,
    structure: &Structure,
    model: &Model<'_>,
    wanted: &[Wanted],
    progress: &dyn Progress,
) -> Result<Scores> {
    let (path, manifest) = (unlocked.path(), unlocked.manifest());
    let scorer = Scorer::new(path, manifest, model, wanted)?;
    unlocked.open_all(
        &Unseen(progress),
        |chunk, stored| structure.check(chunk, stored),
        |chunk, bytes| scorer.take(chunk, bytes),
    )?;
    Ok(scorer.finish())
}
