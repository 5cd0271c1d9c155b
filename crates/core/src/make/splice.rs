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
//! from `start` is that of `old` or of `new`, but not all are of one of them, the model is completed.
//!
//! A file of that name may be anybody's. So it is obeyed only where it is ours, or the owner's of the
//! model, and nobody else can write to it; and it never costs a wrapped key. What opens as it stands
//! is left alone. Otherwise the model gets that of `new` and `old` which an identity opens, to a data
//! key under which the MAC holds. Without an identity it gets `new` only where that changes nothing but
//! the signature.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use onnxseal_crypto::wrap::Identities;
use onnxseal_store::shown;

use crate::error::io as io_error;
use crate::error::{Error, Result};
use crate::format::artifact::Artifact;
use crate::open::protected::Protected;
use crate::pass::source::Source;
use onnxseal_store::Location;
use onnxseal_store::OutputOptions;
use onnxseal_store::folder_of;
use onnxseal_store::sync_folder;
use onnxseal_store::{Input, read_exact_at};
use onnxseal_store::{Output, write_all_at};

const MAGIC: &[u8] = b"onnxseal journal 1\n";
const HASH_BYTES: usize = blake3::OUT_LEN;
/// Room for the longest wrapped keys and signatures.
const MAX_JOURNAL_BYTES: u64 = 1 << 20;
/// The longest tail: a manifest, and tags and keys, which are much shorter.
const MAX_TAIL_BYTES: u64 = 256 << 20;

/// Replaces the end of the tail of the protected `model`, by what `new_end` gives. What an earlier call
/// left incomplete is completed first, if `identities` open it.
pub(crate) fn splice<T>(
    model: Location,
    identities: Option<&Identities>,
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
    let metadata = input.metadata()?;
    if let Some(unfinished) = Journal::read(journal, metadata.as_ref())? {
        unfinished.complete(&file, path, identities)?;
        remove(journal, sync)?;
    }
    // Again, since what was unfinished may have changed it.
    let input = file.try_clone().map_err(io_error("read", path))?;
    let protected = Protected::of(Source::of(Input::of(path, input)?)?)?;
    let (end, result) = new_end(&protected)?;

    let (before, old) = protected.artifact.split_end();
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
    unfinished.publish(journal, sync)?;
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
/// file may be incomplete until `rekey` is called with an identity that opens it, or `sign` again.
pub fn is_interrupted(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    let model = fs::metadata(&path).ok();
    Journal::read(&Journal::path(&path), model.as_ref()).is_ok_and(|journal| journal.is_some())
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

    /// Gives the journal its name, readable by its owner alone.
    fn publish(&self, path: &Path, sync: bool) -> Result<()> {
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
    fn read(path: &Path, model: Option<&Metadata>) -> Result<Option<Journal>> {
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
    ///
    /// # Errors
    /// [`Error::Interrupted`] where none of `identities` tells that the model stays what it was.
    fn complete(&self, file: &File, path: &Path, identities: Option<&Identities>) -> Result<()> {
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
    fn is_between(&self, now: &[u8]) -> bool {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use onnxseal_crypto::wrap::{Identities, Recipients, generate_identity};
    use onnxseal_testkit::samples;
    use tempfile::TempDir;

    use super::*;
    use crate::format::artifact::encode_end;
    use crate::{Policy, ProtectOptions, SigningKey, Silent, open, protect, rekey_in_place, sign};

    /// A key that protects nothing.
    const SIGNING_KEY: &str = "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACAMag+IgsJUdjEN7Mt3TNYVux7k34VZQHufEH5eXhVjwQAAAKCVtLCAlbSw
gAAAAAtzc2gtZWQyNTUxOQAAACAMag+IgsJUdjEN7Mt3TNYVux7k34VZQHufEH5eXhVjwQ
AAAEAtGTDwzLvb6rYYVpa0xyNCpRza/rV0wZC+svYM4ouarwxqD4iCwlR2MQ3sy3dM1hW7
HuTfhVlAe58Qfl5eFWPBAAAAGnRlc3Qga2V5OiBwcm90ZWN0cyBub3RoaW5nAQID
-----END OPENSSH PRIVATE KEY-----
";

    /// A model that alice can open, and the same when bob can too.
    struct Two {
        dir: TempDir,
        alice: Identities,
        bob: Identities,
        public: [String; 2],
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
                public: [alice.recipient(), bob.recipient()],
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
            let (before, end) = protected.artifact.split_end();
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
            let completed = journal.complete(&file.unwrap(), &self.sealed(), Some(&self.alice));
            let completed = completed.or_else(|error| match error {
                Error::Interrupted { .. } => Ok(()),
                error => Err(error),
            });
            completed.unwrap();
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
            // What it says was there before opens, or nothing is done.
            let completed = two.complete(journal, &found);
            assert!(completed == found || completed == two.before, "{i}");
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

    #[test]
    fn a_planted_journal_costs_no_key() {
        let two = Two::new();
        // As if it had been begun: but for a byte, what is there is what it says was there before.
        let mut planted = two.journal(&two.after, &two.before);
        let last = planted.old.len() - 1;
        planted.old[last] ^= 1;
        assert!(two.complete(&planted, &two.after) == two.after);

        // The model is torn, and what would complete it opens for nobody who has the data key.
        let (mallory, options) = (generate_identity(), ProtectOptions::new(Policy::default()));
        let (plain, other) = (two.dir.path().join("plain"), two.dir.path().join("other"));
        let to_mallory = Recipients::parse(&[mallory.recipient(), two.public[0].clone()]).unwrap();
        protect(&plain, &other, &to_mallory, &options, &Silent).unwrap();
        let key = Protected::open(&other.into()).unwrap().artifact.key;
        let mut planted = two.journal(&two.before, &two.after);
        planted.new = encode_end(None, &key);
        let start = planted.start as usize;
        let torn = [
            &two.before[..start],
            &planted.new[..99],
            &two.before[start + 99..],
        ]
        .concat();
        assert!(
            two.complete(&planted, &torn) == two.before,
            "what alice opens"
        );
    }

    #[test]
    fn who_gave_a_model_away_can_take_it_back_until_it_is_done() {
        let two = Two::new();
        let to_bob = Recipients::parse(&[&two.public[1]]).unwrap();
        rekey_in_place(two.sealed(), &two.bob, &to_bob, false, &Silent).unwrap();
        let given = fs::read(two.sealed()).unwrap();
        let journal = two.journal(&two.before, &given);
        let start = journal.start as usize;
        let torn = [&given[..start + 200], &two.before[start + 200..]].concat();
        assert!(two.complete(&journal, &torn) == two.before);
    }

    #[test]
    fn without_an_identity_only_signatures_are_completed() {
        let two = Two::new();
        let no_passphrase = || Err(onnxseal_crypto::Error::Backend);
        let key = SigningKey::read(SIGNING_KEY.as_bytes(), "key", no_passphrase).unwrap();
        fs::write(two.sealed(), &two.before).unwrap();
        sign(two.sealed(), &key, false, &Silent).unwrap();
        let signed = fs::read(two.sealed()).unwrap();
        let path = Journal::path(&two.sealed());
        let torn = |journal: &Journal, old: &[u8], new: &[u8]| {
            let middle = journal.start as usize + 100;
            let rest = old.get(middle..).unwrap_or_default();
            fs::write(two.sealed(), [&new[..middle], rest].concat()).unwrap();
            fs::write(&path, journal.encode()).unwrap();
        };
        let journal = two.journal(&two.before, &signed);
        torn(&journal, &two.before, &signed);
        sign(two.sealed(), &key, false, &Silent).unwrap();
        assert!(open(two.sealed(), &two.alice, &Silent).is_ok() && !path.exists());

        let journal = two.journal(&two.before, &two.after);
        torn(&journal, &two.before, &two.after);
        let before = fs::read(two.sealed()).unwrap();
        let refused = sign(two.sealed(), &key, false, &Silent).unwrap_err();
        assert!(matches!(refused, Error::Interrupted { .. }), "{refused}");
        assert!(fs::read(two.sealed()).unwrap() == before && path.exists());
        rekey_in_place(two.sealed(), &two.alice, &two.to_both, false, &Silent).unwrap();
        assert!(open(two.sealed(), &two.bob, &Silent).is_ok() && !path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_journal_that_others_can_write_is_not_obeyed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let two = Two::new();
        let journal = two.journal(&two.before, &two.after).encode();
        let path = Journal::path(&two.sealed());
        let rekey = || rekey_in_place(two.sealed(), &two.alice, &two.to_both, false, &Silent);
        let refused = || {
            let before = fs::read(two.sealed()).unwrap();
            let error = rekey().map(drop).unwrap_err();
            assert!(
                error.to_string().contains("onnxseal-journal") || matches!(error, Error::Store(_)),
                "{error}"
            );
            assert!(fs::read(two.sealed()).unwrap() == before && !is_interrupted(&two.sealed()));
        };
        fs::write(&path, &journal).unwrap();
        for mode in [0o620, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            refused();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(is_interrupted(&two.sealed()));
        let other = two.dir.path().join("elsewhere");
        fs::hard_link(&path, &other).unwrap();
        refused();
        fs::remove_file(&path).unwrap();
        symlink(&other, &path).unwrap();
        refused();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refused();
        fs::remove_dir(&path).unwrap();
        rekey().unwrap();
    }
}
