//! What stays in clear is told and counted, refused unless the policy allows it, or rewritten.

mod repack;

use std::fs;
use std::path::{Path, PathBuf};

use onnxseal_core::{
    Checks, Error, Policy, Preset, ProtectOptions, RepackedRow, Report, RotateOptions, Silent,
    Verification, Volume, inspect, plan, protect, rotate, verify,
};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{ModelProto, TensorProto, TrainingInfoProto};
use onnxseal_testkit::build::{
    self, GraphBuilder, bare_tensor, external, floats, in_domain, le_bytes, node, node_with,
    weights,
};
use onnxseal_testkit::{samples, shared, wire};
use prost::Message;

use self::repack::{coded, spread};
use crate::lab::Lab;

/// Bytes that no tensor has.
const ORPHAN: &[u8] = b"an older copy of the weights....";

/// A model with `w.bin`: an orphan, `w`, eight zeros, `v`, and half an orphan.
fn with_gaps(lab: &Lab, folder: &str) -> PathBuf {
    let model = GraphBuilder::new("gaps")
        .input("x", &[1, 4])
        .initializer(external("w", &[4, 4], "w.bin", Some(32), Some(64)))
        .initializer(external("v", &[4, 4], "w.bin", Some(104), Some(64)))
        .node(node("MatMul", &["x", "w"], &["h"]))
        .node(node("MatMul", &["h", "v"], &["y"]))
        .output("y", &[1, 4]);
    fs::create_dir_all(lab.path(folder)).unwrap();
    let [w, v] = [1, 2].map(|seed| le_bytes(&floats(16, seed)));
    let data = [ORPHAN, &w, &[0; 8], &v, &ORPHAN[..16]].concat();
    fs::write(lab.path(folder).join("w.bin"), data).unwrap();
    let path = lab.path(folder).join("m.onnx");
    fs::write(&path, model.encode()).unwrap();
    path
}

fn policy(preset: Preset, allow: &[&str]) -> Policy {
    let mut policy = Policy::preset(preset);
    for name in allow {
        policy.allow_clear(name).unwrap();
    }
    policy
}

fn repacking() -> ProtectOptions {
    let mut options = ProtectOptions::new(Policy::preset(Preset::Full));
    options.repack = true;
    options
}

fn violations<T>(result: Result<T, Error>) -> Vec<String> {
    match result.err() {
        Some(Error::PolicyNotMet { violations, .. }) => violations,
        other => panic!("{other:?}"),
    }
}

fn verified(model: &Path, policy: &Policy) -> Result<Verification, Error> {
    let policy = Some(policy);
    let checks = Checks {
        policy,
        ..Checks::default()
    };
    verify(model, &checks, &Silent)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn bytes_in_no_tensor_are_an_error_unless_allowed_or_rewritten() {
    let lab = Lab::new();
    let model = with_gaps(&lab, "plain");
    let data = fs::read(model.with_file_name("w.bin")).unwrap();
    let expected = [(32, 0), (16, 168)].map(|(bytes, offset)| {
        format!(
            "{bytes} bytes of \"w.bin\" from offset {offset} on belong to no tensor, and stay in clear"
        )
    });
    for preset in Preset::ALL {
        let of_plan = plan(&*model, &policy(preset, &[])).unwrap();
        let rows = of_plan.gaps.iter().map(|gap| (gap.bytes, gap.offset));
        assert_eq!(rows.collect::<Vec<_>>(), [(32, 0), (16, 168)]);
        assert!(of_plan.violations.ends_with(&expected), "{of_plan:?}");
        let refused = violations(lab.protect(&model, "refused", preset));
        assert!(refused.ends_with(&expected), "{refused:?}");
        assert!(!lab.path("refused").join("model.onnx").exists());
    }

    // Allowed: the file comes back byte for byte, and the share tells of it.
    let allowed = policy(Preset::Full, &["w.*"]);
    let sealed = lab.path("sealed/m.onnx");
    let report = lab.protect_to(&model, &sealed, allowed.clone()).unwrap();
    assert_eq!(report.gaps.len(), 2);
    assert_eq!(report.weights.bytes, 128 + 48);
    assert_eq!(report.weights.encrypted_bytes, 128);
    assert!(holds(&fs::read(lab.path("sealed/w.bin")).unwrap(), ORPHAN));
    let back = lab.unprotect(&sealed, "back").unwrap();
    assert!(fs::read(back.with_file_name("w.bin")).unwrap() == data);
    assert_eq!(verified(&sealed, &allowed).unwrap().policy_met, Some(true));
    let lacks = violations(verified(&sealed, &Policy::preset(Preset::Full)));
    assert_eq!(lacks, expected);
    // Rotating goes by its own policy.
    let rotated = |policy| {
        let options = RotateOptions {
            policy: Some(policy),
            ..RotateOptions::default()
        };
        let (ids, to) = (&lab.identities, &lab.recipients);
        let output = lab.path("rotated/m.onnx");
        rotate(&*sealed, output, ids, to, &options, &Silent)
    };
    assert_eq!(violations(rotated(Policy::preset(Preset::Full))), expected);
    assert_eq!(rotated(allowed).unwrap().weights, report.weights);

    // Rewritten: zeros in their place.
    let sealed = lab.path("repacked/m.onnx");
    let report = protect(&*model, &*sealed, &lab.recipients, &repacking(), &Silent).unwrap();
    let row = RepackedRow {
        tensors: 0,
        zeroed_bytes: 48,
    };
    assert_eq!((report.repacked, report.gaps.len()), (Some(row), 0));
    assert_eq!(
        report.weights,
        Volume {
            bytes: 128,
            encrypted_bytes: 128,
            share: 1.0
        }
    );
    let written = fs::read(lab.path("repacked/w.bin")).unwrap();
    assert_eq!(
        (&written[..32], &written[168..]),
        (&[0; 32][..], &[0; 16][..])
    );
    for at in (0..data.len()).step_by(8).filter(|at| data[*at] != 0) {
        assert!(!holds(&written, &data[at..at + 8]), "{at}");
    }
    verified(&sealed, &Policy::preset(Preset::Full)).unwrap();
    let back = lab.unprotect(&sealed, "rewritten").unwrap();
    let zeros = [&[0; 32], &data[32..168], &[0; 16]].concat();
    assert!(fs::read(back.with_file_name("w.bin")).unwrap() == zeros);
    assert!(fs::read(back).unwrap() == fs::read(&model).unwrap());
}

#[test]
fn tensors_that_no_node_reads_are_encrypted_too() {
    let lab = Lab::new();
    let bytes = GraphBuilder::new("unread")
        .input("x", &[1, 4])
        .output("y", &[1, 4])
        .initializer(weights("old", &[4, 4], 1))
        .initializer(weights("w", &[4, 4], 2))
        .initializer(weights("older", &[8], 3))
        .node(node("MatMul", &["x", "w"], &["y"]))
        .encode();
    let model = lab.path("m.onnx");
    fs::write(&model, &bytes).unwrap();
    let sealed = lab.path("sealed/m.onnx");
    let full = || Policy::preset(Preset::Full);
    let protected = lab.protect_to(&model, &sealed, full()).unwrap();
    let rows = |report: &Report| {
        let rows = report.operators.iter();
        let rows = rows.map(|row| (row.op_type.to_string(), row.volume.bytes, row.volume.share));
        rows.collect::<Vec<_>>()
    };
    let expected = [("MatMul".to_owned(), 64, 1.0), (String::new(), 96, 1.0)];
    assert_eq!(rows(&protected), expected);
    assert_eq!(rows(&inspect(&*sealed).unwrap()), expected);
    let types = |report: &Report| {
        report
            .types
            .iter()
            .map(|row| row.op_type.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(types(&protected), types(&inspect(&*sealed).unwrap()));
    let text = String::from_utf8_lossy(&fs::read(&sealed).unwrap()).into_owned();
    assert_eq!(text.matches(r#""operators":[]"#).count(), 2);
    let written = fs::read(&sealed).unwrap();
    for seed in 1..4 {
        assert!(!holds(&written, &le_bytes(&floats(2, seed))));
    }
    assert!(fs::read(lab.unprotect(&sealed, "back").unwrap()).unwrap() == bytes);
    assert_eq!(verified(&sealed, &full()).unwrap().policy_met, Some(true));

    // The other presets leave them, and who demands all sees it.
    let (ids, to) = (&lab.identities, &lab.recipients);
    for (preset, is_full) in [(Preset::Strong, false), (Preset::Full, true)] {
        let options = RotateOptions {
            policy: Some(Policy::preset(preset)),
            ..RotateOptions::default()
        };
        let rotated = lab.path(&format!("rotated{is_full}/m.onnx"));
        let report = rotate(&*sealed, &*rotated, ids, to, &options, &Silent).unwrap();
        assert_eq!(rows(&report).len(), if is_full { 2 } else { 1 });
        assert_eq!(report.weights, inspect(&*rotated).unwrap().weights);
        assert!(lab.open(&rotated).unwrap().model() == bytes);
        let kept = RotateOptions::default();
        let again = lab.path(&format!("again{is_full}/m.onnx"));
        let kept = rotate(&*rotated, &*again, ids, to, &kept, &Silent).unwrap();
        assert_eq!(kept.weights, report.weights);
        assert!(lab.open(&again).unwrap().model() == bytes);
        match is_full {
            true => drop(verified(&again, &full()).unwrap()),
            false => {
                let lacks = violations(verified(&again, &full()));
                assert!(
                    lacks
                        .iter()
                        .any(|line| line.contains("tensor \"old\" has 0 of 64 bytes")),
                    "{lacks:?}"
                );
            }
        }
    }
}

/// What was sealed by what `full` was before it meant everything.
#[test]
fn old_models_that_are_partly_in_clear_are_not_full() {
    let lab = Lab::new();
    let full = Policy::preset(Preset::Full);
    // Nothing of it is encrypted.
    let sealed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sealed/valid");
    let lacks = violations(verified(&sealed.join("nothing_encrypted.onnx"), &full));
    assert!(lacks.iter().any(|line| line.contains("0 of")), "{lacks:?}");
    let Some(models) = shared::shared_models_in("clear") else {
        return;
    };
    for model in models {
        let old = lab.path("old.onnx");
        let everything = policy(Preset::Strong, &["*"]);
        if lab.protect_to(&model, &old, everything).is_err() {
            continue;
        }
        let lacks = violations(verified(&old, &full));
        assert!(!lacks.is_empty(), "{}", model.display());
        fs::remove_file(old).unwrap();
    }
}

/// A model with everything that stays in clear, and the bytes of all its tensors and parts.
fn mixed(lab: &Lab) -> (PathBuf, u64) {
    let path = with_gaps(lab, "mixed");
    let mut model = ModelProto::decode(&*fs::read(&path).unwrap()).unwrap();
    let (varints, _) = coded(DataType::Float16, 32, &spread(32, 0, 1 << 16), 2);
    let text = TensorProto {
        string_data: vec![b"a".to_vec(), b"vocabulary".to_vec()],
        ..bare_tensor("text", DataType::String, &[2])
    };
    let mut bytes = 128 + 48 + 64 + text.encoded_len() as u64;
    let graph = model.graph.as_mut().unwrap();
    graph.initializer.extend([varints, text]);
    graph.initializer.push(weights("one", &[1], 1));
    graph
        .initializer
        .push(build::int64s("shape", &[2], &[1, 4]));
    graph.node.push(node("Reshape", &["y", "shape"], &["z"]));
    bytes += 4 + 16;
    let blob = build::strings_attribute(
        "blob",
        &["a blob of weights, in a single attribute of an unknown operator"; 2],
    );
    // Without its name.
    bytes += blob.encoded_len() as u64 - build::strings_attribute("blob", &[]).encoded_len() as u64;
    graph.node.push(in_domain(
        "custom",
        node_with("Odd", &["z"], &["o"], vec![blob]),
    ));
    let training = TrainingInfoProto {
        algorithm: Some(
            GraphBuilder::new("t")
                .initializer(weights("t", &[8], 1))
                .graph(),
        ),
        ..TrainingInfoProto::default()
    };
    bytes += wire::field(20, &training.encode_to_vec()).len() as u64;
    model.training_info.push(training);
    model.opset_import.push(build::opset("custom", 1));
    fs::write(&path, model.encode_to_vec()).unwrap();
    (path, bytes)
}

#[test]
fn one_share_of_all_bytes() {
    let lab = Lab::new();
    let agree = |model: &Path| {
        let sealed = lab.path("sealed/m.onnx");
        let allowed = policy(Preset::Full, &["*"]);
        let planned = plan(model, &allowed).unwrap();
        let protected = lab.protect_to(model, &sealed, allowed.clone()).unwrap();
        let inspected = inspect(&*sealed).unwrap();
        let verified = verified(&sealed, &allowed).unwrap();
        let json = serde_json::to_value(&inspected).unwrap();
        let of_json: Volume = serde_json::from_value(json["weights"].clone()).unwrap();
        let shown = model.display();
        for volume in [
            protected.weights,
            inspected.weights,
            verified.weights,
            of_json,
        ] {
            assert_eq!(volume, planned.weights, "{shown}");
        }
        for row in [&protected, &inspected] {
            assert_eq!(row.settings.bytes, planned.settings.bytes, "{shown}");
            assert_eq!(row.gaps.len(), planned.gaps.len(), "{shown}");
            assert_eq!(row.passed_over.len(), planned.passed_over.len(), "{shown}");
            assert_eq!(
                row.long_settings.len(),
                planned.long_settings.len(),
                "{shown}"
            );
            assert_eq!(row.metadata.n, planned.metadata.n, "{shown}");
            let clear = |report: &Report| report.clear.iter().map(|row| row.bytes).sum::<u64>();
            assert_eq!(clear(row), clear(&planned), "{shown}");
        }
        fs::remove_dir_all(lab.path("sealed")).unwrap();
        planned
    };
    let (model, bytes) = mixed(&lab);
    let planned = agree(&model);
    assert_eq!(
        (planned.weights.bytes, planned.weights.encrypted_bytes),
        (bytes, 128)
    );
    // A demand for a share means the same bytes.
    for (share, is_met) in [(128.0 / bytes as f64, true), (129.0 / bytes as f64, false)] {
        let text = format!("allow_clear = [\"*\"]\n[require]\nmin_share = {share}\n");
        let planned = plan(&*model, &Policy::parse(&text).unwrap()).unwrap();
        assert_eq!(
            planned.violations.is_empty(),
            is_met,
            "{:?}",
            planned.violations
        );
    }
    // Each is named under `full`, and text only where a policy forbids it.
    let named = plan(&*model, &Policy::preset(Preset::Full))
        .unwrap()
        .violations;
    let parts = [
        "FLOAT16_32",
        "training_info",
        "\"blob\"",
        "offset 0 ",
        "offset 168 ",
    ];
    assert_eq!(named.len(), parts.len(), "{named:#?}");
    for part in parts {
        assert!(
            named.iter().any(|line| line.contains(part)),
            "{part}: {named:#?}"
        );
    }
    let strict = Policy::parse("[require]\nsettings = \"error\"\n").unwrap();
    let strict = plan(&*model, &strict).unwrap().violations;
    assert_eq!(strict.len(), parts.len() + 1, "{strict:#?}");
    assert!(
        strict.iter().any(|line| line.contains("\"text\"")),
        "{strict:#?}"
    );
    for sample in samples::all() {
        agree(&lab.write(&sample, sample.name));
    }
    for kind in ["edge", "clear", "reports"] {
        for model in shared::shared_models_in(kind).unwrap_or_default() {
            if !model.ends_with("stripped_sealed.onnx") {
                agree(&model);
            }
        }
    }
}
