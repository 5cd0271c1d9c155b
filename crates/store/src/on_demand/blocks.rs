//! The blocks: which are there, and how they come and go.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::faults::{self, Descriptor, Faults};
use crate::on_demand::fill::{Buffer, Fill};
use crate::parallel::lock;

/// How many units stay: the one that was touched last, and those before it.
const N_RECENT: usize = 2;

/// Blocks that are worked through together.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Indices of the blocks, in the order in which they will be touched. Two units may share one.
    pub blocks: Vec<usize>,
    /// Whether the blocks are needed after the work: those that were not touched are then filled,
    /// and the next unit behind this one that was not touched is filled ahead.
    pub is_kept: bool,
}

/// The reaction to a block that is touched after the work and cannot be filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// End the process, with a message on standard error.
    Abort,
    /// Fill it with zeros, and let [`OnDemand::check`](super::OnDemand::check) fail from then on.
    #[default]
    Tell,
}

pub(super) struct Inner<F: Fill> {
    pub(super) faults: Faults,
    pub(super) fill: F,
    /// The bytes of each block. They begin at pages, and are in ascending order.
    pub(super) blocks: Vec<Range<usize>>,
    state: Mutex<State>,
    pub(super) changed: Condvar,
    failed: AtomicBool,
    pub(super) failure: Mutex<Option<Failure<F::Error>>>,
    /// What the thread that answers touches is asked to do.
    pub(super) requests: Mutex<Requests<F>>,
    /// The process that made it: threads do not follow to a child.
    process: u32,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) blocks: Vec<Block>,
    units: Vec<Unit>,
    /// Whether the owner has come to each unit.
    passed: Vec<bool>,
    /// The units that were touched last, the very last in front.
    recent: VecDeque<usize>,
    pub(super) ahead: VecDeque<usize>,
    /// Blocks to give back, once nothing is to be filled ahead.
    left: Vec<usize>,
    /// The unit that was filled ahead last.
    next: Option<usize>,
    /// Whether an owner works through the memory.
    pub(super) is_working: bool,
    /// Whether nothing is given back any more: others hold references to all of it.
    pub(super) stays: bool,
    pub(super) on_loss: OnLoss,
    /// Whether missing pages become zeros, because no thread fills them any more.
    pub(super) is_lost: bool,
}

/// Work for the thread between touches. A ring without any makes it drop its plaintext.
pub(super) type Request<F> = Box<dyn FnOnce(&Arc<Inner<F>>, &Arc<Descriptor>) + Send>;

pub(super) struct Requests<F: Fill> {
    pub(super) waiting: Vec<Request<F>>,
    pub(super) is_stopped: bool,
    /// Whether nobody takes requests any more.
    pub(super) is_closed: bool,
}

/// Why bytes are not what they should be.
pub(super) enum Failure<E> {
    /// A block could not be filled. The error is told once.
    Block(usize, Option<E>),
    /// The system refused a call, with this error.
    System(io::ErrorKind, Option<i32>),
}

#[derive(Clone, Copy, Default)]
pub(super) struct Block {
    pub(super) place: Place,
    /// Whether it was filled once: its bytes are known to be good.
    pub(super) is_proved: bool,
    /// Whether somebody touched it while it was being filled.
    is_touched: bool,
    /// The units that have it.
    units: [Option<usize>; 2],
}

#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Place {
    #[default]
    Missing,
    Filling,
    There,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Cause {
    /// Somebody touched it.
    Touch,
    /// Somebody will need it: a failure is one of the memory.
    Need,
    /// A child of the process may need it: a block that cannot be filled stays missing.
    Fork,
}

impl State {
    /// Notes the order in which blocks will be touched. Returns the first of each unit that is kept.
    pub(super) fn begin(&mut self, mut units: Vec<Unit>) -> Vec<usize> {
        for block in &mut self.blocks {
            block.units = [None; 2];
        }
        for (index, unit) in units.iter_mut().enumerate() {
            unit.blocks.retain(|block| *block < self.blocks.len());
            for &block in &unit.blocks {
                let [first, next] = &mut self.blocks[block].units;
                if *first.get_or_insert(index) != index {
                    next.get_or_insert(index);
                }
            }
        }
        let mut firsts = Vec::new();
        self.passed.clear();
        for unit in &mut units {
            let is_shared = |block: &usize| self.blocks[*block].units[1].is_some();
            unit.blocks.sort_by_key(is_shared);
            // Its first touch tells that the owner has come to this unit; without it, nothing does.
            let first = unit.blocks.first().filter(|first| !is_shared(first));
            self.passed.push(first.is_none());
            firsts.extend(first.filter(|_| unit.is_kept));
        }
        self.units = units;
        self.recent.clear();
        self.left.clear();
        self.next = None;
        self.is_working = true;
        firsts
    }

    /// Returns whether a block is needed after the work, though the owner did not come to its unit.
    pub(super) fn is_needed(&self, block: Block) -> bool {
        let is_needed = |unit: usize| self.units[unit].is_kept && !self.passed[unit];
        block.units.into_iter().flatten().any(is_needed)
    }

    /// Begins to fill a block, unless it is there or being filled. Returns whether it did.
    fn begin_fill(&mut self, index: usize, cause: Cause) -> bool {
        let (block, is_touch) = (&mut self.blocks[index], cause == Cause::Touch);
        let begins = block.place == Place::Missing;
        block.is_touched = is_touch || !begins && block.is_touched;
        if begins {
            block.place = Place::Filling;
        }
        begins
    }

    /// Notes that the owner has come to `block`, what to fill ahead, and what it left behind. Returns
    /// whether it had been elsewhere.
    fn move_on(&mut self, block: usize) -> bool {
        // A block of two units does not tell to which one the owner has come.
        let ([Some(unit), None], true) = (self.blocks[block].units, self.is_working) else {
            return false;
        };
        if self.recent.front() == Some(&unit) {
            return false;
        }
        self.recent.retain(|recent| *recent != unit);
        self.recent.push_front(unit);
        let left = self.recent.get(N_RECENT).copied();
        self.recent.truncate(N_RECENT);
        self.passed[unit] = true;
        let now = &self.units[unit];
        let is_new = |unit: &usize| !self.passed[*unit];
        let next = (unit + 1..self.units.len()).find(is_new);
        let next = next.filter(|next| now.is_kept && self.units[*next].is_kept);
        self.ahead = now.blocks.iter().copied().collect();
        if let Some(next) = next {
            self.ahead.extend(self.units[next].blocks.iter().skip(1));
        }
        // If the owner went another way, what was filled ahead would only lie there.
        let before = std::mem::replace(&mut self.next, next);
        let astray = before.filter(|before| next != Some(*before) && is_new(before));
        for unit in [left, astray].into_iter().flatten() {
            self.left.extend(&self.units[unit].blocks);
        }
        true
    }
}

impl<F: Fill> Inner<F> {
    pub(super) fn new(fill: F, blocks: Vec<Range<usize>>) -> io::Result<Inner<F>> {
        let len = blocks.last().map_or(0, |block| block.end);
        if len == 0 {
            return Err(io::Error::other("there are no bytes to fill in"));
        }
        let state = State {
            blocks: vec![Block::default(); blocks.len()],
            ..State::default()
        };
        Ok(Inner {
            faults: Faults::new(len)?,
            fill,
            blocks,
            state: Mutex::new(state),
            changed: Condvar::new(),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            requests: Mutex::new(Requests {
                waiting: Vec::new(),
                is_stopped: false,
                is_closed: false,
            }),
            process: std::process::id(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn is_in_child(&self) -> bool {
        self.process != std::process::id()
    }

    pub(super) fn longest(&self) -> usize {
        self.blocks.iter().map(Range::len).max().unwrap_or_default()
    }

    /// Fills a block as far as it is missing. If that fails, a block that was touched becomes zeros,
    /// because a thread waits for it; others stay missing.
    pub(super) fn fill(
        &self,
        index: usize,
        cause: Cause,
        descriptor: &Descriptor,
        buffer: &mut Buffer<F>,
    ) {
        let range = &self.blocks[index];
        if !self.lock().begin_fill(index, cause) {
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
        let n_bytes = range.len().next_multiple_of(faults::page_bytes());
        let Some(bytes) = buffer.bytes.as_mut_slice().get(..n_bytes) else {
            // Without memory for zeros, the system makes them.
            return self.give_up(descriptor, &io::ErrorKind::OutOfMemory.into());
        };
        let filled = descriptor.fill(&self.faults, range.start, bytes);
        if let Err(error) = &filled {
            self.give_up(descriptor, error);
        }
        let block = &mut self.lock().blocks[index];
        (block.place, block.is_proved) = (Place::There, is_good && filled.is_ok());
        self.changed.notify_all();
    }

    /// Checks a block, and keeps no bytes of it.
    pub(super) fn prove(&self, index: usize, buffer: &mut Buffer<F>) {
        match buffer.run(&self.fill, index, self.blocks[index].len()) {
            Ok(()) => self.lock().blocks[index].is_proved = true,
            Err(error) => self.note(Failure::Block(index, Some(error))),
        }
    }

    /// Notes that a block cannot be filled. Returns whether a thread waits for it; else it is missing.
    fn fail(&self, index: usize, cause: Cause, error: F::Error) -> bool {
        let mut state = self.lock();
        let block = &mut state.blocks[index];
        let is_touched = block.place == Place::Filling && block.is_touched;
        if block.place == Place::Filling && !is_touched {
            block.place = Place::Missing;
        }
        if is_touched && state.on_loss == OnLoss::Abort {
            abort(&error);
        }
        if is_touched || cause != Cause::Fork {
            self.note(Failure::Block(index, Some(error)));
        }
        self.changed.notify_all();
        is_touched
    }

    pub(super) fn note(&self, failure: Failure<F::Error>) {
        lock(&self.failure).get_or_insert(failure);
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Gives up, because the system refused a call: missing pages become zeros, for ever, and
    /// nothing that is computed from here on is of use.
    fn give_up(&self, descriptor: &Descriptor, why: &io::Error) {
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
        self.note(Failure::System(why.kind(), why.raw_os_error()));
        // Nobody waits for a block any more.
        for block in &mut state.blocks {
            if block.place == Place::Filling {
                block.place = Place::There;
            }
        }
        self.changed.notify_all();
    }

    /// Notes that the owner has come to `block`. Threads that fill ahead then give back what it left
    /// behind; what they had no time for is given back when the owner moves on again.
    pub(super) fn move_on(&self, block: usize) {
        let mut state = self.lock();
        let n_late = state.left.len();
        if state.move_on(block) {
            let late: Vec<usize> = state.left.drain(..n_late).collect();
            late.into_iter()
                .for_each(|block| self.give_back_left(&mut state, block));
            self.changed.notify_all();
        }
    }

    /// Gives back one of the blocks that were left behind. Returns false if there is none.
    pub(super) fn give_back_one(&self, state: &mut State) -> bool {
        let left = state.left.pop();
        left.inspect(|block| self.give_back_left(state, *block))
            .is_some()
    }

    fn give_back_left(&self, state: &mut State, block: usize) {
        let mut units = state.blocks[block].units.into_iter().flatten();
        // The owner may have come back.
        if !units.any(|unit| state.recent.contains(&unit)) {
            self.give_back(state, block);
        }
    }

    /// Gives a block back if it is there. One that failed stays, to be zeros for ever.
    pub(super) fn give_back(&self, state: &mut State, index: usize) {
        let block = &mut state.blocks[index];
        if !state.stays
            && block.place == Place::There
            && block.is_proved
            && self.faults.give_back(self.blocks[index].clone()).is_ok()
        {
            block.place = Place::Missing;
        }
    }

    pub(super) fn wait_until_filled(&self) {
        let is_filling = |state: &mut State| {
            let mut blocks = state.blocks.iter();
            blocks.any(|block| block.place == Place::Filling)
        };
        drop(self.changed.wait_while(self.lock(), is_filling));
    }
}

impl<F: Fill> Drop for Inner<F> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let blocks = self.blocks.iter().zip(&state.blocks);
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
