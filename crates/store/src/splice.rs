//! Replaces the end of a file in place, with a journal beside it.
//!
//! File systems usually write a few hundred bytes at once, but do not guarantee it. So the bytes go
//! to a journal first, which gets its name only once it is complete:
//!
//! ```text
//! journal = "onnxseal journal 1\n" c start n old new BLAKE3(all before)
//! ```
//!
//! `c` is the offset from which the caller must read the file to judge an end, `start` the offset
//! of the end and `n` the length of `old`, as u64be. `old` and `new` are the end before and after.
//! A file is torn if each byte from `start` comes from `old` or `new`, but the end equals neither.
//!
//! Anyone may have planted a file of that name. So a journal counts only if it belongs to us, or to
//! the owner of the file, and nobody else can write to it. The caller who completes a torn file
//! [judges](Splice::complete) which end it gets.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result, io as io_error};
use crate::folder::sync_folder;
use crate::input::{Input, read_exact_at};
use crate::location::folder_of;
use crate::new_file::create_file;
use crate::no_links;
use crate::output::{Flush, OutputOptions, Permitted, write_all_at};

const MAGIC: &[u8] = b"onnxseal journal 1\n";

const HASH_BYTES: usize = blake3::OUT_LEN;

/// The longest journal: room for the longest wrapped keys and signatures.
const MAX_JOURNAL_BYTES: u64 = 1 << 20;

/// The most bytes before the end that are read to judge it.
const MAX_CONTEXT_BYTES: u64 = 256 << 20;

/// A new end for a file.
#[derive(Debug)]
pub struct Change {
    /// Offset from which the file is read to judge an end.
    pub context: u64,
    pub start: u64,
    pub old: Vec<u8>,
    pub new: Vec<u8>,
}

/// A file whose end is being replaced, locked against other processes that do the same.
#[derive(Debug)]
pub struct Splice {
    input: Input,
    file: Arc<File>,
    /// `ToDisk` or `Later`: a change in place always has something to lose.
    flush: Flush,
}

impl Splice {
    pub fn open(path: &Path, flush: Flush) -> Result<Splice> {
        let file = File::options().read(true).write(true).open(path);
        let file = Arc::new(file.map_err(io_error("open", path))?);
        let input = Input::of(path, file.clone())?;
        input.lock_in_place()?;
        let flush = match flush {
            Flush::Later => Flush::Later,
            Flush::ToDisk | Flush::Replacing => Flush::ToDisk,
        };
        Ok(Splice { input, file, flush })
    }

    pub fn input(&self) -> Result<Input> {
        Input::of(&self.input.path, self.file.clone())
    }

    /// Completes an interrupted change, if there is one. `judge` gets it, the bytes from its context
    /// to the end, which no change touches, and the present end; it says which end the file gets. If
    /// `judge` or the journal fails, file and journal stay as they are.
    pub fn complete<E: From<Error>>(
        &self,
        judge: impl for<'t> FnOnce(&'t Change, &[u8], &'t [u8]) -> std::result::Result<&'t [u8], E>,
    ) -> std::result::Result<(), E> {
        let journal = journal_of(&self.input.path);
        let Some(change) = Change::read(&journal, self.input.metadata()?.as_ref())? else {
            return Ok(());
        };
        if let Some(bytes) = self.read_torn(&change)? {
            let (before, found) = bytes.split_at((change.start - change.context) as usize);
            let end = judge(&change, before, found)?;
            if end != found {
                // Sync whatever the caller asked for, since a power loss has probably torn the
                // file.
                self.write_end(change.start, end, Flush::ToDisk)?;
            }
        }
        Ok(self.remove(&journal)?)
    }

    /// Writes the new end. On failure the file keeps the old one, or the journal stays.
    pub fn replace(self, change: &Change) -> Result<()> {
        let journal = journal_of(&self.input.path);
        change.publish(&journal, self.flush)?;
        if let Err(error) = self.write_end(change.start, &change.new, self.flush) {
            if (self.write_end(change.start, &change.old, self.flush)).is_ok() {
                let _ = fs::remove_file(&journal);
            }
            return Err(error);
        }
        self.remove(&journal)
    }

    /// Reads the file from `change.context` to its end. Returns `None` if `change` did not tear it.
    fn read_torn(&self, change: &Change) -> Result<Option<Vec<u8>>> {
        let path = &self.input.path;
        let len = (self.file.metadata().map_err(io_error("read", path))?).len();
        let n_before = change.start.checked_sub(change.context);
        let (Some(n_before), Some(n_found)) = (n_before, len.checked_sub(change.start)) else {
            return Ok(None);
        };
        let longest = change.old.len().max(change.new.len()) as u64;
        if n_before > MAX_CONTEXT_BYTES || n_found > longest {
            return Ok(None);
        }
        let mut bytes = vec![0; (n_before + n_found) as usize];
        read_exact_at(&self.file, &mut bytes, change.context).map_err(io_error("read", path))?;
        let found = &bytes[n_before as usize..];
        let torn = found != change.old && found != change.new && change.is_between(found);
        Ok(torn.then_some(bytes))
    }

    fn write_end(&self, start: u64, end: &[u8], flush: Flush) -> Result<()> {
        let written = write_all_at(&self.file, end, start)
            .and_then(|()| self.file.set_len(start + end.len() as u64))
            .and_then(|()| match flush {
                Flush::ToDisk => self.file.sync_all(),
                Flush::Replacing | Flush::Later => Ok(()),
            });
        written.map_err(io_error("write", &self.input.path))
    }

    fn remove(&self, journal: &Path) -> Result<()> {
        fs::remove_file(journal).map_err(io_error("remove", journal))?;
        if self.flush == Flush::ToDisk {
            sync_folder(folder_of(journal));
        }
        Ok(())
    }
}

const END: &str = ".onnxseal-journal";

/// Returns whether a change of the file at `path` was interrupted: the file may be torn until the
/// call is repeated.
pub fn is_interrupted(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    let file = fs::metadata(&path).ok();
    Change::read(&journal_of(&path), file.as_ref()).is_ok_and(|change| change.is_some())
}

fn journal_of(path: &Path) -> PathBuf {
    const MAX_NAME_BYTES: usize = 255;
    let of = path.file_name().unwrap_or_default();
    let mut name = OsString::from(".");
    name.push(of);
    name.push(END);
    if name.len() > MAX_NAME_BYTES {
        let hash = blake3::hash(of.as_encoded_bytes());
        name = format!(".{}{END}", hash.to_hex()).into();
    }
    folder_of(path).join(name)
}

impl Change {
    fn encode(&self) -> Vec<u8> {
        let numbers = [self.context, self.start, self.old.len() as u64].map(u64::to_be_bytes);
        let mut bytes = [MAGIC, numbers.as_flattened(), &self.old, &self.new].concat();
        let all = blake3::hash(&bytes);
        bytes.extend_from_slice(all.as_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Change> {
        let (bytes, all) = bytes.split_last_chunk::<HASH_BYTES>()?;
        if blake3::hash(bytes) != *all {
            return None;
        }
        let (context, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
        let (start, rest) = rest.split_first_chunk()?;
        let (n_old, rest) = rest.split_first_chunk()?;
        let n_old = usize::try_from(u64::from_be_bytes(*n_old)).ok()?;
        let (old, new) = rest.split_at_checked(n_old)?;
        Some(Change {
            context: u64::from_be_bytes(*context),
            start: u64::from_be_bytes(*start),
            old: old.to_vec(),
            new: new.to_vec(),
        })
    }

    fn publish(&self, journal: &Path, flush: Flush) -> Result<()> {
        // An incomplete journal may exist.
        let replace = true;
        let options = OutputOptions { replace, flush };
        let draft = create_file(journal, 0, replace)?;
        draft.write_all_at(&self.encode(), 0)?;
        draft.finish(flush)?;
        draft.publish(Permitted::OWNER, options)?;
        Ok(())
    }

    /// Reads the change in the `journal` of `file`. Returns `None` if there is no journal, or an
    /// incomplete one: the file is then unchanged.
    fn read(journal: &Path, file: Option<&Metadata>) -> Result<Option<Change>> {
        let opened = no_links::there(no_links::open_file(journal));
        let Some(opened) = opened.map_err(io_error("open", journal))? else {
            return Ok(None);
        };
        let metadata = opened.metadata().map_err(io_error("read", journal))?;
        if !is_trusted(&metadata, file) {
            return Err(Error::Journal(journal.to_owned()));
        }
        let mut bytes = Vec::new();
        let read = opened.take(MAX_JOURNAL_BYTES).read_to_end(&mut bytes);
        read.map_err(io_error("read", journal))?;
        Ok(Change::parse(&bytes))
    }

    /// Returns whether a file may have the end `found` while `new` replaces `old`.
    fn is_between(&self, found: &[u8]) -> bool {
        found.len() >= self.old.len().min(self.new.len())
            && found.iter().enumerate().all(|(i, byte)| {
                let (old, new) = (self.old.get(i), self.new.get(i));
                // A file that grows may have zeros in unwritten places.
                Some(byte) == old || Some(byte) == new || (old.is_none() && *byte == 0)
            })
    }
}

/// Returns whether a journal is a plain file that belongs to us, to root or to the owner of `file`,
/// and that nobody else can write to.
#[cfg(unix)]
fn is_trusted(journal: &Metadata, file: Option<&Metadata>) -> bool {
    use std::os::unix::fs::MetadataExt;
    let ours = rustix::process::geteuid().as_raw();
    let owners = [Some(0), Some(ours), file.map(MetadataExt::uid)];
    let others_write = journal.mode() & 0o022 != 0;
    journal.is_file()
        && journal.nlink() == 1
        && !others_write
        && owners.contains(&Some(journal.uid()))
}

#[cfg(not(unix))]
fn is_trusted(journal: &Metadata, _file: Option<&Metadata>) -> bool {
    journal.is_file()
}

#[cfg(test)]
mod tests;
