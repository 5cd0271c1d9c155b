//! What somebody can do who has the key of a lower tier: nothing that a higher tier's reader takes.

use std::ops::Range;
use std::path::PathBuf;

use onnxseal_core::{
    AllowedSigners, Checks, Edition, Error, ErrorKind, Flush, Policy, Preset, ProtectOptions,
    Recipients, RotateOptions, SignedBy, Silent, open, protect, rekey, rotate, sign, verify,
};
use onnxseal_crypto::{ChunkId, DataKey, Scratch, Tag};
use onnxseal_testkit::build;

use super::house::{CHUNK, House, SMALL_MODES, Sealed, access, alone, text_of, tiers_of};
use crate::lab::{ALICE, IN_PLACE, key};

/// Something that an insider does to a model.
type Change<'a> = &'a dyn Fn(&mut Sealed);

/// A protected model, and its parts.
struct Scene {
    house: House,
    model: PathBuf,
    sealed: Sealed,
    n_tiers: usize,
}

/// Somebody with the keys `K_1` to `K_t`.
struct Insider {
    keys: Vec<DataKey>,
}

impl Scene {
    fn new() -> Scene {
        let house = House::new(3);
        let (model, sealed) = house.protect_small();
        // What follows would show nothing if there were few chunks.
        assert!(sealed.model.len() > 3 * CHUNK);
        Scene {
            house,
            model,
            sealed,
            n_tiers: 3,
        }
    }

    fn insider(&self, tier: usize) -> Insider {
        let part = self.sealed.part(tier);
        let own = self.house.keys[tier - 1].unwrap(part).unwrap();
        let keys = own.with_lower(tier as u8, self.n_tiers as u8).unwrap();
        Insider { keys }
    }

    /// What the reader of `tier` says of `forged`, whichever edition that reader wants, by opening
    /// it and by verifying it.
    fn asked(&self, forged: &Sealed, tier: usize) -> Vec<[Result<(), Error>; 2]> {
        forged.write(&self.model);
        let editions = (1..=tier).map(|lower| self.house.edition(lower));
        let results = editions.chain([Edition::Any]).map(|edition| {
            let checks = Checks {
                identities: Some(&self.house.keys[tier - 1]),
                edition,
                ..Checks::default()
            };
            [
                self.house.open(&self.model, tier, edition).map(drop),
                verify(&self.model, &checks, &Silent).map(drop),
            ]
        });
        let results = results.collect();
        self.sealed.write(&self.model);
        results
    }

    /// Asserts that the reader of `tier` takes nothing of `forged`.
    fn assert_refused(&self, forged: &Sealed, tier: usize, what: &str) {
        for [opened, verified] in self.asked(forged, tier) {
            let error = opened.err();
            let error = error.unwrap_or_else(|| panic!("{what}: tier {tier} took it"));
            assert_eq!(error.kind(), ErrorKind::Authentication, "{what}: {error}");
            // It looks at the graph first.
            let kinds = [ErrorKind::Authentication, ErrorKind::Malformed];
            assert!(kinds.contains(&verified.unwrap_err().kind()), "{what}");
        }
    }

    /// Asserts that nobody above `tier` takes `forged`. For those up to `tier` it is authentic: it
    /// is forged as well as can be.
    fn assert_refused_above(&self, tier: usize, forged: &Sealed, what: &str) {
        assert!(
            forged.encode() != self.sealed.encode(),
            "{what}: nothing is forged"
        );
        for reader in 1..=self.n_tiers {
            if reader > tier {
                self.assert_refused(forged, reader, what);
                continue;
            }
            for error in self
                .asked(forged, reader)
                .into_iter()
                .flatten()
                .flat_map(Result::err)
            {
                assert_ne!(error.kind(), ErrorKind::Authentication, "{what}: {error}");
            }
        }
    }
}

/// The ranges of the chunks of `len` bytes.
fn windows(len: usize) -> impl Iterator<Item = (ChunkId, Range<usize>)> {
    (0..len.div_ceil(CHUNK)).map(move |chunk| {
        let window = chunk * CHUNK..((chunk + 1) * CHUNK).min(len);
        let chunk = chunk as u64;
        (ChunkId { file: 0, chunk }, window)
    })
}

/// The targets of tier 1 in a chunk, relative to it.
fn first_targets(sealed: &Sealed, window: &Range<usize>) -> Vec<Range<usize>> {
    let tiers = &tiers_of(&sealed.parse())[0];
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, tier) in tiers[window.clone()].iter().enumerate() {
        match (tier, runs.last_mut()) {
            (Some((1, _)), Some(run)) if run.end == at => run.end += 1,
            (Some((1, _)), _) => runs.push(at..at + 1),
            _ => {}
        }
    }
    runs
}

impl Insider {
    /// Changes `sealed`, with the targets of tier 1 in clear, and makes every tag and MAC anew for
    /// which the insider has a key.
    fn forge(&self, sealed: &Sealed, change: impl FnOnce(&mut Sealed)) -> Sealed {
        let mut forged = sealed.clone();
        let mut scratch = Scratch::new();
        let tiers = (1, (sealed.macs.len() / 32) as u8);
        let open = self.keys[0].open_keys(tiers, &sealed.manifest, &sealed.tags, &sealed.macs);
        let open = open.unwrap();
        for (at, window) in windows(sealed.model.len()) {
            let targets = first_targets(sealed, &window);
            let tag = Tag(sealed.tags[16 * at.chunk as usize..][..16]
                .try_into()
                .unwrap());
            let bytes = &mut forged.model[window];
            open.open_chunk(at, bytes, &targets, &tag, &mut scratch)
                .unwrap();
        }
        change(&mut forged);
        let n_chunks = forged.model.len().div_ceil(CHUNK);
        let seal = self.keys[0].seal_keys(&forged.manifest, 1).unwrap();
        for (at, window) in windows(forged.model.len()) {
            let targets = first_targets(&forged, &window);
            let bytes = &mut forged.model[window.clone()];
            let tag = seal.seal_chunk(at, bytes, &targets, &mut scratch).unwrap();
            forged.tags[16 * at.chunk as usize..][..16].copy_from_slice(&tag.0);
            for (tier, key) in (2..).zip(&self.keys[1..]) {
                // With this key as the highest of so many tiers, its own keys are what they are.
                let own = key.seal_keys(&forged.manifest, tier as u8).unwrap();
                let tag = own
                    .upper
                    .iter()
                    .last()
                    .unwrap()
                    .tag(at, &forged.model[window.clone()]);
                let at = 16 * (n_chunks * (tier - 1) + at.chunk as usize);
                forged.tags[at..at + 16].copy_from_slice(&tag.unwrap().0);
            }
        }
        self.make_macs(&mut forged);
        forged
    }

    /// Makes every MAC of `forged` anew for which the insider has a key.
    fn make_macs(&self, forged: &mut Sealed) {
        for (below, key) in self.keys.iter().enumerate().rev() {
            set_mac(forged, below + 1, key);
        }
    }
}

/// Makes the MAC of `tier` anew, under `key`.
fn set_mac(forged: &mut Sealed, tier: usize, key: &DataKey) {
    let (own, above) = forged.macs[32 * (tier - 1)..].split_at_mut(32);
    // To keys of one tier, the MACs of the tiers above are more tags.
    let seal = key.seal_keys(&forged.manifest, 1).unwrap();
    own.copy_from_slice(&seal.macs(&[&forged.tags[..], above].concat()));
}

/// The places of the bytes that `of` holds for: their tier if they are targets, and their tensor.
fn places(sealed: &Sealed, of: impl Fn(Option<(u8, &str)>) -> bool) -> Vec<usize> {
    let manifest = sealed.parse();
    let tiers = &tiers_of(&manifest)[0];
    let name = |index: usize| &*manifest.tensors()[index].name;
    let found = tiers.iter().enumerate();
    let found = found.filter(|(_, tier)| of(tier.map(|(tier, index)| (tier, name(index)))));
    found.map(|(at, _)| at).collect()
}

#[test]
fn an_insider_who_changes_nothing_gives_what_was() {
    let scene = Scene::new();
    for tier in 1..=3 {
        let same = scene.insider(tier).forge(&scene.sealed, |_| {});
        assert!(same.encode() == scene.sealed.encode(), "tier {tier}");
    }
}

#[test]
fn whatever_bytes_an_insider_changes_higher_tiers_refuse() {
    let scene = Scene::new();
    for tier in [1, 2] {
        let insider = scene.insider(tier);
        let refused = |what: &str, change: &dyn Fn(&mut Sealed)| {
            let forged = insider.forge(&scene.sealed, |sealed| change(sealed));
            scene.assert_refused_above(tier, &forged, &format!("{what} by tier {tier}"));
        };
        for (mode, bit) in [("bytes", 1), ("mask", 0x80), ("shuffle", 0x40)] {
            for of_tier in 1..=3 {
                let places = places(
                    &scene.sealed,
                    |of| matches!(of, Some((t, name)) if t == of_tier && name == mode),
                );
                assert!(!places.is_empty());
                // The sign of one number, and of them all.
                for n in [1, places.len()] {
                    refused(
                        &format!("{n} bytes of {mode} of tier {of_tier}"),
                        &|sealed| {
                            places[..n].iter().for_each(|&at| sealed.model[at] ^= bit);
                        },
                    );
                }
            }
        }
        // Weights that are not encrypted, and the graph.
        let clear = build::le_bytes(&build::floats(64 * 64, 4));
        let model = &scene.sealed.model;
        let at = (0..model.len()).find(|&at| model[at..].starts_with(&clear[..64]));
        let at = at.unwrap();
        assert!(model[at..].starts_with(&clear));
        refused("a weight in clear", &|sealed| sealed.model[at + 3] ^= 0x80);
        refused("all weights in clear", &|sealed| {
            sealed.model[at..at + clear.len()].fill(0);
        });
        let name = (0..model.len()).find(|&at| model[at..].starts_with(b"Gemm"));
        refused("an operator", &|sealed| {
            sealed.model[name.unwrap()..][..4].copy_from_slice(b"Gelu");
        });
    }
}

/// `K_1` fits every chunk of a model, and tags of tier 1 are over bytes alone.
#[test]
fn chunks_and_tags_cannot_be_moved() {
    let scene = Scene::new();
    let chunk = |n: usize| n * CHUNK..(n + 1) * CHUNK;
    for tier in [1, 2] {
        let insider = scene.insider(tier);
        let refused = |what: &str, change: &dyn Fn(&mut Sealed)| {
            let forged = insider.forge(&scene.sealed, |sealed| change(sealed));
            scene.assert_refused_above(tier, &forged, &format!("{what} by tier {tier}"));
        };
        refused("two chunks exchanged", &|sealed| {
            let second = sealed.model[chunk(2)].to_vec();
            sealed.model.copy_within(chunk(1), 2 * CHUNK);
            sealed.model[chunk(1)].copy_from_slice(&second);
        });
        refused("a chunk twice", &|sealed| {
            sealed.model.copy_within(chunk(1), 2 * CHUNK);
        });
        let n_chunks = scene.sealed.model.len().div_ceil(CHUNK);
        refused("chunks exchanged with tags of all tiers", &|sealed| {
            let second = sealed.model[chunk(2)].to_vec();
            sealed.model.copy_within(chunk(1), 2 * CHUNK);
            sealed.model[chunk(1)].copy_from_slice(&second);
            for of in 0..3 {
                let tags = &mut sealed.tags[16 * (of * n_chunks + 1)..][..32];
                tags.rotate_left(16);
            }
        });
        for of in tier + 1..=3 {
            refused("a tag of a higher tier", &|sealed| {
                sealed.tags[16 * n_chunks * (of - 1)] ^= 1;
            });
            refused("a tag of tier 1 in a higher one's place", &|sealed| {
                let (first, others) = sealed.tags.split_at_mut(16 * n_chunks);
                others[16 * n_chunks * (of - 2)..][..16].copy_from_slice(&first[..16]);
            });
        }
        // An insider makes lower MACs fit whatever stands in the higher ones' places.
        let mut forged = scene.sealed.clone();
        forged.macs[32 * tier..].fill(0);
        insider.make_macs(&mut forged);
        scene.assert_refused_above(tier, &forged, "zeros for MACs");
        forged.macs = scene.sealed.macs.clone();
        let own = forged.macs[..32].to_vec();
        forged.macs[32 * tier..][..32].copy_from_slice(&own);
        scene.assert_refused(
            &forged,
            tier + 1,
            "the MAC of tier 1 in a higher one's place",
        );
    }
}

/// The same model, protected twice, and rotated: chunks and tags of one in the other.
#[test]
fn versions_of_a_model_cannot_be_mixed() {
    let scene = Scene::new();
    let House {
        keys, recipients, ..
    } = &scene.house;
    let rotated = scene.house.path("rotated/model.onnx");
    let options = RotateOptions::default();
    rotate(
        &scene.model,
        &rotated,
        &keys[2],
        recipients,
        &options,
        &Silent,
    )
    .unwrap();
    let other = Sealed::read(&rotated);
    assert_eq!(other.manifest, scene.sealed.manifest, "the same manifest");
    let n_chunks = other.model.len().div_ceil(CHUNK);
    for tier in [1, 2] {
        let insider = scene.insider(tier);
        for chunk in 0..n_chunks {
            let window = chunk * CHUNK..((chunk + 1) * CHUNK).min(other.model.len());
            let forged = insider.forge(&scene.sealed, |sealed| {
                sealed.model[window.clone()].copy_from_slice(&other.model[window.clone()]);
                for of in 0..3 {
                    let at = 16 * (of * n_chunks + chunk);
                    sealed.tags[at..at + 16].copy_from_slice(&other.tags[at..at + 16]);
                }
            });
            scene.assert_refused_above(tier, &forged, "a chunk of another version");
        }
    }
    // Without any key: whole parts of one in the other.
    let of_other: [(&str, Change); 4] = [
        ("the bytes", &|sealed| sealed.model.clone_from(&other.model)),
        ("the tags", &|sealed| sealed.tags.clone_from(&other.tags)),
        ("the MACs", &|sealed| sealed.macs.clone_from(&other.macs)),
        ("the keys", &|sealed| sealed.keys.clone_from(&other.keys)),
    ];
    for (what, change) in of_other {
        let mut mixed = scene.sealed.clone();
        change(&mut mixed);
        scene.assert_refused_above(0, &mixed, what);
    }
    // The tags and the MAC of the highest tier alone.
    let mut mixed = scene.sealed.clone();
    mixed.tags[32 * n_chunks..].copy_from_slice(&other.tags[32 * n_chunks..]);
    mixed.macs[64..].copy_from_slice(&other.macs[64..]);
    scene.assert_refused_above(0, &mixed, "tags and MAC of the highest tier");
    for of in 0..3 {
        let mut mixed = scene.sealed.clone();
        mixed.macs[32 * of..][..32].copy_from_slice(&other.macs[32 * of..][..32]);
        scene.assert_refused_above(0, &mixed, "one MAC");
    }
}

#[test]
fn what_the_manifest_says_of_tiers_cannot_be_changed() {
    let scene = Scene::new();
    let text = |sealed: &Sealed| String::from_utf8(sealed.manifest.clone()).unwrap();
    let changes: [(&str, &str, &str); 5] = [
        (
            "names exchanged",
            r#"["trial","standard","full"]"#,
            r#"["full","standard","trial"]"#,
        ),
        ("another name", r#""full"]"#, r#""fool"]"#),
        ("a claim", r#""claims":{}"#, r#""claims":{"a":"b"}"#),
        ("a mode", r#""mode":"mask""#, r#""mode":"shuffle""#),
        ("a tensor's name", r#""name":"clear""#, r#""name":"bytes""#),
    ];
    let mut n_made = 0;
    for tier in [1, 2] {
        for (what, from, to) in changes {
            let before = text(&scene.sealed);
            if !before.contains(from) {
                continue;
            }
            let forged = scene.insider(tier).forge(&scene.sealed, |sealed| {
                sealed.manifest = before.replacen(from, to, 1).into_bytes();
            });
            scene.assert_refused_above(tier, &forged, what);
            n_made += 1;
        }
        // All targets to the least tier: they would be handed out as ciphertext of nobody.
        let manifest = scene.sealed.parse();
        let mut before = text(&scene.sealed);
        for tensor in manifest.tensors() {
            let written = serde_json::to_string(&tensor.targets).unwrap();
            let all = format!(r#"["{}","",""]"#, text_of(&tensor.targets));
            before = before.replace(&written, &all);
        }
        let forged = scene.insider(tier).forge(&scene.sealed, |sealed| {
            sealed.manifest = before.into_bytes();
        });
        for reader in tier + 1..=3 {
            scene.assert_refused(&forged, reader, "all targets to tier 1");
        }
    }
    assert_eq!(n_made, 8, "the tensor in clear is in no manifest");
}

#[test]
fn a_lower_key_in_a_higher_part_opens_nothing() {
    let scene = Scene::new();
    let to = |tier: usize| Recipients::parse(&[&scene.house.public[tier - 1]]).unwrap();
    for tier in [1, 2] {
        let insider = scene.insider(tier);
        for part in tier + 1..=3 {
            for (lower, key) in (1..).zip(&insider.keys) {
                let mut forged = scene.sealed.clone();
                forged.set_part(part, &to(part).wrap(key).unwrap());
                let what = format!("K_{lower} as K_{part}");
                scene.assert_refused(&forged, part, &what);
                // With tags and a MAC of the part's tier that fit the wrong key.
                let n_chunks = forged.model.len().div_ceil(CHUNK);
                let own = key.seal_keys(&forged.manifest, 2).unwrap();
                let key = own.upper.last().unwrap();
                for (at, window) in windows(forged.model.len()) {
                    let tag = key.tag(at, &forged.model[window]).unwrap();
                    let at = 16 * (n_chunks * (part - 1) + at.chunk as usize);
                    forged.tags[at..at + 16].copy_from_slice(&tag.0);
                }
                set_mac(&mut forged, part, &insider.keys[lower - 1]);
                // The tiers above notice that tags have changed.
                for reader in part..=3 {
                    scene.assert_refused(&forged, reader, &what);
                }
            }
        }
    }
}

#[test]
fn a_paying_customer_is_not_served_the_trial() {
    let scene = Scene::new();
    let House { public, keys, .. } = &scene.house;
    for tier in [1, 2] {
        let insider = scene.insider(tier);
        for customer in tier + 1..=3 {
            let to_customer = Recipients::parse(&[&public[customer - 1]]).unwrap();
            let mut forged = scene.sealed.clone();
            let wrapped = to_customer.wrap(&insider.keys[tier - 1]).unwrap();
            // The parts above, the customer's among them, are dropped.
            let mut parts = forged.keys.clone();
            parts.retain(|(of, _)| *of < tier);
            parts.push((tier, wrapped));
            forged.keys = parts;
            forged.write(&scene.model);
            let open = |edition| scene.house.open(&scene.model, customer, edition);
            for edition in [Edition::Whole, scene.house.edition(customer)] {
                let error = open(edition).unwrap_err();
                assert!(matches!(error, Error::LowerTier { .. }), "{error}");
                assert_eq!(error.kind(), ErrorKind::NoMatchingKey);
            }
            // Who takes any edition is told which it is.
            let taken = open(Edition::Any).unwrap();
            assert_eq!(taken.tier(), Some(&*scene.house.names[tier - 1]));
            assert!(!taken.is_original());
            // Nothing of it is forged: it is that tier's edition.
            scene.sealed.write(&scene.model);
            let own = scene.house.open(&scene.model, tier, Edition::Any).unwrap();
            assert!(own.model() == taken.model());

            // Beside the customer's own part, which comes first.
            let mut parts = scene.sealed.keys.clone();
            parts[tier - 1].1 = to_customer.wrap(&insider.keys[tier - 1]).unwrap();
            forged.keys = parts;
            forged.write(&scene.model);
            let taken = open(Edition::Any).unwrap();
            assert_eq!(taken.tier(), Some(&*scene.house.names[customer - 1]));
            scene.sealed.write(&scene.model);
        }
    }
    // Parts that are dropped leave nothing to fall back to.
    for dropped in 1..=3 {
        let mut forged = scene.sealed.clone();
        let mut parts = forged.keys.clone();
        parts.retain(|(of, _)| *of != dropped);
        forged.keys = parts;
        forged.write(&scene.model);
        for tier in 1..=3 {
            let opened = open(&scene.model, access(&keys[tier - 1], Edition::Any), &Silent);
            match (tier == dropped, opened) {
                (true, Err(Error::NoMatchingKey { .. })) | (false, Ok(_)) => {}
                (_, other) => panic!("tier {tier} without part {dropped}: {other:?}"),
            }
        }
    }
}

fn demand() -> SignedBy {
    let line = format!("alice@example.com {}\n", ALICE.0);
    SignedBy {
        allowed: AllowedSigners::read(line.as_bytes(), "allowed signers").unwrap(),
        signer: None,
    }
}

/// What no key can tell, only the name of a tier or a signature can.
#[test]
fn a_trial_that_is_published_without_tiers() {
    let scene = Scene::new();
    sign(&scene.model, &key(ALICE), Flush::Later, &Silent).unwrap();
    let by = demand();
    let House { public, keys, .. } = &scene.house;
    let trial = scene.house.open(&scene.model, 1, Edition::Any).unwrap();
    let plain = scene
        .house
        .write(&alone("trial", trial.model().to_vec()), "trial");
    let to_full = Recipients::parse(&[&public[2]]).unwrap();
    let republished = scene.house.path("republished/model.onnx");
    let options = ProtectOptions::new(Policy::preset(Preset::Full));
    protect(&plain, &republished, &to_full, &options, &Silent).unwrap();

    let asked = |model: &PathBuf, edition, signed_by| {
        let access = onnxseal_core::Access {
            identities: &keys[2],
            signed_by,
            edition,
            licence: None,
        };
        open(model, access, &Silent)
    };
    // Who names the tier, or demands the publisher's signature, refuses it.
    let error = asked(&republished, scene.house.edition(3), None).unwrap_err();
    assert!(matches!(error, Error::NoSuchTier { .. }), "{error}");
    for edition in [Edition::Whole, Edition::Any, scene.house.edition(3)] {
        let error = asked(&republished, edition, Some(&by)).unwrap_err();
        assert!(
            matches!(error, Error::NotSigned { .. } | Error::NoSuchTier { .. }),
            "{error}"
        );
        assert!(asked(&scene.model, edition, Some(&by)).is_ok());
    }
    // Who does neither opens it: somebody encrypted a model to a public key.
    for edition in [Edition::Whole, Edition::Any] {
        let opened = asked(&republished, edition, None).unwrap();
        assert!(opened.model() == trial.model() && opened.tier().is_none());
    }
}

/// Who wrapped a key, and who named the tiers, no key tells either.
#[test]
fn names_of_tiers_are_what_the_maker_of_a_file_says() {
    let scene = Scene::new();
    sign(&scene.model, &key(ALICE), Flush::Later, &Silent).unwrap();
    let (signed, by) = (Sealed::read(&scene.model), demand());
    let House { public, keys, .. } = &scene.house;
    let to_full = Recipients::parse(&[&public[2]]).unwrap();
    let trial = scene.house.open(&scene.model, 1, Edition::Any).unwrap();
    let asked = |edition, signed_by| {
        let access = onnxseal_core::Access {
            identities: &keys[2],
            signed_by,
            edition,
            licence: None,
        };
        open(&scene.model, access, &Silent)
    };

    // The trial's customer calls the trial "full", and wraps its key to one who pays.
    let insider = scene.insider(1);
    let mut forged = insider.forge(&signed, |sealed| {
        let manifest = String::from_utf8(sealed.manifest.clone()).unwrap();
        let manifest = manifest.replace(
            r#"["trial","standard","full"]"#,
            r#"["full","standard","trial"]"#,
        );
        sealed.manifest = manifest.into_bytes();
    });
    forged.keys = vec![(1, to_full.wrap(&insider.keys[0]).unwrap())];
    forged.write(&scene.model);
    let error = asked(Edition::Whole, None).unwrap_err();
    assert!(matches!(error, Error::LowerTier { .. }), "{error}");
    let taken = asked(scene.house.edition(3), None).unwrap();
    assert!(taken.model() == trial.model() && !taken.is_original());
    for edition in [Edition::Whole, Edition::Any, scene.house.edition(3)] {
        let error = asked(edition, Some(&by)).unwrap_err();
        let is_refused = matches!(error, Error::LowerTier { .. });
        assert!(
            is_refused || error.kind() == ErrorKind::Authentication,
            "{error}"
        );
    }

    // The trial's bytes, sealed anew with tiers of the same names.
    let plain = scene
        .house
        .write(&alone("trial", trial.model().to_vec()), "trial");
    let made = scene.house.path("made/model.onnx");
    let policy = scene.house.policy("full", SMALL_MODES);
    scene.house.protect(&plain, &made, policy);
    std::fs::copy(&made, &scene.model).unwrap();
    for edition in [Edition::Whole, scene.house.edition(3)] {
        let taken = asked(edition, None).unwrap();
        assert!(taken.model() == trial.model() && taken.is_original());
        let error = asked(edition, Some(&by)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    }
}

#[test]
fn a_signature_is_over_the_tags_and_macs_of_all_tiers() {
    let scene = Scene::new();
    sign(&scene.model, &key(ALICE), Flush::Later, &Silent).unwrap();
    let signed = Sealed::read(&scene.model);
    let by = demand();
    let refusals = |forged: &Sealed, reader: usize| {
        forged.write(&scene.model);
        let access = onnxseal_core::Access {
            identities: &scene.house.keys[reader - 1],
            signed_by: Some(&by),
            edition: Edition::Any,
            licence: None,
        };
        let with_key = open(&scene.model, access, &Silent).map(drop);
        let keyless = Checks {
            signed_by: Some(&by),
            ..Checks::default()
        };
        [with_key, verify(&scene.model, &keyless, &Silent).map(drop)]
    };
    for reader in 1..=3 {
        refusals(&signed, reader)
            .into_iter()
            .for_each(Result::unwrap);
    }
    let n_chunks = signed.model.len().div_ceil(CHUNK);
    let assert_refused = |forged: &Sealed, what: &str| {
        for result in refusals(forged, 1) {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Authentication, "{what}: {error}");
        }
    };
    // Tags are under every tier's MAC, so the lower readers' MACs are made anew.
    let insider = scene.insider(1);
    for at in 16 * n_chunks..signed.tags.len() {
        let mut forged = signed.clone();
        forged.tags[at] ^= 1;
        insider.make_macs(&mut forged);
        assert_refused(&forged, &format!("byte {at} of the tags"));
    }
    for at in 32..signed.macs.len() {
        let mut forged = signed.clone();
        forged.macs[at] ^= 1;
        insider.make_macs(&mut forged);
        assert_refused(&forged, &format!("byte {at} of the MACs"));
    }
    // Wrapping anew keeps the signature.
    signed.write(&scene.model);
    let House {
        keys, recipients, ..
    } = &scene.house;
    rekey(
        &scene.model,
        IN_PLACE,
        access(&keys[2], Edition::Whole),
        recipients,
        &Silent,
    )
    .unwrap();
    let rewrapped = Sealed::read(&scene.model);
    assert!(rewrapped.keys != signed.keys);
    for reader in 1..=3 {
        refusals(&rewrapped, reader)
            .into_iter()
            .for_each(Result::unwrap);
    }
}
