//! Runs sequences of jobs on all cores, shared by all calls of the process.

use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread::{self, Scope, ScopedJoinHandle};

static CORES: Cores = Cores::new(0);

/// Concurrent requests to a network, which wait rather than compute.
static REQUESTS: Cores = Cores::new(N_REQUESTS);

/// The number of concurrent requests, besides one for each call.
pub const N_REQUESTS: usize = 16;

thread_local! {
    /// Whether this thread counts as working.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

/// Calls `work` for each of `n_jobs` jobs, begun in order, on all cores that other calls of the
/// process leave free; if `is_remote`, on more threads than cores. Each thread has a state of its
/// own, made by `init`.
///
/// The calling thread always works, so calls never wait for each other. Threads of the call join it
/// while cores are free: a call that outlasts the others takes over their cores.
pub fn for_each<J: Send, S, E: Send>(
    is_remote: bool,
    n_jobs: u64,
    jobs: impl Iterator<Item = J> + Send,
    init: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, J) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let cores = if is_remote { &REQUESTS } else { &CORES };
    for_each_on(cores, n_jobs, jobs, init, work)
}

/// Calls `work` for 0 to `n` - 1 on all cores, and returns the results in order.
pub fn map<T: Send, E: Send>(
    n: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let mut done: Vec<Option<T>> = Vec::new();
    done.resize_with(n, || None);
    let jobs = done.iter_mut().enumerate();
    for_each(
        false,
        n as u64,
        jobs,
        || (),
        |(), (i, place)| {
            *place = Some(work(i)?);
            Ok(())
        },
    )?;
    Ok(done.into_iter().flatten().collect())
}

/// Starts a thread for which `scope` waits. `Scope::spawn` would panic where this fails.
pub fn start<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    work: impl FnOnce() -> T + Send + 's,
) -> io::Result<ScopedJoinHandle<'s, T>> {
    let spawn = |thread: thread::Builder, work| thread.spawn_scoped(scope, work);
    let started = begin(thread::Builder::new(), STACK_BYTES, work, spawn);
    started.map_err(|error| io::Error::other(format!("no more threads: {error}")))
}

/// The stack of a thread, in bytes: what Rust gives it.
const STACK_BYTES: usize = 2 << 20;

/// Bytes that a new thread takes besides its stack.
const START_BYTES: usize = 1 << 20;

/// Starts a thread by `spawn`, if there is memory for it, and waits until it has taken that: the
/// caller could take it first. The C library ends the process if a thread that has begun finds no
/// memory for its thread-local data.
pub(crate) fn begin<'s, T: 's, H>(
    thread: thread::Builder,
    stack_bytes: usize,
    work: impl FnOnce() -> T + Send + 's,
    spawn: impl FnOnce(thread::Builder, Box<dyn FnOnce() -> T + Send + 's>) -> io::Result<H>,
) -> io::Result<H> {
    let mut room: Vec<u8> = Vec::new();
    room.try_reserve_exact(stack_bytes + START_BYTES)?;
    // Compilers leave out memory that nobody uses.
    drop(black_box(room));
    let (told, heard) = mpsc::channel();
    let run = move || {
        let _ = told.send(());
        work()
    };
    let started = spawn(thread.stack_size(stack_bytes), Box::new(run))?;
    let _ = heard.recv();
    Ok(started)
}

/// Counts the calling thread as working until the result is dropped, even between its calls.
pub fn at_work() -> AtWork<'static> {
    CORES.enter()
}

pub fn n_cores() -> usize {
    // Asking the system takes longer than protecting a small model.
    static N: OnceLock<usize> = OnceLock::new();
    *N.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

struct Cores {
    busy: AtomicUsize,
    /// The number of cores; 0 for [`n_cores`].
    limit: usize,
}

impl Cores {
    const fn new(limit: usize) -> Cores {
        let busy = AtomicUsize::new(0);
        Cores { busy, limit }
    }

    fn limit(&self) -> usize {
        match self.limit {
            0 => n_cores(),
            limit => limit,
        }
    }

    /// Counts the calling thread, whatever the limit, unless it counts already.
    fn enter(&self) -> AtWork<'_> {
        let added = (!COUNTS.replace(true)).then(|| {
            self.busy.fetch_add(1, Ordering::Relaxed);
            Added(self)
        });
        AtWork(added)
    }

    /// Counts one more thread, if a core is free.
    fn try_add(&self) -> Option<Added<'_>> {
        let one_more = |busy| (busy < self.limit()).then_some(busy + 1);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        let added = self.busy.fetch_update(set, get, one_more);
        added.is_ok().then(|| Added(self))
    }

    fn are_crowded(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > self.limit()
    }
}

/// The calling thread, which counts as working while this lives.
pub struct AtWork<'c>(Option<Added<'c>>);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        if self.0.is_some() {
            COUNTS.set(false);
        }
    }
}

/// A thread that counts as working while this lives.
struct Added<'c>(&'c Cores);

impl Drop for Added<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

fn for_each_on<J: Send, S, E: Send>(
    cores: &Cores,
    n_jobs: u64,
    jobs: impl Iterator<Item = J> + Send,
    init: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, J) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let (jobs, failed) = (Mutex::new((0..).zip(jobs)), Mutex::new(None));
    let each = |goes_on: &dyn Fn() -> bool, begun: &dyn Fn(u64)| {
        let mut state = None;
        while lock(&failed).is_none() && goes_on() {
            let Some((index, job)) = lock(&jobs).next() else {
                break;
            };
            begun(index);
            if let Err(error) = work(state.get_or_insert_with(&init), job) {
                let mut failed = lock(&failed);
                let earlier = |(earliest, _): &(u64, E)| index < *earliest;
                if failed.as_ref().is_none_or(earlier) {
                    *failed = Some((index, error));
                }
            }
        }
    };
    let _at_work = cores.enter();
    thread::scope(|scope| run(scope, cores, n_jobs, &each, None));
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), |(_, error)| Err(error))
}

/// Does jobs until none are left, or another thread failed. It asks whether to go on before each
/// job, and tells the index of each that it begins.
type Each<'s> = dyn Fn(&dyn Fn() -> bool, &dyn Fn(u64)) + Sync + 's;

/// Does `each` job of a call. An `added` thread also leaves when there are more threads than cores.
fn run<'s>(
    scope: &'s Scope<'s, '_>,
    cores: &'s Cores,
    n_jobs: u64,
    each: &'s Each<'s>,
    added: Option<Added<'s>>,
) {
    let goes_on = || added.is_none() || !cores.are_crowded();
    each(&goes_on, &|index| {
        if index + 1 < n_jobs
            && let Some(added) = cores.try_add()
        {
            // If the system refuses more threads, fewer do the work.
            let _ = start(scope, move || run(scope, cores, n_jobs, each, Some(added)));
        }
    });
}

/// Locks a mutex, even if a thread panicked while holding it.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::collections::HashSet;
    use std::sync::Barrier;

    use super::*;

    fn cores(limit: usize) -> Cores {
        Cores::new(limit)
    }

    fn idle(cores: &Cores) -> bool {
        cores.busy.load(Ordering::SeqCst) == 0
    }

    /// The error of one job.
    #[derive(Debug, PartialEq)]
    struct Failed(u64);

    #[test]
    fn results_are_in_order_and_the_first_error_counts() {
        assert_eq!(map(100, |i| Ok::<_, Failed>(i * i)).unwrap()[99], 99 * 99);
        let odd = |i: usize| {
            if i % 2 == 1 {
                Err(Failed(i as u64))
            } else {
                Ok(())
            }
        };
        assert_eq!(map(100, odd).unwrap_err(), Failed(1));
    }

    /// Runs `n` jobs and returns the threads that ran them.
    fn threads(cores: &Cores, n: u64, work: impl Fn(u64) + Sync) -> HashSet<thread::ThreadId> {
        let seen = Mutex::new(HashSet::new());
        for_each_on(
            cores,
            n,
            0..n,
            || (),
            |(), index| {
                lock(&seen).insert(thread::current().id());
                work(index);
                Ok::<(), Failed>(())
            },
        )
        .unwrap();
        seen.into_inner().unwrap()
    }

    #[test]
    fn every_job_runs_once() {
        for (limit, n) in [(1, 0), (1, 5), (4, 0), (4, 1), (4, 3), (4, 1000)] {
            let (cores, done) = (cores(limit), Mutex::new(Vec::new()));
            threads(&cores, n, |index| lock(&done).push(index));
            let mut done = done.into_inner().unwrap();
            done.sort_unstable();
            assert_eq!(done, (0..n).collect::<Vec<_>>());
            assert!(idle(&cores));
        }
    }

    #[test]
    fn a_call_alone_has_all_cores() {
        // Each job waits until all have begun.
        let (cores, barrier) = (cores(4), Barrier::new(4));
        let used = threads(&cores, 4, |_| {
            barrier.wait();
        });
        assert_eq!(used.len(), 4);
        assert!(idle(&cores));
    }

    #[test]
    fn where_all_cores_are_busy_the_calling_thread_does_all() {
        let cores = cores(3);
        let others: Vec<_> = (0..3).map(|_| cores.try_add().unwrap()).collect();
        assert!(cores.try_add().is_none());
        let used = threads(&cores, 100, |_| ());
        assert_eq!(used, HashSet::from([thread::current().id()]));
        drop(others);
        assert!(idle(&cores));
    }

    #[test]
    fn a_call_takes_over_cores_that_others_leave() {
        let cores = cores(2);
        let other = Mutex::new(cores.try_add());
        let barrier = Barrier::new(2);
        let used = threads(&cores, 12, |index| match index {
            0..10 => (),
            10 => {
                // The thread notices when it takes the next job.
                drop(lock(&other).take());
            }
            // The last job leaves nothing for another thread.
            _ => (),
        });
        assert_eq!(used.len(), 1);
        *lock(&other) = cores.try_add();
        let used = threads(&cores, 13, |index| match index {
            10 => drop(lock(&other).take()),
            11.. => {
                barrier.wait();
            }
            _ => (),
        });
        assert_eq!(used.len(), 2);
        assert!(idle(&cores));
    }

    #[test]
    fn added_threads_give_way_to_calls() {
        let cores = cores(2);
        let entered = Mutex::new(None);
        let barrier = Barrier::new(2);
        let late = Mutex::new(HashSet::new());
        threads(&cores, 100, |index| {
            if index < 2 {
                barrier.wait();
            }
            if index == 0 {
                // Counts as another call would, whatever the limit.
                cores.busy.fetch_add(1, Ordering::SeqCst);
                *lock(&entered) = Some(Added(&cores));
            }
            if index >= 10 {
                lock(&late).insert(thread::current().id());
            }
        });
        assert!(lock(&late).len() <= 2);
        assert!(!idle(&cores));
        drop(entered.into_inner().unwrap());
        assert!(idle(&cores));
    }

    #[test]
    fn a_thread_counts_once() {
        let cores = cores(2);
        let outer = cores.enter();
        threads(&cores, 3, |_| ());
        drop(cores.enter());
        assert_eq!(cores.busy.load(Ordering::SeqCst), 1);
        drop(outer);
        assert!(idle(&cores));
    }

    #[test]
    fn the_error_is_that_of_the_earliest_job() {
        for limit in [1, 4] {
            let cores = cores(limit);
            let barrier = Barrier::new(limit);
            let begun = AtomicUsize::new(0);
            let result = for_each_on(
                &cores,
                1000,
                0..1000,
                || (),
                |(), index: u64| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    if index < limit as u64 {
                        // All jobs fail, in any order.
                        barrier.wait();
                    }
                    Err(Failed(index))
                },
            );
            assert_eq!(result, Err(Failed(0)));
            assert!(begun.into_inner() <= 2 * limit);
            assert!(idle(&cores));
        }
    }

    #[test]
    fn many_calls_at_once_end_and_never_exceed_cores_and_callers() {
        let (cores, most) = (cores(3), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for n in [0, 1, 7, 200] {
                        threads(&cores, n, |_| {
                            let busy = cores.busy.load(Ordering::SeqCst);
                            most.fetch_max(busy, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        // Calling threads always work; others join only while fewer than 3 work.
        assert!(most.into_inner() <= 8 + 3);
        assert!(idle(&cores));
    }

    #[test]
    fn a_panic_gives_its_core_back() {
        let cores = cores(2);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            threads(&cores, 5, |_| panic!("on purpose"));
        }));
        assert!(caught.is_err());
        assert!(idle(&cores));
    }
}
