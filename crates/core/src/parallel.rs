//! All cores over a sequence of jobs.

use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::error::{Error, Result};

/// Calls `work` for each of `n_jobs` jobs, begun in order, on all cores. Each thread has a state of
/// its own, made by `init`.
///
/// The threads are this call's own: it does not wait for anybody's pool.
///
/// # Errors
/// The error of the earliest job that failed; later jobs are not begun.
pub(crate) fn for_each<J: Send, S>(
    n_jobs: u64,
    jobs: impl Iterator<Item = J> + Send,
    init: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, J) -> Result<()> + Sync,
) -> Result<()> {
    let jobs = Mutex::new(jobs.enumerate());
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let run = || {
        let mut state = init();
        while lock(&failed).is_none() {
            let Some((index, job)) = lock(&jobs).next() else {
                break;
            };
            if let Err(error) = work(&mut state, job) {
                let mut failed = lock(&failed);
                let earlier = |(earliest, _): &(usize, Error)| index < *earliest;
                if failed.as_ref().is_none_or(earlier) {
                    *failed = Some((index, error));
                }
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    thread::scope(|scope| {
        for _ in 1..cores.min(n_jobs) {
            // Where the system gives no more threads, fewer do.
            if thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some((_, error)) => Err(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
