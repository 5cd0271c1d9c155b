//! Round trips: the highest tier has the original, and lower ones have what they shall, in every
//! mode, for every element type, wherever elements lie.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use onnxseal_core::manifest::Mode;
use onnxseal_core::{
    Checks, Destination, Edition, Error, ErrorKind, Flush, Identities, Manifest, OpenedModel,
    RotateOptions, Silent, open, rotate, unprotect, verify,
};
use onnxseal_testkit::{Sample, build, samples};

use super::house::{CHUNK, House, access, alone, key_pair, tiers_of};

/// The numbers of a tensor's elements that are finite; every one if they are integers.
fn is_finite(data_type: &str, element: &[u8]) -> bool {
    let (bits, exponent) = match data_type {
        "FLOAT" => (32, 0x7F80_0000),
        "FLOAT16" => (16, 0x7C00),
        "BFLOAT16" => (16, 0x7F80),
        "DOUBLE" => (64, 0x7FF0 << 48),
        _ => return true,
    };
    let mut wide = [0; 8];
    wide[..bits / 8].copy_from_slice(element);
    u64::from_le_bytes(wide) & exponent != exponent
}

/// What a reader of `edition` sees in `found`, element by element, against the `original` files and
/// the files as they are `stored`.
fn assert_edition(
    manifest: &Manifest,
    edition: u8,
    original: &[Vec<u8>],
    stored: &[Vec<u8>],
    found: &[Vec<u8>],
) {
    let tiers = tiers_of(manifest);
    let n_files = manifest.files().len();
    assert_eq!(
        (found.len(), stored.len(), original.len()),
        (n_files, n_files, n_files)
    );
    for (file, tiers) in tiers.iter().enumerate() {
        assert_eq!(found[file].len(), tiers.len());
        for (at, tier) in tiers.iter().enumerate() {
            // All that is not a higher tier's is the original's.
            if tier.is_none_or(|(tier, _)| tier <= edition) {
                assert_eq!(
                    found[file][at], original[file][at],
                    "file {file}, byte {at}"
                );
            }
        }
    }
    for (index, tensor) in manifest.tensors().iter().enumerate() {
        let (file, bits) = (tensor.file as usize, tensor.data_type.bits() as usize);
        let width = (bits / 8).max(1);
        let fill = match &tensor.fill[..] {
            [] => vec![0; width],
            fill => fill.to_vec(),
        };
        let n_elements: u64 = tensor.dims.iter().product();
        let step = tensor.stride.map_or(width, |stride| stride as usize);
        let n = (n_elements as usize * bits).div_ceil(8 * width);
        // Elements of higher tiers, by tier and chunk: how they were, how they are stored, how they
        // are found.
        let mut shuffled: BTreeMap<(u8, usize), Vec<usize>> = BTreeMap::new();
        let mut n_higher = 0;
        for element in 0..n {
            let at = tensor.offset as usize + element * step;
            let Some((tier, of)) = tiers[file][at] else {
                continue;
            };
            assert_eq!(of, index);
            let range = at..at + width;
            let (was, is) = (&original[file][range.clone()], &found[file][range.clone()]);
            // A shuffled infinity is at another place: below.
            if tensor.mode != Mode::Shuffle && is_finite(tensor.data_type.name(), was) {
                assert!(
                    is_finite(tensor.data_type.name(), is),
                    "{}: {was:?} {is:?}",
                    tensor.name
                );
            }
            if tier <= edition {
                continue;
            }
            n_higher += 1;
            let is_whole = at / CHUNK == (at + width - 1) / CHUNK;
            match tensor.mode {
                Mode::Bytes => assert_eq!(is, fill, "{}: element {element}", tensor.name),
                Mode::Mask => assert_eq!(is, &stored[file][range], "{}", tensor.name),
                Mode::Shuffle if is_whole => {
                    shuffled.entry((tier, at / CHUNK)).or_default().push(at);
                }
                Mode::Shuffle => assert_eq!(is, fill, "{}: in two chunks", tensor.name),
            }
        }
        for places in shuffled.values() {
            let elements = |files: &[Vec<u8>]| {
                let all = places
                    .iter()
                    .map(|&at| files[file][at..at + width].to_vec());
                all.collect::<Vec<_>>()
            };
            if places.len() < 64 {
                assert!(elements(found).iter().all(|element| *element == fill));
                continue;
            }
            assert_eq!(elements(found), elements(stored));
            let (mut found, mut original) = (elements(found), elements(original));
            assert!(found != original, "{}: shuffled to what was", tensor.name);
            found.sort();
            original.sort();
            assert!(found == original, "{}: the same elements", tensor.name);
        }
        let mut higher = false;
        tensor.tier_elements(|_, tier| higher |= tier > edition);
        assert_eq!(n_higher > 0, higher);
    }
}

/// The decrypted files, under the names that the protected model has.
fn files_of(model: &OpenedModel) -> Vec<Vec<u8>> {
    let external = model.external_files().map(|(_, bytes)| bytes.to_vec());
    std::iter::once(model.model().to_vec())
        .chain(external)
        .collect()
}

/// Protects `sample` and compares every edition by every key with what it shall be.
fn round_trip(house: &House, sample: &Sample, preset: &str, more: &str) -> OpenedModel {
    let plain = house.write(sample, "plain");
    let sealed = house.path("sealed/model.onnx");
    let mut policy = house.policy(preset, more);
    // Of some samples a preset takes nothing.
    policy.allow_clear("*").unwrap();
    house.protect(&plain, &sealed, policy);
    let n = house.names.len();
    let highest = house.open(&sealed, n, Edition::Whole).unwrap();
    assert!(highest.is_original() && highest.tier() == Some(&house.names[n - 1]));
    let original: Vec<Vec<u8>> = std::iter::once(sample.model.clone())
        .chain(sample.files.iter().map(|(_, bytes)| bytes.clone()))
        .collect();
    assert!(files_of(&highest) == original, "the original");
    let folder = sealed.parent().unwrap();
    let stored = highest.manifest().files().iter().map(|file| {
        let path = match &*file.path {
            "" => sealed.clone(),
            path => folder.join(path),
        };
        fs::read(path).unwrap()[..file.bytes as usize].to_vec()
    });
    let stored: Vec<Vec<u8>> = stored.collect();
    for tier in 1..=n {
        let edition = house.edition(tier);
        let own = house.open(&sealed, tier, edition).unwrap();
        assert_eq!(own.tier(), Some(&*house.names[tier - 1]));
        assert_eq!(own.is_original(), tier == n);
        let files = files_of(&own);
        assert_edition(own.manifest(), tier as u8, &original, &stored, &files);
        for higher in tier + 1..=n {
            if higher - tier > 2 && higher != n {
                continue;
            }
            let by_higher = house.open(&sealed, higher, edition).unwrap();
            assert!(files_of(&by_higher) == files, "tier {tier} by {higher}");
            assert_eq!(by_higher.tier(), own.tier());
        }
        let any = house.open(&sealed, tier, Edition::Any).unwrap();
        assert!(files_of(&any) == files);
        let whole = house.open(&sealed, tier, Edition::Whole);
        assert_eq!(whole.is_ok(), tier == n);
        if let Err(error) = whole {
            assert!(matches!(error, Error::LowerTier { .. }), "{error}");
        }
        for higher in tier + 1..=n {
            let error = house
                .open(&sealed, tier, house.edition(higher))
                .unwrap_err();
            assert!(matches!(error, Error::LowerTier { .. }), "{error}");
        }
        let checks = Checks {
            identities: Some(&house.keys[tier - 1]),
            edition,
            ..Checks::default()
        };
        assert!(verify(&sealed, &checks, &Silent).unwrap().authenticated);
    }
    fs::remove_dir_all(folder).unwrap();
    highest
}

fn mode(name: &str) -> String {
    format!("[mode]\ndefault = \"{name}\"\n")
}

#[test]
fn every_type_in_every_mode_comes_back() {
    for (n_tiers, name, n_pad) in [
        (3, "bytes", 1),
        (3, "mask", 2),
        (3, "shuffle", 3),
        (2, "mask", 4),
        (2, "shuffle", 5),
        (16, "bytes", 6),
        (16, "mask", 7),
        (16, "shuffle", 8),
    ] {
        let house = House::new(n_tiers);
        let sample = alone("every_type", samples::every_type(n_pad));
        let model = round_trip(&house, &sample, "full", &mode(name));
        let manifest = model.manifest();
        let types: std::collections::BTreeSet<&str> = manifest
            .tensors()
            .iter()
            .map(|tensor| tensor.data_type.name())
            .collect();
        assert_eq!(types.len(), 8, "{types:?}");
        assert!(
            manifest
                .tensors()
                .iter()
                .any(|tensor| tensor.stride.is_some())
        );
        // Elements lie in two chunks, whatever the mode.
        let straddles = manifest.tensors().iter().filter(|tensor| {
            let width = u64::from(tensor.data_type.bits() / 8);
            let step = tensor.stride.map_or(width, u64::from);
            let n: u64 = tensor.dims.iter().product();
            (0..n).any(|element| {
                let at = tensor.offset + element * step;
                width > 0 && at / CHUNK as u64 != (at + width - 1) / CHUNK as u64
            })
        });
        assert!(straddles.count() >= 2, "{n_pad}");
        let of_mode = |mode| {
            manifest
                .tensors()
                .iter()
                .filter(|tensor| tensor.mode == mode)
                .count()
        };
        assert!(match name {
            "bytes" => of_mode(Mode::Bytes) == manifest.tensors().len(),
            // Variances stay positive; integers cannot be masked.
            "mask" => of_mode(Mode::Mask) > 5 && of_mode(Mode::Shuffle) >= 4,
            _ => of_mode(Mode::Shuffle) > 5,
        });
    }
}

#[test]
fn small_presets_and_samples_come_back() {
    for sample in samples::all() {
        for name in ["bytes", "mask", "shuffle"] {
            let house = House::new(3);
            round_trip(&house, &sample, "balanced", &mode(name));
        }
    }
}

#[test]
fn fixtures_of_real_exporters_come_back() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models");
    let mut n = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let has_external = name.contains("external") || name.contains("dynamo");
        if path.extension().is_none_or(|ext| ext != "onnx") || has_external {
            continue;
        }
        let sample = alone("fixture", fs::read(&path).unwrap());
        for name in ["bytes", "mask", "shuffle"] {
            round_trip(&House::new(3), &sample, "balanced", &mode(name));
        }
        n += 1;
    }
    assert!(n > 10);
}

/// A model with two external files of several chunks.
fn external() -> Sample {
    let names = [("one.bin", "u", 1), ("sub/two.bin", "v", 2)];
    let mut graph = build::GraphBuilder::new("external").input("x", &[1, 256]);
    for (location, name, _) in names {
        let tensor = build::external(name, &[256, 256], location, Some(3), Some(4 * 256 * 256));
        let out = format!("{name}_out");
        graph = graph
            .initializer(tensor)
            .node(build::node("MatMul", &["x", name], &[&out]));
    }
    let content = |seed| {
        let weights = build::le_bytes(&build::floats(256 * 256, seed));
        [&[0; 3][..], &weights, &[0; 5]].concat()
    };
    Sample {
        name: "external",
        model: graph.output("v_out", &[1, 256]).encode(),
        files: names
            .map(|(location, _, seed)| (location, content(seed)))
            .to_vec(),
    }
}

#[test]
fn external_data_comes_back() {
    for name in ["bytes", "mask", "shuffle"] {
        let house = House::new(3);
        let model = round_trip(&house, &external(), "full", &mode(name));
        assert_eq!(model.manifest().files().len(), 3);
        round_trip(&house, &samples::external_data(), "full", &mode(name));
    }
}

#[test]
fn renamed_external_data_comes_back_under_its_names() {
    for name in ["bytes", "mask", "shuffle"] {
        let house = House::new(3);
        let sample = external();
        let plain = house.write(&sample, "folder");
        // In the same folder: the external files get other names.
        let sealed = house.path("folder/sealed.onnx");
        house.protect(&plain, &sealed, house.policy("full", &mode(name)));
        let whole = house.open(&sealed, 3, Edition::Whole).unwrap();
        assert!(whole.manifest().restores_names());
        assert!(*whole.original_model() == sample.model);
        for tier in 1..=3 {
            let edition = house.edition(tier);
            let opened = house.open(&sealed, tier, edition).unwrap();
            let restored = house.path(&format!("restored-{tier}/model.onnx"));
            let by = access(&house.keys[2], edition);
            let said = unprotect(&sealed, &restored, by, &Silent).unwrap();
            assert_eq!(said.tier.as_deref(), Some(&*house.names[tier - 1]));
            assert_eq!(said.is_original, tier == 3);
            assert!(fs::read(&restored).unwrap() == *opened.original_model());
            for ((path, bytes), (was, content)) in
                opened.original_external_files().zip(&sample.files)
            {
                assert_eq!(path, *was);
                let written = restored.parent().unwrap().join(&path);
                assert!(fs::read(written).unwrap() == bytes);
                assert_eq!(bytes == content, tier == 3);
            }
        }
    }
}

#[test]
fn rotated_external_data_comes_back_in_every_edition() {
    for name in ["bytes", "mask", "shuffle"] {
        let house = House::new(3);
        let sample = external();
        let plain = house.write(&sample, "plain");
        let sealed = house.path("sealed/model.onnx");
        house.protect(&plain, &sealed, house.policy("full", &mode(name)));
        let before: Vec<_> = (1..=3)
            .map(|tier| {
                let opened = house.open(&sealed, tier, house.edition(tier)).unwrap();
                let bytes = |(_, bytes): (String, &[u8])| bytes.to_vec();
                let external: Vec<_> = opened.original_external_files().map(bytes).collect();
                (opened.original_model(), external)
            })
            .collect();
        let options = RotateOptions {
            external_data: Some("new".to_owned()),
            ..RotateOptions::default()
        };
        let (highest, to) = (&house.keys[2], &house.recipients);
        let in_place = Destination::InPlace(Flush::Later);
        rotate(&*sealed, in_place, highest, to, &options, &Silent).unwrap();
        for (tier, (model, external)) in (1..).zip(before) {
            // What a lower tier sees of the others' elements is another ciphertext now.
            if tier < 3 && name != "bytes" {
                continue;
            }
            let opened = house.open(&sealed, tier, house.edition(tier)).unwrap();
            assert!(opened.original_model() == model, "{name}: {tier}");
            let found = opened.original_external_files().map(|(_, bytes)| bytes);
            assert!(
                found.eq(external.iter().map(Vec::as_slice)),
                "{name}: {tier}"
            );
        }
    }
}

#[test]
fn shares_are_what_the_policy_says() {
    let house = House::new(3);
    let sample = alone("every_type", samples::every_type(0));
    let model = round_trip(&house, &sample, "full", "");
    let tiers = tiers_of(model.manifest());
    let all: Vec<u8> = tiers[0].iter().flatten().map(|(tier, _)| *tier).collect();
    for (tier, share) in [(1, 1.0 / 3.0), (2, 2.0 / 3.0)] {
        let n = all.iter().filter(|&&of| of <= tier).count();
        // Up to one unit of 64 bytes.
        let wanted = share * all.len() as f64;
        assert!(
            n as f64 >= wanted - 1.0 && n as f64 <= wanted + 64.0,
            "{n} of {wanted}"
        );
    }
}

#[test]
fn wrong_keys_and_names_give_no_bytes() {
    let house = House::new(3);
    let plain = house.write(&alone("small", super::house::small()), "plain");
    let sealed = house.path("sealed/model.onnx");
    house.protect(&plain, &sealed, house.policy("full", ""));
    let (_, stranger) = key_pair();
    let nobody = Identities::default();
    let editions = [
        Edition::Whole,
        Edition::Any,
        house.edition(1),
        house.edition(3),
    ];
    for identities in [&stranger, &nobody] {
        for edition in editions {
            let error = open(&sealed, access(identities, edition), &Silent).unwrap_err();
            assert!(matches!(error, Error::NoMatchingKey { .. }), "{error}");
        }
    }
    for tier in 1..=3 {
        for name in ["", "Trial", "fool", "any", "trial "] {
            let error = house.open(&sealed, tier, Edition::Tier(name)).unwrap_err();
            assert!(matches!(error, Error::NoSuchTier { .. }), "{error}");
            assert_eq!(error.kind(), ErrorKind::PolicyNotMet);
            let out = house.path("refused/model.onnx");
            let by = access(&house.keys[tier - 1], Edition::Tier(name));
            unprotect(&sealed, &out, by, &Silent).unwrap_err();
            assert!(!out.exists() && !Path::exists(out.parent().unwrap()));
        }
    }
    // A model without tiers: a name is an error, and any of its editions is the one it has.
    let lab = crate::lab::Lab::new();
    let other = lab.path("one/model.onnx");
    let policy = onnxseal_core::Policy::preset(onnxseal_core::Preset::Full);
    lab.protect_to(&plain, &other, policy).unwrap();
    let asked = |edition| open(&other, access(&lab.identities, edition), &Silent);
    let error = asked(Edition::Tier("full")).unwrap_err();
    assert!(matches!(error, Error::NoSuchTier { .. }), "{error}");
    for edition in [Edition::Any, Edition::Whole] {
        let opened = asked(edition).unwrap();
        assert!(opened.is_original() && opened.tier().is_none());
    }
}

#[test]
fn keys_of_several_tiers_open_the_highest() {
    let mut house = House::new(3);
    let plain = house.write(&alone("small", super::house::small()), "plain");
    let sealed = house.path("sealed/model.onnx");
    // One person is a recipient of two tiers.
    let (public, mut both) = key_pair();
    for (_, of_tier) in &mut house.recipients[..2] {
        let also = onnxseal_core::Recipients::parse(&[&public]).unwrap();
        of_tier.merge(also).unwrap();
    }
    house.protect(&plain, &sealed, house.policy("full", ""));
    let opened = open(&sealed, access(&both, Edition::Any), &Silent).unwrap();
    assert_eq!(opened.tier(), Some("standard"));
    // The highest of them counts, whatever their order.
    let highest = house.keys.pop().unwrap();
    both.merge(highest);
    let opened = open(&sealed, access(&both, Edition::Whole), &Silent).unwrap();
    assert!(opened.is_original());
    let mut least_first = house.keys.remove(0);
    least_first.merge(both);
    let opened = open(&sealed, access(&least_first, Edition::Any), &Silent).unwrap();
    assert!(opened.is_original());
}
