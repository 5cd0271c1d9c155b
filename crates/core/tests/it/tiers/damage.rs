//! Whatever byte of a model with tiers is changed: no reader gets other bytes.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use onnxseal_core::{Checks, Edition, Error, ErrorKind, Flush, Silent, sign, verify};
use onnxseal_onnx::tail;
use onnxseal_testkit::{build, corrupt};

use super::house::{House, access, alone};
use crate::lab::{ALICE, key};

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
    sign(&model, &key(ALICE), Flush::Later, &Silent).unwrap();
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
        let end = entry.field.end() as usize;
        end - entry.value.len()..end
    };
    let verified = |tier: usize| {
        let checks = Checks {
            identities: Some(&house.keys[tier - 1]),
            edition: Edition::Any,
            ..Checks::default()
        };
        verify(&model, &checks, &Silent)
    };
    // A key checks no other tier's wrapped key, and no signature that nobody demands.
    let unchecked: Vec<_> = (1..=3)
        .map(|tier| {
            let entries = verified(tier).unwrap().unchecked;
            let keys = (1..=3).filter(|&other| other != tier);
            let expected = [tail::SIG]
                .into_iter()
                .chain(keys.map(|t| tail::KEYS[t - 1]));
            assert!(
                expected.eq(entries.iter().map(String::as_str)),
                "{entries:?}"
            );
            entries.iter().map(|entry| span(entry)).collect::<Vec<_>>()
        })
        .collect();
    let mut n_unnoticed = [0; 3];
    // One of the two, so that this takes seconds; of the MACs every bit.
    let flipped = (0..bytes.len()).map(|at| match at % 2 {
        0 => (at, corrupt::flipped(&bytes, at)),
        _ => (at, corrupt::bit_flipped(&bytes, at, (at / 2 % 8) as u32)),
    });
    let bits = span(tail::MAC).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    let bits = bits.map(|(at, bit)| (at, corrupt::bit_flipped(&bytes, at, bit)));
    for (at, damaged) in flipped.chain(bits) {
        overwrite(&model, &damaged);
        for (tier, right) in (1..).zip(&right) {
            let is_unchecked = (unchecked[tier - 1].iter()).any(|span| span.contains(&at));
            if at >= split.start as usize {
                let passes = verified(tier).is_ok();
                assert!(is_unchecked || !passes, "byte {at}: tier {tier} verifies");
            }
            match house.open(&model, tier, Edition::Any) {
                Ok(opened) => {
                    assert!(opened.model() == right, "byte {at}: tier {tier}");
                    assert_eq!(opened.tier(), Some(&*house.names[tier - 1]));
                    assert!(is_unchecked, "byte {at}: tier {tier} opens");
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
