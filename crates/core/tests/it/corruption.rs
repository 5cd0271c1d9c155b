//! Whatever is changed in a protected model, it is refused, and the refusal names where.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use onnxseal_core::{Error, ErrorKind, Preset};
use onnxseal_onnx::tail;
use onnxseal_testkit::{Sample, build, corrupt, samples};

use crate::lab::Lab;

/// Writes `bytes` in place of `path`, opens the model, and puts the original bytes back.
fn open_with(lab: &Lab, model: &Path, path: &Path, bytes: &[u8]) -> Error {
    let before = fs::read(path).unwrap();
    overwrite(path, bytes);
    let error = lab.open(model).unwrap_err();
    overwrite(path, &before);
    error
}

/// Not `fs::write`: a file system may flush a file that was cut to nothing first.
fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

fn is_refusal(error: &Error) -> bool {
    // A model whose whole tail reads as something else, as one changed byte may do, is not
    // protected.
    matches!(error, Error::NotProtected { .. })
        || matches!(
            error.kind(),
            ErrorKind::Malformed | ErrorKind::Authentication | ErrorKind::NoMatchingKey
        )
}

/// Protects `sample` and returns the model's path and those of all its files.
fn protected(lab: &Lab, sample: &Sample, preset: Preset) -> (PathBuf, Vec<PathBuf>) {
    let plain = lab.write(sample, &format!("plain-{}", sample.name));
    let model = lab.protect_part(&plain, &format!("protected-{}", sample.name), preset);
    let folder = model.parent().unwrap();
    let mut files = vec![model.clone()];
    files.extend(
        sample
            .files
            .iter()
            .map(|(location, _)| folder.join(location)),
    );
    (model, files)
}

#[test]
fn every_flipped_byte_is_refused() {
    let lab = Lab::new();
    for sample in samples::all() {
        let (model, files) = protected(&lab, &sample, Preset::Balanced);
        for path in files {
            let bytes = fs::read(&path).unwrap();
            for i in 0..bytes.len() {
                for damaged in [
                    corrupt::flipped(&bytes, i),
                    corrupt::bit_flipped(&bytes, i, 0),
                ] {
                    let error = open_with(&lab, &model, &path, &damaged);
                    assert!(is_refusal(&error), "{} byte {i}: {error}", sample.name);
                }
            }
        }
        lab.open(&model).unwrap();
    }
}

#[test]
fn every_cut_is_refused() {
    let lab = Lab::new();
    let (model, files) = protected(&lab, &samples::external_data(), Preset::Full);
    for path in files {
        let bytes = fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            let error = open_with(&lab, &model, &path, &corrupt::truncated(&bytes, len));
            let plain = matches!(error, Error::NotProtected { .. });
            assert!(plain || is_refusal(&error), "cut to {len}: {error}");
            // Nothing but the whole tail can go without being an error of the format.
            assert!(!plain || path == model, "cut to {len}");
        }
        for at in 0..bytes.len() {
            let error = open_with(&lab, &model, &path, &corrupt::cut(&bytes, at..at + 1));
            assert!(is_refusal(&error), "without byte {at}: {error}");
        }
    }
}

#[test]
fn what_is_appended_is_refused() {
    let lab = Lab::new();
    let (model, files) = protected(&lab, &samples::external_data(), Preset::Full);
    for path in files {
        let bytes = fs::read(&path).unwrap();
        let whole = bytes.clone();
        let metadata = tail::encode(&[("author", b"somebody")], false);
        let mut more: Vec<&[u8]> = vec![&[0], b"\n", &metadata, &whole];
        let graph = build::GraphBuilder::new("second")
            .output("w", &[1])
            .encode();
        more.push(&graph);
        for more in more {
            let error = open_with(&lab, &model, &path, &corrupt::appended(&bytes, more));
            assert!(is_refusal(&error), "{error}");
        }
    }
}

/// A model whose one weight fills several chunks of 64 KiB.
fn big(name: &'static str, seed: u32) -> Sample {
    let content = build::le_bytes(&build::floats(65_536, seed));
    let model = build::GraphBuilder::new("big")
        .input("x", &[1, 256])
        .output("y", &[1, 256])
        .initializer(build::weights("u", &[256, 256], seed))
        .initializer(build::external("v", &[256, 256], "v.bin", None, None))
        .node(build::node("MatMul", &["x", "u"], &["h"]))
        .node(build::node("MatMul", &["h", "v"], &["y"]))
        .encode();
    Sample {
        name,
        model,
        files: vec![("v.bin", content)],
    }
}

#[test]
fn chunks_cannot_be_swapped() {
    const CHUNK: usize = 1 << 16;
    let lab = Lab::new();
    let (model, files) = protected(&lab, &big("one", 1), Preset::Balanced);
    for path in files {
        let bytes = fs::read(&path).unwrap();
        let mut swapped = bytes.clone();
        swapped[..CHUNK].copy_from_slice(&bytes[CHUNK..2 * CHUNK]);
        swapped[CHUNK..2 * CHUNK].copy_from_slice(&bytes[..CHUNK]);
        let error = open_with(&lab, &model, &path, &swapped);
        // The model file's first chunk holds the graph's beginning: without it, it is malformed.
        assert!(is_refusal(&error), "{error}");
        if path != model {
            let Error::Chunk {
                path: named,
                start: 0,
                end: 65_536,
                holds,
            } = &error
            else {
                panic!("{error}")
            };
            assert_eq!(named, &path.canonicalize().unwrap());
            assert!(holds.contains("tensor \"v\""), "{holds}");
        }
    }
}

#[test]
fn files_and_models_cannot_be_swapped() {
    let lab = Lab::new();
    let (one, one_files) = protected(&lab, &big("one", 1), Preset::Full);
    let (two, two_files) = protected(&lab, &big("two", 1), Preset::Full);
    // The same model, protected twice: every file has the same length and the same positions.
    for (mine, other) in one_files.iter().zip(&two_files) {
        if *mine == one {
            continue;
        }
        let error = open_with(&lab, &one, mine, &fs::read(other).unwrap());
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    }
    let (one_bytes, two_bytes) = (fs::read(&one).unwrap(), fs::read(&two).unwrap());
    let (one_tail, two_tail) = (
        tail::split(&one_bytes).unwrap().unwrap(),
        tail::split(&two_bytes).unwrap().unwrap(),
    );
    // Each entry of the other model's tail in turn, and all of them.
    let keys = [tail::MANIFEST, tail::TAGS, tail::MAC, tail::KEYS[0]];
    for replaced in keys {
        let entries = keys.map(|key| {
            let from = if key == replaced {
                &two_tail
            } else {
                &one_tail
            };
            (key, from.value(key).unwrap().as_bytes())
        });
        let mut bytes = one_bytes[..one_tail.start as usize].to_vec();
        bytes.extend(tail::encode(&entries, true));
        match replaced {
            // Both have the same manifest.
            tail::MANIFEST => assert!(bytes == one_bytes),
            _ => {
                let error = open_with(&lab, &one, &one, &bytes);
                assert!(
                    matches!(error, Error::Manifest { .. }),
                    "{replaced}: {error}"
                );
            }
        }
    }
    let mut bytes = one_bytes[..one_tail.start as usize].to_vec();
    bytes.extend(&two_bytes[two_tail.start as usize..]);
    let error = open_with(&lab, &one, &one, &bytes);
    assert!(matches!(error, Error::Chunk { .. }), "{error}");
}

#[test]
fn the_wrapped_key_can_be_replaced_without_the_weights() {
    let (lab, other) = (Lab::new(), Lab::new());
    let (model, _) = protected(&lab, &samples::external_data(), Preset::Full);
    let bytes = fs::read(&model).unwrap();
    let split = tail::split(&bytes).unwrap().unwrap();
    let key = lab
        .identities
        .unwrap(split.value(tail::KEYS[0]).unwrap())
        .unwrap();
    let wrapped = other.recipients.wrap(&key).unwrap();
    let entries = [tail::MANIFEST, tail::TAGS, tail::MAC]
        .map(|key| (key, split.value(key).unwrap().as_bytes()));
    let entries = [&entries[..], &[(tail::KEYS[0], wrapped.as_bytes())]].concat();
    let rewrapped = [
        &bytes[..split.start as usize],
        &tail::encode(&entries, true),
    ]
    .concat();
    let error = open_with(&lab, &model, &model, &rewrapped);
    let Error::NoMatchingKey { recipients, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(recipients, "1 age key (X25519)");
    fs::write(&model, rewrapped).unwrap();
    assert!(other.open(&model).unwrap().model() == samples::external_data().model);
}

#[test]
fn an_added_output_that_would_print_a_weight_is_refused() {
    let lab = Lab::new();
    let (model, _) = protected(&lab, &samples::all()[0], Preset::Full);
    let bytes = fs::read(&model).unwrap();
    let start = tail::split(&bytes).unwrap().unwrap().start as usize;
    // Nodes and outputs of a second `graph` field are merged into the first by protobuf.
    let output = build::GraphBuilder::new("").output("w", &[3, 4]).encode();
    for at in [0, start] {
        let mut forged = bytes[..at].to_vec();
        forged.extend(&output);
        forged.extend(&bytes[at..]);
        let error = open_with(&lab, &model, &model, &forged);
        assert!(is_refusal(&error), "{error}");
    }
}
