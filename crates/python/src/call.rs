//! Long calls: without the interpreter, and with progress and signals.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use onnxseal_core::{Error, Progress, Silent, start_thread};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;

use crate::errors::{Fault, Result, io};

/// How often a call reports progress and looks for Ctrl-C.
const INTERVAL: Duration = Duration::from_millis(50);

/// Runs `work` on a thread of its own, so that other threads can use the interpreter. Meanwhile
/// this thread reports to `progress` and handles signals. An exception from either ends the call,
/// before anything it wrote has a name. If the system gives no thread, and there is no progress to
/// report, the calling thread does the work, and handles signals after it.
///
/// `progress` is `None` or `False`, `True` for a bar, or a function of the bytes done and the
/// total, which is always called before the first byte and after the last.
pub fn run<T: Send>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&dyn Progress) -> Result<T> + Send,
) -> Result<T> {
    let mut listener = Listener::new(py, progress)?;
    let (events, mut heard) = channel();
    let (told, acknowledged) = channel();
    let watch = Watch {
        total: AtomicU64::new(0),
        done: AtomicU64::new(0),
        cancelled: AtomicBool::new(false),
        events: events.clone(),
        acknowledged: Mutex::new(acknowledged),
    };
    let mut raised = None;
    let given = Mutex::new(Some(work));
    let take = || given.lock().unwrap_or_else(PoisonError::into_inner).take();
    let finished = thread::scope(|scope| {
        let (watch, take, events) = (&watch, &take, &events);
        let started = start_thread(scope, move || {
            let finished = take().map(|work| work(watch));
            // Nobody has left before.
            let _ = events.send(Event::Done);
            finished
        });
        let worker = match started {
            Ok(worker) => worker,
            // Without a thread, and unless somebody wants to see progress, this one does the work.
            Err(_) if listener.callback.is_none() => {
                return Ok(Ok(py.detach(|| take().map(|work| work(&Silent)))));
            }
            Err(error) => return Err(io("start a thread for", Path::new("the call"))(error)),
        };
        while !worker.is_finished() {
            let event = py.detach(|| wait(&mut heard));
            if raised.is_none()
                && let Err(error) = listener.tell(py, watch)
            {
                watch.cancelled.store(true, Ordering::Relaxed);
                raised = Some(error);
            }
            match event {
                Some(Event::Tell) => drop(told.send(())),
                Some(Event::Done) => break,
                None => {}
            }
        }
        Ok(worker.join())
    })?;
    listener.close();
    match (raised, finished) {
        (Some(error), _) => Err(Fault::Python(error)),
        (None, Ok(Some(finished))) => finished,
        (None, Ok(None)) => Err(Error::Internal("a call without work").into()),
        (None, Err(panic)) => std::panic::resume_unwind(panic),
    }
}

/// Waits for the next event, at most [`INTERVAL`].
fn wait(heard: &mut Receiver<Event>) -> Option<Event> {
    match heard.recv_timeout(INTERVAL) {
        Ok(event) => Some(event),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Event::Done),
    }
}

/// What the working thread tells.
enum Event {
    /// Report progress now: the working thread waits until that is done.
    Tell,
    Done,
}

/// How far the call is.
struct Watch {
    total: AtomicU64,
    done: AtomicU64,
    cancelled: AtomicBool,
    events: Sender<Event>,
    acknowledged: Mutex<Receiver<()>>,
}

impl Watch {
    /// Has progress reported, and waits until that is done.
    fn tell(&self) {
        let acknowledged = self.acknowledged.lock();
        let acknowledged = acknowledged.unwrap_or_else(PoisonError::into_inner);
        if self.events.send(Event::Tell).is_ok() {
            let _ = acknowledged.recv();
        }
    }
}

impl Progress for Watch {
    fn begin(&self, bytes: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(bytes, Ordering::Relaxed);
        self.tell();
    }

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // While outputs have no names yet.
        if done >= self.total.load(Ordering::Relaxed) {
            self.tell();
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// What progress is reported to.
struct Listener<'py> {
    callback: Option<Bound<'py, PyAny>>,
    /// The bytes done and the total of the last report.
    told: (u64, u64),
}

impl<'py> Listener<'py> {
    fn new(py: Python<'py>, progress: Option<&Bound<'py, PyAny>>) -> Result<Listener<'py>> {
        let callback = match progress {
            None => None,
            Some(progress) => match progress.cast::<PyBool>() {
                Ok(wanted) if wanted.is_true() => {
                    Some(py.import("onnxseal._progress")?.call_method0("bar")?)
                }
                Ok(_) => None,
                Err(_) if progress.is_callable() => Some(progress.clone()),
                Err(_) => {
                    let text = "progress is True, False or a function of two numbers";
                    return Err(PyTypeError::new_err(text).into());
                }
            },
        };
        let told = (0, 0);
        Ok(Listener { callback, told })
    }

    fn tell(&mut self, py: Python<'_>, watch: &Watch) -> PyResult<()> {
        py.check_signals()?;
        let total = watch.total.load(Ordering::Relaxed);
        let now = (watch.done.load(Ordering::Relaxed).min(total), total);
        let is_known = std::mem::replace(&mut self.told, now) == now;
        match &self.callback {
            Some(callback) if !is_known => callback.call1(now).map(drop),
            _ => Ok(()),
        }
    }

    /// Takes a bar away. A function needs no end.
    fn close(self) {
        let Some(callback) = self.callback else {
            return;
        };
        if let Ok(Some(close)) = callback.getattr_opt("_close") {
            // It has been in vain only for the screen.
            let _ = close.call0();
        }
    }
}
