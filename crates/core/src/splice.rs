//! Replacing the end of a protected model where it lies.
//!
//! A file system writes a few hundred bytes in one go most of the time, but promises nothing. So
//! they are first written to a journal beside the model, which has its name only once it is whole:
//!
//! ```text
//! journal = "onnxseal journal 1\n" L end BLAKE3(file[L .. end]) new end BLAKE3(all before)
//! ```
//!
//! with offsets as u64be. While it is there, what the model should end with can be written again.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, io as io_error};
use crate::input::{Input, read_exact_at};
use crate::location::Location;
use crate::output::{Output, write_all_at};
use crate::outputs::OutputOptions;
use crate::protected::{Protected, folder_of};
use crate::source::Source;

const MAGIC: &[u8] = b"onnxseal journal 1\n";
const HASH_BYTES: usize = blake3::OUT_LEN;
/// Room for the longest wrapped key and signature.
const MAX_JOURNAL_BYTES: u64 = 1 << 20;

/// Replaces the end of the tail of the protected `model`, by what `new_end` gives.
pub(crate) fn splice<T>(
    model: Location,
    sync: bool,
    new_end: impl FnOnce(&Protected) -> Result<(Vec<u8>, T)>,
) -> Result<T> {
    let path = &model.in_place()?;
    let journal = Journal::path(path);
    let file = lock(path)?;
    if let Some(unfinished) = Journal::read(&journal).map_err(io_error("read", &journal))? {
        unfinished.redo(&file).map_err(io_error("write", path))?;
        remove(&journal)?;
    }
    let input = file.try_clone().map_err(io_error("read", path))?;
    let protected = Protected::of(Source::of(Input::of(path, input)?)?)?;
    let (end, result) = new_end(&protected)?;

    let (start, old) = protected.end();
    let length = protected.source.input.len;
    let entry = Journal::describe(&protected, &end);
    // One that was not written to its end may be there.
    let options = OutputOptions {
        replace: true,
        sync,
        ..OutputOptions::default()
    };
    let draft = Output::create_file(&journal, options.replace)?;
    draft.write_all_at(&entry, 0)?;
    draft.finish(sync)?;
    let input = &protected.source.input;
    input.check_unchanged()?;
    draft.publish(input.metadata()?.as_ref(), options)?;
    let old = old.to_vec();
    // The map must not see the file cut.
    drop(protected);
    let written = write_end(&file, start, &end, sync);
    if let Err(error) = written {
        let restored = write_end(&file, start, &old, sync).and_then(|()| file.set_len(length));
        if restored.is_ok() {
            let _ = fs::remove_file(&journal);
        }
        return Err(io_error("write", path)(error));
    }
    remove(&journal)?;
    Ok(result)
}

/// Whether a call that was to replace the end of the model at `path` was interrupted, so that the
/// file may be incomplete until `rekey` is called again.
pub fn is_interrupted(path: &Path) -> bool {
    let path = path.canonicalize();
    path.is_ok_and(|path| Journal::path(&path).exists())
}

/// Opens the model, which nobody else may splice meanwhile.
fn lock(path: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(io_error("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Busy {
            path: path.to_owned(),
        }),
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(io_error("lock", path)(error)),
    }
}

fn write_end(file: &File, start: u64, end: &[u8], sync: bool) -> io::Result<()> {
    write_all_at(file, end, start)?;
    file.set_len(start + end.len() as u64)?;
    match sync {
        true => file.sync_all(),
        false => Ok(()),
    }
}

fn remove(journal: &Path) -> Result<()> {
    fs::remove_file(journal).map_err(io_error("remove", journal))
}

/// What a model is to end with.
struct Journal {
    /// Offset of the tail in the file.
    tail: u64,
    /// Offset of what is replaced.
    start: u64,
    /// Hash of the tail before that: tells which model the journal is about.
    hash: blake3::Hash,
    end: Vec<u8>,
}

impl Journal {
    fn path(model: &Path) -> PathBuf {
        let name = model.file_name().unwrap_or_default().to_string_lossy();
        folder_of(model).join(format!(".{name}.onnxseal-journal"))
    }

    fn describe(protected: &Protected, end: &[u8]) -> Vec<u8> {
        let (start, _) = protected.end();
        let tail = protected.manifest().model_bytes();
        let hash = blake3::hash(protected.tail_before_end());
        let mut bytes = [MAGIC, &tail.to_be_bytes(), &start.to_be_bytes()].concat();
        bytes.extend_from_slice(hash.as_bytes());
        bytes.extend_from_slice(end);
        let all = blake3::hash(&bytes);
        bytes.extend_from_slice(all.as_bytes());
        bytes
    }

    /// The journal at `path`; `None` where there is none, or one that was not written to its end:
    /// the model is then still what it was.
    fn read(path: &Path) -> io::Result<Option<Journal>> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() <= MAX_JOURNAL_BYTES => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Journal::parse(&fs::read(path)?))
    }

    fn parse(bytes: &[u8]) -> Option<Journal> {
        let (bytes, all) = bytes.split_last_chunk::<HASH_BYTES>()?;
        if blake3::hash(bytes) != *all {
            return None;
        }
        let (tail, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
        let (start, rest) = rest.split_first_chunk()?;
        let (hash, end) = rest.split_first_chunk::<HASH_BYTES>()?;
        Some(Journal {
            tail: u64::from_be_bytes(*tail),
            start: u64::from_be_bytes(*start),
            hash: blake3::Hash::from_bytes(*hash),
            end: end.to_vec(),
        })
    }

    /// Writes the end to the model, if it is about this model.
    fn redo(&self, file: &File) -> io::Result<()> {
        let len = file.metadata()?.len();
        let before = self.start.checked_sub(self.tail);
        let Some(before) = before.filter(|_| self.start <= len) else {
            return Ok(());
        };
        let mut bytes = vec![0; usize::try_from(before).map_err(io::Error::other)?];
        read_exact_at(file, &mut bytes, self.tail)?;
        match blake3::hash(&bytes) == self.hash {
            true => write_end(file, self.start, &self.end, true),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use onnxseal_crypto::wrap::{Identities, Recipients, generate_identity};
    use onnxseal_testkit::samples;

    use super::*;
    use crate::{Policy, ProtectOptions, Silent, open, protect, rekey_in_place};

    #[test]
    fn an_interrupted_splice_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let (model, sealed) = (dir.path().join("plain"), dir.path().join("sealed.onnx"));
        fs::write(&model, samples::gemm()).unwrap();
        let (alice, bob) = (generate_identity(), generate_identity());
        let to_alice = Recipients::parse(&[alice.recipient()]).unwrap();
        let to_both = Recipients::parse(&[alice.recipient(), bob.recipient()]).unwrap();
        let (alice, bob) = (Identities::from(alice), Identities::from(bob));
        let options = ProtectOptions::new(Policy::default());
        protect(&model, &sealed, &to_alice, &options, &Silent).unwrap();
        let before = fs::read(&sealed).unwrap();
        rekey_in_place(&sealed, &alice, &to_both, false, &Silent).unwrap();
        let after = fs::read(&sealed).unwrap();
        assert!(after.len() > before.len());

        for (old, new) in [(&before, &after), (&after, &before)] {
            let journal = Journal::path(&sealed.canonicalize().unwrap());
            fs::write(&sealed, new).unwrap();
            let entry = {
                let protected = Protected::open(&(&sealed).into()).unwrap();
                let (_, end) = protected.end();
                Journal::describe(&protected, end)
            };
            fs::write(&sealed, old).unwrap();
            let (start, _) = Protected::open(&(&sealed).into()).unwrap().end();
            for written in start as usize..=new.len() {
                let rest = old.get(written..).unwrap_or_default();
                fs::write(&sealed, [&new[..written], rest].concat()).unwrap();
                fs::write(&journal, &entry).unwrap();
                assert!(is_interrupted(&sealed));
                rekey_in_place(&sealed, &alice, &to_both, false, &Silent).unwrap();
                assert!(!is_interrupted(&sealed));
                assert!(open(&sealed, &bob, &Silent).unwrap().model() == samples::gemm());
            }
        }
    }

    #[test]
    fn a_journal_that_is_cut_or_of_another_model_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [model, sealed, other] = ["plain", "sealed", "other"].map(|name| dir.path().join(name));
        fs::write(&model, samples::gemm()).unwrap();
        let identity = generate_identity();
        let recipients = Recipients::parse(&[identity.recipient()]).unwrap();
        let options = ProtectOptions::new(Policy::default());
        for output in [&sealed, &other] {
            protect(&model, output, &recipients, &options, &Silent).unwrap();
        }
        let before = fs::read(&sealed).unwrap();
        let journal =
            |path: &Path| Journal::describe(&Protected::open(&path.into()).unwrap(), b"new end");
        let entry = journal(&sealed);
        for len in 0..entry.len() {
            assert!(Journal::parse(&entry[..len]).is_none());
        }
        for bit in 0..8 * entry.len() {
            let mut changed = entry.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Journal::parse(&changed).is_none());
        }
        let file = File::options()
            .read(true)
            .write(true)
            .open(&sealed)
            .unwrap();
        let unfinished = Journal::parse(&journal(&other)).unwrap();
        unfinished.redo(&file).unwrap();
        assert!(fs::read(&sealed).unwrap() == before);
        Journal::parse(&entry).unwrap().redo(&file).unwrap();
        assert!(fs::read(&sealed).unwrap().ends_with(b"new end"));
    }
}
