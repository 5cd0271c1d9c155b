//! Models with external data that are encrypted again under other names.

use std::fs;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use onnxseal_core::{
    Access, AllowedSigners, Checks, Destination, Edition, Error, ErrorKind, Flush, Made, Policy,
    Preset, Publication, PublishHook, Report, Resign, RotateOptions, SignedBy, Silent, StoreError,
    inspect, protect, rotate, sign, unprotect, verify,
};
use onnxseal_onnx::proto::ModelProto;
use onnxseal_testkit::build::{self, GraphBuilder, node};
use onnxseal_testkit::samples;
use prost::Message;

use super::{manifest, options, paths, protect_beside};
use crate::lab::{ALICE, BOB, IN_PLACE, Lab, files, key};

const CHUNK: usize = 1 << 16;

/// A model with weights of 32 KiB in itself and in a file at each of `locations`, in the folder
/// `name`. If `len` is given, the model file has that length.
fn model(lab: &Lab, name: &str, locations: &[&str], len: Option<usize>) -> PathBuf {
    let mut graph = GraphBuilder::new("several").input("x0", &[1, 64]);
    for (i, location) in locations.iter().enumerate() {
        let names = [format!("x{i}"), format!("h{i}"), format!("x{}", i + 1)];
        let [x, h, y] = names.each_ref().map(String::as_str);
        let (inner, outer) = (format!("inner{i}"), format!("outer{i}"));
        graph = graph
            .initializer(build::external(&outer, &[64, 128], location, None, None))
            .initializer(build::weights(&inner, &[128, 64], 90 + i as u32))
            .node(node("MatMul", &[x, &outer], &[h]))
            .node(node("MatMul", &[h, &inner], &[y]));
        let path = lab.path(name).join(location);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let floats = build::floats(64 * 128, i as u32);
        fs::write(path, build::le_bytes(&floats)).unwrap();
    }
    let graph = graph.output(&format!("x{}", locations.len()), &[1, 64]);
    let mut bytes = graph.encode();
    if let Some(len) = len {
        let mut model = ModelProto::decode(&*bytes).unwrap();
        model.doc_string = Some("a".repeat(len - bytes.len() - 1 - 3));
        bytes = model.encode_to_vec();
        assert_eq!(bytes.len(), len);
    }
    let path = lab.path(name).join("a.onnx");
    fs::write(&path, bytes).unwrap();
    path
}

/// Protects `model` with small chunks to `to`.
fn protect_to(lab: &Lab, model: &Path, to: &Path) {
    let mut options = options();
    options.policy = Policy::preset(Preset::Full);
    options.chunk_bytes = CHUNK as u64;
    protect(model, to, &lab.recipients, &options, &Silent).unwrap();
}

fn rotating(name: &str, policy: Option<Policy>) -> RotateOptions {
    RotateOptions {
        policy,
        external_data: Some(name.to_owned()),
        ..RotateOptions::default()
    }
}

/// Rotates `model` from `lab` to the recipients of `to`.
fn rotate_to<'a>(
    (lab, to): (&'a Lab, &'a Lab),
    model: &Path,
    destination: impl Into<Destination<'a>>,
    options: &RotateOptions,
) -> Result<Report, Error> {
    let (ids, recipients) = (&lab.identities, &to.recipients);
    rotate(model, destination, ids, recipients, options, &Silent)
}

/// Checks that `lab` alone opens the protected `model`, and that the `original` in its folder comes back.
fn comes_back(lab: &Lab, model: &Path, original: &Path, policy: Option<&Policy>) {
    let checks = Checks {
        identities: Some(&lab.identities),
        policy,
        ..Checks::default()
    };
    let verified = verify(model, &checks, &Silent).unwrap();
    assert!(verified.authenticated && verified.policy_met != Some(false));
    assert!(*lab.open(model).unwrap().original_model() == fs::read(original).unwrap());
    let back = lab.path("back");
    unprotect(model, back.join("a.onnx"), &lab.identities, &Silent).unwrap();
    let within = |folder: &Path| -> Vec<(PathBuf, Vec<u8>)> {
        let relative = |(path, bytes): (PathBuf, Vec<u8>)| {
            (path.strip_prefix(folder).unwrap().to_owned(), bytes)
        };
        files(folder).into_iter().map(relative).collect()
    };
    assert!(within(&back) == within(original.parent().unwrap()));
    fs::remove_dir_all(back).unwrap();
}

#[test]
fn in_place_the_new_files_stand_beside_the_old() {
    let (alice, bob) = (Lab::new(), Lab::new());
    let balanced = Policy::preset(Preset::Balanced);
    for (case, locations, second, third) in [
        ("one", &["a.data"][..], &["d/2"][..], &["3"][..]),
        (
            "several",
            &["w/a.bin", "b.bin"],
            &["d/2/w/a.bin", "d/2/b.bin"],
            &["3/w/a.bin", "3/b.bin"],
        ),
    ] {
        for policy in [None, Some(&balanced)] {
            // The names of the original, and others.
            for is_renamed in [false, true] {
                let original = model(&alice, case, locations, None);
                let sealed = alice.path("sealed/a.onnx");
                if is_renamed {
                    let mut options = options();
                    options.policy = Policy::preset(Preset::Full);
                    options.external_data = Some("1".to_owned());
                    protect(&original, &*sealed, &alice.recipients, &options, &Silent).unwrap();
                } else {
                    protect_to(&alice, &original, &sealed);
                }
                let first = manifest(&sealed).1;
                let before = files(&alice.path("sealed"));
                let options = rotating("d/2", policy.cloned());
                let report = rotate_to((&alice, &bob), &sealed, IN_PLACE, &options).unwrap();
                assert_eq!(paths(&report.files), second);
                assert_eq!(paths(&report.original_files), locations);
                assert!(report.left_files == first.files()[1..]);
                let inspected = inspect(&*sealed).unwrap();
                assert_eq!(inspected.files, report.files);
                assert_eq!(inspected.original_files, report.original_files);
                assert_eq!(
                    alice.open(&sealed).err().unwrap().kind(),
                    ErrorKind::NoMatchingKey
                );
                comes_back(&bob, &sealed, &original, policy);
                // The old model file would open still.
                let after = files(&alice.path("sealed"));
                let kept = before.iter().filter(|file| after.contains(file)).count();
                assert_eq!((kept, after.len()), (locations.len(), 1 + 2 * kept));

                // Once more, and then without all the old ones.
                let options = rotating("3", None);
                let report = rotate_to((&bob, &alice), &sealed, IN_PLACE, &options).unwrap();
                assert_eq!(paths(&report.files), third);
                let left = report.left_files.iter().map(|file| &*file.path);
                assert!(left.eq(second.iter().copied()));
                for (path, _) in files(&alice.path("sealed")) {
                    let name = path.strip_prefix(alice.path("sealed")).unwrap();
                    let name = name.to_str().unwrap().replace(MAIN_SEPARATOR, "/");
                    if name != "a.onnx" && !third.contains(&&*name) {
                        fs::remove_file(path).unwrap();
                    }
                }
                comes_back(&alice, &sealed, &original, policy);
                fs::remove_dir_all(alice.path("sealed")).unwrap();
                fs::remove_dir_all(alice.path(case)).unwrap();
            }
        }
    }
}

#[test]
fn a_new_model_goes_beside_the_old_or_gets_the_original_names_back() {
    let (alice, bob) = (Lab::new(), Lab::new());
    let original = model(&alice, "m", &["a.data"], None);
    let sealed = alice.path("sealed/a.onnx");
    protect_to(&alice, &original, &sealed);
    let before = files(&alice.path("sealed"));
    let beside = sealed.with_file_name("b.onnx");
    let to = rotating("b.data", None);
    let report = rotate_to((&alice, &bob), &sealed, &*beside, &to).unwrap();
    assert_eq!(paths(&report.files), ["b.data"]);
    assert!(report.left_files.is_empty(), "the old model reads them");
    let after = files(&alice.path("sealed"));
    assert!(before.iter().all(|file| after.contains(file)));
    comes_back(&alice, &sealed, &original, None);
    comes_back(&bob, &beside, &original, None);

    // Of the original's names nothing needs to be told.
    let elsewhere = alice.path("elsewhere/c.onnx");
    let to = rotating("a.data", None);
    let report = rotate_to((&bob, &alice), &beside, &*elsewhere, &to).unwrap();
    assert_eq!(paths(&report.files), ["a.data"]);
    assert!(report.original_files.is_empty());
    assert!(!manifest(&elsewhere).1.restores_names());
    assert!(alice.open(&elsewhere).unwrap().model() == fs::read(&original).unwrap());
    comes_back(&alice, &elsewhere, &original, None);
    // The names that they have already.
    let again = alice.path("again/c.onnx");
    let report = rotate_to((&alice, &bob), &elsewhere, &*again, &to).unwrap();
    assert_eq!(paths(&report.files), ["a.data"]);
    comes_back(&bob, &again, &original, None);
}

/// A signature is demanded too: it covers the chunks as they were.
#[test]
fn the_model_file_gets_more_chunks_or_fewer() {
    let lab = Lab::new();
    let longer = "n".repeat(200);
    for grown in [false, true] {
        let (first, second) = if grown {
            ("w", &*longer)
        } else {
            (&*longer, "w")
        };
        // With the shorter name it ends where a chunk does.
        let len = 2 * CHUNK + if grown { 0 } else { 100 };
        let original = model(&lab, "m", &[first], Some(len));
        let sealed = lab.path("sealed/a.onnx");
        protect_to(&lab, &original, &sealed);
        sign(&*sealed, &key(ALICE), Flush::Later, &Silent).unwrap();
        let n_chunks = |model: &Path| manifest(model).1.files()[0].bytes.div_ceil(CHUNK as u64);
        let before = n_chunks(&sealed);
        let line = format!("alice@example.com {}\n", ALICE.0);
        let alice = SignedBy {
            allowed: AllowedSigners::read(line.as_bytes(), "allowed signers").unwrap(),
            signer: None,
        };
        let access = Access {
            identities: &lab.identities,
            edition: Edition::Whole,
            signed_by: Some(&alice),
            licence: None,
        };
        let to = lab.path("rotated/a.onnx");
        let rotated = |from: &Path, to: &Path, name| {
            let options = RotateOptions {
                signature: Resign::With(key(BOB)),
                ..rotating(name, None)
            };
            rotate(from, to, access, &lab.recipients, &options, &Silent)
        };
        rotated(&sealed, &to, second).unwrap();
        assert_ne!(n_chunks(&to), before, "{grown}");
        comes_back(&lab, &to, &original, None);
        // Bob is not among those allowed.
        let refused = rotated(&to, &lab.path("refused/a.onnx"), "third");
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Authentication);
        assert!(!lab.path("refused").exists());
        for folder in ["m", "sealed", "rotated"] {
            fs::remove_dir_all(lab.path(folder)).unwrap();
        }
    }
}

#[test]
fn what_was_changed_gets_no_other_name() {
    let lab = Lab::new();
    let original = model(&lab, "m", &["a.data"], None);
    let sealed = lab.path("sealed/a.onnx");
    protect_to(&lab, &original, &sealed);
    let sound = files(&lab.path("sealed"));
    for (path, bytes) in &sound {
        for at in [20, bytes.len() / 3, 32 << 10] {
            let mut changed = bytes.clone();
            let at = at.min(changed.len() - 1);
            changed[at] ^= 1;
            fs::write(path, &changed).unwrap();
            let before = files(&lab.path("sealed"));
            let rotated = rotate_to((&lab, &lab), &sealed, IN_PLACE, &rotating("2", None));
            let kind = rotated.unwrap_err().kind();
            let kinds = [ErrorKind::Authentication, ErrorKind::Malformed];
            assert!(
                kinds.contains(&kind),
                "{} at {at}: {kind:?}",
                path.display()
            );
            assert!(files(&lab.path("sealed")) == before);
            fs::write(path, bytes).unwrap();
        }
    }
    rotate_to((&lab, &lab), &sealed, IN_PLACE, &rotating("2", None)).unwrap();
}

#[test]
fn names_that_are_taken_or_never_written_change_nothing() {
    let lab = Lab::new();
    let original = model(&lab, "m", &["a.data"], None);
    protect_beside(&lab, &original, "b.onnx", Some("b.data")).unwrap();
    let sealed = original.with_file_name("b.onnx");
    let before = files(&lab.path("m"));
    let refused = |name: &str, to: Destination<'_>| {
        rotate_to((&lab, &lab), &sealed, to, &rotating(name, None)).unwrap_err()
    };
    for to in [
        IN_PLACE,
        Destination::from(&*sealed.with_file_name("c.onnx")),
    ] {
        for name in ["../w", "/w", "", ".w", "x/"] {
            let error = refused(name, to.clone());
            let is_named =
                matches!(&error, Error::Usage(text) if text.contains("cannot have the name"));
            assert!(is_named, "{name}: {error}");
        }
        let error = refused("b.data", to.clone());
        assert!(matches!(error, Error::OutputIsInput { .. }), "{error}");
        // What another model has there.
        let error = refused("a.data", to);
        let exists = matches!(error, Error::Store(StoreError::OutputExists { .. }));
        assert!(exists, "{error}");
    }
    let error = refused("b.onnx", IN_PLACE);
    assert!(matches!(error, Error::OutputIsInput { .. }), "{error}");
    assert!(files(&lab.path("m")) == before);

    let one = lab.path("one.onnx");
    fs::write(&one, samples::conv_net()).unwrap();
    let one = lab.protect(&one, "one", Preset::Balanced).unwrap();
    let error = rotate_to((&lab, &lab), &one, IN_PLACE, &rotating("w", None)).unwrap_err();
    let has_none = matches!(&error, Error::Usage(text) if text.contains("has no external data"));
    assert!(has_none, "{error}");
}

/// A batch keeps a record of files, which keep their paths.
#[test]
fn beside_a_hook_paths_stay() {
    struct Record;
    impl PublishHook for Record {
        fn publish(&self, made: &Made) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            assert_eq!(made.files.input[1].path, "a.data");
            assert_eq!(made.files.output[1].path, "a.data");
            Ok(())
        }
    }
    let lab = Lab::new();
    let original = model(&lab, "m", &["a.data"], None);
    let sealed = lab.path("sealed/a.onnx");
    protect_to(&lab, &original, &sealed);
    let to = Publication {
        hook: Some(&Record),
        ..lab.path("new/a.onnx").into()
    };
    let report = rotate_to((&lab, &lab), &sealed, to, &rotating("other", None)).unwrap();
    assert_eq!(paths(&report.files), ["a.data"]);

    // Whoever has planned all outputs keeps the names that the model has, not the original's.
    let renamed = lab.path("m/renamed.onnx");
    protect_to(&lab, &original, &renamed);
    let to = Publication {
        keep_paths: true,
        ..lab.path("kept/a.onnx").into()
    };
    let report = rotate_to((&lab, &lab), &renamed, to, &rotating("other", None)).unwrap();
    assert_ne!(paths(&report.files), ["a.data"]);
}
