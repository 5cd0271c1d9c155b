//! What `verify --policy` says of tiers: without a key their names and shares, with one which
//! elements are whose.

use std::fs;

use onnxseal_core::{Checks, Edition, Error, Policy, Ranking, Silent, verify};
use onnxseal_onnx::{Limits, locate};

use super::house::{House, alone, small};

/// What `verify` finds lacking, without a key, and with the key of each tier.
struct Found {
    keyless: Vec<String>,
    with_keys: Vec<Vec<String>>,
}

fn tiers(shares: &[(&str, f64)]) -> String {
    let tables = shares.iter().map(|(name, share)| match share {
        1.0 => format!("[[tier]]\nname = \"{name}\"\n"),
        share => format!("[[tier]]\nname = \"{name}\"\nshare = {share}\n"),
    });
    format!(
        "preset = \"full\"\nunit = 64\n{}",
        tables.collect::<String>()
    )
}

fn lacks(house: &House, made_by: &Policy, demanded: &Policy) -> Found {
    let plain = house.write(&alone("small", small()), "plain");
    let sealed = house.path("sealed/model.onnx");
    house.protect(&plain, &sealed, made_by.clone());
    let asked = |identities| {
        let checks = Checks {
            identities,
            edition: Edition::Any,
            policy: Some(demanded),
            ..Checks::default()
        };
        match verify(&sealed, &checks, &Silent) {
            Ok(_) => Vec::new(),
            Err(Error::PolicyNotMet { violations, .. }) => violations,
            Err(other) => panic!("{other}"),
        }
    };
    let found = Found {
        keyless: asked(None),
        with_keys: house.keys.iter().map(|key| asked(Some(key))).collect(),
    };
    fs::remove_dir_all(sealed.parent().unwrap()).unwrap();
    found
}

const NAMES: [&str; 3] = ["trial", "standard", "full"];

fn three(first: f64, second: f64) -> Policy {
    let [a, b, c] = NAMES;
    Policy::parse(&tiers(&[(a, first), (b, second), (c, 1.0)])).unwrap()
}

/// A ranking that puts last what stands last, whatever it weighs.
fn by_place() -> Ranking {
    let bytes = small();
    let located = locate(&bytes, &Limits::default()).unwrap();
    let mut ranking = Ranking::new(&located, "by hand", 64).unwrap();
    for tensor in &located.tensors {
        let n = tensor.n_elements.div_ceil(16);
        let scores = (0..n).map(|i| (n - i) as f32).collect();
        ranking.insert(tensor.path.to_string(), scores);
    }
    ranking
}

#[test]
fn a_model_meets_its_own_policy_at_every_tier() {
    let house = House::new(3);
    let mut ranked = three(0.2, 0.6);
    ranked.set_ranking(by_place());
    for policy in [three(0.3, 0.7), three(0.01, 0.02), ranked] {
        let found = lacks(&house, &policy, &policy);
        assert!(found.keyless.is_empty(), "{:?}", found.keyless);
        assert!(
            found.with_keys.iter().all(Vec::is_empty),
            "{:?}",
            found.with_keys
        );
    }
    // Lower tiers that open less than they may, and a policy that asks for no tiers.
    let found = lacks(&house, &three(0.2, 0.5), &three(0.3, 0.7));
    assert!(found.keyless.is_empty() && found.with_keys.iter().all(Vec::is_empty));
    let none = Policy::parse("preset = \"full\"\nunit = 64\n").unwrap();
    let found = lacks(&house, &three(0.2, 0.5), &none);
    assert!(found.keyless.is_empty() && found.with_keys.iter().all(Vec::is_empty));
}

#[test]
fn tiers_of_other_names_are_a_shortfall() {
    let house = House::new(3);
    let two = Policy::parse(&tiers(&[("trial", 0.3), ("full", 1.0)])).unwrap();
    let swapped = tiers(&[("standard", 0.3), ("trial", 0.7), ("full", 1.0)]);
    let swapped = Policy::parse(&swapped).unwrap();
    for (demanded, names) in [(two, "trial, full"), (swapped, "standard, trial, full")] {
        let found = lacks(&house, &three(0.3, 0.7), &demanded);
        let expected = format!("the model has tiers trial, standard, full, expected tiers {names}");
        for lines in found.with_keys.iter().chain([&found.keyless]) {
            assert_eq!(lines, std::slice::from_ref(&expected));
        }
    }
    let lab = crate::lab::Lab::new();
    let plain = house.write(&alone("small", small()), "plain");
    let sealed = lab.path("sealed/model.onnx");
    let none = Policy::parse("preset = \"full\"\n").unwrap();
    lab.protect_to(&plain, &sealed, none).unwrap();
    let demanded = three(0.3, 0.7);
    for identities in [None, Some(&lab.identities)] {
        let checks = Checks {
            identities,
            policy: Some(&demanded),
            ..Checks::default()
        };
        let error = verify(&sealed, &checks, &Silent).unwrap_err();
        let Error::PolicyNotMet { violations, .. } = error else {
            panic!("{error}")
        };
        let expected = "the model has no tiers, expected tiers trial, standard, full";
        assert_eq!(violations, [expected]);
    }
}

#[test]
fn a_tier_that_opens_more_than_its_share_is_a_shortfall() {
    let house = House::new(3);
    let found = lacks(&house, &three(0.31, 0.7), &three(0.3, 0.7));
    let says = "tier \"trial\" opens ";
    assert!(
        matches!(&found.keyless[..], [line] if line.starts_with(says)),
        "{:?}",
        found.keyless
    );
    // Lower keys tell as much.
    for lines in &found.with_keys[..2] {
        assert_eq!(*lines, found.keyless);
    }
    let open = "elements are open to tier \"trial\", but the policy gives them to \"standard\"";
    assert!(!found.with_keys[2].is_empty());
    assert!(found.with_keys[2].iter().all(|line| line.contains(open)));
}

/// Only who knows the weights can tell that others are given to the trial.
#[test]
fn other_elements_of_the_same_number_are_told_with_a_key() {
    let house = House::new(3);
    let mut by_place_policy = three(0.3, 0.7);
    by_place_policy.set_ranking(by_place());
    let found = lacks(&house, &by_place_policy, &three(0.3, 0.7));
    assert!(found.keyless.is_empty(), "{:?}", found.keyless);
    assert!(found.with_keys[..2].iter().all(Vec::is_empty));
    let lines = &found.with_keys[2];
    let of = |text: &str| lines.iter().any(|line| line.contains(text));
    assert!(
        of("open to tier \"trial\", but the policy gives them to \"standard\""),
        "{lines:?}"
    );
    assert!(
        of("open to tier \"trial\", but the policy gives them to \"full\""),
        "{lines:?}"
    );
    assert!(
        of("open to tier \"standard\", but the policy gives them to \"full\""),
        "{lines:?}"
    );
    // A ranking is known to whoever has it.
    let found = lacks(&house, &three(0.3, 0.7), &by_place_policy);
    assert!(!found.keyless.is_empty());
    assert_eq!(found.keyless, found.with_keys[2]);
}
