//! All cores over a sequence of jobs.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// Calls `work` for every job, in order of `jobs`, on all threads of the current rayon pool. Each
/// thread has a state of its own, made by `init`.
///
/// # Errors
/// The error of the earliest job that failed; later jobs are not begun.
pub(crate) fn for_each<J: Send, S>(
    jobs: impl Iterator<Item = J> + Send,
    init: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, J) -> Result<()> + Sync,
) -> Result<()> {
    let jobs = Mutex::new(jobs.enumerate());
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    rayon::broadcast(|_| {
        let mut state = init();
        while lock(&failed).is_none() {
            let Some((index, job)) = lock(&jobs).next() else {
                break;
            };
            if let Err(error) = work(&mut state, job) {
                let mut failed = lock(&failed);
                if failed
                    .as_ref()
                    .is_none_or(|(earliest, _)| index < *earliest)
                {
                    *failed = Some((index, error));
                }
            }
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some((_, error)) => Err(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
