//! The threads that fill: one answers touches, and starts the others when it is asked to.
//!
//! They share a table of descriptors that the rest of the process does not have. Callers leave a
//! request for them and ring.

use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::faults::{self, Descriptor};
use crate::on_demand::blocks::{Cause, Extent, Failure, Inner};
use crate::on_demand::fill::{Buffer, Fill};
use crate::parallel::{self, lock};

/// The stack of a thread that fills, in bytes.
const STACK_BYTES: usize = 512 << 10;

/// The memory, and the thread that answers touches.
pub(super) struct Served<F: Fill> {
    pub(super) inner: Inner<F>,
    requests: Mutex<Requests<F>>,
}

/// Work for the thread between touches. A ring without any makes it drop its plaintext.
type Request<F> = Box<dyn FnOnce(&Arc<Served<F>>, &Arc<Descriptor>) + Send>;

struct Requests<F: Fill> {
    waiting: Vec<Request<F>>,
    /// Whether the thread is to end.
    is_stopped: bool,
    /// Whether nobody takes requests any more.
    is_closed: bool,
}

impl<F: Fill> Served<F> {
    pub(super) fn start(inner: Inner<F>) -> io::Result<(Arc<Served<F>>, JoinHandle<()>)> {
        let served = Arc::new(Served {
            inner,
            requests: Mutex::new(Requests {
                waiting: Vec::new(),
                is_stopped: false,
                is_closed: false,
            }),
        });
        let (told, heard) = mpsc::channel();
        let of_thread = Arc::clone(&served);
        let handler = faults::without_signals(|| {
            spawn(move || {
                let (inner, mut buffer) = (&of_thread.inner, Buffer::default());
                let registered = inner.faults.register(&inner.fill.files());
                // What memory the thread needs it has before anybody waits for it.
                match registered.and_then(|of| buffer.reserve(inner.longest()).map(|()| of)) {
                    Ok(descriptor) => {
                        let _ = told.send(Ok(()));
                        // Dropped after `_closing`, in a panic too: requests close before the descriptor.
                        let descriptor = Arc::new(descriptor);
                        let _closing = Closing(&of_thread);
                        let ended = answer(&of_thread, &descriptor, &mut buffer);
                        ended.unwrap_or_else(|error| inner.lose(&error));
                    }
                    Err(error) => drop(told.send(Err(error))),
                }
            })
        })?;
        let ended = |_| Err(io::Error::other("a thread of onnxseal ended"));
        match heard.recv().unwrap_or_else(ended) {
            Ok(()) => Ok((served, handler)),
            Err(error) => {
                let _ = handler.join();
                Err(error)
            }
        }
    }

    /// Starts up to `n` threads that fill ahead until the work ends.
    pub(super) fn start_workers(&self, n: usize) -> Vec<JoinHandle<()>> {
        let start = move |served: &Arc<_>, descriptor: &Arc<_>| {
            let workers = (0..n).map_while(|_| start(served, descriptor, work).ok());
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
            return self.inner.wait_until_filled();
        };
        let runner = self.ask(move |served, descriptor| {
            let todo = Mutex::new(todo);
            let run = Arc::new(move |served: &Served<F>, descriptor: &Descriptor| {
                let todo = std::mem::take(&mut *lock(&todo));
                fill_all(&served.inner, cause, todo, descriptor);
            });
            let of_runner = Arc::clone(&run);
            let runner = start(served, descriptor, move |of, at| of_runner(of, at));
            runner.map_err(|_| run(served, descriptor)).ok()
        });
        match runner {
            Some(runner) => drop(runner.map(JoinHandle::join)),
            None if cause == Cause::Fork => {}
            // In a child, or after the thread gave up.
            None => self.inner.note(Failure::Block(first, None)),
        }
    }

    pub(super) fn stop(&self) -> bool {
        self.ring(|requests| requests.is_stopped = true)
    }

    /// Has the thread do something. Returns `None` if nobody does it.
    fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Arc<Served<F>>, &Arc<Descriptor>) -> T + Send + 'static,
    ) -> Option<T> {
        let (told, heard) = mpsc::channel();
        let request: Request<F> = Box::new(move |served, descriptor| {
            let _ = told.send(what(served, descriptor));
        });
        // If nobody takes the request, it is dropped, with the sender of the answer.
        self.ring(|requests| requests.waiting.push(request));
        heard.recv().ok()
    }

    /// Leaves a request. Returns whether the thread was woken or has ended.
    fn ring(&self, leave: impl FnOnce(&mut Requests<F>)) -> bool {
        if self.inner.is_in_child() {
            return false;
        }
        {
            let mut requests = lock(&self.requests);
            if requests.is_closed {
                return true;
            }
            leave(&mut requests);
        }
        let is_rung = self.inner.faults.ring().is_ok();
        if !is_rung {
            lock(&self.requests).waiting.clear();
        }
        is_rung
    }
}

/// Closes the requests at the end of the thread that takes them.
struct Closing<'s, F: Fill>(&'s Served<F>);

impl<F: Fill> Drop for Closing<'_, F> {
    fn drop(&mut self) {
        if !lock(&self.0.requests).is_stopped {
            // Before the descriptor ends, and with it the wait of who touched a page.
            let ended = io::Error::other("the thread that fills memory ended");
            self.0.inner.lose(&ended);
        }
        let mut requests = lock(&self.0.requests);
        requests.is_closed = true;
        requests.waiting.clear();
    }
}

/// Answers touches until it is asked to stop, or nothing can be filled any more.
fn answer<F: Fill>(
    served: &Arc<Served<F>>,
    descriptor: &Arc<Descriptor>,
    buffer: &mut Buffer<F>,
) -> io::Result<()> {
    let inner = &served.inner;
    let mut offsets = Vec::with_capacity(16);
    let blank_page = vec![0; faults::page_bytes()];
    loop {
        let is_rung = descriptor.wait(&inner.faults, &mut offsets)?;
        for offset in &offsets {
            let block = inner.blocks.partition_point(|block| block.end <= *offset);
            if block < inner.blocks.len() {
                let whole = (Cause::Touch, Extent::Whole);
                inner.fill(block, whole, descriptor, buffer);
                inner.move_on(block);
            }
        }
        if is_rung {
            descriptor.answer_ring(&inner.faults, &blank_page)?;
            for request in std::mem::take(&mut lock(&served.requests).waiting) {
                request(served, descriptor);
            }
            if lock(&served.requests).is_stopped {
                return Ok(());
            }
        }
        let state = inner.lock();
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
fn work<F: Fill>(served: &Served<F>, descriptor: &Descriptor) {
    let inner = &served.inner;
    let mut buffer = Buffer::<F>::default();
    if buffer.reserve(inner.longest()).is_err() {
        // They are filled when they are touched.
        return;
    }
    let mut state = inner.lock();
    while state.is_working && !state.is_lost {
        let Some((block, extent)) = state.ahead.pop_front() else {
            let waited = inner.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(state);
        inner.fill(block, (Cause::Need, extent), descriptor, &mut buffer);
        state = inner.lock();
    }
}

fn fill_all<F: Fill>(
    inner: &Inner<F>,
    cause: Cause,
    todo: Vec<(usize, bool)>,
    descriptor: &Descriptor,
) {
    let work = |buffer: &mut Buffer<F>, (index, is_kept): (usize, bool)| {
        match is_kept {
            true => inner.fill(index, (cause, Extent::Whole), descriptor, buffer),
            false => inner.prove(index, buffer),
        }
        let goes_on = cause == Cause::Fork || !inner.has_failed();
        goes_on.then_some(()).ok_or(())
    };
    let n = todo.len() as u64;
    let _ = parallel::for_each(false, n, todo.into_iter(), Buffer::default, work);
    // Another thread may be filling some.
    inner.wait_until_filled();
}

/// Starts a thread that has the table of the calling one.
fn start<F: Fill>(
    served: &Arc<Served<F>>,
    descriptor: &Arc<Descriptor>,
    run: impl FnOnce(&Served<F>, &Descriptor) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (served, descriptor) = (Arc::clone(served), Arc::clone(descriptor));
    spawn(move || run(&served, &descriptor))
}

fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let thread = thread::Builder::new().name("onnxseal".to_owned());
    parallel::begin(thread, STACK_BYTES, run, |thread, run| thread.spawn(run))
}
