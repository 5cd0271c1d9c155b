//! Memory from the system, and other calls to it. This module has `unsafe` code.
#![allow(unsafe_code)]

use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapOptions};

/// As many zero bytes as a file has, private to this process. Untouched pages take no memory.
#[derive(Debug, Default)]
pub struct SparseBytes(Option<MmapMut>);

impl SparseBytes {
    pub fn new(len: u64) -> io::Result<SparseBytes> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // This may exceed the memory: most of it stays untouched.
        let map = MmapOptions::new().len(len).no_reserve_swap().map_anon()?;
        #[cfg(target_os = "linux")]
        {
            // Touching a few places must not take a huge page each.
            let _ = map.advise(memmap2::Advice::NoHugePage);
        }
        Ok(SparseBytes(Some(map)))
    }
}

impl Deref for SparseBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl DerefMut for SparseBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
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
    #[cfg(all(unix, not(target_os = "linux")))]
    {
        memory.lock().is_ok()
    }
    #[cfg(not(unix))]
    {
        let _ = memory;
        false
    }
}
