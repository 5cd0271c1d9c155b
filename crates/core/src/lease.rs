//! Files that are used where they lie, and do not change as long as they are.
//!
//! A lease is the system's word that nobody writes to a file: it is given only if nobody has the file
//! open, or mapped, for writing, and whoever wants to waits until it is given back (`F_SETLEASE` in
//! fcntl(2)). The system does not wait for ever, though: `/proc/sys/fs/lease-break-time` seconds, 45
//! as a rule. So a thread looks whether somebody waits; then what is mapped is copied, and the lease
//! given back.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use memmap2::{Mmap, MmapMut};

use crate::input::Input;
use crate::map;

/// How often the thread looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// A file under a lease, and the private map of it.
#[derive(Debug)]
pub(crate) struct Leased(Arc<Guarded>);

#[derive(Debug)]
struct Guarded {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Mapped, and not finished: the map is written to.
    Begun,
    /// Mapped read-only: from this address, so many bytes.
    Mapped { start: usize, len: usize },
    /// A copy, made under the lease, is in the place of the map.
    Copied,
    /// The lease was taken away before all was copied.
    Lost,
    /// Not mapped any more.
    Gone,
}

impl Leased {
    /// Maps the first `len` bytes of `input`, not 0 of them, to be changed in memory alone: a page that is
    /// written to becomes a copy of ours, the others stay those of the file. `None` where the system
    /// gives no lease, or `input` was changed before.
    pub(crate) fn map(input: &Input, len: usize) -> io::Result<Option<(Leased, MmapMut)>> {
        let Some(file) = input.file() else {
            return Ok(None);
        };
        let file = file.try_clone()?;
        if !map::take_lease(&file) {
            return Ok(None);
        }
        if input.check_unchanged().is_err() {
            map::give_back_lease(&file);
            return Ok(None);
        }
        let map = map::map_privately(&file, len)?;
        let state = Mutex::new(State::Begun);
        Ok(Some((Leased(Arc::new(Guarded { file, state })), map)))
    }

    /// Makes the map read-only, and has the thread look after it.
    pub(crate) fn finish(&self, map: MmapMut) -> io::Result<Mmap> {
        let map = map.make_read_only()?;
        *self.0.state() = State::Mapped {
            start: map.as_ptr().expose_provenance(),
            len: map.len(),
        };
        watch(&self.0)?;
        Ok(map)
    }

    /// Whether some of its bytes are still the file's.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(*self.0.state(), State::Begun | State::Mapped { .. })
    }

    /// Whether its bytes are what they were, and will be.
    pub(crate) fn holds(&self) -> bool {
        self.0.settle();
        !matches!(*self.0.state(), State::Lost)
    }

    /// To be called before it is unmapped.
    pub(crate) fn release(&self) {
        *self.0.state() = State::Gone;
    }
}

impl Guarded {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies what is mapped if somebody waits, and gives the lease back.
    fn settle(&self) {
        let mut state = self.state();
        let State::Mapped { start, len } = *state else {
            return;
        };
        if map::lease_holds(&self.file) {
            return;
        }
        let is_copied = map::replace_by_copy(start, len).is_ok();
        // That there was a lease to be given back says that the copy is of what was verified.
        *state = match map::give_back_lease(&self.file) && is_copied {
            true => State::Copied,
            false => State::Lost,
        };
    }
}

/// The files that the thread looks after; it ends when there are none.
static WATCHED: Mutex<Vec<Weak<Guarded>>> = Mutex::new(Vec::new());

fn watch(guarded: &Arc<Guarded>) -> io::Result<()> {
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    if watched.is_empty() {
        let thread = std::thread::Builder::new().name("onnxseal-lease".into());
        thread.spawn(look)?;
    }
    watched.push(Arc::downgrade(guarded));
    Ok(())
}

fn look() {
    loop {
        std::thread::sleep(INTERVAL);
        let guarded: Vec<Arc<Guarded>> = {
            let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
            watched.retain(|guarded| {
                let guarded = guarded.upgrade();
                guarded.is_some_and(|guarded| matches!(*guarded.state(), State::Mapped { .. }))
            });
            if watched.is_empty() {
                return;
            }
            watched.iter().filter_map(Weak::upgrade).collect()
        };
        guarded.iter().for_each(|guarded| guarded.settle());
    }
}
