//! Replacing the end of a protected model where it lies, by way of a [`journal`](super::journal).

use std::fs::{self, File};
use std::path::Path;

use onnxseal_crypto::wrap::Identities;
use onnxseal_store::{Input, Location, folder_of, sync_folder};

use crate::error::{Result, io as io_error};
use crate::make::journal::{Journal, write_end};
use crate::open::protected::Protected;
use crate::pass::source::Source;

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

fn remove(journal: &Path, sync: bool) -> Result<()> {
    fs::remove_file(journal).map_err(io_error("remove", journal))?;
    if sync {
        sync_folder(folder_of(journal));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use onnxseal_crypto::wrap::{Identities, Recipients, generate_identity};
    use onnxseal_testkit::samples;
    use tempfile::TempDir;

    use super::*;
    use crate::error::Error;
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
