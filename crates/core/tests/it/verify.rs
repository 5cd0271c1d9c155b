//! What `verify` says of a model and a policy: without a key how much is encrypted and how it is
//! cut, with a key what is encrypted.

use std::fs;
use std::path::PathBuf;

use onnxseal_core::{Checks, Error, Policy, Preset, Silent, verify};
use onnxseal_onnx::proto::TensorProto;
use onnxseal_onnx::{Limits, locate};
use onnxseal_plan::Ranking;
use onnxseal_testkit::build::{GraphBuilder, floats, le_bytes, node, weights};

use crate::lab::Lab;

/// `[256, 256]` FLOATs: 1024 subsequences of 256 bytes, of which each weighs more than the one
/// before it.
fn ramp(name: &str, seed: u32) -> TensorProto {
    let values = floats(1 << 16, seed).into_iter().enumerate();
    let values: Vec<f32> = values
        .map(|(i, value)| (1.0 + (i >> 6) as f32) * (2.0 + value))
        .collect();
    TensorProto {
        raw_data: Some(le_bytes(&values)),
        ..weights(name, &[256, 256], 0)
    }
}

/// Two MatMuls with a bias of 1024 bytes between them.
fn model() -> Vec<u8> {
    GraphBuilder::new("ramps")
        .input("x", &[1, 256])
        .output("y", &[1, 256])
        .initializer(ramp("w", 1))
        .initializer(weights("bias", &[256], 2))
        .initializer(ramp("v", 3))
        .node(node("MatMul", &["x", "w"], &["h"]))
        .node(node("Add", &["h", "bias"], &["i"]))
        .node(node("MatMul", &["i", "v"], &["y"]))
        .encode()
}

struct Bench {
    lab: Lab,
    model: PathBuf,
}

/// What `verify` finds, without a key and with one.
#[derive(Debug)]
struct Found {
    keyless: Vec<String>,
    with_key: Vec<String>,
}

impl Bench {
    fn new() -> Bench {
        let lab = Lab::new();
        let model = lab.path("model.onnx");
        fs::write(&model, self::model()).unwrap();
        Bench { lab, model }
    }

    /// What of `demanded` a model lacks that was protected under `policy`.
    fn lacks(&self, policy: Policy, demanded: &Policy) -> Found {
        let sealed = self.lab.path("sealed.onnx");
        self.lab.protect_to(&self.model, &sealed, policy).unwrap();
        let lacks = |identities| {
            let policy = Some(demanded);
            let checks = Checks {
                identities,
                policy,
                ..Checks::default()
            };
            match verify(&sealed, &checks, &Silent) {
                Ok(verified) => {
                    assert_eq!(verified.policy_met, Some(true));
                    Vec::new()
                }
                Err(Error::PolicyNotMet { violations, .. }) => violations,
                Err(other) => panic!("{other}"),
            }
        };
        let found = Found {
            keyless: lacks(None),
            with_key: lacks(Some(&self.lab.identities)),
        };
        fs::remove_file(&sealed).unwrap();
        found
    }
}

impl Found {
    fn nothing(&self) {
        assert!(
            self.keyless.is_empty() && self.with_key.is_empty(),
            "{self:?}"
        );
    }
}

#[track_caller]
fn says(found: &[String], what: &str) {
    assert!(
        found.iter().any(|line| line.contains(what)),
        "{what}: {found:?}"
    );
}

fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap()
}

fn quarter() -> Policy {
    policy("[default]\ncoefficient = 0.25\n")
}

/// A ranking that puts first what weighs least.
fn lightest_first() -> Ranking {
    let bytes = model();
    let located = locate(&bytes, &Limits::default()).unwrap();
    let mut ranking = Ranking::new(&located, "by hand", 256).unwrap();
    for tensor in &located.tensors {
        let n = tensor.n_elements.div_ceil(64);
        let scores = (0..n).map(|i| (n - i) as f32).collect();
        ranking.insert(tensor.path.to_string(), scores);
    }
    ranking
}

fn quarter_by_ranking() -> Policy {
    let mut policy = quarter();
    policy.set_ranking(lightest_first());
    policy
}

#[test]
fn a_model_meets_its_own_policy_and_weaker_ones() {
    let bench = Bench::new();
    bench.lacks(quarter(), &quarter()).nothing();
    let half = || policy("[default]\ncoefficient = 0.5\n");
    for stronger in [half(), Policy::preset(Preset::Full)] {
        bench.lacks(stronger, &quarter()).nothing();
    }
    for preset in [Preset::Balanced, Preset::Strong, Preset::Full] {
        let little = policy("[default]\ncoefficient = 0.05\n");
        bench.lacks(Policy::preset(preset), &little).nothing();
    }
    let found = bench.lacks(quarter(), &half());
    says(&found.keyless, "3 tensors together have");
    says(&found.keyless, "expected at least");
    says(&found.with_key, "bytes encrypted, expected at least");
}

/// Nobody without the key can tell that other weights of the same number are encrypted.
#[test]
fn with_a_key_it_must_be_the_subsequences_that_weigh_most() {
    let bench = Bench::new();
    let found = bench.lacks(quarter_by_ranking(), &quarter());
    assert!(found.keyless.is_empty(), "{found:?}");
    says(
        &found.with_key,
        "tensor \"w\": 16128 elements that the policy chooses are in clear",
    );
    says(&found.with_key, "tensor \"bias\" has 0 of 1024 bytes");
}

/// Who has a ranking knows without a key what it chooses.
#[test]
fn a_ranking_is_held_without_a_key() {
    let bench = Bench::new();
    bench
        .lacks(quarter_by_ranking(), &quarter_by_ranking())
        .nothing();
    let found = bench.lacks(quarter(), &quarter_by_ranking());
    says(&found.keyless, "that the policy chooses are in clear");
    assert_eq!(found.keyless, found.with_key);
}

/// Subsequences of 1024 bytes cannot be the heaviest 256 bytes each.
#[test]
fn subsequences_by_position_are_not_those_that_weigh_most() {
    let bench = Bench::new();
    let spread = "strategy = \"spread\"\nunit = 1024\n[default]\ncoefficient = ";
    let found = bench.lacks(policy(&format!("{spread}0.3\n")), &quarter());
    let cut = "is cut into units of 256 elements, expected at most 64";
    says(&found.keyless, cut);
    says(&found.with_key, "that the policy chooses are in clear");
    // As many bytes as nobody's score asks for: all.
    bench
        .lacks(policy(&format!("{spread}1.0\n")), &quarter())
        .nothing();
    // The other way round only bytes count.
    bench
        .lacks(
            policy("[default]\ncoefficient = 0.5\n[op.Add]\ncoefficient = 1.0\n"),
            &policy(&format!("{spread}0.25\n")),
        )
        .nothing();
}

#[test]
fn what_a_policy_takes_whole_must_be_whole() {
    let bench = Bench::new();
    let without_bias = policy("[default]\ncoefficient = 0.9\n[op.Add]\ncoefficient = 0\n");
    let demanded = policy("[default]\ncoefficient = 0.25\n[op.Add]\ncoefficient = 1.0\n");
    let found = bench.lacks(without_bias, &demanded);
    let bias = "tensor \"bias\" has 0 of 1024 bytes encrypted, expected at least 1024";
    assert_eq!(found.keyless, [bias]);
    assert_eq!(found.with_key, [bias]);
}

/// A budget over all weights, and one for a tensor by its name.
#[test]
fn budgets_hold_over_all_tensors_and_overrides_for_their_own() {
    let bench = Bench::new();
    let named = "[[override]]\ninitializer = \"v\"\ncoefficient = ";
    let demanded = policy(&format!("[default]\ncoefficient = 0.25\n{named}0.5\n"));
    bench.lacks(demanded.clone(), &demanded).nothing();
    let found = bench.lacks(quarter(), &demanded);
    let own = "tensor \"v\" has 65792 of 262144 bytes encrypted, expected at least 131072";
    says(&found.keyless, own);
    says(&found.with_key, own);
    let tenth = policy("budget = 0.1\n");
    bench.lacks(tenth.clone(), &tenth).nothing();
    let found = bench.lacks(policy("budget = 0.05\n"), &tenth);
    says(&found.keyless, "3 tensors together have");
}
