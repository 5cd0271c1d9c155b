//! Takes the place of [`Faults`] on systems without userfaultfd(2).

use std::io;
use std::ops::Range;

/// Memory that cannot be made.
#[derive(Debug)]
pub(crate) enum Faults {}

impl Faults {
    /// Fails.
    pub(crate) fn new(_len: usize) -> io::Result<Faults> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this system does not let a process fill its memory on demand",
        ))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match *self {}
    }

    pub(crate) fn is_locked(&self) -> bool {
        match *self {}
    }

    pub(crate) fn wait(&self, _offsets: &mut Vec<usize>) -> bool {
        match *self {}
    }

    pub(crate) fn stop(&self) {
        match *self {}
    }

    pub(crate) fn fill(&self, _start: usize, _bytes: &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn keep_from_children(&self, _range: Range<usize>) {
        match *self {}
    }

    pub(crate) fn give_back(&self, _range: Range<usize>) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn erase(&mut self, _ranges: impl Iterator<Item = Range<usize>>) {
        match *self {}
    }
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
