//! Secret memory that is filled when it is touched, block by block.
//!
//! A thread of its own answers touches. While an owner [works](OnDemand::begin) through the memory,
//! other threads fill ahead, and blocks that the owner has left behind are given back. Blocks are
//! either missing, being filled by one thread, or there; the lock is not held while one is filled.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, Once, Weak};
use std::thread::{self, JoinHandle};

use crate::faults::{self, Faults};
use crate::parallel::{self, lock};

mod blocks;
mod fill;
mod threads;

use blocks::{Block, Cause, Failure, Inner, Place};
pub use blocks::{OnLoss, Unit};
use fill::Buffer;
pub use fill::Fill;

/// The most threads that fill ahead. One keeps up with a core that packs weights.
const MAX_WORKERS: usize = 4;

/// Memory that is filled when it is touched.
///
/// Bytes where a fill failed are zeros: use none before [`finish`](OnDemand::finish) or
/// [`fill_all`](OnDemand::fill_all) succeeded.
pub struct OnDemand<F: Fill> {
    inner: Arc<Inner<F>>,
    handler: Option<JoinHandle<()>>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl<F: Fill> OnDemand<F> {
    /// Reserves memory for `blocks`: ranges of bytes that begin at multiples of
    /// [`page_bytes`], in ascending order.
    pub fn new(fill: F, blocks: Vec<Range<usize>>) -> io::Result<OnDemand<F>> {
        let (inner, handler) = Inner::new(fill, blocks)?.start()?;
        remember(&inner);
        Ok(OnDemand {
            inner,
            handler: Some(handler),
            workers: Mutex::default(),
        })
    }

    /// Returns the memory. A thread that touches a missing block waits until it is filled.
    pub fn bytes(&self) -> &[u8] {
        self.inner.faults.bytes()
    }

    pub fn filler(&self) -> &F {
        &self.inner.fill
    }

    /// Returns whether all bytes that are there are locked out of swap space.
    pub fn is_locked(&self) -> bool {
        self.inner.faults.is_locked()
    }

    /// Says in which order the memory will be touched. Until [`finish`](OnDemand::finish), blocks
    /// are filled ahead, and those of units that were left behind are given back.
    pub fn begin(&self, units: Vec<Unit>) {
        // Locked first, and to the end: another thread may be ending the work.
        let mut workers = self.workers();
        let mut state = self.inner.lock();
        // The touch of its first block tells that the owner has come to a unit.
        for first in state.begin(units) {
            self.inner.give_back(&mut state, first);
        }
        drop(state);
        // The owner has a core. Without a thread, blocks are filled when they are touched.
        let wanted = (parallel::n_cores() - 1).clamp(1, MAX_WORKERS);
        let n = wanted.saturating_sub(workers.len());
        workers.extend(self.inner.start_workers(n));
    }

    /// Ends the work: fills or checks all blocks that were never filled, and gives back those that
    /// were touched. Blocks that are filled later stay.
    pub fn finish(&self, on_loss: OnLoss) -> Result<(), F::Error> {
        self.end_work();
        let inner = &self.inner;
        let mut todo = Vec::new();
        let mut state = inner.lock();
        for index in 0..inner.blocks.len() {
            let block = state.blocks[index];
            let is_needed = state.is_needed(block);
            if is_needed && block.place != Place::There || !block.is_proved {
                todo.push((index, is_needed));
            } else if !is_needed {
                inner.give_back(&mut state, index);
            }
        }
        drop(state);
        self.inner.fill_these(Cause::Need, todo);
        inner.lock().on_loss = on_loss;
        self.check()
    }

    /// Fills the blocks that have the bytes in `ranges`, on all cores. They may be given back later.
    pub fn fill_within(&self, ranges: impl Iterator<Item = Range<usize>>) {
        let blocks = &self.inner.blocks;
        let within = |range: Range<usize>| {
            let first = blocks.partition_point(|block| block.end <= range.start);
            let end = blocks.partition_point(|block| block.start < range.end);
            first..end
        };
        let mut todo: Vec<_> = ranges.flat_map(within).map(|index| (index, true)).collect();
        todo.dedup();
        self.inner.fill_these(Cause::Need, todo);
    }

    /// Fills all blocks, which then stay.
    pub fn fill_all(&self) -> Result<(), F::Error> {
        self.end_work();
        self.inner.fill_missing(Cause::Need);
        self.check()
    }

    /// Fails if a block could not be filled, ever.
    pub fn check(&self) -> Result<(), F::Error> {
        // Without the lock: another thread may have held it when this process was forked.
        if !self.inner.has_failed() {
            return Ok(());
        }
        let fill = &self.inner.fill;
        let (block, error) = match &mut *lock(&self.inner.failure) {
            Some(Failure::Block(block, error)) => (*block, error.take()),
            Some(Failure::System(kind, code)) => {
                let code = code.map(io::Error::from_raw_os_error);
                return Err(fill.refused(code.unwrap_or_else(|| (*kind).into())));
            }
            None => return Ok(()),
        };
        let again = || {
            let again = Buffer::default().run(fill, block, self.inner.blocks[block].len());
            // It is there once more, but was not when it was needed.
            again.err().unwrap_or_else(|| fill.lost(block))
        };
        Err(error.unwrap_or_else(again))
    }

    /// Stops filling ahead and giving back.
    fn end_work(&self) {
        let mut workers = self.workers();
        let mut state = self.inner.lock();
        state.is_working = false;
        state.ahead.clear();
        self.inner.changed.notify_all();
        drop(state);
        for worker in workers.drain(..) {
            let _ = worker.join();
        }
    }

    /// Returns the threads that fill ahead, locked.
    fn workers(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        let mut workers = lock(&self.workers);
        if self.inner.is_in_child() {
            // Threads do not follow to a child: nobody can wait for them.
            workers.drain(..).for_each(std::mem::forget);
        }
        workers
    }
}

impl<F: Fill> Inner<F> {
    /// Fills all blocks that are missing, and gives nothing back any more. Children of the process
    /// get a copy of what is there.
    fn fill_missing(&self, cause: Cause) {
        let mut state = self.lock();
        state.stays = true;
        let missing = |index: &usize| state.blocks[*index].place != Place::There;
        let todo = (0..self.blocks.len()).filter(missing);
        let todo = todo.map(|index| (index, true)).collect();
        drop(state);
        self.fill_these(cause, todo);
        let state = self.lock();
        let is_good = |block: &Block| block.place == Place::There && block.is_proved;
        let good = (0..).zip(&state.blocks).filter(|(_, block)| is_good(block));
        let good: Vec<usize> = good.map(|(index, _)| index).collect();
        for run in good.chunk_by(|one, next| one + 1 == *next) {
            let (first, last) = (run[0], run[run.len() - 1]);
            let range = self.blocks[first].start..self.blocks[last].end;
            // What fails here is missing in the child.
            let _ = self.faults.let_children_have(range);
        }
    }
}

impl<F: Fill> Drop for OnDemand<F> {
    fn drop(&mut self) {
        self.end_work();
        let handler = self.handler.take();
        match self.inner.stop() {
            true => drop(handler.map(JoinHandle::join)),
            // The thread is not there, or cannot be woken: the memory stays.
            false => std::mem::forget(handler),
        }
    }
}

impl<F: Fill> fmt::Debug for OnDemand<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnDemand")
    }
}

/// Returns the unit of memory at which blocks begin, in bytes.
pub fn page_bytes() -> usize {
    faults::page_bytes()
}

/// Fails, with the reason, if this process cannot fill memory on demand.
pub fn try_on_demand() -> io::Result<()> {
    let faults = Faults::new(1)?;
    // The thread's table of descriptors changes.
    let try_it = move || faults.register(&[]).map(drop);
    let tried = thread::Builder::new().spawn(try_it)?.join();
    tried.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

/// Memory of which a child of the process gets a copy.
trait Copied: Send + Sync {
    /// Fills what is missing, for good: nobody does it in the child. The child does not get what
    /// cannot be filled.
    fn before_fork(&self);
}

impl<F: Fill> Copied for Inner<F> {
    fn before_fork(&self) {
        if !self.is_in_child() {
            self.fill_missing(Cause::Fork);
        }
    }
}

/// All memory that is in use.
static REGIONS: Mutex<Vec<Weak<dyn Copied>>> = Mutex::new(Vec::new());

/// Sees to it that the memory is whole before the process forks.
fn remember<F: Fill>(inner: &Arc<Inner<F>>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| faults::before_fork(before_fork));
    let region: Weak<dyn Copied> = Arc::<Inner<F>>::downgrade(inner);
    let mut regions = lock(&REGIONS);
    regions.retain(|region| region.strong_count() > 0);
    regions.push(region);
}

extern "C" fn before_fork() {
    let regions: Vec<_> = lock(&REGIONS).iter().filter_map(Weak::upgrade).collect();
    regions.iter().for_each(|region| region.before_fork());
}
