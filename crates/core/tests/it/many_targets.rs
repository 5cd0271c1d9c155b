//! Models with many targets.

use std::fs;
use std::path::Path;

use onnxseal_core::{Checks, Manifest, Policy, Preset, RotateOptions, Silent, rotate, verify};
use onnxseal_onnx::tail;
use onnxseal_testkit::build::{GraphBuilder, node, weights};

use crate::lab::Lab;

fn manifest_bytes(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let tail = tail::split(&bytes).unwrap().unwrap();
    tail.value(tail::MANIFEST).unwrap().as_bytes().to_vec()
}

fn n_runs(path: &Path) -> usize {
    let manifest = Manifest::parse(&manifest_bytes(path)).unwrap();
    let runs = manifest.tensors().iter().map(|t| t.targets.len() / 2);
    runs.sum()
}

fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap()
}

/// 16 MiB of weights, 65,536 subsequences of 256 bytes.
fn large() -> Vec<u8> {
    GraphBuilder::new("large")
        .input("x", &[1, 1024])
        .output("y", &[1, 1024])
        .initializer(weights("w", &[1024, 2048], 1))
        .initializer(weights("v", &[2048, 1024], 2))
        .node(node("MatMul", &["x", "w"], &["h"]))
        .node(node("MatMul", &["h", "v"], &["y"]))
        .encode()
}

#[test]
fn many_targets_are_written_opened_rotated_and_verified() {
    let lab = Lab::new();
    let plain = lab.path("plain.onnx");
    fs::write(&plain, large()).unwrap();
    let fifth = policy("budget = 0.2\n");
    let sealed = lab.path("sealed.onnx");
    lab.protect_to(&plain, &sealed, fifth.clone()).unwrap();
    assert!(n_runs(&sealed) > 1 << 13, "{}", n_runs(&sealed));
    let n_bytes = manifest_bytes(&sealed).len();
    assert!(n_bytes < 4 * n_runs(&sealed), "{n_bytes} bytes");

    let original = fs::read(&plain).unwrap();
    assert!(lab.open(&sealed).unwrap().model() == original);
    let meets = |path: &Path, policy: &Policy, identities| {
        let checks = Checks {
            identities,
            policy: Some(policy),
            ..Checks::default()
        };
        verify(path, &checks, &Silent).is_ok_and(|verified| verified.policy_met == Some(true))
    };
    let key = Some(&lab.identities);
    assert!(meets(&sealed, &fifth, None) && meets(&sealed, &fifth, key));

    // To a policy with more targets, to one with few, to all as before, and back.
    let mut from = sealed;
    for (name, policy) in [
        ("more.onnx", Some("budget = 0.3\n")),
        ("same.onnx", None),
        (
            "few.onnx",
            Some("preset = \"balanced\"\nstrategy = \"spread\"\n"),
        ),
        ("again.onnx", Some("budget = 0.2\n")),
        ("full.onnx", Some("preset = \"full\"\n")),
    ] {
        let to = lab.path(name);
        let policy = policy.map(self::policy);
        let options = RotateOptions {
            policy: policy.clone(),
            ..RotateOptions::default()
        };
        rotate(
            &from,
            &to,
            &lab.identities,
            &lab.recipients,
            &options,
            &Silent,
        )
        .unwrap();
        assert!(lab.open(&to).unwrap().model() == original, "{name}");
        let policy = policy.unwrap_or_else(|| self::policy("budget = 0.3\n"));
        assert!(
            meets(&to, &policy, None) && meets(&to, &policy, key),
            "{name}"
        );
        from = to;
    }
    let little = policy("[default]\ncoefficient = 0.05\n");
    assert!(meets(&from, &little, key));
}

/// Names alone can make a manifest too long.
#[test]
fn plan_foresees_a_manifest_that_is_too_long() {
    let lab = Lab::new();
    let plain = lab.path("plain.onnx");
    let name = "w".repeat(6 << 20);
    let model = |n: usize| {
        let mut graph = GraphBuilder::new("long").input("x", &[1, 64]);
        for i in 0..n {
            let weight = format!("{name}{i}");
            let mut matmul = node("MatMul", &["x", &weight], &[&format!("y{i}")]);
            matmul.name = Some(weight.clone());
            graph = graph
                .initializer(weights(&weight, &[64, 64], 1))
                .node(matmul);
        }
        graph.output("y0", &[1, 64]).encode()
    };
    let full = || Policy::preset(Preset::Full);
    // An entry has the names of the tensor and of the node.
    fs::write(&plain, model(5)).unwrap();
    onnxseal_core::plan(&*plain, &full()).unwrap();
    fs::write(&plain, model(6)).unwrap();
    let planned = onnxseal_core::plan(&*plain, &full()).unwrap_err();
    let sealed = lab.path("sealed.onnx");
    let protected = lab.protect_to(&plain, &sealed, full()).unwrap_err();
    for error in [&planned, &protected] {
        assert!(error.to_string().contains("limit 67108864"), "{error}");
    }
    assert_eq!(planned.kind(), protected.kind());
    assert!(!sealed.exists());
}
