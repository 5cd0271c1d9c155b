//! Takes the place of [`Faults`] on systems without userfaultfd(2).

use std::fs::File;
use std::io;
use std::ops::Range;

#[derive(Debug)]
pub(crate) enum Faults {}

#[derive(Debug)]
pub(crate) enum Descriptor {}

impl Faults {
    pub(crate) fn new(_len: usize) -> io::Result<Faults> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this system does not let a process fill its memory on demand",
        ))
    }

    pub(crate) fn erase(&mut self, _ranges: impl Iterator<Item = Range<usize>>) {
        match *self {}
    }

    never! {
        register(&[&File]) -> io::Result<Descriptor>;
        bytes() -> &[u8];
        is_locked() -> bool;
        ring() -> io::Result<()>;
        give_back(Range<usize>) -> io::Result<()>;
        let_children_have(Range<usize>) -> io::Result<()>;
    }
}

impl Descriptor {
    never! {
        wait(&Faults, &mut Vec<usize>) -> io::Result<bool>;
        answer_ring(&Faults, &[u8]) -> io::Result<()>;
        fill(&Faults, usize, &[u8]) -> io::Result<()>;
        give_up(&Faults) -> io::Result<()>;
    }
}

pub(crate) fn without_signals<T>(spawn: impl FnOnce() -> T) -> T {
    spawn()
}

pub(crate) fn say(line: &str) {
    eprint!("{line}");
}

pub(crate) fn before_fork(_prepare: extern "C" fn()) {}

pub(crate) fn page_bytes() -> usize {
    1 << 12
}
