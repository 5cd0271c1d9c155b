//! Tiers as a user meets them: policies, recipients by tier, editions. Without ONNX Runtime's library the tests that need it
//! say so and pass.

use std::fs;

use serde_json::Value;

use crate::lab::{self, Lab};

const POLICY: &str = r#"
[[tier]]
name = "trial"
share = 0.35
[[tier]]
name = "standard"
share = 0.6
[[tier]]
name = "full"
"#;

const TIERS: [&str; 3] = ["trial", "standard", "full"];

/// A folder with a model in three tiers, `sealed.onnx`, and an identity for each, such as `trial.txt`.
fn tiers() -> (Lab, [String; 3]) {
    let lab = Lab::new();
    let model = lab.model();
    fs::write(lab.path("policy.toml"), POLICY).unwrap();
    let recipients = TIERS.map(|tier| {
        let (out, _) = lab.expect(0, &["keygen", "-o", &format!("{tier}.txt")]);
        format!("{tier}={}", out.trim())
    });
    let protect = [
        "protect",
        model,
        "-o",
        "sealed.onnx",
        "--policy",
        "policy.toml",
    ];
    let to: Vec<&str> = recipients.iter().flat_map(|r| ["-r", r]).collect();
    lab.expect(0, &[&protect[..], &to].concat());
    (lab, recipients)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn each_tier_opens_its_edition_and_lower_ones() {
    let (lab, _) = tiers();
    let original = fs::read(lab.path("model.onnx")).unwrap();
    let open = |key: &str, tier: Option<&str>, code| {
        let out = format!("{key}_{}.onnx", tier.unwrap_or("none"));
        let key = format!("{key}.txt");
        let mut args = vec!["unprotect", "sealed.onnx", "-i", &key, "-o", &out];
        args.extend(tier.iter().flat_map(|tier| ["--tier", tier]));
        let _ = fs::remove_file(lab.path(&out));
        let (said, error) = lab.expect(code, &args);
        (fs::read(lab.path(&out)).ok(), said, error)
    };
    let (whole, said, _) = open("full", None, 0);
    assert_eq!(whole.as_ref(), Some(&original));
    assert!(said.starts_with("restored"), "{said}");
    let editions = TIERS.map(|tier| open("full", Some(tier), 0).0.unwrap());
    assert_eq!(editions[2], original);
    assert!(editions[0] != editions[1] && editions[1] != original);
    for (i, key) in TIERS.iter().enumerate() {
        for (j, tier) in TIERS.iter().enumerate() {
            let (found, said, error) = open(key, Some(tier), if j <= i { 0 } else { 5 });
            match j <= i {
                true => {
                    assert_eq!(found.as_ref(), Some(&editions[j]));
                    assert_eq!(said.contains("not the original"), *tier != "full", "{said}");
                }
                false => {
                    assert_eq!(found, None);
                    assert!(error.contains(tier) && error.contains(key), "{error}");
                }
            }
        }
        assert_eq!(open(key, Some("any"), 0).0.as_ref(), Some(&editions[i]));
        let (found, _, error) = open(key, None, if i == 2 { 0 } else { 5 });
        assert_eq!(found.is_some(), i == 2);
        assert_eq!(error.contains("--tier"), i < 2, "{error}");
    }
    let (_, _, error) = open("full", Some("gold"), 6);
    assert!(
        error.contains("\"trial\", \"standard\", \"full\""),
        "{error}"
    );
    let (_, _, error) = open("id", Some("trial"), 5);
    assert!(error.contains("no identity opens"), "{error}");
}

#[test]
fn a_named_tier_is_refused_where_there_are_none() {
    let lab = Lab::new();
    let model = lab.model();
    lab.expect(
        0,
        &["protect", model, "-o", "plain.onnx", "-r", &lab.recipient],
    );
    let open = [
        "unprotect",
        "plain.onnx",
        "-i",
        "id.txt",
        "-o",
        "x.onnx",
        "--tier",
    ];
    let (_, error) = lab.expect(6, &[&open[..], &["trial"]].concat());
    assert!(error.contains("has no tiers"), "{error}");
    lab.expect(0, &[&open[..], &["any"]].concat());
}

#[test]
fn inspect_and_verify_tell_of_tiers() {
    let (lab, _) = tiers();
    let (out, _) = lab.expect(0, &["inspect", "sealed.onnx"]);
    for said in [
        "tier",
        "opens",
        "trial",
        "standard",
        "100.0 %",
        "3 age keys",
    ] {
        assert!(out.contains(said), "{said:?} is not in\n{out}");
    }
    let (out, _) = lab.expect(0, &["inspect", "sealed.onnx", "--json"]);
    let found = json(&out);
    let rows = found["tiers"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["name"], "trial");
    assert_eq!(rows[0]["recipients"], 1);
    let shares: Vec<f64> = rows
        .iter()
        .map(|row| row["share"].as_f64().unwrap())
        .collect();
    assert!(
        shares[0] > 0.35 && shares[0] < shares[1] && shares[2] == 1.0,
        "{shares:?}"
    );
    let bytes: u64 = rows.iter().map(|row| row["bytes"].as_u64().unwrap()).sum();
    assert_eq!(found["weights"]["encrypted_bytes"], bytes);

    lab.expect(0, &["verify", "sealed.onnx"]);
    lab.expect(0, &["verify", "sealed.onnx", "-i", "full.txt"]);
    lab.expect(5, &["verify", "sealed.onnx", "-i", "trial.txt"]);
    let (_, error) = lab.expect(2, &["verify", "sealed.onnx", "--tier", "trial"]);
    assert!(error.contains("give --identity"), "{error}");
    let args = [
        "verify",
        "sealed.onnx",
        "-i",
        "trial.txt",
        "--tier",
        "trial",
    ];
    let (out, _) = lab.expect(0, &args);
    let contents = "every byte of every file is authentic, except onnxseal.key.2, onnxseal.key.3\n";
    assert!(
        out.contains(contents) && out.contains("tier:      trial"),
        "{out}"
    );
}

#[test]
fn recipients_fit_the_tiers_or_are_refused() {
    let (lab, recipients) = tiers();
    let refused = |more: &[&str], said: &str| {
        let protect = [
            "protect",
            "model.onnx",
            "-o",
            "x.onnx",
            "--policy",
            "policy.toml",
        ];
        let (_, error) = lab.expect(2, &[&protect[..], more].concat());
        assert!(error.contains(said), "{more:?}: {error}");
        assert!(!lab.path("x.onnx").exists());
    };
    let [trial, _, full] = recipients.each_ref().map(String::as_str);
    let bare = lab.recipient.as_str();
    refused(&["-r", bare], "recipients need a tier");
    refused(&["-r", bare, "-r", full], "some recipients have a tier");
    refused(&["-r", trial], "\"full\"");
    refused(
        &["-r", full, "-r", &format!("gold={bare}")],
        "no tier \"gold\"",
    );
    refused(&[], "recipients need a tier");
    let plain = ["protect", "model.onnx", "-o", "x.onnx", "-r", full];
    let (_, error) = lab.expect(2, &plain);
    assert!(error.contains("no tiers"), "{error}");
    // A file of recipients has a tier as well, and a tier may have several.
    fs::write(lab.path("team.txt"), format!("{bare}\n")).unwrap();
    let team = ["-R", "full=team.txt", "-r", trial, "-r", full];
    let protect = [
        "protect",
        "model.onnx",
        "-o",
        "team.onnx",
        "--policy",
        "policy.toml",
    ];
    lab.expect(0, &[&protect[..], &team].concat());
    lab.expect(
        0,
        &[
            "unprotect",
            "team.onnx",
            "-i",
            "id.txt",
            "-o",
            "team.out.onnx",
        ],
    );
    lab.expect(
        0,
        &[
            "unprotect",
            "team.onnx",
            "-i",
            "full.txt",
            "-o",
            "full.out.onnx",
        ],
    );
}

#[test]
fn rekey_changes_one_tier_and_rotate_all() {
    let (lab, recipients) = tiers();
    let own = format!("trial={}", lab.recipient);
    let opens = |key: &str, tier: &str, code| {
        let key = format!("{key}.txt");
        lab.expect(code, &["verify", "sealed.onnx", "-i", &key, "--tier", tier]);
    };
    let (_, note) = lab.expect(
        0,
        &["rekey", "sealed.onnx", "-i", "standard.txt", "-r", &own],
    );
    assert!(note.contains("trial"), "{note}");
    opens("id", "trial", 0);
    opens("trial", "trial", 5);
    opens("full", "full", 0);
    let add = [
        "rekey",
        "sealed.onnx",
        "-i",
        "id.txt",
        "-r",
        &recipients[0],
        "--add",
    ];
    lab.expect(0, &add);
    opens("trial", "trial", 0);
    opens("id", "trial", 0);
    let above = format!("full={}", lab.recipient);
    let (_, error) = lab.expect(
        2,
        &["rekey", "sealed.onnx", "-i", "trial.txt", "-r", &above],
    );
    assert!(
        error.contains("\"full\"") && error.contains("\"trial\""),
        "{error}"
    );
    let rotate = [
        "rotate",
        "sealed.onnx",
        "-r",
        &recipients[2],
        "-r",
        &own,
        "-i",
    ];
    lab.expect(5, &[&rotate[..], &["standard.txt"]].concat());
    lab.expect(0, &[&rotate[..], &["full.txt"]].concat());
    opens("id", "trial", 0);
    opens("standard", "trial", 5);
    lab.expect(
        0,
        &[
            "unprotect",
            "sealed.onnx",
            "-i",
            "full.txt",
            "-o",
            "back.onnx",
        ],
    );
    let files = ["back.onnx", "model.onnx"].map(|name| fs::read(lab.path(name)).unwrap());
    assert_eq!(files[0], files[1]);
}

#[test]
fn policies_with_tiers_that_make_no_sense_are_refused_with_their_place() {
    let lab = Lab::new();
    let model = lab.model();
    let tier = |name: &str, share: &str| format!("[[tier]]\nname = \"{name}\"\n{share}\n");
    for (policy, said) in [
        (tier("a", "share = 0.5"), "2 to 16"),
        (
            tier("a", "share = 0.5") + &tier("b", "share = 0.9"),
            "leave its share out",
        ),
        (tier("a", "share = 0.5") + &tier("a", ""), "called \"a\""),
        (
            tier("any", "share = 0.5") + &tier("b", ""),
            "tier name \"any\"",
        ),
        (tier("A", "share = 0.5") + &tier("b", ""), "tier name \"A\""),
        (tier("a", "share = 1.5") + &tier("b", ""), "has share 1.5"),
        (
            "strategy = \"spread\"\n".to_owned() + &tier("a", "share = 0.5") + &tier("b", ""),
            "energy",
        ),
        (
            "[mode]\nConv = \"mask\"\n".to_owned(),
            "the policy has none",
        ),
        (
            tier("a", "share = 0.5") + &tier("b", "") + "[mode]\nCnov = \"mask\"\n",
            "did you mean \"Conv\"",
        ),
    ] {
        fs::write(lab.path("p.toml"), &policy).unwrap();
        let (_, error) = lab.expect(2, &["plan", model, "--policy", "p.toml"]);
        assert!(
            error.contains(said) && error.contains("line"),
            "{policy}\n{error}"
        );
    }
}

#[cfg(feature = "assess")]
mod tuning {
    use super::*;

    const TUNE: [&str; 7] = [
        "tiers",
        "tune",
        "model.onnx",
        "--data",
        "digits_test.csv",
        "--scale",
        "16",
    ];

    fn lab() -> Lab {
        let lab = Lab::new();
        lab.model();
        let data = lab::fixture("digits_test.csv");
        fs::copy(data, lab.path("digits_test.csv")).unwrap();
        lab
    }

    #[test]
    fn shares_are_found_and_written_as_a_policy() {
        if !lab::has_onnxruntime() {
            return;
        }
        let lab = lab();
        fs::write(lab.path("base.toml"), "preset = \"full\"\nunit = 64\n").unwrap();
        let more = [
            "--target",
            "trial=0.9",
            "--target",
            "standard=0.95",
            "--policy",
            "base.toml",
            "-o",
            "tiers.toml",
        ];
        let args = [&TUNE[..], &more].concat();
        let (out, _) = lab.expect(0, &args);
        for said in [
            "wanted",
            "calibration",
            "90.0\u{a0}%",
            "a probe on the inputs",
            "Only 100 samples",
        ] {
            assert!(out.contains(said), "{said:?} is not in\n{out}");
        }
        // Nothing is replaced unless that is asked for.
        let (_, error) = lab.expect(2, &args);
        assert!(error.contains("exists already"), "{error}");
        let (out, _) = lab.expect(0, &[&args[..], &["--force", "--json"]].concat());
        let found = json(&out);
        let tiers = found["tiers"].as_array().unwrap();
        assert_eq!(tiers.len(), 3);
        let of = |i: usize, name: &str| tiers[i][name].as_f64().unwrap();
        assert!(of(0, "share") < of(1, "share") && of(2, "share") == 1.0);
        assert!((of(0, "calibration") - 0.9).abs() < 0.1, "{out}");
        assert!(of(0, "calibration") < of(1, "calibration"));
        // Halves differ.
        assert_eq!(found["n_calibration"], 100);
        assert_eq!(found["n_evaluation"], 100);

        let documented = fs::read_to_string(lab::project("docs/JSON.md")).unwrap();
        for name in found.as_object().unwrap().keys() {
            let word = format!("`{name}`");
            assert!(documented.contains(&word), "{word} is not in docs/JSON.md");
        }
        let policy = fs::read_to_string(lab.path("tiers.toml")).unwrap();
        assert!(
            policy.starts_with("preset = \"full\"\nunit = 64\n"),
            "{policy}"
        );
        let to = [
            "-r",
            &format!("full={}", lab.recipient),
            "-o",
            "sealed.onnx",
            "--policy",
            "tiers.toml",
        ];
        lab.expect(0, &[&["protect", "model.onnx"][..], &to].concat());
        // Each tier below the highest is attacked with its key.
        let assess = ["assess", "sealed.onnx", "-i", "id.txt", "--json"];
        let (out, _) = lab.expect(0, &[&assess[..], &TUNE[3..]].concat());
        let candidates = json(&out)["candidates"].as_array().unwrap().clone();
        let tiers: Vec<&Value> = candidates.iter().map(|row| &row["tier"]).collect();
        assert_eq!(tiers, [&Value::Null, &"trial".into(), &"standard".into()]);
        let value = |i: usize| {
            candidates[i]["attacks"][0]["measure"]["value"]
                .as_f64()
                .unwrap()
        };
        assert!(value(0) < value(1) && value(1) < value(2), "{out}");
        assert_eq!(candidates[1]["attacks"][1]["floor_kind"], "next_tier");
    }

    #[test]
    fn targets_that_make_no_sense_are_refused() {
        if !lab::has_onnxruntime() {
            return;
        }
        let lab = lab();
        let refused = |more: &[&str], said: &str| {
            let (_, error) = lab.expect(2, &[&TUNE[..], more, &["-o", "p.toml"]].concat());
            assert!(error.contains(said), "{more:?}: {error}");
            assert!(!lab.path("p.toml").exists());
        };
        refused(
            &["--target", "trial=0.5"],
            "a linear classifier on the inputs",
        );
        refused(&["--target", "trial=0.05"], "worthless");
        refused(&["--target", "trial=1.0"], "not below the original");
        refused(
            &["--target", "trial=1.0"],
            "may be scaled or normalised in another way",
        );
        refused(
            &["--target", "a=0.95", "--target", "b=0.9"],
            "name the least tier first",
        );
        refused(&["--target", "full=0.9"], "called \"full\"");
        refused(&["--target", "any=0.9"], "tier name");
        fs::write(lab.path("tiers.toml"), POLICY).unwrap();
        refused(
            &["--target", "a=0.9", "--policy", "tiers.toml"],
            "has tiers already",
        );
    }
}
