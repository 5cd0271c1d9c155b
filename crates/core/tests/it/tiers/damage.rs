//! Whatever byte of a model with tiers is changed: no reader gets other bytes.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use onnxseal_core::{Edition, Error, ErrorKind};
use onnxseal_onnx::tail;
use onnxseal_testkit::{build, corrupt};

use super::house::{House, access, alone};

/// One chunk, with targets of every tier in every mode.
fn tiny() -> Vec<u8> {
    build::GraphBuilder::new("tiny")
        .input("x", &[1, 8])
        .output("y", &[1, 8])
        .initializer(build::weights("bytes", &[8, 24], 1))
        .initializer(build::weights("mask", &[8, 24], 2))
        .initializer(build::weights("shuffle", &[24, 16, 1, 1], 3))
        .node(build::node("MatMul", &["x", "bytes"], &["a"]))
        .node(build::node("Gemm", &["a", "mask"], &["b"]))
        .node(build::node("Conv", &["b", "shuffle"], &["y"]))
        .encode()
}

/// Not `fs::write`: a file system may flush a file that was cut to nothing first.
fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

#[test]
fn every_flipped_byte_is_refused_or_another_tiers() {
    let house = House::new(3);
    let plain = house.write(&alone("tiny", tiny()), "plain");
    let model = house.path("sealed/model.onnx");
    let policy = house.policy("full", "[mode]\nGemm = \"mask\"\nConv = \"shuffle\"\n");
    house.protect(&plain, &model, policy);
    let bytes = fs::read(&model).unwrap();
    let right: Vec<Vec<u8>> = (1..=3)
        .map(|tier| {
            house
                .open(&model, tier, Edition::Any)
                .unwrap()
                .model()
                .to_vec()
        })
        .collect();
    let split = tail::split(&bytes).unwrap().unwrap();
    let span = |key: &str| {
        let entry = split.entries.iter().find(|entry| entry.key == key).unwrap();
        entry.value_span.start as usize..entry.value_span.end() as usize
    };
    let others = [tail::MAC, tail::KEYS[0], tail::KEYS[1], tail::KEYS[2]].map(span);
    let mut n_unnoticed = [0; 3];
    for at in 0..bytes.len() {
        // One of the two, so that this takes seconds.
        let damaged = match at % 2 {
            0 => corrupt::flipped(&bytes, at),
            _ => corrupt::bit_flipped(&bytes, at, (at / 2 % 8) as u32),
        };
        overwrite(&model, &damaged);
        for (tier, right) in (1..).zip(&right) {
            match house.open(&model, tier, Edition::Any) {
                Ok(opened) => {
                    assert!(opened.model() == right, "byte {at}: tier {tier}");
                    assert_eq!(opened.tier(), Some(&*house.names[tier - 1]));
                    // Other tiers' MACs and wrapped keys are no part of what this one reads.
                    assert!(
                        others.iter().any(|span| span.contains(&at)),
                        "byte {at}: tier {tier}"
                    );
                    n_unnoticed[tier - 1] += 1;
                }
                Err(error) => assert!(
                    matches!(error, Error::NotProtected { .. })
                        || matches!(
                            error.kind(),
                            ErrorKind::Malformed
                                | ErrorKind::Authentication
                                | ErrorKind::NoMatchingKey
                        ),
                    "byte {at}: tier {tier}: {error}"
                ),
            }
        }
    }
    assert!(n_unnoticed.iter().all(|&n| n > 0), "{n_unnoticed:?}");
    let of_keys = |entry: &&tail::Entry<'_>| tail::KEYS.contains(&entry.key);
    let ends = split.entries.iter().filter(of_keys);
    let ends: Vec<usize> = ends.map(|entry| entry.field.end() as usize).collect();
    let lens = (0..bytes.len()).step_by(7).chain(ends[..2].to_vec());
    let cuts = lens.map(|len| bytes[..len].to_vec());
    let without = (0..bytes.len())
        .step_by(7)
        .map(|at| corrupt::cut(&bytes, at..at + 1));
    for damaged in cuts.chain(without) {
        overwrite(&model, &damaged);
        // A file that ends with a lower tier's key is one without keys of higher tiers.
        let ends_with_key = ends.contains(&damaged.len()) && bytes.starts_with(&damaged);
        for (tier, right) in (1..).zip(&right) {
            if let Ok(opened) = house.open(&model, tier, Edition::Any) {
                assert!(ends_with_key && opened.model() == right, "tier {tier}");
            }
        }
    }
    fs::write(&model, &bytes).unwrap();
    let by = access(&house.keys[2], Edition::Whole);
    let out = house.path("out/model.onnx");
    onnxseal_core::unprotect(&model, &out, by, &onnxseal_core::Silent).unwrap();
    assert!(fs::read(out).unwrap() == tiny());
}
