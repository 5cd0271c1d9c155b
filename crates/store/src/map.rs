//! Memory maps, and what else only the system can do: the one place with `unsafe`, because it cannot
//! promise that nobody else writes to a mapped file.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, MmapMut};

use crate::memory::Bytes;

/// A file mapped for reading, or memory in its place.
#[derive(Debug)]
pub enum Map {
    /// No bytes: an empty map is an error on some systems.
    Empty,
    /// A file, or memory that the system gave.
    Mapped(Mmap),
    /// Memory of the caller's.
    InMemory(Bytes),
}

impl Map {
    /// Maps the first `len` bytes of `file`.
    pub fn of(file: &File, len: u64) -> io::Result<Map> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(Map::Empty);
        }
        // SAFETY: the map is read-only and private to us. Should another process change the file
        // meanwhile, we read bytes that were never there together: every parser here takes any
        // bytes without panicking, and what is encrypted or opened is read from the file, not
        // from the map. Should it cut the file, access past the new end ends the process, as with
        // every program that maps files; nothing is written before the output is complete.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(file)? };
        Ok(Map::Mapped(map))
    }

    /// `len` zero bytes, of which `fill` makes what they are to be. Those that it does not touch take
    /// no memory.
    pub fn of_memory<E: From<io::Error>>(
        len: u64,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Map, E> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(Map::Empty);
        }
        let mut options = memmap2::MmapOptions::new();
        // More than there is memory, perhaps: most of it stays untouched.
        let mut map = options.len(len).no_reserve_swap().map_anon()?;
        #[cfg(target_os = "linux")]
        {
            // A huge page for each place that is touched would be a lot.
            let _ = map.advise(memmap2::Advice::NoHugePage);
        }
        fill(&mut map)?;
        Ok(Map::Mapped(map.make_read_only()?))
    }
}

impl Deref for Map {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Map::Empty => &[],
            Map::Mapped(map) => map,
            Map::InMemory(bytes) => bytes,
        }
    }
}

/// Keeps what is in `memory` from being swapped out, as its pages come to be used; says whether it
/// does. Few processes may lock much.
pub(crate) fn lock(memory: &MmapMut) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::mm::{MlockFlags, mlock_with};
        let start = memory.as_ptr().cast_mut().cast();
        // SAFETY: the range is that of a map that is alive; unmapping it unlocks it.
        unsafe { mlock_with(start, memory.len(), MlockFlags::ONFAULT) }.is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        memory.lock().is_ok()
    }
}
