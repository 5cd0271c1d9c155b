//! Memory whose pages the process fills in itself when they are touched: userfaultfd(2).
//!
//! This module has `unsafe` code: system calls on memory.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

use memmap2::{Advice, Mmap, MmapMut};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::ioctl::{Updater, ioctl, opcode};
use rustix::mm::{Advice as Madvise, UserfaultfdFlags, madvise, munlock, userfaultfd};

use crate::map;

/// `UFFD_USER_MODE_ONLY`: only accesses by the program itself fault, so no privilege is needed.
const USER_MODE_ONLY: UserfaultfdFlags = UserfaultfdFlags::from_bits_retain(1);

/// `UFFD_API`, the version of the interface.
const API: u64 = 0xAA;

/// `UFFDIO_REGISTER_MODE_MISSING`: pages that are not there fault.
const MODE_MISSING: u64 = 1;

/// `UFFD_EVENT_PAGEFAULT`.
const PAGEFAULT: u8 = 0x12;

/// `struct uffd_msg`, as eight words: the kind of event in the first byte, the address of a fault
/// in the third word.
const MESSAGE_BYTES: usize = 32;

/// `struct uffdio_api`.
#[repr(C)]
struct ApiRequest {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_range`.
#[repr(C)]
struct Span {
    start: u64,
    len: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct Register {
    range: Span,
    mode: u64,
    ioctls: u64,
}

/// `struct uffdio_copy`.
#[repr(C)]
struct Copy {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    /// The number of bytes copied, or an error as a negative number.
    copied: i64,
}

/// Read-only anonymous memory. A thread that touches a page that is not there waits until
/// [`fill`](Faults::fill) provides it.
#[derive(Debug)]
pub(crate) struct Faults {
    memory: Option<Mmap>,
    faults: Option<OwnedFd>,
    stop: OwnedFd,
    is_locked: bool,
}

impl Faults {
    /// Reserves `len` bytes, at least 1. They stay out of core dumps and, as far as the process may
    /// lock memory, out of swap space.
    ///
    /// # Errors
    /// The system's error, if it does not let the process handle faults.
    pub(crate) fn new(len: usize) -> io::Result<Faults> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK | USER_MODE_ONLY;
        // SAFETY: the call makes a descriptor, and registers no memory.
        let faults = unsafe { userfaultfd(flags) }?;
        let mut request = ApiRequest {
            api: API,
            features: 0,
            ioctls: 0,
        };
        // SAFETY: `UFFDIO_API` reads and writes a `struct uffdio_api`.
        unsafe {
            const CODE: u32 = opcode::read_write::<ApiRequest>(0xAA, 0x3F);
            ioctl(&faults, Updater::<CODE, ApiRequest>::new(&mut request))?;
        }
        let memory = MmapMut::map_anon(len)?;
        // Both are advice. A huge page would be more than was asked for.
        let _ = memory.advise(Advice::DontDump);
        let _ = memory.advise(Advice::NoHugePage);
        let is_locked = map::lock(&memory);
        let memory = memory.make_read_only()?;
        let mut request = Register {
            range: Span {
                start: memory.as_ptr().addr() as u64,
                len: len.next_multiple_of(page_bytes()) as u64,
            },
            mode: MODE_MISSING,
            ioctls: 0,
        };
        // SAFETY: `UFFDIO_REGISTER` reads and writes a `struct uffdio_register`. The range is the
        // memory just mapped, which nobody has touched yet.
        unsafe {
            const CODE: u32 = opcode::read_write::<Register>(0xAA, 0x00);
            ioctl(&faults, Updater::<CODE, Register>::new(&mut request))?;
        }
        let mut made = Faults {
            memory: Some(memory),
            faults: Some(faults),
            stop: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            is_locked,
        };
        // If the process locks all its memory, the pages are there already, with zeros.
        if made.give_back(0..len).is_err() {
            // Linux before 5.18 gives no locked pages back.
            made.unlock();
            made.give_back(0..len)?;
        }
        Ok(made)
    }

    /// Returns the memory. Touching it may wait for [`fill`](Faults::fill).
    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or_default()
    }

    /// Returns whether all pages that are there are locked out of swap space.
    pub(crate) fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Waits until pages are touched that are not there, and puts their offsets into `offsets`.
    /// Returns false once [`stop`](Faults::stop) is called.
    pub(crate) fn wait(&self, offsets: &mut Vec<usize>) -> bool {
        offsets.clear();
        let Some(faults) = &self.faults else {
            return false;
        };
        while offsets.is_empty() {
            let mut ready = [
                PollFd::new(faults, PollFlags::IN),
                PollFd::new(&self.stop, PollFlags::IN),
            ];
            if poll(&mut ready, None).is_err() {
                continue; // a signal
            }
            if !ready[1].revents().is_empty() {
                return false;
            }
            let mut messages = [0_u8; 16 * MESSAGE_BYTES];
            let n_bytes = rustix::io::read(faults, &mut messages).unwrap_or_default();
            let base = self.bytes().as_ptr().addr();
            let (messages, _) = messages[..n_bytes].as_chunks::<MESSAGE_BYTES>();
            for message in messages.iter().filter(|message| message[0] == PAGEFAULT) {
                let (words, _) = message.as_chunks::<8>();
                let address = u64::from_ne_bytes(words[2]) as usize;
                offsets.push(address.wrapping_sub(base));
            }
        }
        true
    }

    /// Makes [`wait`](Faults::wait) return false.
    pub(crate) fn stop(&self) {
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
    }

    /// Provides the pages from `start`, which are not there, with `bytes`, and wakes who waits for
    /// them.
    ///
    /// # Errors
    /// The system's error, such as no memory, or that a page is there.
    pub(crate) fn fill(&self, start: usize, bytes: &[u8]) -> io::Result<()> {
        let page = page_bytes();
        let place = self.bytes().get(start..).unwrap_or_default();
        if !start.is_multiple_of(page)
            || !bytes.len().is_multiple_of(page)
            || place.len().next_multiple_of(page) < bytes.len()
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let Some(faults) = &self.faults else {
            return Ok(());
        };
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let mut request = Copy {
                dst: (place.as_ptr().addr() + done) as u64,
                src: rest.as_ptr().addr() as u64,
                len: rest.len() as u64,
                mode: 0,
                copied: 0,
            };
            // SAFETY: `UFFDIO_COPY` reads and writes a `struct uffdio_copy`. The source is a slice;
            // the destination lies in memory of this value, as checked above.
            let result = unsafe {
                const CODE: u32 = opcode::read_write::<Copy>(0xAA, 0x03);
                ioctl(faults, Updater::<CODE, Copy>::new(&mut request))
            };
            done += usize::try_from(request.copied).unwrap_or_default();
            match result {
                Ok(()) => {}
                // Interrupted: go on where it stopped.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives the pages in `range` back to the system. A thread that touches one again waits for
    /// [`fill`](Faults::fill), which must provide the bytes that it had.
    ///
    /// # Errors
    /// The system's error; the pages stay then.
    pub(crate) fn give_back(&self, range: Range<usize>) -> io::Result<()> {
        let Some(place) = self.bytes().get(range) else {
            return Ok(());
        };
        let start = place.as_ptr().cast_mut().cast();
        let advice = match self.is_locked {
            true => Madvise::LinuxDontneedLocked,
            false => Madvise::LinuxDontNeed,
        };
        // SAFETY: the range lies in memory of this value. Its pages return with equal bytes, so
        // references to them stay valid.
        Ok(unsafe { madvise(start, place.len(), advice) }?)
    }

    /// Allows that pages are swapped out.
    fn unlock(&mut self) {
        let memory = self.bytes();
        // SAFETY: the range is memory of this value, whose bytes stay as they are.
        let _ = unsafe { munlock(memory.as_ptr().cast_mut().cast(), memory.len()) };
        self.is_locked = false;
    }

    /// Leaves `range` out of the memory that a child of the process gets a copy of.
    pub(crate) fn keep_from_children(&self, range: Range<usize>) {
        if let Some(place) = self.bytes().get(range) {
            let start = place.as_ptr().cast_mut().cast();
            // SAFETY: the range is memory of this value. It stays as it is in this process.
            let _ = unsafe { madvise(start, place.len(), Madvise::LinuxDontFork) };
        }
    }

    /// Overwrites `ranges`, which are there, with zeros, and releases all memory.
    pub(crate) fn erase(&mut self, ranges: impl Iterator<Item = Range<usize>>) {
        // Closed first: writing to a page that is not there would wait for ever.
        self.faults = None;
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

/// Writes to standard error, unless nobody reads it. Takes no lock: a thread that waits for a page
/// may have any.
pub(crate) fn say(line: &str) {
    let stderr = rustix::stdio::stderr();
    let second = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    if poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&second)).is_ok_and(|n| n > 0) {
        let _ = rustix::io::write(stderr, line.as_bytes());
    }
}

/// Calls `prepare` in a thread that forks the process, before it does.
pub(crate) fn before_fork(prepare: extern "C" fn()) {
    // SAFETY: a function that lives as long as the program.
    unsafe { libc::pthread_atfork(Some(prepare), None, None) };
}

/// The size of a page in bytes.
pub(crate) fn page_bytes() -> usize {
    rustix::param::page_size()
}
