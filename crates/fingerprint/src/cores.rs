//! Spreads work over all cores.

use onnxseal_store::parallel;

use crate::error::Result;

/// Calls `work` for each item on all cores, and returns the results in order.
pub fn on_all_cores<I: Sync, T: Send>(
    items: &[I],
    work: impl Fn(&I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut done: Vec<Option<T>> = Vec::new();
    done.resize_with(items.len(), || None);
    let jobs = items.iter().zip(&mut done);
    parallel::for_each(
        false,
        items.len() as u64,
        jobs,
        || (),
        |(), (item, place)| -> Result<()> {
            *place = Some(work(item)?);
            Ok(())
        },
    )?;
    Ok(done.into_iter().flatten().collect())
}
