//! Memory maps and other system calls. This module has the crate's `unsafe` code, because the
//! system cannot promise that nobody else writes to a mapped file.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, MmapMut};

use crate::memory::Bytes;

/// A file mapped for reading, or memory instead.
#[derive(Debug)]
pub enum Map {
    /// No bytes, because an empty map is an error on some systems.
    Empty,
    /// A file, or memory from the system.
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
        // SAFETY: the map is read-only and private to us. If another process changes the file
        // meanwhile, we may read an inconsistent mix of bytes: every parser here accepts any bytes
        // without panicking, and the bytes to encrypt or open are read from the file, not from the
        // map. If it truncates the file, access past the new end kills the process, as in every
        // program that maps files; nothing is published before the output is complete.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(file)? };
        Ok(Map::Mapped(map))
    }

    /// Allocates `len` zero bytes, which `fill` fills in. Untouched pages take no memory.
    pub fn of_memory<E: From<io::Error>>(
        len: u64,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Map, E> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(Map::Empty);
        }
        let mut options = memmap2::MmapOptions::new();
        // This may exceed the memory: most of it stays untouched.
        let mut map = options.len(len).no_reserve_swap().map_anon()?;
        #[cfg(target_os = "linux")]
        {
            // Touching a few places must not take a huge page each.
            let _ = map.advise(memmap2::Advice::NoHugePage);
        }
        fill(&mut map)?;
        Ok(Map::Mapped(map.make_read_only()?))
    }
}

impl Map {
    /// Gives the pages of a mapped file back to the system. The next read of a page reads the file.
    pub(crate) fn give_back(&self) {
        #[cfg(unix)]
        if let Map::Mapped(map) = self {
            // SAFETY: nobody has written to the map, which is read-only, so its bytes stay those of
            // the file.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
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

/// Zeroizes `memory`: gives its pages back to the system, or overwrites them.
pub(crate) fn clear(memory: &mut MmapMut) {
    #[cfg(target_os = "linux")]
    {
        use rustix::mm::{Advice, madvise};
        let start = memory.as_mut_ptr().cast();
        let give_back = |advice| {
            // SAFETY: the range is memory that we alone refer to. Its bytes become zeros.
            unsafe { madvise(start, memory.len(), advice) }.is_ok()
        };
        // Only the first works on locked memory, and only since Linux 5.18.
        if give_back(Advice::LinuxDontneedLocked) || give_back(Advice::LinuxDontNeed) {
            return;
        }
    }
    memory.fill(0);
    // Keeps the compiler from removing a write that nothing reads.
    std::hint::black_box(memory);
}

/// Locks `memory` against swapping, page by page as it is used. Returns whether that succeeded: few
/// processes may lock much.
pub(crate) fn lock(memory: &MmapMut) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::mm::{MlockFlags, mlock_with};
        let start = memory.as_ptr().cast_mut().cast();
        // SAFETY: the range belongs to a live map; unmapping unlocks it.
        unsafe { mlock_with(start, memory.len(), MlockFlags::ONFAULT) }.is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        memory.lock().is_ok()
    }
}
