//! Spreads work over all cores.

use onnxseal_store::parallel;

use crate::error::Result;

/// Calls `work` for 0 to n - 1 on all cores, and returns the results in order.
pub(crate) fn on_all_cores<T: Send>(
    n: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut done: Vec<Option<T>> = Vec::new();
    done.resize_with(n, || None);
    let jobs = done.iter_mut().enumerate();
    parallel::for_each(
        false,
        n as u64,
        jobs,
        || (),
        |(), (i, place)| -> Result<()> {
            *place = Some(work(i)?);
            Ok(())
        },
    )?;
    Ok(done.into_iter().flatten().collect())
}
