//! The threads that fill: one answers touches, and starts the others when it is asked to.
//!
//! They share a table of descriptors that the rest of the process does not have. Callers leave a
//! request for them and ring.

use std::io;
use std::sync::mpsc;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};

use crate::faults::{self, Descriptor};
use crate::on_demand::blocks::{Cause, Failure, Inner, Request, Requests};
use crate::on_demand::fill::{Buffer, Fill};
use crate::parallel::{self, lock};

/// The stack of a thread that fills, in bytes.
const STACK_BYTES: usize = 512 << 10;

impl<F: Fill> Inner<F> {
    /// Starts the thread that answers touches.
    pub(super) fn start(self) -> io::Result<(Arc<Inner<F>>, JoinHandle<()>)> {
        let started = Arc::new(self);
        let (told, heard) = mpsc::channel();
        let inner = Arc::clone(&started);
        let handler = faults::without_signals(|| {
            spawn(move || {
                let mut buffer = Buffer::default();
                let registered = inner.faults.register(&inner.fill.files());
                // What memory the thread needs it has before anybody waits for it.
                match registered.and_then(|of| buffer.reserve(inner.longest()).map(|()| of)) {
                    Ok(descriptor) => {
                        let _ = told.send(Ok(()));
                        // Dropped after `_closing`, in a panic too: requests close before the descriptor.
                        let descriptor = Arc::new(descriptor);
                        let _closing = Closing(&inner);
                        let ended = inner.answer(&descriptor, &mut buffer);
                        ended.unwrap_or_else(|error| inner.lose(&error));
                    }
                    Err(error) => drop(told.send(Err(error))),
                }
            })
        })?;
        let ended = |_| Err(io::Error::other("a thread of onnxseal ended"));
        match heard.recv().unwrap_or_else(ended) {
            Ok(()) => Ok((started, handler)),
            Err(error) => {
                let _ = handler.join();
                Err(error)
            }
        }
    }

    /// Starts up to `n` threads that fill ahead until the work ends.
    pub(super) fn start_workers(&self, n: usize) -> Vec<JoinHandle<()>> {
        let start = move |inner: &Arc<_>, descriptor: &Arc<_>| {
            let workers = (0..n).map_while(|_| start(inner, descriptor, Inner::work).ok());
            workers.collect()
        };
        self.ask(start).unwrap_or_default()
    }

    /// Fills or only checks blocks, on all cores; `true` fills. The check at the end tells of failures.
    pub(super) fn fill_these(&self, cause: Cause, todo: Vec<(usize, bool)>) {
        let Some(&(first, _)) = todo.first() else {
            // Before a fork, the thread must not begin anything.
            if cause != Cause::Fork {
                self.ring(|_| ());
            }
            return self.wait_until_filled();
        };
        let runner = self.ask(move |inner, descriptor| {
            let same = todo.clone();
            let run = move |inner: &Inner<F>, at: &Descriptor| inner.fill_all(cause, same, at);
            let runner = start(inner, descriptor, run);
            runner
                .map_err(|_| inner.fill_all(cause, todo, descriptor))
                .ok()
        });
        match runner {
            Some(runner) => drop(runner.map(JoinHandle::join)),
            None if cause == Cause::Fork => {}
            // In a child, or after the thread gave up.
            None => self.note(Failure::Block(first, None)),
        }
    }

    pub(super) fn stop(&self) -> bool {
        self.ring(|requests| requests.is_stopped = true)
    }

    /// Has the thread do something. Returns `None` if nobody does it.
    fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Arc<Inner<F>>, &Arc<Descriptor>) -> T + Send + 'static,
    ) -> Option<T> {
        let (told, heard) = mpsc::channel();
        let request: Request<F> = Box::new(move |inner, descriptor| {
            let _ = told.send(what(inner, descriptor));
        });
        // If nobody takes the request, it is dropped, with the sender of the answer.
        self.ring(|requests| requests.waiting.push(request));
        heard.recv().ok()
    }

    /// Leaves a request. Returns whether the thread was woken or has ended.
    fn ring(&self, leave: impl FnOnce(&mut Requests<F>)) -> bool {
        if self.is_in_child() {
            return false;
        }
        {
            let mut requests = lock(&self.requests);
            if requests.is_closed {
                return true;
            }
            leave(&mut requests);
        }
        let is_rung = self.faults.ring().is_ok();
        if !is_rung {
            lock(&self.requests).waiting.clear();
        }
        is_rung
    }

    /// Answers touches until it is asked to stop, or nothing can be filled any more.
    fn answer(
        self: &Arc<Self>,
        descriptor: &Arc<Descriptor>,
        buffer: &mut Buffer<F>,
    ) -> io::Result<()> {
        let mut offsets = Vec::with_capacity(16);
        let blank_page = vec![0; faults::page_bytes()];
        loop {
            let is_rung = descriptor.wait(&self.faults, &mut offsets)?;
            for offset in &offsets {
                let block = self.blocks.partition_point(|block| block.end <= *offset);
                if block < self.blocks.len() {
                    self.fill(block, Cause::Touch, descriptor, buffer);
                    self.move_on(block);
                }
            }
            if is_rung {
                descriptor.answer_ring(&self.faults, &blank_page)?;
                for request in std::mem::take(&mut lock(&self.requests).waiting) {
                    request(self, descriptor);
                }
                if lock(&self.requests).is_stopped {
                    return Ok(());
                }
            }
            let state = self.lock();
            if state.is_lost {
                return Ok(());
            }
            if !state.is_working {
                drop(state);
                // Plaintext is kept no longer than it is needed.
                buffer.rest();
            }
        }
    }

    /// Fills blocks ahead until the work ends.
    fn work(&self, descriptor: &Descriptor) {
        let mut buffer = Buffer::<F>::default();
        if buffer.reserve(self.longest()).is_err() {
            // They are filled when they are touched.
            return;
        }
        let mut state = self.lock();
        while state.is_working && !state.is_lost {
            let Some(block) = state.ahead.pop_front() else {
                state = match self.give_back_one(&mut state) {
                    // Who answers touches may wait for the lock.
                    true => {
                        drop(state);
                        self.lock()
                    }
                    false => {
                        let waited = self.changed.wait(state);
                        waited.unwrap_or_else(PoisonError::into_inner)
                    }
                };
                continue;
            };
            drop(state);
            self.fill(block, Cause::Need, descriptor, &mut buffer);
            state = self.lock();
        }
    }

    fn fill_all(&self, cause: Cause, todo: Vec<(usize, bool)>, descriptor: &Descriptor) {
        let work = |buffer: &mut Buffer<F>, (index, is_kept): (usize, bool)| {
            match is_kept {
                true => self.fill(index, cause, descriptor, buffer),
                false => self.prove(index, buffer),
            }
            let goes_on = cause == Cause::Fork || !self.has_failed();
            goes_on.then_some(()).ok_or(())
        };
        let n = todo.len() as u64;
        let _ = parallel::for_each(false, n, todo.into_iter(), Buffer::default, work);
        // Another thread may be filling some.
        self.wait_until_filled();
    }
}

/// Closes the requests at the end of the thread that takes them.
struct Closing<'s, F: Fill>(&'s Inner<F>);

impl<F: Fill> Drop for Closing<'_, F> {
    fn drop(&mut self) {
        if !lock(&self.0.requests).is_stopped {
            // Before the descriptor ends, and with it the wait of who touched a page.
            let ended = io::Error::other("the thread that fills memory ended");
            self.0.lose(&ended);
        }
        let mut requests = lock(&self.0.requests);
        requests.is_closed = true;
        requests.waiting.clear();
    }
}

/// Starts a thread that has the table of the calling one.
fn start<F: Fill>(
    inner: &Arc<Inner<F>>,
    descriptor: &Arc<Descriptor>,
    run: impl FnOnce(&Inner<F>, &Descriptor) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (inner, descriptor) = (Arc::clone(inner), Arc::clone(descriptor));
    spawn(move || run(&inner, &descriptor))
}

fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let thread = thread::Builder::new().name("onnxseal".to_owned());
    parallel::begin(thread, STACK_BYTES, run, |thread, run| thread.spawn(run))
}
