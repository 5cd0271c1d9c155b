//! The journal of a call that replaces the end of a protected model where it lies.
//!
//! A file system writes a few hundred bytes in one go most of the time, but promises nothing. So
//! they are first written to a journal beside the model, which has its name only once it is whole:
//!
//! ```text
//! journal = "onnxseal journal 1\n" L start n old new BLAKE3(all before)
//! ```
//!
//! `L` is the original's length, `start` the offset of what is replaced and `n` the length of `old`,
//! as u64be; `old` and `new` are what the model ended with and is to end with. Where each of the bytes
//! from `start` is that of `old` or of `new`, but not all are of one of them, the model is completed.
//!
//! A file of that name may be anybody's. So it is obeyed only where it is ours, or the owner's of the
//! model, and nobody else can write to it; and it never costs a wrapped key. What opens as it stands
//! is left alone. Otherwise the model gets that of `new` and `old` which an identity opens, to a data
//! key under which the MAC holds. Without an identity it gets `new` only where that changes nothing but
//! the signature.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use onnxseal_crypto::wrap::Identities;
use onnxseal_store::{Output, OutputOptions, folder_of, read_exact_at, shown, write_all_at};

use crate::error::{Error, Result, io as io_error};
use crate::format::artifact::Artifact;

const MAGIC: &[u8] = b"onnxseal journal 1\n";

const HASH_BYTES: usize = blake3::OUT_LEN;

/// Room for the longest wrapped keys and signatures.
const MAX_JOURNAL_BYTES: u64 = 1 << 20;

/// The longest tail: a manifest, and tags and keys, which are much shorter.
const MAX_TAIL_BYTES: u64 = 256 << 20;

/// What a model is to end with.
pub(crate) struct Journal {
    /// Length of the original model file: offset of the tail.
    pub(crate) model_bytes: u64,
    /// Offset of what is replaced.
    pub(crate) start: u64,
    pub(crate) old: Vec<u8>,
    pub(crate) new: Vec<u8>,
}

impl Journal {
    pub(crate) fn path(model: &Path) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(model.file_name().unwrap_or_default());
        name.push(".onnxseal-journal");
        folder_of(model).join(name)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Journal {
            model_bytes,
            start,
            old,
            new,
        } = self;
        let numbers = [*model_bytes, *start, old.len() as u64].map(u64::to_be_bytes);
        let mut bytes = [MAGIC, numbers.as_flattened(), old, new].concat();
        let all = blake3::hash(&bytes);
        bytes.extend_from_slice(all.as_bytes());
        bytes
    }

    /// Gives the journal its name, readable by its owner alone.
    pub(crate) fn publish(&self, path: &Path, sync: bool) -> Result<()> {
        // One that was not written to its end may be there.
        let mut options = OutputOptions::default();
        (options.replace, options.sync) = (true, sync);
        let draft = Output::create_file(path, options.replace)?;
        draft.write_all_at(&self.encode(), 0)?;
        draft.finish(sync)?;
        draft.publish(None, options)?;
        Ok(())
    }

    /// The journal at `path`, of the file that `model` is about; `None` where there is none, or one
    /// that was not written to its end: the model is then still what it was.
    ///
    /// # Errors
    /// `Usage` for what is not ours.
    pub(crate) fn read(path: &Path, model: Option<&Metadata>) -> Result<Option<Journal>> {
        let Some(file) = open_plain(path).map_err(io_error("open", path))? else {
            return Ok(None);
        };
        let metadata = file.metadata().map_err(io_error("read", path))?;
        if !is_trusted(&metadata, model) {
            return Err(Error::Misuse(format!(
                "{} is not what an interrupted rekey or signing leaves: it is no plain file, somebody else's, or others may write to it; remove it, or make it yours alone if you know it",
                shown(path)
            )));
        }
        let mut bytes = Vec::new();
        let read = file.take(MAX_JOURNAL_BYTES).read_to_end(&mut bytes);
        read.map_err(io_error("read", path))?;
        Ok(Journal::parse(&bytes))
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Journal> {
        let (bytes, all) = bytes.split_last_chunk::<HASH_BYTES>()?;
        if blake3::hash(bytes) != *all {
            return None;
        }
        let (model_bytes, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
        let (start, rest) = rest.split_first_chunk()?;
        let (n_old, rest) = rest.split_first_chunk()?;
        let n_old = usize::try_from(u64::from_be_bytes(*n_old)).ok()?;
        let (old, new) = rest.split_at_checked(n_old)?;
        Some(Journal {
            model_bytes: u64::from_be_bytes(*model_bytes),
            start: u64::from_be_bytes(*start),
            old: old.to_vec(),
            new: new.to_vec(),
        })
    }

    /// Writes the end to the model at `path`, if this is about it and it was begun.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where none of `identities` tells that the model stays what it was.
    pub(crate) fn complete(
        &self,
        file: &File,
        path: &Path,
        identities: Option<&Identities>,
    ) -> Result<()> {
        let io = |error| io_error("read", path)(error);
        let len = file.metadata().map_err(io)?.len();
        let (Some(n_before), Some(n_now)) = (
            self.start.checked_sub(self.model_bytes),
            len.checked_sub(self.start),
        ) else {
            return Ok(());
        };
        let longest = self.old.len().max(self.new.len()) as u64;
        if n_before > MAX_TAIL_BYTES || n_now > longest {
            return Ok(());
        }
        let mut now = vec![0; (n_before + n_now) as usize];
        read_exact_at(file, &mut now, self.model_bytes).map_err(io)?;
        let (before, now) = now.split_at(n_before as usize);
        if now == self.old || now == self.new || !self.is_between(now) {
            return Ok(());
        }
        // The artifact whose tail ends so.
        let ending = |end: &[u8]| {
            let tail = [before, end].concat();
            let artifact = Artifact::of_tail(path, tail, self.model_bytes).ok()?;
            (artifact.split_end().1 == end).then_some(artifact)
        };
        let (as_it_stands, new, old) = (ending(now), ending(&self.new), ending(&self.old));
        let end = match identities {
            Some(identities) => {
                let opens = |artifact: &Option<Artifact>| {
                    (artifact.as_ref()).is_some_and(|artifact| opens(artifact, identities))
                };
                if opens(&as_it_stands) {
                    return Ok(());
                }
                let ends = [(&new, &self.new), (&old, &self.old)];
                ends.into_iter()
                    .find(|(artifact, _)| opens(artifact))
                    .map(|(_, end)| end)
            }
            None => {
                let key = new.map(|new| new.key);
                let same = key.is_some() && key == old.map(|old| old.key);
                let kept = as_it_stands.is_none_or(|now| Some(now.key) == key);
                (same && kept).then_some(&self.new)
            }
        };
        let path = path.to_owned();
        let end = end.ok_or_else(|| Error::Interrupted { path: path.clone() })?;
        write_end(file, self.start, end, true).map_err(io_error("write", &path))
    }

    /// Whether `now` may be found while `old` is being replaced by `new`.
    pub(crate) fn is_between(&self, now: &[u8]) -> bool {
        now.len() >= self.old.len().min(self.new.len())
            && now.iter().enumerate().all(|(i, byte)| {
                let (old, new) = (self.old.get(i), self.new.get(i));
                // A file that grows may have zeros where nothing was written yet.
                Some(byte) == old || Some(byte) == new || (old.is_none() && *byte == 0)
            })
    }
}

/// Whether one of `identities` opens the data key with which manifest and tags were written.
fn opens(artifact: &Artifact, identities: &Identities) -> bool {
    let data_key = identities.unwrap(&artifact.key);
    data_key.is_ok_and(|data_key| {
        let Artifact {
            manifest_bytes,
            tags,
            mac,
            ..
        } = artifact;
        data_key.open_keys(manifest_bytes, tags, mac).is_ok()
    })
}

/// Opens the file at `path`, if there is anything: no link is followed, no pipe waited for.
#[cfg(target_os = "linux")]
fn open_plain(path: &Path) -> io::Result<Option<File>> {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::io::Errno;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open(path, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_plain(path: &Path) -> io::Result<Option<File>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => File::open(path).map(Some),
        Ok(_) => Err(io::Error::other("not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a journal is a plain file that was written by us or by who owns the `model`, and that
/// nobody else can write to.
#[cfg(unix)]
fn is_trusted(journal: &Metadata, model: Option<&Metadata>) -> bool {
    use std::os::unix::fs::MetadataExt;
    #[cfg(target_os = "linux")]
    let ours = Some(rustix::process::geteuid().as_raw());
    #[cfg(not(target_os = "linux"))]
    let ours = None;
    let owners = [Some(0), ours, model.map(MetadataExt::uid)];
    let others_write = journal.mode() & 0o022 != 0;
    journal.is_file()
        && journal.nlink() == 1
        && !others_write
        && owners.contains(&Some(journal.uid()))
}

#[cfg(not(unix))]
fn is_trusted(journal: &Metadata, _model: Option<&Metadata>) -> bool {
    journal.is_file()
}

pub(crate) fn write_end(file: &File, start: u64, end: &[u8], sync: bool) -> io::Result<()> {
    write_all_at(file, end, start)?;
    file.set_len(start + end.len() as u64)?;
    match sync {
        true => file.sync_all(),
        false => Ok(()),
    }
}
