//! Restored == original, and nothing changes but what the manifest says.

use std::fs;
use std::path::Path;

use onnxseal_core::{Manifest, Policy, Preset};
use onnxseal_onnx::tail;
use onnxseal_testkit::{samples, shared};

use crate::lab::{IN_PLACE, Lab, files};

fn manifest(protected: &[u8]) -> (u64, Manifest) {
    let tail = tail::split(protected).unwrap().unwrap();
    let manifest = Manifest::parse(tail.value(tail::MANIFEST).unwrap().as_bytes()).unwrap();
    (tail.start, manifest)
}

/// Protects what can be, checks what changed, opens and unprotects the model at `path`.
fn round_trip(lab: &Lab, path: &Path, preset: Preset) {
    let protected = lab.protect_part(path, "protected", preset);
    let original = fs::read(path).unwrap();
    let bytes = fs::read(&protected).unwrap();
    let (len, manifest) = manifest(&bytes);
    assert_eq!(len, original.len() as u64, "{}", path.display());

    // Which bytes may differ, by the formulas of docs/FORMAT.md, written out once more.
    let mut files: Vec<(Vec<u8>, Vec<u8>, Vec<bool>)> = Vec::new();
    for file in manifest.files() {
        let (before, after) = match file.path.as_str() {
            "" => (original.clone(), bytes[..original.len()].to_vec()),
            path_in_folder => (
                fs::read(path.parent().unwrap().join(path_in_folder)).unwrap(),
                fs::read(protected.parent().unwrap().join(path_in_folder)).unwrap(),
            ),
        };
        assert_eq!(before.len(), after.len());
        let targets = vec![false; before.len()];
        files.push((before, after, targets));
    }
    for tensor in manifest.tensors() {
        let elements: u64 = tensor.dims.iter().product();
        let mut next = 0;
        for run in tensor.targets.chunks(2) {
            let first = next + run[0];
            next = first + run[1];
            for element in first * tensor.unit..(next * tensor.unit).min(elements) {
                let bits = u64::from(tensor.data_type.bits());
                let start = match tensor.stride {
                    Some(stride) => tensor.offset + element * u64::from(stride),
                    None => tensor.offset + element * bits / 8,
                };
                let target = &mut files[tensor.file as usize].2;
                target[start as usize..(start + bits.div_ceil(8)) as usize].fill(true);
            }
        }
    }
    let mut changed = 0;
    for (before, after, targets) in &files {
        for (i, target) in targets.iter().enumerate() {
            assert!(
                *target || before[i] == after[i],
                "{}: byte {i}",
                path.display()
            );
            changed += usize::from(before[i] != after[i]);
        }
    }
    let targets: usize = files
        .iter()
        .map(|file| file.2.iter().filter(|t| **t).count())
        .sum();
    // Ciphertext equals plaintext in one byte of 256.
    assert!(
        changed * 10 >= targets * 9 || targets < 100,
        "{changed} of {targets} changed"
    );

    let opened = lab.open(&protected).unwrap();
    assert!(opened.model() == original, "{}", path.display());
    assert_eq!(opened.manifest().claims()["customer"], "acme");
    for (location, content) in opened.external_files() {
        assert!(content == fs::read(path.parent().unwrap().join(location)).unwrap());
    }
    let restored = lab.unprotect(&protected, "restored").unwrap();
    assert!(
        fs::read(&restored).unwrap() == original,
        "{}",
        path.display()
    );
    for file in manifest.files().iter().skip(1) {
        let read = |model: &Path| fs::read(model.parent().unwrap().join(&file.path)).unwrap();
        assert!(read(&restored) == read(path), "{}", file.path);
    }
    fs::remove_dir_all(lab.path("protected")).unwrap();
    fs::remove_dir_all(lab.path("restored")).unwrap();
}

#[test]
fn every_sample_comes_back_under_every_preset() {
    let lab = Lab::new();
    for sample in samples::all() {
        let path = lab.write(&sample, sample.name);
        for preset in Preset::ALL {
            round_trip(&lab, &path, preset);
        }
        assert_eq!(
            fs::read(&path).unwrap(),
            sample.model,
            "the input of {}",
            sample.name
        );
    }
}

#[test]
fn models_from_outside_come_back() {
    let lab = Lab::new();
    for kind in ["real", "edge"] {
        for path in shared::shared_models_in(kind).unwrap_or_default() {
            round_trip(&lab, &path, Preset::Balanced);
            round_trip(&lab, &path, Preset::Full);
        }
    }
}

#[test]
fn a_model_of_many_chunks_comes_back() {
    let lab = Lab::new();
    // 3 chunks of 64 KiB and one byte, in the model file and beside it.
    let model = onnxseal_testkit::build::GraphBuilder::new("big")
        .input("x", &[1, 256])
        .output("y", &[1, 512])
        .initializer(onnxseal_testkit::build::weights("w", &[256, 512], 1))
        .initializer(onnxseal_testkit::build::external(
            "v",
            &[49_152],
            "v.bin",
            Some(1),
            Some(196_608),
        ))
        .node(onnxseal_testkit::build::node("MatMul", &["x", "w"], &["h"]))
        .node(onnxseal_testkit::build::node("MatMul", &["h", "v"], &["y"]))
        .encode();
    fs::write(lab.path("m.onnx"), &model).unwrap();
    let values = onnxseal_testkit::build::floats(49_152, 2);
    let content = [vec![0], onnxseal_testkit::build::le_bytes(&values)].concat();
    fs::write(lab.path("v.bin"), content).unwrap();
    for preset in Preset::ALL {
        round_trip(&lab, &lab.path("m.onnx"), preset);
    }
}

#[test]
fn protecting_twice_gives_other_ciphertext_and_the_same_manifest() {
    let lab = Lab::new();
    let path = lab.write(&samples::external_data(), "plain");
    let a = fs::read(lab.protect(&path, "a", Preset::Full).unwrap()).unwrap();
    let b = fs::read(lab.protect(&path, "b", Preset::Full).unwrap()).unwrap();
    let value = |bytes: &[u8]| {
        tail::split(bytes)
            .unwrap()
            .unwrap()
            .value(tail::MANIFEST)
            .unwrap()
            .to_owned()
    };
    assert_eq!(value(&a), value(&b));
    let weights = samples::external_data().files[0].0;
    let read = |folder: &str| fs::read(lab.path(folder).join(weights)).unwrap();
    assert_ne!(read("a"), read("b"));
}

#[test]
fn in_place_gives_what_a_new_file_gives() {
    let lab = Lab::new();
    let sample = samples::all().remove(0);
    let path = lab.write(&sample, "plain");
    let options = onnxseal_core::ProtectOptions::new(Policy::preset(Preset::Balanced));
    let silent = onnxseal_core::Silent;
    onnxseal_core::protect(&path, IN_PLACE, &lab.recipients, &options, &silent).unwrap();
    assert!(lab.open(&path).unwrap().model() == sample.model);
    assert_eq!(
        files(&lab.path("plain")).len(),
        1,
        "nothing is left beside it"
    );
}
