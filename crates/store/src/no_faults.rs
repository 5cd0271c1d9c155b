//! Takes the place of [`Faults`] on systems without userfaultfd(2).

use std::fs::File;
use std::io;
use std::ops::Range;

/// Memory that cannot be made.
#[derive(Debug)]
pub(crate) enum Faults {}

/// The faults of such memory.
#[derive(Debug)]
pub(crate) enum Descriptor {}

impl Faults {
    /// Fails.
    pub(crate) fn new(_len: usize) -> io::Result<Faults> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this system does not let a process fill its memory on demand",
        ))
    }

    pub(crate) fn register(&self, _files: &[&File]) -> io::Result<Descriptor> {
        match *self {}
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match *self {}
    }

    pub(crate) fn is_locked(&self) -> bool {
        match *self {}
    }

    pub(crate) fn ring(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn give_back(&self, _range: Range<usize>) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn let_children_have(&self, _range: Range<usize>) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn erase(&mut self, _ranges: impl Iterator<Item = Range<usize>>) {
        match *self {}
    }
}

impl Descriptor {
    pub(crate) fn wait(&self, _memory: &Faults, _offsets: &mut Vec<usize>) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn answer_ring(&self, _memory: &Faults, _blank_page: &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn fill(&self, _memory: &Faults, _start: usize, _bytes: &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn give_up(&self, _memory: &Faults) -> io::Result<()> {
        match *self {}
    }
}

/// Calls `spawn`.
pub(crate) fn without_signals<T>(spawn: impl FnOnce() -> T) -> T {
    spawn()
}

/// Writes to standard error.
pub(crate) fn say(line: &str) {
    eprint!("{line}");
}

/// Does nothing: there is no memory to fill.
pub(crate) fn before_fork(_prepare: extern "C" fn()) {}

/// The size of a page in bytes.
pub(crate) fn page_bytes() -> usize {
    1 << 12
}
