//! Models with more targets than a manifest has as numbers: format version 3.
#![allow(clippy::unwrap_used, missing_docs)]

mod lab;

use std::fs;
use std::path::Path;

use lab::Lab;
use onnxseal_core::{Checks, Manifest, Policy, Preset, RotateOptions, Silent, rotate, verify};
use onnxseal_onnx::tail;
use onnxseal_testkit::build::{GraphBuilder, external, floats, le_bytes, node, weights};

fn manifest_bytes(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let tail = tail::split(&bytes).unwrap().unwrap();
    tail.value(tail::MANIFEST).unwrap().as_bytes().to_vec()
}

fn format_of(path: &Path) -> u64 {
    let json: serde_json::Value = serde_json::from_slice(&manifest_bytes(path)).unwrap();
    json["format"].as_u64().unwrap()
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
    assert_eq!(format_of(&sealed), 3);
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
    for (name, policy, format) in [
        ("more.onnx", Some("budget = 0.3\n"), 3),
        ("same.onnx", None, 3),
        (
            "few.onnx",
            Some("preset = \"balanced\"\nstrategy = \"spread\"\n"),
            1,
        ),
        ("again.onnx", Some("budget = 0.2\n"), 3),
        ("full.onnx", Some("preset = \"full\"\n"), 1),
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
        assert_eq!(format_of(&to), format, "{name}");
        assert!(lab.open(&to).unwrap().model() == original, "{name}");
        let policy = policy.unwrap_or_else(|| self::policy("budget = 0.3\n"));
        assert!(
            meets(&to, &policy, None) && meets(&to, &policy, key),
            "{name}"
        );
        from = to;
    }
    let light = Policy::preset(Preset::Light);
    assert!(meets(&from, &light, key));
}

/// 8192 runs are written as numbers, one more in another form.
#[test]
fn the_form_changes_after_8192_runs() {
    let lab = Lab::new();
    // Subsequences of 64 bytes; every second one weighs more, as many as `n_heavy`.
    let with_heavy = |n_heavy: usize| {
        let mut values = vec![0.5f32; 16 * 20_000];
        for i in 0..n_heavy {
            values[32 * i..32 * i + 16].fill(2.0);
        }
        let mut tensor = weights("w", &[500, 640], 1);
        tensor.raw_data = Some(le_bytes(&values));
        GraphBuilder::new("stripes")
            .input("x", &[1, 500])
            .output("y", &[1, 640])
            .initializer(tensor)
            .node(node("MatMul", &["x", "w"], &["y"]))
            .encode()
    };
    for (n_heavy, format) in [(8192, 1), (8193, 3)] {
        let (plain, sealed) = (lab.path("plain.onnx"), lab.path("sealed.onnx"));
        fs::write(&plain, with_heavy(n_heavy)).unwrap();
        let budget = format!("unit = 64\nbudget = {}\n", n_heavy as f64 / 20_000.0);
        lab.protect_to(&plain, &sealed, policy(&budget)).unwrap();
        assert_eq!((n_runs(&sealed), format_of(&sealed)), (n_heavy, format));
        assert!(lab.open(&sealed).unwrap().model() == fs::read(&plain).unwrap());
        fs::remove_file(&sealed).unwrap();
    }
}

/// Version 3 has `original` too, where external data was renamed.
#[test]
fn external_data_is_renamed_in_version_3_too() {
    let lab = Lab::new();
    let n = 1 << 21;
    let model = GraphBuilder::new("external")
        .input("x", &[1, 1024])
        .output("y", &[1, 2048])
        .initializer(external("w", &[1024, 2048], "w.bin", Some(0), Some(4 * n)))
        .node(node("MatMul", &["x", "w"], &["y"]))
        .encode();
    let (plain, sealed) = (lab.path("plain.onnx"), lab.path("sealed.onnx"));
    fs::write(&plain, &model).unwrap();
    fs::write(lab.path("w.bin"), le_bytes(&floats(n as usize, 3))).unwrap();
    let unit = policy("unit = 64\nbudget = 0.3\n");
    lab.protect_to(&plain, &sealed, unit).unwrap();
    assert_eq!(format_of(&sealed), 3);
    let manifest = Manifest::parse(&manifest_bytes(&sealed)).unwrap();
    assert!(manifest.restores_names());
    assert_eq!(manifest.files()[1].path, "sealed.onnx.data");
    assert_eq!(manifest.original_files()[1].path, "w.bin");
    let restored = lab.unprotect(&sealed, "restored").unwrap();
    assert!(fs::read(&restored).unwrap() == model);
    let weights = |path: &Path| fs::read(path).unwrap();
    assert!(weights(&lab.path("restored/w.bin")) == weights(&lab.path("w.bin")));
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
