//! Secret memory that is filled when it is touched, block by block.
//!
//! A thread of its own answers touches. While an owner [works](OnDemand::begin) through the memory,
//! other threads fill ahead, and blocks that the owner has left behind are given back. Blocks are
//! either missing, being filled by one thread, or there; the lock is not held while one is filled.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::io;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use crate::faults::{self, Faults};
use crate::parallel;
use crate::secret::SecretBytes;

/// How many units stay: the one that was touched last, and those before it.
const N_RECENT: usize = 2;

/// The most threads that fill ahead. One keeps up with a core that packs weights.
const MAX_WORKERS: usize = 4;

/// The stack of a thread that fills, in bytes.
const STACK_BYTES: usize = 512 << 10;

/// A source of the bytes.
pub trait Fill: Send + Sync + 'static {
    /// Memory that filling needs besides the block, reused for each.
    type Tools: Default;
    /// Why a block has no bytes.
    type Error: Display + Send;

    /// Puts the bytes of block `index` into `bytes`, which has the block's length: equal bytes
    /// whenever it is called.
    ///
    /// # Errors
    /// The reason, if there are no such bytes any more.
    fn fill(
        &self,
        index: usize,
        bytes: &mut [u8],
        tools: &mut Self::Tools,
    ) -> Result<(), Self::Error>;

    /// Makes the error for block `index`, which could not be filled once.
    fn lost(&self, index: usize) -> Self::Error;
}

/// Blocks that are worked through together.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Indices of the blocks, in the order in which they will be touched.
    pub blocks: Vec<usize>,
    /// Whether the blocks are needed after the work: those that were not touched are then filled,
    /// and the unit behind this one is filled ahead.
    pub is_kept: bool,
}

/// The reaction to a block that is touched after the work and cannot be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// End the process, with a message on standard error.
    Abort,
    /// Fill it with zeros, and let [`OnDemand::check`] fail from then on.
    Tell,
}

/// Memory that is filled when it is touched.
///
/// Bytes where a fill failed are zeros: use none before [`finish`](OnDemand::finish) or
/// [`fill_all`](OnDemand::fill_all) succeeded.
pub struct OnDemand<F: Fill> {
    inner: Arc<Inner<F>>,
    handler: Option<JoinHandle<()>>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

struct Inner<F: Fill> {
    faults: Faults,
    fill: F,
    /// The bytes of each block. They begin at pages, and are in ascending order.
    blocks: Vec<Range<usize>>,
    state: Mutex<State<F::Error>>,
    changed: Condvar,
    has_failed: AtomicBool,
    /// The process that made it: threads do not follow to a child.
    process: u32,
}

struct State<E> {
    blocks: Vec<Block>,
    units: Vec<Way>,
    /// The units that were touched last, the very last in front.
    recent: VecDeque<usize>,
    /// Blocks to fill ahead, wholly or but for their first pages.
    ahead: VecDeque<(usize, Extent)>,
    /// The unit that was filled ahead last.
    next: Option<usize>,
    /// The first page of the block that lacks no other.
    first_page: SecretBytes,
    /// Whether an owner works through the memory.
    is_working: bool,
    /// Whether nothing is given back any more: others hold references to all of it.
    stays: bool,
    on_loss: OnLoss,
    /// The first block that could not be filled, and why.
    failure: Option<(usize, Option<E>)>,
}

/// A unit, and whether the owner has come to it.
struct Way {
    unit: Unit,
    is_passed: bool,
}

#[derive(Clone, Copy)]
struct Block {
    place: Place,
    /// Whether it was filled once: its bytes are known to be good.
    is_proved: bool,
    /// Whether somebody touched it while it was being filled.
    is_touched: bool,
    /// Index of its unit.
    unit: Option<usize>,
}

/// How much of a block is filled.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    Whole,
    /// All but the first page: its touch tells that the owner has come to the block.
    ButFirstPage,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Missing,
    Filling,
    /// All but its first page, which lies in [`State::first_page`].
    AllButFirstPage,
    There,
}

impl<F: Fill> OnDemand<F> {
    /// Reserves memory for `blocks`: ranges of bytes that begin at multiples of
    /// [`page_bytes`], in ascending order.
    ///
    /// # Errors
    /// The system's error, if it does not let the process fill memory on demand.
    pub fn new(fill: F, blocks: Vec<Range<usize>>) -> io::Result<OnDemand<F>> {
        let len = blocks.last().map_or(0, |block| block.end);
        if len == 0 {
            return Err(io::Error::other("there are no bytes to fill in"));
        }
        let state = State {
            blocks: vec![
                Block {
                    place: Place::Missing,
                    is_proved: false,
                    is_touched: false,
                    unit: None
                };
                blocks.len()
            ],
            units: Vec::new(),
            recent: VecDeque::new(),
            ahead: VecDeque::new(),
            next: None,
            first_page: SecretBytes::default(),
            is_working: false,
            stays: false,
            on_loss: OnLoss::Tell,
            failure: None,
        };
        let inner = Arc::new(Inner {
            faults: Faults::new(len)?,
            fill,
            blocks,
            state: Mutex::new(state),
            changed: Condvar::new(),
            has_failed: AtomicBool::new(false),
            process: std::process::id(),
        });
        remember(&inner);
        let handler = spawn(&inner, Inner::answer)?;
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

    /// Returns where the bytes come from.
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
        for block in &mut state.blocks {
            block.unit = None;
        }
        for (index, unit) in units.iter().enumerate() {
            for &block in &unit.blocks {
                if let Some(block) = state.blocks.get_mut(block) {
                    block.unit.get_or_insert(index);
                }
            }
        }
        // The touch of its first block tells that the owner has come to a unit.
        for unit in units.iter().filter(|unit| unit.is_kept) {
            if let Some(first) = unit.blocks.first() {
                self.inner.give_back(&mut state, *first);
            }
        }
        let way = |unit| Way {
            unit,
            is_passed: false,
        };
        state.units = units.into_iter().map(way).collect();
        state.recent.clear();
        state.next = None;
        state.is_working = true;
        drop(state);
        // The owner has a core. Without a thread, blocks are filled when they are touched.
        let wanted = (parallel::n_cores() - 1).clamp(1, MAX_WORKERS);
        let new = (workers.len()..wanted).map_while(|_| spawn(&self.inner, Inner::work).ok());
        workers.extend(new.collect::<Vec<_>>());
    }

    /// Ends the work: fills or checks all blocks that were never filled, and gives back those that
    /// were touched. Blocks that are filled later stay.
    ///
    /// # Errors
    /// The first error of filling, of any block since the memory was made.
    pub fn finish(&self, on_loss: OnLoss) -> Result<(), F::Error> {
        self.end_work();
        let inner = &self.inner;
        let todo: Vec<(usize, bool)> = {
            let mut state = inner.lock();
            let mut todo = Vec::new();
            for index in 0..inner.blocks.len() {
                let Some(&block) = state.blocks.get(index) else {
                    continue;
                };
                let unit = block.unit.and_then(|unit| state.units.get(unit));
                let is_kept = unit.is_some_and(|unit| unit.unit.is_kept);
                let is_needed = is_kept && unit.is_some_and(|unit| !unit.is_passed);
                if is_needed && block.place != Place::There || !block.is_proved {
                    todo.push((index, is_needed));
                } else if !is_needed {
                    inner.give_back(&mut state, index);
                }
            }
            todo
        };
        inner.fill_these(todo);
        inner.lock().on_loss = on_loss;
        self.check()
    }

    /// Fills the blocks that have the bytes in `ranges`, on all cores. They may be given back later.
    pub fn fill_within(&self, ranges: impl Iterator<Item = Range<usize>>) {
        let mut todo: Vec<(usize, bool)> = Vec::new();
        for range in ranges {
            let blocks = &self.inner.blocks;
            let first = blocks.partition_point(|block| block.end <= range.start);
            let found = (first..).zip(blocks.iter().skip(first));
            let found = found.take_while(|(_, block)| block.start < range.end);
            todo.extend(found.map(|(index, _)| (index, true)));
        }
        todo.dedup();
        self.inner.fill_these(todo);
    }

    /// Fills all blocks, which then stay.
    ///
    /// # Errors
    /// The first error of filling, of any block since the memory was made.
    pub fn fill_all(&self) -> Result<(), F::Error> {
        self.end_work();
        self.inner.fill_missing();
        self.check()
    }

    /// Fails if a block could not be filled, ever.
    ///
    /// # Errors
    /// The first error.
    pub fn check(&self) -> Result<(), F::Error> {
        if !self.inner.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let failure = match &mut self.inner.lock().failure {
            Some((block, error)) => (*block, error.take()),
            None => return Ok(()),
        };
        let (block, error) = failure;
        let again = || {
            let len = self.inner.blocks.get(block).map_or(0, Range::len);
            let again = Buffer::default().run(&self.inner.fill, block, len);
            // It is there once more, but was not when it was needed.
            again.err().unwrap_or_else(|| self.inner.fill.lost(block))
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
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inner.is_in_child() {
            // Threads do not follow to a child: nobody can wait for them.
            std::mem::take(&mut *workers)
                .into_iter()
                .for_each(std::mem::forget);
        }
        workers
    }
}

impl<F: Fill> Inner<F> {
    fn lock(&self) -> MutexGuard<'_, State<F::Error>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether this is a child of the process that made the memory.
    fn is_in_child(&self) -> bool {
        self.process != std::process::id()
    }

    /// Answers touches until the memory is released.
    fn answer(&self) {
        let mut buffer = Buffer::<F>::default();
        let mut offsets = Vec::new();
        while self.faults.wait(&mut offsets) {
            for offset in &offsets {
                let block = self.blocks.partition_point(|block| block.end <= *offset);
                if block >= self.blocks.len() {
                    continue;
                }
                self.fill(block, true, Extent::Whole, &mut buffer);
                self.move_on(block);
            }
            if !self.lock().is_working {
                // Plaintext is kept no longer than it is needed.
                buffer = Buffer::default();
            }
        }
    }

    /// Fills blocks ahead until the work ends.
    fn work(&self) {
        let mut buffer = Buffer::<F>::default();
        let mut state = self.lock();
        while state.is_working {
            let Some((block, extent)) = state.ahead.pop_front() else {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            self.fill(block, false, extent, &mut buffer);
            state = self.lock();
        }
    }

    /// Fills a block as far as it is missing. If that fails, a block that was touched becomes zeros,
    /// because a thread waits for it; others stay missing.
    fn fill(&self, index: usize, is_touched: bool, extent: Extent, buffer: &mut Buffer<F>) {
        let Some(range) = self.blocks.get(index) else {
            return;
        };
        let first_page = {
            let mut guard = self.lock();
            let state = &mut *guard;
            match state.blocks.get_mut(index) {
                Some(block) if block.place == Place::Filling => {
                    block.is_touched |= is_touched;
                    return;
                }
                Some(block) if block.place == Place::There => return,
                Some(block) => {
                    let place = std::mem::replace(&mut block.place, Place::Filling);
                    block.is_touched = is_touched;
                    (place == Place::AllButFirstPage).then(|| std::mem::take(&mut state.first_page))
                }
                None => return,
            }
        };
        if let Some(mut page) = first_page {
            self.provide(range.start, page.as_mut_slice());
            self.set_place(index, Place::There, true);
            return;
        }
        let filled = buffer.run(&self.fill, index, range.len());
        let is_proved = filled.is_ok();
        if let Err(error) = filled {
            if !self.fail(index, error) {
                return;
            }
            buffer.bytes.as_mut_slice().fill(0);
        }
        let page = faults::page_bytes();
        let n_bytes = range.len().next_multiple_of(page);
        let (first, others) = buffer.bytes.as_mut_slice()[..n_bytes].split_at_mut(page);
        self.provide(range.start + page, others);
        if extent == Extent::ButFirstPage
            && let Ok(mut kept) = SecretBytes::new(page as u64, std::iter::once(0..page).collect())
        {
            kept.as_mut_slice().copy_from_slice(first);
            let mut guard = self.lock();
            let state = &mut *guard;
            // Only one block is so; whoever has touched it meanwhile is waiting for its first page.
            if let Some(block) = state.blocks.get_mut(index)
                && !block.is_touched
                && state.first_page.is_empty()
            {
                state.first_page = kept;
                (block.place, block.is_proved) = (Place::AllButFirstPage, is_proved);
                self.changed.notify_all();
                return;
            }
        }
        self.provide(range.start, first);
        self.set_place(index, Place::There, is_proved);
    }

    /// Makes `pages` appear in memory.
    fn provide(&self, start: usize, pages: &[u8]) {
        if let Err(error) = self.faults.fill(start, pages) {
            // A thread that touched them would wait for ever.
            abort(&format_args!("no memory for the weights: {error}"));
        }
    }

    fn set_place(&self, index: usize, place: Place, is_proved: bool) {
        if let Some(block) = self.lock().blocks.get_mut(index) {
            (block.place, block.is_proved) = (place, is_proved);
        }
        self.changed.notify_all();
    }

    /// Checks a block, and keeps no bytes of it.
    fn prove(&self, index: usize, buffer: &mut Buffer<F>) {
        let len = self.blocks.get(index).map_or(0, Range::len);
        let result = buffer.run(&self.fill, index, len);
        match result {
            Ok(()) => {
                if let Some(block) = self.lock().blocks.get_mut(index) {
                    block.is_proved = true;
                }
            }
            Err(error) => self.note(&mut self.lock(), index, error),
        }
    }

    /// Notes that a block cannot be filled. Returns whether a thread waits for it; else it is missing.
    fn fail(&self, index: usize, error: F::Error) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut is_touched = false;
        if let Some(block) = state.blocks.get_mut(index)
            && block.place == Place::Filling
        {
            is_touched = block.is_touched;
            if !is_touched {
                block.place = Place::Missing;
            }
        }
        if is_touched && state.on_loss == OnLoss::Abort {
            abort(&error);
        }
        self.note(state, index, error);
        self.changed.notify_all();
        is_touched
    }

    fn note(&self, state: &mut State<F::Error>, index: usize, error: F::Error) {
        state.failure.get_or_insert((index, Some(error)));
        self.has_failed.store(true, Ordering::Release);
    }

    /// Notes that the owner has come to `block`: gives back what it left behind, and fills ahead.
    fn move_on(&self, block: usize) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let unit = state.blocks.get(block).and_then(|block| block.unit);
        let Some(unit) = unit.filter(|_| state.is_working) else {
            return;
        };
        if state.recent.front() == Some(&unit) {
            return;
        }
        state.recent.retain(|recent| *recent != unit);
        state.recent.push_front(unit);
        if state.recent.len() > N_RECENT
            && let Some(left) = state.recent.pop_back()
        {
            self.give_back_unit(state, left);
        }
        let way = |unit: usize| state.units.get(unit);
        // The owner went another way: what was filled ahead would only lie there.
        if let Some(next) = state.next.take()
            && next != unit
            && way(next).is_some_and(|way| !way.is_passed)
        {
            self.give_back_unit(state, next);
        }
        if let Some(way) = state.units.get_mut(unit) {
            way.is_passed = true;
        }
        let way = |unit: usize| state.units.get(unit);
        let blocks = way(unit).map_or(&[][..], |way| &way.unit.blocks);
        state.ahead = blocks.iter().map(|block| (*block, Extent::Whole)).collect();
        if way(unit).is_some_and(|way| way.unit.is_kept)
            && let Some(next) = way(unit + 1).filter(|way| way.unit.is_kept && !way.is_passed)
            && let Some((first, others)) = next.unit.blocks.split_first()
        {
            state.next = Some(unit + 1);
            state.ahead.push_back((*first, Extent::ButFirstPage));
            state
                .ahead
                .extend(others.iter().map(|block| (*block, Extent::Whole)));
        }
        self.changed.notify_all();
    }

    /// Gives back the blocks of a unit that are there.
    fn give_back_unit(&self, state: &mut State<F::Error>, unit: usize) {
        let blocks = state.units.get(unit).map(|way| way.unit.blocks.clone());
        for block in blocks.unwrap_or_default() {
            self.give_back(state, block);
        }
    }

    /// Gives a block back if it is there. One that failed stays, to be zeros for ever.
    fn give_back(&self, state: &mut State<F::Error>, index: usize) {
        if !state.stays
            && let (Some(block), Some(range)) =
                (state.blocks.get_mut(index), self.blocks.get(index))
            && matches!(block.place, Place::There | Place::AllButFirstPage)
            && block.is_proved
            && self.faults.give_back(range.clone()).is_ok()
        {
            if block.place == Place::AllButFirstPage {
                state.first_page = SecretBytes::default();
            }
            block.place = Place::Missing;
        }
    }

    /// Fills all blocks that are missing, and gives nothing back any more.
    fn fill_missing(&self) {
        let todo = {
            let mut state = self.lock();
            state.stays = true;
            let blocks = (0..).zip(&state.blocks);
            let todo = blocks.filter(|(_, block)| block.place != Place::There);
            todo.map(|(index, _)| (index, true)).collect()
        };
        self.fill_these(todo);
    }

    /// Fills or only checks blocks, on all cores; `true` fills.
    fn fill_these(&self, todo: Vec<(usize, bool)>) {
        let work = |buffer: &mut Buffer<F>, (index, is_kept): (usize, bool)| {
            match is_kept {
                true => self.fill(index, false, Extent::Whole, buffer),
                false => self.prove(index, buffer),
            }
            // The check at the end tells of all failures.
            match self.has_failed.load(Ordering::Acquire) {
                true => Err(()),
                false => Ok(()),
            }
        };
        let n = todo.len() as u64;
        let _ = parallel::for_each(false, n, todo.into_iter(), Buffer::default, work);
        // Another thread may be filling some.
        let mut state = self.lock();
        while state
            .blocks
            .iter()
            .any(|block| block.place == Place::Filling)
        {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The memory of a thread that fills.
struct Buffer<F: Fill> {
    bytes: SecretBytes,
    tools: F::Tools,
}

impl<F: Fill> Default for Buffer<F> {
    fn default() -> Buffer<F> {
        Buffer {
            bytes: SecretBytes::default(),
            tools: F::Tools::default(),
        }
    }
}

impl<F: Fill> Buffer<F> {
    /// Puts the bytes of block `index` in front, with zeros behind them to the end of the page.
    fn run(&mut self, fill: &F, index: usize, len: usize) -> Result<(), F::Error> {
        let n_bytes = len.next_multiple_of(faults::page_bytes());
        if self.bytes.len() < n_bytes {
            let secret = std::iter::once(0..n_bytes).collect();
            match SecretBytes::new(n_bytes as u64, secret) {
                Ok(bytes) => self.bytes = bytes,
                Err(error) => abort(&format_args!("no memory for the weights: {error}")),
            }
        }
        let (bytes, padding) = self.bytes.as_mut_slice()[..n_bytes].split_at_mut(len);
        padding.fill(0);
        let tools = &mut self.tools;
        let filled = panic::catch_unwind(AssertUnwindSafe(|| fill.fill(index, bytes, tools)));
        // Who touched the block would wait for ever.
        filled.unwrap_or_else(|_| abort(&"a thread of onnxseal panicked"))
    }
}

impl<F: Fill> Drop for OnDemand<F> {
    fn drop(&mut self) {
        self.end_work();
        if self.inner.is_in_child() {
            std::mem::forget(self.handler.take());
            return;
        }
        self.inner.faults.stop();
        if let Some(handler) = self.handler.take() {
            let _ = handler.join();
        }
    }
}

impl<F: Fill> Drop for Inner<F> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let blocks = self.blocks.iter().zip(&state.blocks);
        // The first page of one may be missing; it then appears with zeros.
        let there = blocks.filter(|(_, block)| block.place != Place::Missing);
        self.faults.erase(there.map(|(range, _)| range.clone()));
    }
}

impl<F: Fill> fmt::Debug for OnDemand<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand")
            .field("len", &self.bytes().len())
            .field("blocks", &self.inner.blocks.len())
            .finish_non_exhaustive()
    }
}

/// Returns the unit of memory at which blocks begin, in bytes.
pub fn page_bytes() -> usize {
    faults::page_bytes()
}

/// Fails, with the reason, if this process cannot fill memory on demand.
///
/// # Errors
/// The system's error.
pub fn try_on_demand() -> io::Result<()> {
    Faults::new(1).map(drop)
}

fn spawn<F: Fill>(inner: &Arc<Inner<F>>, run: fn(&Inner<F>)) -> io::Result<JoinHandle<()>> {
    let inner = Arc::clone(inner);
    let thread = thread::Builder::new().name("onnxseal".to_owned());
    thread.stack_size(STACK_BYTES).spawn(move || run(&inner))
}

/// Ends the process: a thread computes with these bytes, and nothing else can stop it.
fn abort(why: &dyn Display) -> ! {
    let line = format!("onnxseal: a session needs weights that cannot be read any more: {why}\n");
    faults::say(&line);
    std::process::abort()
}

/// Memory of which a child of the process gets a copy.
trait Copied: Send + Sync {
    /// Fills what is missing, for good: nobody does it in the child. The child does not get what
    /// cannot be filled.
    fn before_fork(&self);
}

impl<F: Fill> Copied for Inner<F> {
    fn before_fork(&self) {
        self.fill_missing();
        for (block, range) in self.lock().blocks.iter().zip(&self.blocks) {
            if block.place != Place::There {
                self.faults.keep_from_children(range.clone());
            }
        }
    }
}

/// All memory that is in use.
static REGIONS: Mutex<Vec<Weak<dyn Copied>>> = Mutex::new(Vec::new());

/// Sees to it that the memory is whole before the process forks.
fn remember<F: Fill>(inner: &Arc<Inner<F>>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| faults::before_fork(before_fork));
    let inner: Arc<dyn Copied> = Arc::clone(inner) as _;
    let mut regions = REGIONS.lock().unwrap_or_else(PoisonError::into_inner);
    regions.retain(|region| region.strong_count() > 0);
    regions.push(Arc::downgrade(&inner));
}

extern "C" fn before_fork() {
    let regions: Vec<_> = {
        let regions = REGIONS.lock().unwrap_or_else(PoisonError::into_inner);
        regions.iter().filter_map(Weak::upgrade).collect()
    };
    for region in &regions {
        region.before_fork();
    }
}
