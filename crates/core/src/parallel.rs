//! Several threads over a sequence of jobs.

use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::error::{Error, Result};

/// Requests to a network that are under way at once.
const REMOTE_THREADS: usize = 16;

/// Threads for work that reads or writes files, or `remote` ones: that waits rather than computes.
pub(crate) fn threads(remote: bool) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    match remote {
        true => cores.max(REMOTE_THREADS),
        false => cores,
    }
}

/// Calls `work` for each of `n_jobs` jobs, begun in order, on so many threads. Each has a state of
/// its own, made by `init`.
///
/// The threads are this call's own: it does not wait for anybody's pool.
///
/// # Errors
/// The error of the earliest job that failed; later jobs are not begun.
pub(crate) fn for_each<J: Send, S>(
    n_threads: usize,
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
    thread::scope(|scope| {
        for _ in 1..n_jobs.min(n_threads as u64) {
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
