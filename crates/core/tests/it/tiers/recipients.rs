//! Recipients of tiers: mixed up, changed by `rekey`, and new ones of new keys by `rotate`.

use std::path::PathBuf;

use onnxseal_core::{
    Edition, Error, ErrorKind, Identities, Policy, Recipients, Rewrap, RotateOptions, Silent,
    TierRecipients, open, protect, rekey, rotate,
};
use onnxseal_testkit::build;

use super::house::{House, SMALL_MODES, Sealed, access, alone, key_pair, small};
use crate::lab::IN_PLACE;

struct Scene {
    house: House,
    model: PathBuf,
    sealed: Sealed,
}

impl Scene {
    fn new() -> Scene {
        let house = House::new(3);
        let (model, sealed) = house.protect_small();
        Scene {
            house,
            model,
            sealed,
        }
    }

    /// The tier that `identities` open, whichever it is.
    fn opens(&self, identities: &Identities) -> Result<String, Error> {
        let opened = open(&self.model, access(identities, Edition::Any), &Silent)?;
        Ok(opened.tier().unwrap().to_owned())
    }

    fn rekey<'a>(&'a self, tier: usize, recipients: impl Into<Rewrap<'a>>) -> Result<bool, Error> {
        let by = access(&self.house.keys[tier - 1], Edition::Whole);
        let rekeyed = rekey(&self.model, IN_PLACE, by, recipients, &Silent)?;
        Ok(rekeyed)
    }
}

fn to(tier: &str, public: &[&str]) -> (Option<String>, Recipients) {
    (Some(tier.to_owned()), Recipients::parse(public).unwrap())
}

fn rotating(policy: Option<Policy>) -> RotateOptions {
    RotateOptions {
        policy,
        ..RotateOptions::default()
    }
}

#[test]
fn keys_in_each_others_parts_are_refused() {
    let scene = Scene::new();
    let parts = scene.sealed.keys.clone();
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let mut mixed = parts.clone();
        let text = mixed[one].1.clone();
        mixed[one].1 = std::mem::replace(&mut mixed[other].1, text);
        let mut forged = scene.sealed.clone();
        forged.keys = mixed;
        forged.write(&scene.model);
        for (tier, key) in scene.house.keys.iter().enumerate() {
            let result = scene.opens(key);
            match tier == one || tier == other {
                true => assert_eq!(result.unwrap_err().kind(), ErrorKind::Authentication),
                false => assert_eq!(result.unwrap(), scene.house.names[tier]),
            }
        }
    }
    // The trial's file alone, in a higher part.
    for part in [2, 3] {
        let mut forged = scene.sealed.clone();
        forged.keys = vec![(part, scene.sealed.part(1).to_owned())];
        forged.write(&scene.model);
        let error = scene.opens(&scene.house.keys[0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    }
    // A damaged part of a tier that the key opens is an error, and no reason to try a lower one.
    let (public, both) = key_pair();
    let two = vec![
        to("trial", &[&public]),
        to("standard", &[&public]),
        to("full", &[&scene.house.public[2]]),
    ];
    scene.sealed.write(&scene.model);
    scene.rekey(3, &two).unwrap();
    assert_eq!(scene.opens(&both).unwrap(), "standard");
    let mut forged = Sealed::read(&scene.model);
    let (stranger, _) = key_pair();
    let strangers = Recipients::parse(&[&stranger, &public]).unwrap();
    let other = onnxseal_crypto::DataKey::generate().unwrap();
    forged.set_part(2, &strangers.wrap(&other).unwrap());
    forged.write(&scene.model);
    let error = scene.opens(&both).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
}

#[test]
fn rekey_reaches_its_own_tier_and_no_higher() {
    for tier in 1..=3 {
        let scene = Scene::new();
        let (public, secret) = key_pair();
        for part in 1..=3 {
            let name = scene.house.names[part - 1].clone();
            let new: TierRecipients = vec![to(&name, &[&public])];
            let before = Sealed::read(&scene.model);
            let result = scene.rekey(tier, &new);
            let after = Sealed::read(&scene.model);
            if part > tier {
                let error = result.unwrap_err();
                let is_above = matches!(&error, Error::Usage(text) if text.contains("need a key of that tier"));
                assert!(is_above, "{error:?}");
                assert!(after.encode() == before.encode());
                continue;
            }
            // Who rewraps the own tier to others is told.
            assert_eq!(result.unwrap(), part != tier);
            for other in 1..=3 {
                assert_eq!(after.part(other) == before.part(other), other != part);
            }
            let mut same = after.clone();
            same.keys.clone_from(&before.keys);
            assert!(same.encode() == before.encode(), "nothing else changed");
            assert_eq!(scene.opens(&secret).unwrap(), name);
            if part == tier {
                break;
            }
        }
        // The higher ones are as they were.
        for higher in tier + 1..=3 {
            let opened = scene.opens(&scene.house.keys[higher - 1]).unwrap();
            assert_eq!(opened, scene.house.names[higher - 1]);
        }
    }
}

#[test]
fn rekey_adds_recipients_and_copies_models() {
    let scene = Scene::new();
    let (first, one) = key_pair();
    let (second, two) = key_pair();
    let new: TierRecipients = vec![to("trial", &[&first]), to("full", &[&second])];
    // Those that it has are known to nobody, but for the own identity's.
    let error = scene.rekey(3, Rewrap::Also((&new).into())).unwrap_err();
    assert!(error.to_string().contains("not known"), "{error}");
    // Listed, they are known.
    let listed: TierRecipients = (scene.house.names.iter().zip(&scene.house.public))
        .map(|(name, public)| {
            let recipients = Recipients::parse(&[public]).unwrap();
            (Some(name.clone()), recipients.listed().unwrap())
        })
        .collect();
    scene.rekey(3, &listed).unwrap();
    assert!(scene.rekey(3, Rewrap::Also((&new).into())).unwrap());
    for (tier, key) in scene.house.keys.iter().enumerate() {
        assert_eq!(scene.opens(key).unwrap(), scene.house.names[tier]);
    }
    assert_eq!(scene.opens(&one).unwrap(), "trial");
    assert_eq!(scene.opens(&two).unwrap(), "full");
    // To another file, by a lower key.
    let copy = scene.house.path("copy/model.onnx");
    let by = access(&scene.house.keys[1], Edition::Whole);
    let trial: TierRecipients = vec![to("trial", &[&second])];
    rekey(&scene.model, &copy, by, &trial, &Silent).unwrap();
    let (before, after) = (Sealed::read(&scene.model), Sealed::read(&copy));
    assert!(after.model == before.model && after.part(3) == before.part(3));
    assert!(after.part(1) != before.part(1));
}

#[test]
fn recipients_fit_the_tiers_or_are_refused() {
    let scene = Scene::new();
    let House { public, names, .. } = &scene.house;
    let plain = scene.house.path("plain/model.onnx");
    let out = scene.house.path("refused/model.onnx");
    let tiered = || scene.house.options(scene.house.policy("full", ""));
    let all = Recipients::parse(&[&public[2]]).unwrap();
    let usage = |error: Error| match error {
        Error::Usage(usage) => usage,
        other => panic!("{other:?}"),
    };
    let protected = |recipients: &TierRecipients, options| {
        usage(protect(&plain, &out, recipients, &options, &Silent).unwrap_err())
    };
    let error = protect(&plain, &out, &all, &tiered(), &Silent).unwrap_err();
    assert!(usage(error).starts_with("recipients need a tier: its tiers are"));
    let nobody = vec![to("trial", &[&public[0]]), to("standard", &[&public[1]])];
    let refused = protected(&nobody, tiered());
    assert!(
        refused.starts_with("the highest tier, \"full\", needs recipients"),
        "{refused}"
    );
    let other = vec![to("full", &[&public[2]]), to("best", &[&public[2]])];
    let refused = protected(&other, tiered());
    assert!(
        refused.starts_with("there is no tier \"best\" for recipients: its tiers"),
        "{refused}"
    );
    let one = scene.house.options(Policy::default());
    let of_tiers = vec![to("full", &[&public[2]])];
    let refused = protected(&of_tiers, one);
    assert!(
        refused.starts_with("there is no tier \"full\" for recipients: it has no tiers"),
        "{refused}"
    );
    assert!(!out.exists());
    // The highest alone is enough.
    protect(&plain, &out, &of_tiers, &tiered(), &Silent).unwrap();
    let opened = open(
        &out,
        access(&scene.house.keys[2], Edition::Tier("trial")),
        &Silent,
    );
    assert_eq!(opened.unwrap().tier(), Some("trial"));
    for key in &scene.house.keys[..2] {
        let error = open(&out, access(key, Edition::Any), &Silent).unwrap_err();
        assert!(matches!(error, Error::NoMatchingKey { .. }));
    }
    // The same for `rekey`.
    let error = scene.rekey(3, &all).unwrap_err();
    assert!(usage(error).starts_with("recipients need a tier: its tiers are"));
    let error = scene.rekey(3, &other).unwrap_err();
    assert!(usage(error).starts_with("there is no tier \"best\" for recipients"));
    assert!(Sealed::read(&scene.model).encode() == scene.sealed.encode());
    assert_eq!(names.len(), 3);
}

#[test]
fn rotate_needs_the_highest_tier_and_makes_all_keys_new() {
    let scene = Scene::new();
    let House {
        keys, recipients, ..
    } = &scene.house;
    let out = scene.house.path("out/model.onnx");
    for lower in [0, 1] {
        for edition in [Edition::Whole, Edition::Any, Edition::Tier("trial")] {
            let by = access(&keys[lower], edition);
            let error = rotate(&scene.model, &out, by, recipients, &rotating(None), &Silent);
            let error = error.unwrap_err();
            assert!(matches!(error, Error::LowerTier { .. }), "{error}");
            let options = rotating(None);
            let error = rotate(&scene.model, IN_PLACE, by, recipients, &options, &Silent);
            assert!(matches!(error.unwrap_err(), Error::LowerTier { .. }));
        }
    }
    assert!(!out.exists());
    assert!(Sealed::read(&scene.model).encode() == scene.sealed.encode());
    // Whichever edition is named, the original is what is encrypted anew.
    let by = access(&keys[2], Edition::Tier("trial"));
    rotate(&scene.model, &out, by, recipients, &rotating(None), &Silent).unwrap();
    let new = Sealed::read(&out);
    assert_eq!(new.manifest, scene.sealed.manifest);
    for tier in 1..=3 {
        // Each of the old keys in the place of the new one opens nothing.
        let mut mixed = new.clone();
        mixed.set_part(tier, scene.sealed.part(tier));
        mixed.write(&scene.model);
        let error = scene.opens(&keys[tier - 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        let opened = scene.house.open(&out, tier, Edition::Any).unwrap();
        scene.sealed.write(&scene.model);
        let before = scene.house.open(&scene.model, tier, Edition::Any).unwrap();
        let is_lower = tier < 3;
        // What is masked or shuffled is so by other keys now.
        assert_eq!(opened.model() == before.model(), !is_lower);
    }
    // No target byte of any tier is as it was, but by chance.
    let targets = super::house::tiers_of(&new.parse());
    let places = || {
        targets[0]
            .iter()
            .enumerate()
            .filter(|(_, tier)| tier.is_some())
    };
    let same = places().filter(|&(at, _)| new.model[at] == scene.sealed.model[at]);
    let (same, all) = (same.count(), places().count());
    // Of masks the exponent stays: one byte in four has but one bit that changes.
    assert!(same < all / 5, "{same} of {all}");
}

#[test]
fn rotate_adds_changes_and_removes_tiers() {
    let lab = House::new(2);
    let plain = lab.write(&alone("small", small()), "plain");
    let original = small();
    let (public, key) = key_pair();
    let all = Recipients::parse(&[&public]).unwrap();
    let path = |name: &str| lab.path(name).join("model.onnx");
    let without = Policy::parse("preset = \"full\"").unwrap();
    protect(&plain, path("0"), &all, &lab.options(without), &Silent).unwrap();

    // Tiers for a model that had none.
    let two = rotating(Some(lab.policy("full", "")));
    let by = access(&key, Edition::Whole);
    rotate(path("0"), path("1"), by, &lab.recipients, &two, &Silent).unwrap();
    for tier in 1..=2 {
        let opened = lab.open(&path("1"), tier, Edition::Any).unwrap();
        assert_eq!(opened.tier(), Some(&*lab.names[tier - 1]));
        assert_eq!(opened.model() == original, tier == 2);
    }
    // Others of them.
    let three = House::new(3);
    let options = rotating(Some(three.policy("full", SMALL_MODES)));
    let by = access(&lab.keys[1], Edition::Whole);
    rotate(
        path("1"),
        path("2"),
        by,
        &three.recipients,
        &options,
        &Silent,
    )
    .unwrap();
    for tier in 1..=3 {
        let opened = three.open(&path("2"), tier, Edition::Any).unwrap();
        assert_eq!(opened.model() == original, tier == 3);
    }
    for key in lab.keys.iter().chain([&key]) {
        assert!(open(path("2"), access(key, Edition::Any), &Silent).is_err());
    }
    // The same again, without a policy: tiers stay.
    let by = access(&three.keys[2], Edition::Whole);
    rotate(
        path("2"),
        path("3"),
        by,
        &three.recipients,
        &rotating(None),
        &Silent,
    )
    .unwrap();
    assert_eq!(
        Sealed::read(&path("3")).manifest,
        Sealed::read(&path("2")).manifest
    );
    // None any more: recipients of tiers are refused, others are not.
    let none = || rotating(Some(Policy::parse("preset = \"full\"").unwrap()));
    let to_tiers = rotate(
        path("3"),
        path("4"),
        by,
        &three.recipients,
        &none(),
        &Silent,
    );
    assert!(to_tiers.is_err() && !path("4").exists());
    rotate(path("3"), path("4"), by, &all, &none(), &Silent).unwrap();
    let opened = open(path("4"), &key, &Silent).unwrap();
    assert!(opened.model() == original && opened.tier().is_none());
    assert_eq!(Sealed::read(&path("4")).parse().tier_names(), [""; 0]);
}

/// Two tensors over the same bytes cannot be in two tiers.
#[test]
fn shared_bytes_are_refused_by_name() {
    let house = House::new(3);
    let graph = ["u", "v"]
        .iter()
        .fold(build::GraphBuilder::new("tied"), |graph, name| {
            let out = format!("{name}_out");
            graph
                .initializer(build::external(
                    name,
                    &[64, 64],
                    "w.bin",
                    Some(0),
                    Some(4 * 64 * 64),
                ))
                .node(build::node("MatMul", &["x", name], &[&out]))
        });
    let mut sample = alone("tied", graph.encode());
    sample
        .files
        .push(("w.bin", build::le_bytes(&build::floats(64 * 64, 1))));
    let plain = house.write(&sample, "plain");
    let out = house.path("out/model.onnx");
    let options = house.options(house.policy("full", ""));
    let error = protect(&plain, &out, &house.recipients, &options, &Silent).unwrap_err();
    assert!(!out.exists());
    assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(
        error.to_string().contains("tensors \"u\" and \"v\" share"),
        "{error}"
    );
}
