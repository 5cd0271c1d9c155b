//! New recipients and new data keys: the original comes back after any sequence of them.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use onnxseal_core::{
    Checks, Destination, Error, ErrorKind, FileState, FileStates, Flush, Made, Policy, Preset,
    Progress, ProtectOptions, Publication, PublishHook, RotateOptions, Silent, StoreError,
    is_interrupted, open, protect, rekey, rotate, unprotect, verify,
};
use onnxseal_onnx::tail;
use onnxseal_testkit::{Sample, samples};

use crate::lab::{IN_PLACE, Lab, files};

fn rotating(preset: Option<Preset>) -> RotateOptions {
    RotateOptions {
        policy: preset.map(Policy::preset),
        ..RotateOptions::default()
    }
}

fn kind<T>(result: Result<T, Error>) -> ErrorKind {
    result.err().unwrap().kind()
}

/// The value of each entry of the tail.
fn tail_of(model: &Path) -> Vec<(&'static str, String)> {
    let bytes = fs::read(model).unwrap();
    let tail = tail::split(&bytes).unwrap().unwrap();
    let entries = tail.entries.iter();
    entries.map(|e| (e.key, e.value.to_owned())).collect()
}

#[test]
fn every_sample_comes_back_after_any_sequence() {
    let (alice, bob) = (Lab::new(), Lab::new());
    for sample in samples::all() {
        let original = alice.write(&sample, sample.name);
        let [one, two, three, four] =
            ["1", "2", "3", "4"].map(|n| alice.path(sample.name).join(n).join("model.onnx"));
        let mut protecting = ProtectOptions::new(Policy::preset(Preset::Balanced));
        // Of some samples it takes nothing.
        protecting.policy.allow_clear("*").unwrap();
        protecting.chunk_bytes = 1 << 16;
        protecting.claims.insert("customer".into(), "acme".into());
        protect(&original, &one, &alice.recipients, &protecting, &Silent).unwrap();

        let rekeyed = rekey(&one, &two, &alice.identities, &bob.recipients, &Silent);
        assert!(!rekeyed.unwrap());
        let options = rotating(Some(Preset::Full));
        rotate(
            &two,
            &three,
            &bob.identities,
            &alice.recipients,
            &options,
            &Silent,
        )
        .unwrap();
        let mut options = rotating(None);
        options.claims.insert("customer".into(), "umbrella".into());
        options.claims.insert("lot".into(), "7".into());
        rotate(
            &three,
            &four,
            &alice.identities,
            &bob.recipients,
            &options,
            &Silent,
        )
        .unwrap();
        assert!(rekey(&four, IN_PLACE, &bob.identities, &bob.recipients, &Silent).unwrap());
        if sample.files.is_empty() {
            rotate(
                &four,
                IN_PLACE,
                &bob.identities,
                &bob.recipients,
                &rotating(None),
                &Silent,
            )
            .unwrap();
        }

        for (model, mine, others) in [
            (&one, &alice, &bob),
            (&two, &bob, &alice),
            (&three, &alice, &bob),
            (&four, &bob, &alice),
        ] {
            assert_eq!(kind(others.open(model)), ErrorKind::NoMatchingKey);
            let authentic = Checks {
                identities: Some(&mine.identities),
                ..Checks::default()
            };
            let verified = verify(model, &authentic, &Silent).unwrap();
            assert!(verified.authenticated);
            let opened = mine.open(model).unwrap();
            assert!(opened.model() == sample.model, "{}", sample.name);
            let external: Vec<_> = opened.external_files().collect();
            let expected: Vec<_> = (sample.files.iter())
                .map(|(name, bytes)| (&**name, &bytes[..]))
                .collect();
            assert!(external == expected, "{}", sample.name);
            let customer = if model == &four { "umbrella" } else { "acme" };
            assert_eq!(opened.manifest().claims()["customer"], customer);
            let full = Policy::preset(Preset::Full);
            let checks = Checks {
                policy: Some(&full),
                ..Checks::default()
            };
            let met = verify(model, &checks, &Silent).is_ok();
            assert!(met || model == &one || model == &two, "{}", sample.name);
        }
    }
}

#[test]
fn rekey_replaces_the_wrapped_key_alone() {
    let (alice, bob) = (Lab::new(), Lab::new());
    let model = alice.write(&samples::external_data(), "plain");
    let sealed = alice.protect(&model, "sealed", Preset::Full).unwrap();
    let before = (tail_of(&sealed), files(&alice.path("sealed")));
    let output = alice.path("rekeyed/model.onnx");
    rekey(
        &sealed,
        &output,
        &alice.identities,
        &bob.recipients,
        &Silent,
    )
    .unwrap();
    assert!(files(&alice.path("sealed")) == before.1);
    let after = tail_of(&output);
    for (before, after) in before.0.iter().zip(&after) {
        assert_eq!(before.0, after.0);
        assert_eq!(
            before.1 == after.1,
            before.0 != tail::KEYS[0],
            "{}",
            before.0
        );
    }
    rekey(
        &sealed,
        Destination::InPlace(Flush::ToDisk),
        &alice.identities,
        &bob.recipients,
        &Silent,
    )
    .unwrap();
    assert_eq!(tail_of(&sealed)[..3], after[..3]);
    assert!(bob.open(&sealed).is_ok());
    assert_eq!(files(&alice.path("sealed")).len(), before.1.len());
    assert!(!is_interrupted(&sealed));
}

#[test]
fn rotate_leaves_nothing_encrypted_under_the_old_key() {
    let lab = Lab::new();
    let model = lab.write(&one_file(samples::conv_net()), "plain");
    let sealed = lab.protect(&model, "sealed", Preset::Full).unwrap();
    let output = lab.path("rotated/model.onnx");
    rotate(
        &sealed,
        &output,
        &lab.identities,
        &lab.recipients,
        &rotating(None),
        &Silent,
    )
    .unwrap();
    let (before, after) = (tail_of(&sealed), tail_of(&output));
    assert_eq!(before[0], after[0], "the manifest stays");
    for (before, after) in before.iter().zip(&after).skip(1) {
        assert_ne!(before, after);
    }
    // The old key on the new ciphertext, and the new one on the old.
    for (weights, key) in [(&output, &before), (&sealed, &after)] {
        let bytes = fs::read(weights).unwrap();
        let split = tail::split(&bytes).unwrap().unwrap();
        let last = split.entries.last().unwrap().field.start as usize;
        let key = tail::encode(&[(tail::KEYS[0], key.last().unwrap().1.as_bytes())], false);
        let mixed = lab.path("mixed.onnx");
        fs::write(&mixed, [&bytes[..last], &key].concat()).unwrap();
        assert_eq!(kind(lab.open(&mixed)), ErrorKind::Authentication);
        let refused = rekey(&mixed, IN_PLACE, &lab.identities, &lab.recipients, &Silent);
        assert_eq!(kind(refused), ErrorKind::Authentication);
    }
}

#[test]
fn what_was_changed_is_not_rotated() {
    let lab = Lab::new();
    let model = lab.write(&samples::external_data(), "plain");
    let sealed = lab.protect(&model, "sealed", Preset::Balanced).unwrap();
    for (path, bytes) in files(&lab.path("sealed")) {
        for at in (0..bytes.len()).step_by(97) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            for preset in [None, Some(Preset::Full)] {
                let output = lab.path("rotated/model.onnx");
                let rotated = rotate(
                    &sealed,
                    &output,
                    &lab.identities,
                    &lab.recipients,
                    &rotating(preset),
                    &Silent,
                );
                assert!(rotated.is_err(), "{} byte {at}", path.display());
                assert!(!lab.path("rotated").exists());
            }
        }
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_cancelled_call_leaves_nothing() {
    struct Impatient;
    impl Progress for Impatient {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let lab = Lab::new();
    let model = lab.write(&samples::external_data(), "model");
    let protected = lab.protect(&model, "protected", Preset::Balanced).unwrap();
    let before = files(lab.dir.path());
    let (recipients, identities) = (&lab.recipients, &lab.identities);
    let out = lab.path("out").join("model.onnx");
    let protect_options = ProtectOptions::new(Policy::default());
    let rotate_options = RotateOptions::default();
    let checks = Checks {
        identities: Some(identities),
        ..Checks::default()
    };
    let faults = [
        protect(&model, &out, recipients, &protect_options, &Impatient).map(drop),
        unprotect(&protected, &out, identities, &Impatient).map(drop),
        rekey(&protected, &out, identities, recipients, &Impatient).map(drop),
        rotate(
            &protected,
            &out,
            identities,
            recipients,
            &rotate_options,
            &Impatient,
        )
        .map(drop),
        verify(&protected, &checks, &Impatient).map(drop),
        open(&protected, identities, &Impatient).map(drop),
    ];
    for fault in faults {
        assert!(matches!(fault, Err(Error::Cancelled)), "{fault:?}");
    }
    assert_eq!(files(lab.dir.path()), before);
}

#[test]
fn digests_are_those_of_the_files() {
    struct Record(Mutex<Option<FileStates>>, bool);
    impl PublishHook for Record {
        fn wants_digests(&self) -> bool {
            true
        }
        fn publish(&self, made: &Made) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            *self.0.lock().unwrap() = Some(made.files.clone());
            match self.1 {
                true => Ok(()),
                false => Err("no room for the record".into()),
            }
        }
    }
    let expect = |found: &[FileState], folder: &Path| {
        assert_eq!(found.len(), files(folder).len());
        for digest in found {
            let name = match digest.path.as_str() {
                "" => "model.onnx",
                path => path,
            };
            let bytes = fs::read(folder.join(name)).unwrap();
            assert_eq!(digest.bytes, bytes.len() as u64);
            let expected = blake3::hash(&bytes).to_hex();
            assert_eq!(digest.blake3.as_deref(), Some(expected.as_str()));
        }
    };
    let lab = Lab::new();
    for sample in [samples::external_data(), one_file(samples::conv_net())] {
        for accepts in [true, false] {
            let base = lab.path(if accepts { "kept" } else { "refused" });
            let folder = |name: &str| base.join(sample.name).join(name);
            let in_folder = |name: &str| folder(name).join("model.onnx");
            for name in ["plain", "sealed"] {
                fs::create_dir_all(folder(name)).unwrap();
            }
            sample.write(&folder("plain")).unwrap();
            let protecting = ProtectOptions::new(Policy::default());
            let run = |call: usize, from: &Path, to: &Path, record: &Record| {
                let to = Publication {
                    keep_paths: true,
                    hook: Some(record),
                    ..to.into()
                };
                let (identities, recipients) = (&lab.identities, &lab.recipients);
                match call {
                    0 => protect(from, to, recipients, &protecting, &Silent).map(drop),
                    1 => rekey(from, to, identities, recipients, &Silent).map(drop),
                    2 => {
                        let full = rotating(Some(Preset::Full));
                        rotate(from, to, identities, recipients, &full, &Silent).map(drop)
                    }
                    _ => unprotect(from, to, identities, &Silent).map(drop),
                }
            };
            let stages = ["plain", "sealed", "rekeyed", "rotated", "restored"];
            for (call, stage) in stages.windows(2).enumerate() {
                let record = Record(Mutex::default(), accepts);
                let (from, to) = (in_folder(stage[0]), in_folder(stage[1]));
                let result = run(call, &from, &to, &record);
                assert_eq!(result.is_ok(), accepts);
                let digests = record.0.lock().unwrap().take().unwrap();
                expect(&digests.input, &folder(stage[0]));
                if accepts {
                    expect(&digests.output, &folder(stage[1]));
                    continue;
                }
                assert_eq!(kind(result), ErrorKind::Io);
                assert!(!to.exists());
                run(call, &from, &to, &Record(Mutex::default(), true)).unwrap();
            }
            assert!(fs::read(in_folder("restored")).unwrap() == sample.model);
        }
    }
}

#[test]
fn in_place_is_refused_where_it_cannot_be_done() {
    let lab = Lab::new();
    let model = lab.write(&samples::external_data(), "plain");
    let sealed = lab.protect(&model, "sealed", Preset::Balanced).unwrap();
    let (ids, to) = (&lab.identities, &lab.recipients);
    let refused = rotate(&sealed, IN_PLACE, ids, to, &rotating(None), &Silent);
    assert!(matches!(refused, Err(Error::InPlaceExternal { .. })));
    assert_eq!(
        kind(rekey(&model, IN_PLACE, ids, to, &Silent)),
        ErrorKind::Usage
    );

    let before = files(&lab.path("sealed"));
    let held = fs::File::open(&sealed).unwrap();
    held.lock().unwrap();
    let refused = rekey(&sealed, IN_PLACE, ids, to, &Silent);
    assert!(matches!(
        refused,
        Err(Error::Store(StoreError::Busy { .. }))
    ));
    drop(held);
    assert!(files(&lab.path("sealed")) == before);
    let original = lab.write(&one_file(samples::conv_net()), "one");
    let one = lab
        .protect(&original, "sealed-one", Preset::Balanced)
        .unwrap();
    for model in [&one, &original] {
        let held = fs::File::open(model).unwrap();
        held.lock().unwrap();
        let before = fs::read(model).unwrap();
        let refused = match model == &one {
            true => rotate(model, IN_PLACE, ids, to, &rotating(None), &Silent),
            false => protect(
                model,
                IN_PLACE,
                to,
                &ProtectOptions::new(Policy::default()),
                &Silent,
            ),
        };
        assert!(matches!(
            refused,
            Err(Error::Store(StoreError::Busy { .. }))
        ));
        assert!(fs::read(model).unwrap() == before);
    }
    rekey(&sealed, IN_PLACE, ids, to, &Silent).unwrap();
}

fn one_file(model: Vec<u8>) -> Sample {
    let files = Vec::new();
    Sample {
        name: "one_file",
        model,
        files,
    }
}
