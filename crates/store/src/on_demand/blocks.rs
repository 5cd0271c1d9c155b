//! The blocks: which are there, and how they come and go.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::faults::{self, Descriptor, Faults};
use crate::on_demand::fill::{Buffer, Fill};
use crate::secret::SecretBytes;

/// How many units stay: the one that was touched last, and those before it.
const N_RECENT: usize = 2;

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
    /// Fill it with zeros, and let [`OnDemand::check`](super::OnDemand::check) fail from then on.
    Tell,
}

/// The memory and its blocks.
pub(super) struct Inner<F: Fill> {
    pub(super) faults: Faults,
    pub(super) fill: F,
    /// The bytes of each block. They begin at pages, and are in ascending order.
    pub(super) blocks: Vec<Range<usize>>,
    pub(super) state: Mutex<State<F::Error>>,
    pub(super) changed: Condvar,
    pub(super) has_failed: AtomicBool,
    /// The process that made it: threads do not follow to a child.
    process: u32,
}

pub(super) struct State<E> {
    pub(super) blocks: Vec<Block>,
    pub(super) units: Vec<Way>,
    /// The units that were touched last, the very last in front.
    pub(super) recent: VecDeque<usize>,
    /// Blocks to fill ahead, wholly or but for their first pages.
    pub(super) ahead: VecDeque<(usize, Extent)>,
    /// The unit that was filled ahead last.
    pub(super) next: Option<usize>,
    /// The first page of the block that lacks no other.
    first_page: SecretBytes,
    /// Whether an owner works through the memory.
    pub(super) is_working: bool,
    /// Whether nothing is given back any more: others hold references to all of it.
    pub(super) stays: bool,
    pub(super) on_loss: OnLoss,
    /// The first failure.
    pub(super) failure: Option<Failure<E>>,
    /// Whether missing pages become zeros, because no thread fills them any more.
    pub(super) is_lost: bool,
}

/// Why bytes are not what they should be.
pub(super) enum Failure<E> {
    /// A block could not be filled. The error is told once.
    Block(usize, Option<E>),
    /// The system refused a call, with this error.
    System(io::ErrorKind, Option<i32>),
}

/// A unit, and whether the owner has come to it.
pub(super) struct Way {
    pub(super) unit: Unit,
    pub(super) is_passed: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) place: Place,
    /// Whether it was filled once: its bytes are known to be good.
    pub(super) is_proved: bool,
    /// Whether somebody touched it while it was being filled.
    is_touched: bool,
    /// Index of its unit.
    pub(super) unit: Option<usize>,
}

/// How much of a block is filled.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Extent {
    Whole,
    /// All but the first page: its touch tells that the owner has come to the block.
    ButFirstPage,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    Missing,
    Filling,
    /// All but its first page, which lies in [`State::first_page`].
    AllButFirstPage,
    There,
}

/// Why a block is filled.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Cause {
    /// Somebody touched it.
    Touch,
    /// Somebody will need it: a failure is one of the memory.
    Need,
    /// A child of the process may need it: a block that cannot be filled stays missing.
    Fork,
}

impl<F: Fill> Inner<F> {
    pub(super) fn new(fill: F, blocks: Vec<Range<usize>>) -> io::Result<Inner<F>> {
        let len = blocks.last().map_or(0, |block| block.end);
        if len == 0 {
            return Err(io::Error::other("there are no bytes to fill in"));
        }
        let missing = Block {
            place: Place::Missing,
            is_proved: false,
            is_touched: false,
            unit: None,
        };
        let state = State {
            blocks: vec![missing; blocks.len()],
            units: Vec::new(),
            recent: VecDeque::new(),
            ahead: VecDeque::new(),
            next: None,
            first_page: SecretBytes::default(),
            is_working: false,
            stays: false,
            on_loss: OnLoss::Tell,
            failure: None,
            is_lost: false,
        };
        Ok(Inner {
            faults: Faults::new(len)?,
            fill,
            blocks,
            state: Mutex::new(state),
            changed: Condvar::new(),
            has_failed: AtomicBool::new(false),
            process: std::process::id(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<F::Error>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether this is a child of the process that made the memory.
    pub(super) fn is_in_child(&self) -> bool {
        self.process != std::process::id()
    }

    /// Returns the length of the longest block.
    pub(super) fn longest(&self) -> usize {
        self.blocks.iter().map(Range::len).max().unwrap_or_default()
    }

    /// Fills a block as far as it is missing. If that fails, a block that was touched becomes zeros,
    /// because a thread waits for it; others stay missing.
    pub(super) fn fill(
        &self,
        index: usize,
        (cause, extent): (Cause, Extent),
        descriptor: &Descriptor,
        buffer: &mut Buffer<F>,
    ) {
        let Some(range) = self.blocks.get(index) else {
            return;
        };
        let first_page = {
            let mut guard = self.lock();
            let state = &mut *guard;
            match state.blocks.get_mut(index) {
                Some(block) if block.place == Place::Filling => {
                    block.is_touched |= cause == Cause::Touch;
                    return;
                }
                Some(block) if block.place == Place::There => return,
                Some(block) => {
                    let place = std::mem::replace(&mut block.place, Place::Filling);
                    block.is_touched = cause == Cause::Touch;
                    (place == Place::AllButFirstPage).then(|| std::mem::take(&mut state.first_page))
                }
                None => return,
            }
        };
        if let Some(mut page) = first_page {
            let is_proved = self.provide(range.start, page.as_mut_slice(), descriptor);
            self.set_place(index, Place::There, is_proved);
            return;
        }
        let filled = buffer.run(&self.fill, index, range.len());
        let is_good = filled.is_ok();
        if let Err(error) = filled {
            if !self.fail(index, cause, error) {
                return;
            }
            buffer.bytes.as_mut_slice().fill(0);
        }
        let page = faults::page_bytes();
        let n_bytes = range.len().next_multiple_of(page);
        let (first, others) = match buffer.bytes.as_mut_slice().get_mut(..n_bytes) {
            Some(bytes) => bytes.split_at_mut(page),
            // Without memory for zeros, the system makes them.
            None => return self.give_up(descriptor, &io::ErrorKind::OutOfMemory.into()),
        };
        let is_proved = self.provide(range.start + page, others, descriptor) && is_good;
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
        let is_proved = self.provide(range.start, first, descriptor) && is_proved;
        self.set_place(index, Place::There, is_proved);
    }

    /// Makes `pages` appear in memory. Returns whether that worked.
    fn provide(&self, start: usize, pages: &[u8], descriptor: &Descriptor) -> bool {
        let filled = descriptor.fill(&self.faults, start, pages);
        if let Err(error) = &filled {
            self.give_up(descriptor, error);
        }
        filled.is_ok()
    }

    fn set_place(&self, index: usize, place: Place, is_proved: bool) {
        if let Some(block) = self.lock().blocks.get_mut(index) {
            (block.place, block.is_proved) = (place, is_proved);
        }
        self.changed.notify_all();
    }

    /// Checks a block, and keeps no bytes of it.
    pub(super) fn prove(&self, index: usize, buffer: &mut Buffer<F>) {
        let len = self.blocks.get(index).map_or(0, Range::len);
        let result = buffer.run(&self.fill, index, len);
        let mut state = self.lock();
        match result {
            Ok(()) => {
                if let Some(block) = state.blocks.get_mut(index) {
                    block.is_proved = true;
                }
            }
            Err(error) => self.note(&mut state, Failure::Block(index, Some(error))),
        }
    }

    /// Notes that a block cannot be filled. Returns whether a thread waits for it; else it is missing.
    fn fail(&self, index: usize, cause: Cause, error: F::Error) -> bool {
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
        if is_touched || cause != Cause::Fork {
            self.note(state, Failure::Block(index, Some(error)));
        }
        self.changed.notify_all();
        is_touched
    }

    pub(super) fn note(&self, state: &mut State<F::Error>, failure: Failure<F::Error>) {
        state.failure.get_or_insert(failure);
        self.has_failed.store(true, Ordering::Release);
    }

    /// Gives up, because the system refused a call: missing pages become zeros, for ever, and
    /// nothing that is computed from here on is of use.
    pub(super) fn give_up(&self, descriptor: &Descriptor, why: &io::Error) {
        self.lose(why);
        // If the system refuses this too, the handler sees that all is lost, and ends.
        let _ = descriptor.give_up(&self.faults);
    }

    /// Notes that missing pages become zeros.
    pub(super) fn lose(&self, why: &io::Error) {
        let mut state = self.lock();
        if state.on_loss == OnLoss::Abort {
            abort(why);
        }
        state.is_lost = true;
        self.note(&mut state, Failure::System(why.kind(), why.raw_os_error()));
        // Nobody waits for a block any more.
        for block in &mut state.blocks {
            if block.place == Place::Filling {
                block.place = Place::There;
            }
        }
        self.changed.notify_all();
    }

    /// Notes that the owner has come to `block`: gives back what it left behind, and fills ahead.
    pub(super) fn move_on(&self, block: usize) {
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
    pub(super) fn give_back(&self, state: &mut State<F::Error>, index: usize) {
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

/// Ends the process: a thread computes with these bytes, and nothing else can stop it.
fn abort(why: &dyn Display) -> ! {
    let line = format!("onnxseal: a session needs weights that cannot be read any more: {why}\n");
    faults::say(&line);
    std::process::abort()
}
