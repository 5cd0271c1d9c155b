//! Memory maps: the one place with `unsafe`, because the system cannot promise that nobody else
//! writes to a mapped file.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

/// A file mapped for reading, or memory in its place.
#[derive(Debug)]
pub(crate) struct Map(Option<Mmap>);

impl Map {
    /// Maps the first `len` bytes of `file`.
    pub(crate) fn of(file: &File, len: u64) -> io::Result<Map> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(Map(None));
        }
        // SAFETY: the map is read-only and private to us. Should another process change the file
        // meanwhile, we read bytes that were never there together: every parser here takes any
        // bytes without panicking, and what is encrypted or opened is read from the file, not
        // from the map. Should it cut the file, access past the new end ends the process, as with
        // every program that maps files; nothing is written before the output is complete.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(file)? };
        Ok(Map(Some(map)))
    }

    /// `len` zero bytes, of which `fill` makes what they are to be. Those that it does not touch take
    /// no memory.
    #[cfg(any(feature = "object-store", feature = "protect"))]
    pub(crate) fn of_memory<E: From<io::Error>>(
        len: u64,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Map, E> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(Map(None));
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
        Ok(Map(Some(map.make_read_only()?)))
    }
}

impl Deref for Map {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}
