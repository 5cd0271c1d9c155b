//! Memory maps, and what else only the system can do: the one place with `unsafe`, because it cannot
//! promise that nobody else writes to a mapped file.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::{Mmap, MmapMut};

use crate::in_memory::Bytes;

/// A file mapped for reading, or memory in its place.
#[derive(Debug)]
pub(crate) enum Map {
    Empty,
    Mapped(Mmap),
    InMemory(Bytes),
}

impl Map {
    /// Maps the first `len` bytes of `file`.
    pub(crate) fn of(file: &File, len: u64) -> io::Result<Map> {
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
    #[cfg(any(feature = "object-store", feature = "protect"))]
    pub(crate) fn of_memory<E: From<io::Error>>(
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

/// Maps the first `len` bytes of `file`, not 0 of them, to be changed in memory alone: a page that is
/// written to becomes a copy of ours, the others stay those of the file.
pub(crate) fn map_privately(file: &File, len: usize) -> io::Result<MmapMut> {
    // SAFETY: writes do not reach the file. That nobody else writes to it is for the caller to see to:
    // `Leased` does.
    unsafe { memmap2::MmapOptions::new().len(len).map_copy(file) }
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

/// Takes a lease on `file`, to be given back when all that share its description are closed; says
/// whether the system gave one. Only Linux does, to the owner of a file (or `CAP_LEASE`).
///
/// It is asked for only where all writers go through this kernel and this file system: FUSE and
/// overlayfs give leases as well, and know nothing of those who write to what they are made of.
#[cfg(target_os = "linux")]
pub(crate) fn take_lease(file: &File) -> bool {
    use std::os::fd::AsRawFd;
    /// In Linux's linux/magic.h: ext2 to ext4, XFS, Btrfs, F2FS, tmpfs, ramfs.
    const LOCAL: [u32; 6] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0xf2f5_2010,
        0x0102_1994,
        0x8584_58f6,
    ];
    /// In Linux's asm-generic/fcntl.h.
    const F_SETSIG: libc::c_int = 10;
    // The low 32 bits: the field's type depends on the platform.
    let is_local = rustix::fs::fstatfs(file).is_ok_and(|of| LOCAL.contains(&(of.f_type as u32)));
    if !is_local {
        return false;
    }
    let fd = file.as_raw_fd();
    // The signal that tells of a waiting writer: one that processes ignore, and sent to nobody.
    // SAFETY: these act on a descriptor that is open, with integers alone.
    unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0
            && libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == 0
            && libc::fcntl(fd, libc::F_SETOWN, 0) == 0
    }
}

/// Whether the lease that was taken on `file` still holds, and nobody waits for it.
#[cfg(target_os = "linux")]
pub(crate) fn lease_holds(file: &File) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: acts on a descriptor that is open.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) == libc::F_RDLCK }
}

/// Gives the lease on `file` back; says whether it was still there.
#[cfg(target_os = "linux")]
pub(crate) fn give_back_lease(file: &File) -> bool {
    use std::os::fd::AsRawFd;
    // SAFETY: acts on a descriptor that is open, with an integer.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) == 0 }
}

/// Puts a copy, read-only, in the place of a private map that nobody writes to: `len` bytes from the
/// address `start`, mapped by [`map_privately`], and alive.
///
/// To copy page by page would not do: who cuts the file takes such pages away too.
#[cfg(target_os = "linux")]
pub(crate) fn replace_by_copy(start: usize, len: usize) -> io::Result<()> {
    use rustix::mm::{MremapFlags, mremap_fixed};
    let mut copy = MmapMut::map_anon(len)?;
    let _ = copy.advise(memmap2::Advice::DontDump);
    // As the map was: if it could be locked, so can this.
    lock(&copy);
    let place = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: a map that is alive, of so many bytes, which nobody writes to.
    copy.copy_from_slice(unsafe { std::slice::from_raw_parts(place, len) });
    let copy = copy.make_read_only()?;
    // SAFETY: whole maps; what is read there is the same before, meanwhile and afterwards.
    unsafe {
        mremap_fixed(
            copy.as_ptr().cast_mut().cast(),
            len,
            len,
            MremapFlags::MAYMOVE,
            place.cast(),
        )
    }?;
    // It belongs to the owner of the place now.
    std::mem::forget(copy);
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn take_lease(_file: &File) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn lease_holds(_file: &File) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn give_back_lease(_file: &File) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn replace_by_copy(_start: usize, _len: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
