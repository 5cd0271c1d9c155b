//! Replacing the end of a protected model where it lies.
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
//! from `start` is that of `old` or of `new`, but not all are of one of them, the journal completes
//! the model. It can do no more than that, whoever wrote it: the tail with `new` must be a tail.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::artifact::Artifact;
use crate::error::{Result, io as io_error};
use crate::input::{Input, read_exact_at};
use crate::location::Location;
use crate::output::{Output, sync_folder, write_all_at};
use crate::outputs::OutputOptions;
use crate::protected::{Protected, folder_of};
use crate::source::Source;

const MAGIC: &[u8] = b"onnxseal journal 1\n";
const HASH_BYTES: usize = blake3::OUT_LEN;
/// Room for the longest wrapped keys and signatures.
const MAX_JOURNAL_BYTES: u64 = 1 << 20;
/// The longest tail: a manifest, and tags and keys, which are much shorter.
const MAX_TAIL_BYTES: u64 = 256 << 20;

/// Replaces the end of the tail of the protected `model`, by what `new_end` gives.
pub(crate) fn splice<T>(
    model: Location,
    sync: bool,
    new_end: impl FnOnce(&Protected) -> Result<(Vec<u8>, T)>,
) -> Result<T> {
    let path = &model.in_place()?;
    let journal = &Journal::path(path);
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(io_error("open", path))?;
    let input = file.try_clone().map_err(io_error("read", path))?;
    let input = Input::of(path, input)?;
    input.lock_in_place()?;
    if let Some(unfinished) = Journal::read(journal) {
        unfinished.complete(&file, path)?;
        remove(journal, sync)?;
    }
    // Again, since what was unfinished may have changed it.
    let input = file.try_clone().map_err(io_error("read", path))?;
    let protected = Protected::of(Source::of(Input::of(path, input)?)?)?;
    let (end, result) = new_end(&protected)?;

    let (before, old) = protected.artifact.halves();
    let model_bytes = protected.manifest().model_bytes();
    let unfinished = Journal {
        model_bytes,
        start: model_bytes + before.len() as u64,
        old: old.to_vec(),
        new: end,
    };
    let input = &protected.source.input;
    input.check_unchanged()?;
    input.check_in_place()?;
    unfinished.publish(journal, input, sync)?;
    // The map must not see the file cut.
    drop(protected);
    let Journal {
        start, old, new, ..
    } = &unfinished;
    if let Err(error) = write_end(&file, *start, new, sync) {
        if write_end(&file, *start, old, sync).is_ok() {
            let _ = fs::remove_file(journal);
        }
        return Err(io_error("write", path)(error));
    }
    remove(journal, sync)?;
    Ok(result)
}

/// Whether a call that was to replace the end of the model at `path` was interrupted, so that the
/// file may be incomplete until `rekey` or `sign` is called again.
pub fn is_interrupted(path: &Path) -> bool {
    let path = path.canonicalize();
    path.is_ok_and(|path| Journal::read(&Journal::path(&path)).is_some())
}

fn write_end(file: &File, start: u64, end: &[u8], sync: bool) -> io::Result<()> {
    write_all_at(file, end, start)?;
    file.set_len(start + end.len() as u64)?;
    match sync {
        true => file.sync_all(),
        false => Ok(()),
    }
}

fn remove(journal: &Path, sync: bool) -> Result<()> {
    fs::remove_file(journal).map_err(io_error("remove", journal))?;
    if sync {
        sync_folder(folder_of(journal));
    }
    Ok(())
}

/// What a model is to end with.
struct Journal {
    /// Length of the original model file: offset of the tail.
    model_bytes: u64,
    /// Offset of what is replaced.
    start: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Journal {
    fn path(model: &Path) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(model.file_name().unwrap_or_default());
        name.push(".onnxseal-journal");
        folder_of(model).join(name)
    }

    fn encode(&self) -> Vec<u8> {
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

    /// Gives the journal its name, with the permissions of `like`.
    fn publish(&self, path: &Path, like: &Input, sync: bool) -> Result<()> {
        // One that was not written to its end may be there.
        let options = OutputOptions {
            replace: true,
            sync,
            ..OutputOptions::default()
        };
        let draft = Output::create_file(path, options.replace)?;
        draft.write_all_at(&self.encode(), 0)?;
        draft.finish(sync)?;
        draft.publish(like.metadata()?.as_ref(), options).map(drop)
    }

    /// The journal at `path`; `None` where there is none, or one that was not written to its end:
    /// the model is then still what it was.
    fn read(path: &Path) -> Option<Journal> {
        let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
        let file = File::open(path).ok().filter(|_| is_file)?;
        let mut bytes = Vec::new();
        file.take(MAX_JOURNAL_BYTES).read_to_end(&mut bytes).ok()?;
        Journal::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Option<Journal> {
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
    fn complete(&self, file: &File, path: &Path) -> Result<()> {
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
        let tail = [before, &self.new].concat();
        let whole = Artifact::of_tail(path, tail, self.model_bytes);
        if whole.is_ok_and(|whole| whole.halves().1 == self.new) {
            write_end(file, self.start, &self.new, true).map_err(io_error("write", path))?;
        }
        Ok(())
    }

    /// Whether `now` may be found while `old` is being replaced by `new`.
    fn is_between(&self, now: &[u8]) -> bool {
        now.len() >= self.old.len().min(self.new.len())
            && now.iter().enumerate().all(|(i, byte)| {
                let (old, new) = (self.old.get(i), self.new.get(i));
                // A file that grows may have zeros where nothing was written yet.
                Some(byte) == old || Some(byte) == new || (old.is_none() && *byte == 0)
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use onnxseal_crypto::wrap::{Identities, Recipients, generate_identity};
    use onnxseal_testkit::samples;
    use tempfile::TempDir;

    use super::*;
    use crate::{Policy, ProtectOptions, Silent, open, protect, rekey_in_place};

    /// A model that alice can open, and the same when bob can too.
    struct Two {
        dir: TempDir,
        alice: Identities,
        bob: Identities,
        to_alice: Recipients,
        to_both: Recipients,
        before: Vec<u8>,
        after: Vec<u8>,
    }

    impl Two {
        fn new() -> Two {
            let dir = tempfile::tempdir().unwrap();
            let model = dir.path().join("plain");
            fs::write(&model, samples::gemm()).unwrap();
            let (alice, bob) = (generate_identity(), generate_identity());
            // And others: age adds stanzas of random length, so that one more may be shorter.
            let mut all = vec![alice.recipient(), bob.recipient()];
            all.extend((0..10).map(|_| generate_identity().recipient()));
            let mut two = Two {
                dir,
                to_alice: Recipients::parse(&[alice.recipient()]).unwrap(),
                to_both: Recipients::parse(&all).unwrap(),
                alice: alice.into(),
                bob: bob.into(),
                before: Vec::new(),
                after: Vec::new(),
            };
            let options = ProtectOptions::new(Policy::default());
            protect(&model, two.sealed(), &two.to_alice, &options, &Silent).unwrap();
            two.before = fs::read(two.sealed()).unwrap();
            rekey_in_place(two.sealed(), &two.alice, &two.to_both, false, &Silent).unwrap();
            two.after = fs::read(two.sealed()).unwrap();
            assert!(two.after.len() > two.before.len());
            two
        }

        fn sealed(&self) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join("sealed.onnx")
        }

        /// What was written first on the way from `old` to `new`.
        fn journal(&self, old: &[u8], new: &[u8]) -> Journal {
            fs::write(self.sealed(), old).unwrap();
            let protected = Protected::open(&self.sealed().into()).unwrap();
            let (before, end) = protected.artifact.halves();
            let model_bytes = protected.manifest().model_bytes();
            let start = model_bytes + before.len() as u64;
            Journal {
                model_bytes,
                start,
                old: end.to_vec(),
                new: new[start as usize..].to_vec(),
            }
        }

        fn complete(&self, journal: &Journal, found: &[u8]) -> Vec<u8> {
            fs::write(self.sealed(), found).unwrap();
            let file = File::options().read(true).write(true).open(self.sealed());
            journal.complete(&file.unwrap(), &self.sealed()).unwrap();
            fs::read(self.sealed()).unwrap()
        }
    }

    #[test]
    fn an_interrupted_splice_is_completed() {
        let two = Two::new();
        for (old, new) in [(&two.before, &two.after), (&two.after, &two.before)] {
            let journal = two.journal(old, new);
            let start = journal.start as usize;
            assert!(two.complete(&journal, old) == *old, "it was not begun");
            assert!(two.complete(&journal, new) == *new);
            for written in (start + 1..=new.len()).step_by(7) {
                let rest = old.get(written..).unwrap_or_default();
                let torn = [&new[..written], rest].concat();
                let unchanged = torn[start..] == old[start..];
                let found = two.complete(&journal, &torn);
                assert!(found == *if unchanged { old } else { new }, "{written}");
            }
            // The file grew before its bytes came.
            if new.len() > old.len() {
                let mut torn = old.clone();
                torn.resize(new.len(), 0);
                assert!(two.complete(&journal, &torn) == *new);
            }
            // Another call completes it, and then does what it was called for.
            let middle = start + (new.len() - start) / 2;
            let rest = old.get(middle..).unwrap_or_default();
            let torn = [&new[..middle], rest].concat();
            fs::write(two.sealed(), torn).unwrap();
            let path = Journal::path(&two.sealed());
            fs::write(&path, journal.encode()).unwrap();
            assert!(is_interrupted(&two.sealed()));
            assert!(open(two.sealed(), &two.alice, &Silent).is_err());
            rekey_in_place(two.sealed(), &two.alice, &two.to_both, false, &Silent).unwrap();
            assert!(!is_interrupted(&two.sealed()) && !path.exists());
            let opened = open(two.sealed(), &two.bob, &Silent).unwrap();
            assert!(opened.model() == samples::gemm());
        }
    }

    #[test]
    fn a_splice_that_was_not_begun_is_forgotten() {
        let two = Two::new();
        let journal = two.journal(&two.before, &two.after);
        fs::write(Journal::path(&two.sealed()), journal.encode()).unwrap();
        rekey_in_place(two.sealed(), &two.alice, &two.to_alice, false, &Silent).unwrap();
        assert!(open(two.sealed(), &two.bob, &Silent).is_err());
        assert!(open(two.sealed(), &two.alice, &Silent).is_ok());
    }

    #[test]
    fn a_journal_can_do_no_more_than_complete_a_tail() {
        let two = Two::new();
        let honest = |old: &[u8], new: &[u8]| two.journal(old, new);
        let torn = |journal: &Journal| {
            let start = journal.start as usize;
            [&two.after[..start + 9], &two.before[start + 9..]].concat()
        };
        let found = torn(&honest(&two.before, &two.after));
        let mut hostile = Vec::new();
        for what in 0..8 {
            let mut journal = honest(&two.before, &two.after);
            match what {
                0 => journal.new.extend_from_slice(b"more"),
                1 => journal.new.truncate(journal.new.len() - 1),
                2 => (journal.start, journal.model_bytes) = (0, 0),
                3 => journal.model_bytes = journal.start,
                4 => journal.start = u64::MAX,
                5 => journal.model_bytes = 0,
                6 => journal.start -= 1,
                _ => journal.new = [&journal.new[..], &journal.new].concat(),
            }
            hostile.push(journal);
        }
        // One that claims all of the file, to replace it by another.
        hostile.push(Journal {
            model_bytes: 0,
            start: 0,
            old: found.clone(),
            new: samples::gemm(),
        });
        for (i, journal) in hostile.iter().enumerate() {
            assert!(two.complete(journal, &found) == found, "{i}");
            let notes = b"no model at all";
            assert!(two.complete(journal, notes) == notes, "{i}");
        }
    }

    #[test]
    fn a_journal_that_was_cut_or_changed_is_none() {
        let two = Two::new();
        let entry = two.journal(&two.before, &two.after).encode();
        assert!(Journal::parse(&entry).is_some());
        for len in 0..entry.len() {
            assert!(Journal::parse(&entry[..len]).is_none());
        }
        for bit in 0..8 * entry.len() {
            let mut changed = entry.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Journal::parse(&changed).is_none());
        }
    }
}
