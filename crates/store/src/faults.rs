//! Memory whose pages the process fills in itself when they are touched: userfaultfd(2).
//!
//! The threads that fill it have a table of descriptors of their own: what the rest of the process
//! closes, or opens under the same numbers, does not reach them. With the last of these threads the
//! descriptor of the faults ends, and whoever waits for a page goes on with zeros.
//!
//! This module has `unsafe` code: system calls on memory, descriptors and signals.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Mutex;

use memmap2::{Advice, Mmap, MmapMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::mm::{Advice as Madvise, UserfaultfdFlags, madvise, munlock, userfaultfd};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::map;
use crate::parallel::lock;

/// `UFFD_USER_MODE_ONLY`: only accesses by the program itself fault, so no privilege is needed.
const USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(1);

/// `UFFD_API`, the version of the interface.
const API: u64 = 0xAA;

/// `UFFDIO_REGISTER_MODE_MISSING`: pages that are not there fault.
const MODE_MISSING: u64 = 1;

/// `UFFD_EVENT_PAGEFAULT`.
const PAGEFAULT: u8 = 0x12;

/// `struct uffd_msg`, as four words: the kind of event in the first byte, the address of a fault
/// in the third word.
const MESSAGE_BYTES: usize = 32;

/// Read-only anonymous memory. Once it is [registered](Faults::register), a thread that touches a
/// page that is not there waits until [`fill`](Descriptor::fill) provides it.
///
/// Children of the process do not get it, except for what [`let_children_have`] names.
///
/// [`let_children_have`]: Faults::let_children_have
#[derive(Debug)]
pub(crate) struct Faults {
    /// The bytes, and the bell: one more page, whose touch wakes the thread that waits for faults.
    memory: Option<Mmap>,
    len: usize,
    is_locked: bool,
    /// Held by the thread that rings.
    ringing: Mutex<()>,
}

/// The faults of some memory. Only threads that have the table of the thread that made it can use
/// it.
#[derive(Debug)]
pub(crate) struct Descriptor(OwnedFd);

impl Faults {
    /// Reserves `len` bytes, at least 1. They stay out of core dumps and, as far as the process may
    /// lock memory, out of swap space.
    pub(crate) fn new(len: usize) -> io::Result<Faults> {
        let page = page_bytes();
        let whole = len.checked_next_multiple_of(page);
        let whole = whole.and_then(|whole| whole.checked_add(page));
        let memory = MmapMut::map_anon(whole.ok_or(io::ErrorKind::OutOfMemory)?)?;
        // A child without it ends by SIGSEGV. With it, it would compute with zeros.
        memory.advise(Advice::DontFork)?;
        // Both are advice. A huge page would be more than was asked for.
        let _ = memory.advise(Advice::DontDump);
        let _ = memory.advise(Advice::NoHugePage);
        let is_locked = map::lock(&memory);
        let mut made = Faults {
            memory: Some(memory.make_read_only()?),
            len,
            is_locked,
            ringing: Mutex::new(()),
        };
        // If the process locks all its memory, the pages are there already, with zeros.
        if made.advise(made.memory(), made.giving_back()).is_err() {
            // Linux before 5.18 gives no locked pages back.
            made.unlock();
            made.advise(made.memory(), made.giving_back())?;
        }
        Ok(made)
    }

    /// Gives the calling thread a table of descriptors of its own, with `files` under the numbers
    /// that they have and no others, and registers the memory there. Threads that the calling
    /// thread starts share that table.
    pub(crate) fn register(&self, files: &[&File]) -> io::Result<Descriptor> {
        keep_only(files)?;
        let flags = UserfaultfdFlags::CLOEXEC | USER_MODE_ONLY;
        // SAFETY: the call makes a descriptor, and registers no memory.
        let descriptor = Descriptor(unsafe { userfaultfd(flags) }?);
        // `struct uffdio_api`: the version, features, and what the kernel can do.
        let mut request = [API, 0, 0];
        // SAFETY: `UFFDIO_API` reads and writes a `struct uffdio_api`.
        unsafe {
            descriptor.ask::<{ opcode::read_write::<[u64; 3]>(0xAA, 0x3F) }, 3>(&mut request)
        }?;
        // `struct uffdio_register`: a range, the mode, and what the kernel can do.
        let [start, len] = span(self.memory());
        let mut request = [start, len, MODE_MISSING, 0];
        // SAFETY: `UFFDIO_REGISTER` reads and writes a `struct uffdio_register`. The range is memory
        // of this value, which nobody has touched yet.
        unsafe {
            descriptor.ask::<{ opcode::read_write::<[u64; 4]>(0xAA, 0x00) }, 4>(&mut request)
        }?;
        Ok(descriptor)
    }

    /// Returns the memory. Touching it may wait for [`fill`](Descriptor::fill).
    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory().get(..self.len).unwrap_or_default()
    }

    fn memory(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or_default()
    }

    fn bell(&self) -> &[u8] {
        let start = self.len.next_multiple_of(page_bytes());
        self.memory().get(start..).unwrap_or_default()
    }

    /// Returns whether all pages that are there are locked out of swap space.
    pub(crate) fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Makes [`wait`](Descriptor::wait) return, and waits until
    /// [`answer_ring`](Descriptor::answer_ring) is called. Returns at once if nobody waits for
    /// faults any more.
    pub(crate) fn ring(&self) -> io::Result<()> {
        let _ringing = lock(&self.ringing);
        let bell = self.bell();
        self.advise(bell, self.giving_back())?;
        // SAFETY: a byte of memory of this value.
        unsafe { bell.as_ptr().read_volatile() };
        Ok(())
    }

    /// Gives the pages in `range` back to the system. A thread that touches one again waits for
    /// [`fill`](Descriptor::fill), which must provide the bytes that it had.
    pub(crate) fn give_back(&self, range: Range<usize>) -> io::Result<()> {
        let place = self.bytes().get(range).unwrap_or_default();
        self.advise(place, self.giving_back())
    }

    /// Gives children of the process a copy of `range`, which must be there.
    pub(crate) fn let_children_have(&self, range: Range<usize>) -> io::Result<()> {
        let place = self.bytes().get(range).unwrap_or_default();
        self.advise(place, Madvise::LinuxDoFork)
    }

    fn giving_back(&self) -> Madvise {
        match self.is_locked {
            true => Madvise::LinuxDontneedLocked,
            false => Madvise::LinuxDontNeed,
        }
    }

    /// Advises the system on `place`, which lies in memory of this value. Pages that are given back
    /// return with equal bytes.
    fn advise(&self, place: &[u8], advice: Madvise) -> io::Result<()> {
        let start = place.as_ptr().cast_mut().cast();
        // SAFETY: the range lies in memory of this value. No advice that this module gives changes its
        // bytes, so references to them stay valid.
        Ok(unsafe { madvise(start, place.len(), advice) }?)
    }

    fn unlock(&mut self) {
        let memory = self.memory();
        // SAFETY: the range is memory of this value, whose bytes stay as they are.
        let _ = unsafe { munlock(memory.as_ptr().cast_mut().cast(), memory.len()) };
        self.is_locked = false;
    }

    /// Overwrites `ranges`, which are there, with zeros, and releases all memory. Its
    /// [`Descriptor`] must have ended: writing to a page that is not there would wait for ever.
    pub(crate) fn erase(&mut self, ranges: impl Iterator<Item = Range<usize>>) {
        if let Some(Ok(mut memory)) = self.memory.take().map(Mmap::make_mut) {
            for range in ranges {
                if let Some(part) = memory.get_mut(range) {
                    part.fill(0);
                }
            }
            // Keeps the compiler from removing a write that nothing reads.
            std::hint::black_box(memory);
        }
    }
}

impl Descriptor {
    /// Waits until pages of `memory` are touched that are not there, and puts their offsets into
    /// `offsets`. Returns whether the [bell](Faults::ring) rang.
    pub(crate) fn wait(&self, memory: &Faults, offsets: &mut Vec<usize>) -> io::Result<bool> {
        offsets.clear();
        let mut messages = [0_u8; 16 * MESSAGE_BYTES];
        let n_bytes = loop {
            match rustix::io::read(&self.0, &mut messages) {
                Ok(n_bytes) => break n_bytes,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let base = memory.memory().as_ptr().addr();
        let (messages, _) = messages[..n_bytes].as_chunks::<MESSAGE_BYTES>();
        for message in messages.iter().filter(|message| message[0] == PAGEFAULT) {
            let (words, _) = message.as_chunks::<8>();
            let address = u64::from_ne_bytes(words[2]) as usize;
            offsets.push(address.wrapping_sub(base));
        }
        let n_touched = offsets.len();
        let bell = memory.len.next_multiple_of(page_bytes());
        offsets.retain(|offset| *offset < bell);
        Ok(offsets.len() < n_touched)
    }

    /// Lets the thread go on that rang the [bell](Faults::ring).
    pub(crate) fn answer_ring(&self, memory: &Faults, blank_page: &[u8]) -> io::Result<()> {
        self.copy(memory.bell(), blank_page)
    }

    /// Provides the pages of `memory` from `start`, which are not there, with `bytes`, and wakes who
    /// waits for them.
    pub(crate) fn fill(&self, memory: &Faults, start: usize, bytes: &[u8]) -> io::Result<()> {
        let place = memory.bytes().get(start..).unwrap_or_default();
        self.copy(place, bytes)
    }

    /// Provides the pages from the start of `place`, in registered memory.
    fn copy(&self, place: &[u8], bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let page = page_bytes();
        if !place.as_ptr().addr().is_multiple_of(page)
            || !bytes.len().is_multiple_of(page)
            || place.len().next_multiple_of(page) < bytes.len()
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            // `struct uffdio_copy`: to, from, length, mode, and the number of bytes copied, or an
            // error as a negative number.
            let (to, from) = (place.as_ptr().addr() + done, rest.as_ptr().addr());
            let mut request = [to as u64, from as u64, rest.len() as u64, 0, 0];
            // SAFETY: `UFFDIO_COPY` reads and writes a `struct uffdio_copy`. The source is a slice;
            // the destination is as long, as checked above.
            let result = unsafe {
                self.ask::<{ opcode::read_write::<[u64; 5]>(0xAA, 0x03) }, 5>(&mut request)
            };
            done += usize::try_from(request[4].cast_signed()).unwrap_or_default();
            match result {
                // Interrupted: go on where it stopped.
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives up: pages of `memory` that are not there become zeros, and whoever waits for them goes
    /// on. The bell still rings.
    pub(crate) fn give_up(&self, memory: &Faults) -> io::Result<()> {
        let mut request = span(memory.bytes());
        // SAFETY: `UFFDIO_UNREGISTER` reads a `struct uffdio_range`: memory that was registered.
        unsafe { self.ask::<{ opcode::read::<[u64; 2]>(0xAA, 0x01) }, 2>(&mut request) }?;
        Ok(())
    }

    /// # Safety
    /// The request of this code reads and writes a structure of `N` words, and does to memory what
    /// its caller says.
    unsafe fn ask<const CODE: Opcode, const N: usize>(
        &self,
        request: &mut [u64; N],
    ) -> rustix::io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { ioctl(&self.0, Updater::<CODE, _>::new(request)) }
    }
}

/// The pages of `memory`, as a `struct uffdio_range`: start and length.
fn span(memory: &[u8]) -> [u64; 2] {
    let len = memory.len().next_multiple_of(page_bytes());
    [memory.as_ptr().addr() as u64, len as u64]
}

/// Gives the calling thread a table of descriptors of its own, which has `files` alone.
fn keep_only(files: &[&File]) -> io::Result<()> {
    const UNSHARE: libc::c_uint = 2;
    let close = |first: u32, last: u32, flags: libc::c_uint| {
        // SAFETY: the first call has the flag, so numbers are closed in the thread's own table.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        let text = format!("close_range: {error}");
        Err(io::Error::new(error.kind(), text))
    };
    let mut kept: Vec<u32> = files.iter().map(|file| file.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    close(kept.last().map_or(0, |last| last + 1), u32::MAX, UNSHARE)?;
    let mut next = 0;
    for number in kept {
        if next < number {
            close(next, number - 1, 0)?;
        }
        next = number + 1;
    }
    Ok(())
}

/// Calls `spawn`, which starts threads to which no signal of the process is delivered: handlers of
/// the application may write to descriptors that these threads do not have.
pub(crate) fn without_signals<T>(spawn: impl FnOnce() -> T) -> T {
    let (mut blocked, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: sets of ours, the first filled before it is used, the second by the call. What a thread
    // causes itself stays unblocked.
    unsafe {
        libc::sigfillset(blocked.as_mut_ptr());
        use libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
        for own in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS] {
            libc::sigdelset(blocked.as_mut_ptr(), own);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, blocked.as_ptr(), before.as_mut_ptr());
    }
    let made = spawn();
    // SAFETY: the set that the call above filled.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    made
}

/// Writes to the standard error of the process, unless nobody reads it. Takes no lock: a thread that
/// waits for a page may have any.
pub(crate) fn say(line: &str) {
    // In a thread with a table of its own, number 2 is another file.
    let process = pidfd_open(getpid(), PidfdFlags::empty());
    let of_process = process.and_then(|process| pidfd_getfd(process, 2, PidfdGetfdFlags::empty()));
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(stderr) = of_process.or_else(|_| open("/proc/self/fd/2", flags, Mode::empty())) else {
        return;
    };
    let (tv_sec, tv_nsec) = (1, 0);
    let second = Timespec { tv_sec, tv_nsec };
    if poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&second)).is_ok_and(|n| n > 0) {
        let _ = rustix::io::write(stderr, line.as_bytes());
    }
}

/// Calls `prepare` in a thread that forks the process, before it does.
pub(crate) fn before_fork(prepare: extern "C" fn()) {
    // SAFETY: a function that lives as long as the program.
    unsafe { libc::pthread_atfork(Some(prepare), None, None) };
}

pub(crate) fn page_bytes() -> usize {
    rustix::param::page_size()
}
