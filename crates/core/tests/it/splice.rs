//! Completing what interrupted calls left of the end of a model, and what a planted journal cannot
//! do.

use std::fs;
use std::path::PathBuf;

use onnxseal_core::{
    Access, AllowedSigners, Edition, Error, Flush, Identities, Policy, ProtectOptions, Recipients,
    SignedBy, Silent, generate_identity, is_interrupted, open, protect, rekey, sign,
};
use onnxseal_onnx::tail;
use onnxseal_testkit::samples;
use tempfile::TempDir;

use crate::lab::{ALICE, BOB, IN_PLACE, key};

/// A journal, encoded here as `crates/store/src/splice.rs` draws it.
struct Journal {
    context: u64,
    start: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Journal {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = b"onnxseal journal 1\n".to_vec();
        for number in [self.context, self.start, self.old.len() as u64] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.old);
        bytes.extend_from_slice(&self.new);
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }
}

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
        two.share().unwrap();
        two.after = fs::read(two.sealed()).unwrap();
        assert!(two.after.len() > two.before.len());
        two
    }

    /// Alice wraps the data key for both.
    fn share(&self) -> Result<bool, Error> {
        let (alice, both) = (&self.alice, &self.to_both);
        rekey(self.sealed(), IN_PLACE, alice, both, &Silent)
    }

    fn sealed(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("sealed.onnx")
    }

    fn journal_path(&self) -> PathBuf {
        let name = ".sealed.onnx.onnxseal-journal";
        self.sealed().with_file_name(name)
    }

    /// The journal that is written first on the way from `old` to `new`.
    fn journal(&self, old: &[u8], new: &[u8]) -> Journal {
        let tail = tail::split(old).unwrap().unwrap();
        let mut entries = tail.entries.iter();
        let end = entries.find(|entry| [tail::SIG, tail::KEYS[0]].contains(&entry.key));
        let start = end.unwrap().field.start;
        Journal {
            context: tail.start,
            start,
            old: old[start as usize..].to_vec(),
            new: new[start as usize..].to_vec(),
        }
    }

    /// What a call with Alice's identity makes of a file with the bytes `found` before it looks at
    /// it.
    fn complete(&self, journal: &Journal, found: &[u8]) -> Vec<u8> {
        fs::write(self.sealed(), found).unwrap();
        fs::write(self.journal_path(), journal.encode()).unwrap();
        // The call itself is refused: no model here is signed.
        let line = format!("alice@example.com {}\n", ALICE.0);
        let signed_by = SignedBy {
            allowed: AllowedSigners::read(line.as_bytes(), "allowed signers").unwrap(),
            signer: None,
        };
        let access = Access {
            identities: &self.alice,
            signed_by: Some(&signed_by),
            edition: Edition::Whole,
            licence: None,
        };
        let to = &self.to_alice;
        rekey(self.sealed(), IN_PLACE, access, to, &Silent).unwrap_err();
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
        let path = two.journal_path();
        fs::write(&path, journal.encode()).unwrap();
        assert!(is_interrupted(&two.sealed()));
        assert!(open(two.sealed(), &two.alice, &Silent).is_err());
        two.share().unwrap();
        assert!(!is_interrupted(&two.sealed()) && !path.exists());
        let opened = open(two.sealed(), &two.bob, &Silent).unwrap();
        assert!(opened.model() == samples::gemm());
    }
}

#[test]
fn a_splice_that_was_not_begun_is_forgotten() {
    let two = Two::new();
    let journal = two.journal(&two.before, &two.after);
    fs::write(two.journal_path(), journal.encode()).unwrap();
    rekey(two.sealed(), IN_PLACE, &two.alice, &two.to_alice, &Silent).unwrap();
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
            2 => (journal.start, journal.context) = (0, 0),
            3 => journal.context = journal.start,
            4 => journal.start = u64::MAX,
            5 => journal.context = 0,
            6 => journal.start -= 1,
            _ => journal.new = [&journal.new[..], &journal.new].concat(),
        }
        hostile.push(journal);
    }
    // One that claims all of the file, to replace it by another.
    hostile.push(Journal {
        context: 0,
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
    let other = fs::read(other).unwrap();
    let key = tail::split(&other).unwrap().unwrap().value(tail::KEYS[0]);
    let mut planted = two.journal(&two.before, &two.after);
    planted.new = tail::encode(&[(tail::KEYS[0], key.unwrap().as_bytes())], false);
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
    rekey(two.sealed(), IN_PLACE, &two.bob, &to_bob, &Silent).unwrap();
    let given = fs::read(two.sealed()).unwrap();
    let journal = two.journal(&two.before, &given);
    let start = journal.start as usize;
    let torn = [&given[..start + 200], &two.before[start + 200..]].concat();
    assert!(two.complete(&journal, &torn) == two.before);
}

#[test]
fn without_an_identity_only_signatures_are_completed() {
    let two = Two::new();
    let key = key(BOB);
    fs::write(two.sealed(), &two.before).unwrap();
    sign(two.sealed(), &key, Flush::Later, &Silent).unwrap();
    let signed = fs::read(two.sealed()).unwrap();
    let path = two.journal_path();
    let torn = |journal: &Journal, old: &[u8], new: &[u8]| {
        let middle = journal.start as usize + 100;
        let rest = old.get(middle..).unwrap_or_default();
        fs::write(two.sealed(), [&new[..middle], rest].concat()).unwrap();
        fs::write(&path, journal.encode()).unwrap();
    };
    let journal = two.journal(&two.before, &signed);
    torn(&journal, &two.before, &signed);
    sign(two.sealed(), &key, Flush::Later, &Silent).unwrap();
    assert!(open(two.sealed(), &two.alice, &Silent).is_ok() && !path.exists());

    let journal = two.journal(&two.before, &two.after);
    torn(&journal, &two.before, &two.after);
    let before = fs::read(two.sealed()).unwrap();
    let refused = sign(two.sealed(), &key, Flush::Later, &Silent).unwrap_err();
    assert!(matches!(refused, Error::Interrupted { .. }), "{refused}");
    assert!(fs::read(two.sealed()).unwrap() == before && path.exists());
    two.share().unwrap();
    assert!(open(two.sealed(), &two.bob, &Silent).is_ok() && !path.exists());
}

#[cfg(unix)]
#[test]
fn a_journal_that_others_can_write_is_not_obeyed() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let two = Two::new();
    let journal = two.journal(&two.before, &two.after).encode();
    let path = two.journal_path();
    let rekey = || two.share();
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
