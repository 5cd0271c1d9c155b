//! The command as a user meets it: what it prints, writes and exits with.

use std::fs;

use onnxseal_testkit::build::{GraphBuilder, node, weights};
use onnxseal_testkit::samples;
use serde_json::Value;

use crate::lab::{self, Lab};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_main_job_works() {
    let lab = Lab::new();
    let original = fs::read(lab.path(lab.model())).unwrap();
    let (out, err) = lab.expect(
        0,
        &[
            "protect",
            "model.onnx",
            "-o",
            "s.onnx",
            "-r",
            &lab.recipient,
        ],
    );
    assert!(out.contains("Conv") && out.contains("total"), "{out}");
    assert_eq!(err, "", "no progress bar where there is no terminal");
    lab.expect(0, &["verify", "s.onnx", "-i", "id.txt"]);
    let (out, _) = lab.expect(
        0,
        &["unprotect", "s.onnx", "-i", "id.txt", "-o", "back.onnx"],
    );
    assert!(out.contains("every byte authenticated"), "{out}");
    assert!(fs::read(lab.path("back.onnx")).unwrap() == original);
    assert!(fs::read(lab.path("model.onnx")).unwrap() == original);
}

#[test]
fn without_a_recipient_a_new_identity_is_written_beside_the_output() {
    let lab = Lab::new();
    let model = lab.model();
    // It is told of with --quiet too: it is a secret that nobody asked for.
    for (options, output) in [(&[][..], "s.onnx"), (&["-q"], "q.onnx")] {
        let (_, err) = lab.expect(0, &[options, &["protect", model, "-o", output]].concat());
        assert!(err.contains(&format!("{output}.identity.txt")), "{err}");
    }
    lab.expect(
        0,
        &[
            "unprotect",
            "s.onnx",
            "-i",
            "s.onnx.identity.txt",
            "-o",
            "back.onnx",
        ],
    );
    let identity = fs::read(lab.path("s.onnx.identity.txt")).unwrap();
    // Never over an existing one, not even with --force.
    lab.expect(2, &["protect", model, "-o", "s.onnx", "--force"]);
    assert!(fs::read(lab.path("s.onnx.identity.txt")).unwrap() == identity);
    // None is left behind where protecting fails.
    fs::write(lab.path("bad.onnx"), "not a model").unwrap();
    lab.expect(3, &["protect", "bad.onnx", "-o", "t.onnx"]);
    assert!(!lab.path("t.onnx.identity.txt").exists() && !lab.path("t.onnx").exists());
}

#[cfg(unix)]
#[test]
fn modes_are_kept_and_identities_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let mode = |name: &str| fs::metadata(lab.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("id.txt"), 0o600);
    let model = lab.model();
    for bits in [0o640, 0o444, 0o755] {
        fs::set_permissions(lab.path(model), fs::Permissions::from_mode(bits)).unwrap();
        lab.expect(
            0,
            &[
                "-q",
                "protect",
                model,
                "-o",
                "s.onnx",
                "-r",
                &lab.recipient,
                "--force",
            ],
        );
        assert_eq!(mode("s.onnx"), bits);
        lab.expect(
            0,
            &[
                "-q",
                "unprotect",
                "s.onnx",
                "-i",
                "id.txt",
                "-o",
                "b.onnx",
                "--force",
            ],
        );
        assert_eq!(mode("b.onnx"), bits);
    }
    lab.expect(
        0,
        &["-q", "protect", model, "--in-place", "-r", &lab.recipient],
    );
    assert_eq!(mode(model), 0o755);
}

#[test]
fn each_exit_code_has_its_cause() {
    let lab = Lab::new();
    let sealed = lab.protected();
    fs::write(lab.path("junk.onnx"), "not a model").unwrap();
    let mut forged = fs::read(lab.path(sealed)).unwrap();
    // Past the beginning, where the structure is, and before the tail.
    forged[20_000] ^= 1;
    fs::write(lab.path("forged.onnx"), forged).unwrap();
    lab.expect(0, &["keygen", "-o", "other.txt"]);
    fs::write(lab.path("full.toml"), "preset = \"full\"\n").unwrap();

    let cases: [(i32, &[&str], &str); 19] = [
        (2, &[], "Usage"),
        (2, &["protect", "model.onnx"], "--output"),
        (
            2,
            &["protect", "model.onnx", "-o", "x", "-r", "age1nonsense"],
            "age1nonsense",
        ),
        (2, &["protect", sealed, "-o", "x"], "protected already"),
        (
            2,
            &["unprotect", "model.onnx", "-i", "id.txt", "-o", "x"],
            "is not protected",
        ),
        (2, &["inspect", "model.onnx"], "is not protected"),
        (
            2,
            &["unprotect", sealed, "-i", "id.txt", "-o", "model.onnx"],
            "exists already",
        ),
        (
            2,
            &["protect", "model.onnx", "-o", "model.onnx", "--force"],
            "would be overwritten",
        ),
        (
            2,
            &[
                "protect",
                "model.onnx",
                "-o",
                "x",
                "--coefficient",
                "Conv=2",
            ],
            "0 to 1",
        ),
        (2, &["keygen", "-o", "id.txt"], "exists already"),
        (
            2,
            &["unprotect", sealed, "-i", sealed, "-o", "x"],
            "identity file",
        ),
        (3, &["plan", "junk.onnx"], "junk.onnx"),
        (
            4,
            &["verify", "forged.onnx", "-i", "id.txt"],
            "authentication failed",
        ),
        (
            4,
            &["unprotect", "forged.onnx", "-i", "id.txt", "-o", "x"],
            "forged.onnx",
        ),
        (5, &["verify", sealed, "-i", "other.txt"], "X25519"),
        (
            6,
            &["verify", sealed, "--policy", "full.toml"],
            "expected at least",
        ),
        (7, &["plan", "absent.onnx"], "absent.onnx"),
        (7, &["verify", sealed, "-i", "absent.txt"], "absent.txt"),
        (
            7,
            &[
                "protect",
                "model.onnx",
                "-o",
                "junk.onnx/x",
                "-r",
                &lab.recipient,
            ],
            "junk.onnx",
        ),
    ];
    for (code, args, says) in cases {
        let (_, err) = lab.expect(code, args);
        assert!(err.contains(says), "{args:?}: {err}");
        assert!(!lab.path("x").exists(), "{args:?}");
    }
}

#[test]
fn plan_protect_and_inspect_tell_the_same() {
    let lab = Lab::new();
    // A weight that two operators share, one of them twice.
    let tied = GraphBuilder::new("tied")
        .initializer(weights("tied_w", &[64, 64], 1))
        .initializer(weights("other_w", &[64, 64], 2))
        .node(node("MatMul", &["tied_w", "tied_w"], &["a"]))
        .node(node("MatMul", &["a", "tied_w"], &["b"]))
        .node(node("MatMul", &["b", "other_w"], &["y"]));
    fs::write(lab.path("tied.onnx"), tied.encode()).unwrap();
    let fixture = |name| format!("{}/fixtures/models/{name}", env!("CARGO_MANIFEST_DIR"));
    let [cnn, lstm] = ["digits_cnn.onnx", "digits_lstm.onnx"].map(fixture);
    let little = "[default]\ncoefficient = 0.05\n";
    fs::write(lab.path("little.toml"), little).unwrap();
    let mut n_clear = 0;
    for model in ["tied.onnx", &cnn, &lstm] {
        n_clear += tell_the_same(&lab, model, ["--policy", "little.toml"]);
        for preset in ["balanced", "strong", "full"] {
            n_clear += tell_the_same(&lab, model, ["--preset", preset]);
        }
    }
    assert!(n_clear > 2);
}

/// Compares the tables and the JSON of the three; says how many weights are wholly in clear.
fn tell_the_same(lab: &Lab, model: &str, policy: [&str; 2]) -> usize {
    let plan = [&["plan", model][..], &policy].concat();
    let protect = ["protect", model, "-o", "s.onnx", "-r", &lab.recipient, "-f"];
    let protect = [&protect[..], &policy, &["--claim", "a=b"]].concat();
    let inspect = ["inspect", "s.onnx"];
    let tables = [&plan[..], &protect, &inspect].map(|args| {
        let (table, _) = lab.expect(0, &[args, &["--positions"]].concat());
        // What only the metadata knows, and what only the policy knows.
        let of_one = ["opens with: ", "claim ", "encrypted whole: "];
        let known = |line: &&str| !of_one.iter().any(|start| line.starts_with(start));
        table.lines().filter(known).collect::<Vec<_>>().join("\n")
    });
    assert_eq!(tables[0], tables[1], "{model} {policy:?}");
    assert_eq!(tables[1], tables[2], "{model} {policy:?}");
    let reports = [&plan[..], &protect, &inspect].map(|args| {
        let mut report = json(&lab.expect(0, &[args, &["--json"]].concat()).0);
        let members = report.as_object_mut().unwrap();
        assert!(members.remove("model").is_some());
        let claims = members.remove("claims").unwrap();
        assert!(args[0] == "plan" || claims["a"] == "b");
        let recipients = members.remove("recipients");
        if args[0] == "inspect" {
            let there = serde_json::json!([{"kind": "X25519"}]);
            assert_eq!(recipients, Some(there));
        }
        for operator in report["operators"].as_array_mut().unwrap() {
            operator
                .as_object_mut()
                .unwrap()
                .retain(|key, _| !["coefficient", "whole_because"].contains(&key.as_str()));
        }
        report
    });
    assert_eq!(reports[0], reports[1], "{model} {policy:?}");
    assert_eq!(reports[1], reports[2], "{model} {policy:?}");
    let operators = reports[2]["operators"].as_array().unwrap();
    let tensors = operators
        .iter()
        .flat_map(|row| row["tensors"].as_array().unwrap());
    let mut n_clear = 0;
    for tensor in tensors {
        let name = tensor["name"].as_str().unwrap();
        let line = tables[2].lines().find(|line| line.contains(name)).unwrap();
        let share = format!("{:.1} %", tensor["share"].as_f64().unwrap() * 100.0);
        assert!(line.contains(&share), "{line}: {share}");
        if tensor["k"] == 0 {
            assert_eq!(tensor["n"], 1, "{line}");
            n_clear += 1;
        }
    }
    n_clear
}

#[test]
fn verify_says_what_it_checked() {
    let lab = Lab::new();
    let sealed = lab.protected();
    let (out, _) = lab.expect(0, &["verify", sealed]);
    assert!(out.contains("not checked"), "{out}");
    let (out, _) = lab.expect(
        0,
        &[
            "verify", sealed, "-i", "id.txt", "--preset", "balanced", "--json",
        ],
    );
    let verified = json(&out);
    assert_eq!(
        (&verified["authenticated"], &verified["policy_met"]),
        (&true.into(), &true.into())
    );
    lab.expect(0, &["verify", sealed, "--preset", "balanced"]);
    lab.expect(6, &["verify", sealed, "--preset", "strong"]);
}

#[test]
fn a_model_with_external_data_goes_to_another_folder_or_stays_in_this_one() {
    let lab = Lab::new();
    let sample = samples::external_data();
    fs::create_dir(lab.path("plain")).unwrap();
    sample.write(&lab.path("plain")).unwrap();
    let protect = |to: &[&str]| {
        let args = [&["protect", "plain/model.onnx", "-r", &lab.recipient], to].concat();
        lab.run(&args)
    };
    // Beside the original, external data has another name.
    let renamed = protect(&["-o", "plain/sealed.onnx"]);
    assert_eq!(renamed.status.code(), Some(0));
    let err = String::from_utf8(renamed.stderr).unwrap();
    assert!(err.contains("sealed.onnx.data"), "{err}");
    let again = protect(&[
        "-o",
        "plain/other.onnx",
        "--external-data",
        "sealed.onnx.data",
    ]);
    assert_eq!(again.status.code(), Some(2));
    let err = String::from_utf8(again.stderr).unwrap();
    assert!(err.contains("--external-data"), "{err}");
    let restore = ["unprotect", "plain/sealed.onnx", "-i", "id.txt", "-o"];
    lab.expect(2, &[&restore[..], &["plain/back.onnx"]].concat());
    lab.expect(0, &[&restore[..], &["restored/model.onnx"]].concat());
    let rotate = [
        "rotate",
        "plain/sealed.onnx",
        "-i",
        "id.txt",
        "-r",
        &lab.recipient,
    ];
    let (_, err) = lab.expect(2, &[&rotate[..], &["-o", "plain/rotated.onnx"]].concat());
    assert!(err.contains("another folder"), "{err}");
    let beside = [
        "-o",
        "plain/rotated.onnx",
        "--external-data",
        "rotated.data",
    ];
    lab.expect(0, &[&rotate[..], &beside].concat());
    for (location, content) in &sample.files {
        assert_eq!(
            &fs::read(lab.path("restored").join(location)).unwrap(),
            content
        );
    }
    assert_eq!(
        fs::read(lab.path("restored/model.onnx")).unwrap(),
        sample.model
    );
    // In place, the original's external data stays, and that is said.
    fs::create_dir(lab.path("place")).unwrap();
    sample.write(&lab.path("place")).unwrap();
    let args = [
        "protect",
        "place/model.onnx",
        "-r",
        &lab.recipient,
        "--in-place",
    ];
    let (_, err) = lab.expect(0, &args);
    assert!(
        err.contains("in clear") && err.contains(sample.files[0].0),
        "{err}"
    );
    lab.expect(0, &["verify", "place/model.onnx", "-i", "id.txt"]);
    assert_eq!(
        fs::read(lab.path("plain/model.onnx")).unwrap(),
        sample.model
    );
    assert_eq!(
        protect(&["-o", "new/folder/model.onnx"]).status.code(),
        Some(0)
    );
    lab.expect(
        0,
        &[
            "unprotect",
            "new/folder/model.onnx",
            "-i",
            "id.txt",
            "-o",
            "back/model.onnx",
        ],
    );
    for (location, content) in &sample.files {
        let at = |folder: &str| fs::read(lab.path(folder).join(location)).unwrap();
        assert_eq!(&at("back"), content);
        assert_eq!(&at("plain"), content);
        assert_ne!(&at("new/folder"), content);
    }
}

#[test]
fn nothing_is_left_behind_by_a_failure() {
    let lab = Lab::new();
    let sealed = lab.protected();
    let mut forged = fs::read(lab.path(sealed)).unwrap();
    forged[20_000] ^= 1;
    fs::write(lab.path("forged.onnx"), forged).unwrap();
    let names = || {
        let entries = fs::read_dir(lab.dir.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    lab.expect(
        4,
        &["unprotect", "forged.onnx", "-i", "id.txt", "-o", "x.onnx"],
    );
    lab.expect(
        4,
        &[
            "unprotect",
            "forged.onnx",
            "-i",
            "id.txt",
            "-o",
            "model.onnx",
            "--force",
        ],
    );
    assert_eq!(names(), before);
    assert_eq!(
        fs::read(lab.path("model.onnx")).unwrap(),
        fs::read(lab::fixture("digits_cnn.onnx")).unwrap()
    );
}

#[test]
fn policies_of_the_command_line_add_up() {
    let lab = Lab::new();
    let model = lab.model();
    let share = |args: &[&str], op_type: &str| {
        let (out, _) = lab.expect(0, &[&["plan", model, "--json"], args].concat());
        let report = json(&out);
        let types = report["types"].as_array().unwrap();
        let row = types.iter().find(|row| row["op_type"] == op_type).unwrap();
        row["share"].as_f64().unwrap()
    };
    assert_eq!(share(&["--preset", "full"], "Conv"), 1.0);
    assert_eq!(
        share(&["--preset", "full", "--coefficient", "Conv=0"], "Conv"),
        0.0
    );
    assert_eq!(
        share(&["--preset", "full", "--coefficient", "Conv=0"], "Gemm"),
        1.0
    );
    assert!(share(&["--preset", "balanced"], "Gemm") < share(&["--preset", "strong"], "Gemm"));
}

/// Adds the names of all members of `value`, at any depth, to `names`.
fn members(value: &Value, names: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| {
            names.insert(name.clone());
            members(value, names);
        }),
        Value::Array(values) => values.iter().for_each(|value| members(value, names)),
        _ => {}
    }
}

#[test]
fn what_is_printed_is_documented() {
    let lab = Lab::new();
    let read = |path: &str| fs::read_to_string(lab::project(path)).unwrap();
    let mut names = std::collections::BTreeSet::new();
    fs::write(lab.path("tied.onnx"), samples::tied_weights()).unwrap();
    let protect = [
        "protect",
        "tied.onnx",
        "-o",
        "s.onnx",
        "-r",
        &lab.recipient,
        "--json",
    ];
    for args in [
        &["plan", lab.model(), "--json"][..],
        &protect,
        &[
            "rotate",
            "s.onnx",
            "-i",
            "id.txt",
            "-r",
            &lab.recipient,
            "--json",
        ],
        &["inspect", "s.onnx", "--json"],
        &["verify", "s.onnx", "--preset", "balanced", "--json"],
        &["verify", ".", "--json"],
    ] {
        members(&json(&lab.expect(0, args).0), &mut names);
    }
    assert!(
        names.contains("shared_with") && names.contains("policy_met"),
        "{names:?}"
    );
    let documented = read("docs/JSON.md");
    for name in names {
        let word = documented.split(|c: char| !c.is_alphanumeric() && c != '_');
        assert!(
            word.clone().any(|word| word == name),
            "{name} is not in docs/JSON.md"
        );
    }

    let (help, _) = lab.expect(0, &["--help"]);
    let codes = help.split("Exit codes:").nth(1).unwrap();
    let page = read("docs/COMMAND.md");
    for line in codes.lines().filter(|line| !line.trim().is_empty()) {
        let (code, meaning) = line.trim().split_once("  ").unwrap();
        let first = meaning.split([':', ';']).next().unwrap().trim();
        let row = format!("| {code} | {first}");
        assert!(page.contains(&row), "docs/COMMAND.md has no {row:?}");
    }
}

#[test]
fn a_policy_that_matches_nothing_fails() {
    let lab = Lab::with_models();
    let slip =
        "[op.LSTM]\ncoefficient = 0.5\n[[override]]\nnode = \"no/such/*\"\ncoefficient = 1\n";
    fs::write(lab.path("slip.toml"), slip).unwrap();
    let plan = ["plan", "plain/model.onnx", "--policy", "slip.toml"];
    let protect = [
        "protect",
        "plain/model.onnx",
        "--policy",
        "slip.toml",
        "-o",
        "slip.onnx",
        "-r",
        &lab.recipient,
    ];
    let verify = ["verify", "sealed/model.onnx", "--policy", "slip.toml"];
    for args in [&plan[..], &protect, &verify] {
        let (_, err) = lab.expect(6, args);
        assert!(
            err.contains("the coefficient of LSTM matches nothing"),
            "{err}"
        );
        assert!(err.contains("\"no/such/*\" matches nothing"), "{err}");
    }
    assert!(!lab.path("slip.onnx").exists());
    let (_, err) = lab.expect(6, &["plan", "plain/model.onnx", "--coefficient", "LSTM=1"]);
    assert!(err.contains("the coefficient of LSTM"), "{err}");
    let (_, err) = lab.expect(2, &["plan", "plain/model.onnx", "--coefficient", "Cnov=1"]);
    assert!(err.contains("did you mean \"Conv\"?"), "{err}");

    // In a policy of little, so that what is sealed meets it.
    let lenient = format!("[default]\ncoefficient = 0.1\n{slip}");
    fs::write(lab.path("slip.toml"), lenient).unwrap();
    for args in [&plan[..], &protect, &verify] {
        lab.expect(0, &[args, &["--allow-unmatched"]].concat());
    }
    // Of several models, none needs to have all of it.
    let several = ["verify", "sealed", "--policy", "slip.toml"];
    lab.expect(0, &[&several[..], &["--allow-unmatched"]].concat());
    let (_, err) = lab.expect(6, &several);
    assert!(
        err.contains("the coefficient of LSTM matches nothing in any of the models"),
        "{err}"
    );
    let batch = [
        "batch",
        "protect",
        "plain",
        "--out",
        "all",
        "-r",
        &lab.recipient,
    ];
    lab.expect(0, &[&batch[..], &["--policy", "slip.toml"]].concat());
}

#[test]
fn long_tables_are_summed_up_and_say_who_opens() {
    let lab = Lab::new();
    let mut graph = GraphBuilder::new("long");
    for i in 0..50 {
        let (name, output) = (format!("w{i}"), format!("y{i}"));
        graph = graph
            .initializer(weights(&name, &[16 + i, 16], 1))
            .node(node("MatMul", &["x", &name], &[&output]));
    }
    fs::write(lab.path("long.onnx"), graph.encode()).unwrap();
    let rows = |text: &str| text.lines().filter(|line| line.contains("make_y")).count();
    let (out, _) = lab.expect(0, &["plan", "long.onnx"]);
    assert_eq!(rows(&out), 40, "{out}");
    assert!(
        out.contains("... and 10 smaller, 12.8") && out.contains(": --all shows them"),
        "{out}"
    );
    assert!(!out.contains(" w9 ") && out.contains(" w10 "), "{out}");
    let (out, _) = lab.expect(0, &["plan", "long.onnx", "--all"]);
    assert_eq!(rows(&out), 50, "{out}");

    let args = [
        "protect",
        "long.onnx",
        "-o",
        "s.onnx",
        "-r",
        &lab.recipient,
        "--quiet",
    ];
    lab.expect(0, &args);
    let (out, _) = lab.expect(0, &["inspect", "s.onnx"]);
    assert!(out.contains("\nopens with: 1 age key (X25519)\n"), "{out}");
    let (out, _) = lab.expect(0, &["inspect", "s.onnx", "--json"]);
    assert_eq!(
        json(&out)["recipients"],
        serde_json::json!([{"kind": "X25519"}])
    );
}

#[test]
fn lines_say_the_same_as_one_object() {
    let lab = Lab::new();
    let sealed = lab.protected();
    for args in [&["plan", lab.model()][..], &["inspect", sealed]] {
        let (whole, _) = lab.expect(0, &[args, &["--json"]].concat());
        let (lines, err) = lab.expect(0, &[args, &["--jsonl"]].concat());
        assert_eq!(err, "");
        assert!(lines.lines().all(|line| line.starts_with(r#"{"type":""#)));
        let mut whole = json(&whole);
        let of = |kind: &str| {
            let mut found: Vec<Value> = lines.lines().map(json).collect();
            found.retain(|line| line["type"] == kind);
            found
        };
        let mut tensors = Vec::new();
        for operator in whole["operators"].as_array().unwrap() {
            for tensor in operator["tensors"].as_array().unwrap() {
                let mut tensor = tensor.clone();
                tensor["type"] = "tensor".into();
                tensor["op_type"] = operator["op_type"].clone();
                tensor["node"] = operator["node"].clone();
                tensors.push(tensor);
            }
        }
        assert!(tensors.len() > 1);
        assert_eq!(of("tensor"), tensors);
        let clear = whole["clear"].as_array().unwrap().clone();
        let clear = clear.into_iter().map(|mut row| {
            row["type"] = "clear".into();
            row
        });
        assert_eq!(of("clear"), clear.collect::<Vec<Value>>());
        let members = whole.as_object_mut().unwrap();
        members.remove("operators");
        members.remove("clear");
        members.insert("type".into(), "model".into());
        assert_eq!(of("model"), [whole]);
        assert_eq!(json(lines.lines().last().unwrap())["type"], "model");
    }
    lab.expect(2, &["plan", "model.onnx", "--json", "--jsonl"]);
}
