//! `assess` and `rank` as a user meets them. Without ONNX Runtime's library the tests that need it say so and pass.

use std::fs;
use std::time::{Duration, Instant};

use onnxseal_testkit::samples::products;
#[cfg(unix)]
use rustix::process::Signal;
use serde_json::Value;

use crate::lab::{self, Lab};

/// A folder with the digits' images and a model of theirs.
fn digits(model: &str) -> Lab {
    let lab = Lab::new();
    for name in [model, "digits_test.csv"] {
        fs::copy(lab::fixture(name), lab.path(name)).unwrap();
    }
    lab
}

const CNN: &str = "digits_cnn.onnx";
const DATA: [&str; 4] = ["--data", "digits_test.csv", "--scale", "16"];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_table_and_the_json_say_what_attacks_get() {
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = digits(CNN);
    let args = [
        &["assess", CNN][..],
        &DATA,
        &["--preset", "full", "--preset", "balanced"],
    ]
    .concat();
    let (out, err) = lab.expect(0, &args);
    assert_eq!(err, "", "no progress bar where there is no terminal");
    for said in [
        "accuracy of the original 98.5 %",
        "digits_test.csv, of which attackers have up to 100; seed 0; ONNX Runtime ",
        "best fill",
        "100 labels",
        "the same answer always 1",
        "probe on the inputs themselves, 100 labels",
        "note: Fine-tuning was not tried",
        "No attacker with 1000 labels was tried",
    ] {
        assert!(out.contains(said), "{said:?} is not in\n{out}");
    }
    let (text, _) = lab.expect(0, &[&args[..], &["--json"]].concat());
    let found = json(&text);
    assert_eq!(found["metric"]["kind"], "accuracy");
    assert_eq!(found["data"]["n_samples"], 200);
    let candidates = found["candidates"].as_array().unwrap();
    let names: Vec<_> = candidates.iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["full", "balanced"]);
    assert_eq!(candidates[0]["share"], 1.0);
    // All that random numbers decide follows from the seed.
    let (again, _) = lab.expect(0, &[&args[..], &["--json"]].concat());
    assert_eq!(
        json(&again)["candidates"][1]["attacks"],
        candidates[1]["attacks"]
    );

    let documented = fs::read_to_string(lab::project("docs/JSON.md")).unwrap();
    let mut names = std::collections::BTreeSet::new();
    members(&found, &mut names);
    for name in names {
        let mut words = documented.split(|c: char| !c.is_alphanumeric() && c != '_');
        assert!(
            words.any(|word| word == name),
            "{name} is not in docs/JSON.md"
        );
    }
}

fn members(value: &Value, names: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            names.extend(object.keys().cloned());
            object.values().for_each(|value| members(value, names));
        }
        Value::Array(values) => values.iter().for_each(|value| members(value, names)),
        _ => {}
    }
}

#[test]
fn a_step_of_ci_fails_unless_all_that_was_named_holds() {
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = digits("digits_lstm.onnx");
    let policy = "strategy = \"spread\"\n[default]\ncoefficient = 0.15\n";
    fs::write(lab.path("some.toml"), policy).unwrap();
    let assess = |more: &[&str], code| {
        let args = [
            &["assess", "digits_lstm.onnx"][..],
            &DATA,
            &["--require-holds"],
            more,
        ];
        lab.expect(code, &args.concat())
    };
    let (_, err) = assess(&["--preset", "full"], 2);
    assert!(
        err.contains("--base PUBLIC.onnx") && err.contains("--no-public-base"),
        "{err}"
    );
    // With 100 labels, attackers need no model to tell these images apart.
    let alone = ["--no-public-base", "--attacker-samples", "20"];
    let assess = |more: &[&str], code| assess(&[&alone, more].concat(), code);
    let (out, err) = assess(&["--policy", "some.toml"], 6);
    assert!(err.contains("some.toml leaks: "), "{err}");
    assert!(err.contains(" points above its floor of "), "{err}");
    assert!(out.contains("leaks"), "what was found is shown too: {out}");
    let (_, err) = assess(&["--preset", "full", "--policy", "some.toml"], 6);
    assert!(!err.contains("full"), "{err}");
    let (out, _) = assess(&["--preset", "full"], 0);
    let verdict = "full holds, if no public ancestor exists: ";
    assert!(out.contains(verdict), "{out}");
    // Whatever the name says, nothing is encrypted.
    fs::write(lab.path("none.toml"), "[default]\ncoefficient = 0\n").unwrap();
    let (_, err) = assess(&["--policy", "none.toml"], 6);
    assert!(
        err.contains("none.toml leaks: nothing is encrypted"),
        "{err}"
    );
    let (_, err) = assess(&["--preset", "full", "--attacker-samples", "100"], 6);
    assert!(
        err.contains(
            "full: cannot tell: the original is hardly better than a floor: it has 98.0 %"
        ),
        "{err}"
    );
    // Of so few samples nobody can tell.
    fs::copy(lab::fixture(CNN), lab.path(CNN)).unwrap();
    let few = ["--limit", "30", "--attacker-samples", "10"];
    let assess = [
        &["assess", CNN, "--require-holds", "--no-public-base"][..],
        &DATA,
        &few,
    ];
    let (_, err) = lab.expect(6, &[&assess.concat()[..], &["--preset", "strong"]].concat());
    assert!(
        err.contains("strong: cannot tell: too few samples, about ")
            && err.contains(", on 30 samples"),
        "{err}"
    );
}

#[test]
fn whoever_has_the_public_base_is_reckoned_with() {
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = Lab::new();
    for name in ["victim.onnx", "base.onnx", "samples.npz"] {
        let fixture = lab::project("fixtures/public").join(name);
        fs::copy(fixture, lab.path(name)).unwrap();
    }
    let data = ["--data", "samples.npz", "--scale", "255"];
    let assess = [
        &["assess", "victim.onnx", "--preset", "balanced"][..],
        &data,
    ]
    .concat();
    let (out, _) = lab.expect(0, &assess);
    assert!(out.starts_with("Nobody tried a public base."), "{out}");
    let with_base = [&assess[..], &["--base", "base.onnx", "--require-holds"]].concat();
    let (out, err) = lab.expect(6, &with_base);
    assert!(
        out.contains("a probe on the public base, 100 labels"),
        "{out}"
    );
    assert!(
        err.contains("balanced leaks: probe on the public base with 100 labels gets"),
        "{err}"
    );
    let both = [&with_base[..], &["--no-public-base"]].concat();
    lab.expect(2, &both);
}

#[test]
fn a_protected_model_is_assessed_as_it_is() {
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = digits(CNN);
    lab.expect(
        0,
        &[
            "-q",
            "protect",
            CNN,
            "-o",
            "s.onnx",
            "-r",
            &lab.recipient,
            "--preset",
            "balanced",
        ],
    );
    let (out, _) = lab.expect(
        0,
        &[&["assess", "s.onnx", "-i", "id.txt"][..], &DATA].concat(),
    );
    assert!(out.contains("as protected"), "{out}");
    assert!(!out.contains("balanced"), "{out}");
    let (_, err) = lab.expect(2, &[&["assess", "s.onnx"][..], &DATA].concat());
    assert!(err.contains("--identity"), "{err}");
    let (_, err) = lab.expect(2, &[&["assess", CNN, "-i", "id.txt"][..], &DATA].concat());
    assert!(err.contains("is not protected"), "{err}");
}

#[test]
fn data_that_do_not_fit_are_refused() {
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = digits(CNN);
    fs::write(lab.path("narrow.csv"), "label,a,b\n1,2,3\n2,3,4\n").unwrap();
    let csv = fs::read_to_string(lab.path("digits_test.csv")).unwrap();
    let (head, rows) = csv.split_once('\n').unwrap();
    let (_, row) = rows.split_once(',').unwrap();
    fs::write(lab.path("range.csv"), format!("{head}\n10,{row}")).unwrap();
    fs::write(lab.path("text.csv"), "label,a\n1,b\n").unwrap();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--data", "narrow.csv"], 2, "a sample of the data is"),
        (
            &["--data", "range.csv"],
            2,
            "row 0 has label 10; the model's 10 classes count from 0",
        ),
        (&["--data", "text.csv"], 3, "text.csv"),
        (&["--data", "none.csv"], 7, "none.csv"),
        (
            &["--data", "digits_test.csv", "--mean", "1,2"],
            3,
            "mean has 2 numbers",
        ),
        (
            &["--data", "digits_test.csv", "--output-name", "no"],
            2,
            "no",
        ),
    ];
    for (more, code, said) in cases {
        let (_, err) = lab.expect(code, &[&["assess", CNN][..], more].concat());
        assert!(err.contains(said), "{more:?}: {err}");
    }
}

#[test]
fn without_data_it_says_how_little_that_shows() {
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = digits(CNN);
    let (out, _) = lab.expect(0, &["assess", CNN, "--preset", "balanced"]);
    assert!(
        out.contains("agreement with the original") && out.contains("random numbers"),
        "{out}"
    );
}

#[test]
fn a_ranking_chooses_for_its_own_model() {
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = digits(CNN);
    lab.model();
    lab.expect(0, &["rank", CNN, "--method", "activation", "-o", "r.json"]);
    let (_, err) = lab.expect(2, &["rank", CNN, "--method", "activation", "-o", "r.json"]);
    assert!(
        err.contains("r.json exists already") && err.contains("--force"),
        "{err}"
    );
    let again = ["rank", CNN, "--method", "activation", "-o", "r.json"];
    lab.expect(0, &[&again[..], &["--force"]].concat());
    let plan = |model, ranking| ["plan", model, "--preset", "balanced", "--ranking", ranking];
    let (out, _) = lab.expect(0, &[&plan(CNN, "r.json")[..], &["--json"]].concat());
    assert_eq!(json(&out)["operators"][0]["tensors"][0]["unit"], 64);
    let policy = ["--policy", "half.toml", "--ranking", "r.json"];
    fs::write(lab.path("half.toml"), "[default]\ncoefficient = 0.5\n").unwrap();
    let protect = ["protect", CNN, "-o", "s.onnx", "-r", &lab.recipient];
    lab.expect(0, &[&protect[..], &policy].concat());
    lab.expect(
        0,
        &[&["verify", "s.onnx", "-i", "id.txt"][..], &policy].concat(),
    );
    let rotate = ["rotate", "s.onnx", "-i", "id.txt", "-r", &lab.recipient];
    lab.expect(0, &[&rotate[..], &policy].concat());
    for command in ["plan", "verify"] {
        let (_, err) = lab.expect(2, &[command, "s.onnx", "--ranking", "r.json"]);
        assert!(err.contains("give a policy or a preset"), "{err}");
    }
    let batch = ["batch", "protect", CNN, "-o", "out", "-r", &lab.recipient];
    lab.expect(0, &[&batch[..], &policy].concat());
    lab.expect(
        0,
        &[&["batch", "verify", "out", "-i", "id.txt"][..], &policy].concat(),
    );

    // Another model, and what is no ranking.
    fs::copy(lab::fixture("digits_gru.onnx"), lab.path("gru.onnx")).unwrap();
    let (_, err) = lab.expect(2, &plan("gru.onnx", "r.json"));
    assert!(err.contains("the ranking is of another model"), "{err}");
    let (_, err) = lab.expect(2, &plan(CNN, "half.toml"));
    assert!(
        err.contains("half.toml") && err.contains("invalid ranking"),
        "{err}"
    );
    lab.expect(7, &plan(CNN, "none.json"));
    lab.expect(
        2,
        &["rank", CNN, "--method", "activation", "-o", CNN, "--force"],
    );
    let rank = ["rank", CNN, "--method", "activation", "-o", "a.json"];
    lab.expect(0, &[&rank[..], &DATA].concat());
    let assess = ["assess", CNN, "--preset", "balanced", "--ranking", "a.json"];
    lab.expect(0, &[&assess[..], &DATA].concat());
    let assess = [
        "assess",
        "gru.onnx",
        "--preset",
        "balanced",
        "--ranking",
        "a.json",
    ];
    let (_, err) = lab.expect(2, &[&assess[..], &DATA].concat());
    assert!(err.contains("the ranking is of another model"), "{err}");
}

#[cfg(unix)]
#[test]
fn a_metric_may_be_a_program() {
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = digits(CNN);
    let assess = |command| {
        let more = ["--preset", "full", "--metric-command", command];
        lab.run(&[&["assess", CNN, "-q"][..], &DATA, &more, &["--json"]].concat())
    };
    let output = assess("expr 2 + 3 #");
    assert_eq!(output.status.code(), Some(2));
    let output = assess("false");
    assert_eq!(output.status.code(), Some(2));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("the metric failed: false"), "{err}");
    fs::write(lab.path("metric.sh"), "echo 0.25\n").unwrap();
    let output = assess("sh metric.sh");
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{err}");
    let found = json(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(found["original"]["value"], 0.25);
}

#[test]
fn reports_replace_nothing_without_being_told() {
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = digits(CNN);
    let more = ["--preset", "full", "--report", "r.html"];
    let args = [&["assess", CNN, "-q"][..], &DATA, &more].concat();
    lab.expect(0, &args);
    let page = fs::read_to_string(lab.path("r.html")).unwrap();
    assert!(
        page.trim_start()
            .to_ascii_lowercase()
            .starts_with("<!doctype html>")
    );
    let (_, err) = lab.expect(2, &args);
    assert!(err.contains("r.html exists already"), "{err}");
    lab.expect(0, &[&args[..], &["--force"]].concat());
    lab.expect(2, &["assess", CNN, "--report", CNN, "--force"]);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_an_assessment() {
    use std::process::Stdio;
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = digits(CNN);
    let args = [&["assess", CNN][..], &DATA, &["--report", "r.html"]].concat();
    let mut command = lab.command(&args);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(400));
    let pid = child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    // Killed where it did not listen yet, done where it was fast.
    if output.status.code() == Some(130) {
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(err.contains("stopped: nothing was written"), "{err}");
        assert!(!lab.path("r.html").exists());
    }
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_a_ranking_of_what_was_done() {
    use std::process::Stdio;
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = digits(CNN);
    let rank = ["rank", CNN, "--method", "probabilistic", "-o", "r.json"];
    let args = [&rank[..], &["--masks", "1000000"], &DATA].concat();
    // Longer where the machine is busy: it needs some masks at least.
    for seconds in [1, 4, 16] {
        let mut command = lab.command(&args);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{err}");
        if err.contains("nothing was ranked yet") {
            continue;
        }
        let said = "of 1000000 masks";
        assert!(
            err.contains("stopped: r.json is a partial ranking, from ") && err.contains(said),
            "{err}"
        );
        let ranking = json(&fs::read_to_string(lab.path("r.json")).unwrap());
        assert_eq!(ranking["partial"], true);
        let plan = ["plan", CNN, "--preset", "balanced", "--ranking", "r.json"];
        lab.expect(0, &plan);
        return;
    }
    panic!("nothing was ranked in 16 seconds");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_run_under_way() {
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = Lab::new();
    // Minutes, if the run went on to its end.
    fs::write(lab.path("products.onnx"), products(30_000)).unwrap();
    let rank = [
        "rank",
        "products.onnx",
        "--method",
        "activation",
        "-o",
        "ranking.json",
    ];
    for args in [&["assess", "products.onnx", "--no-public-base"][..], &rank] {
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
            let begun = Instant::now();
            let is_time = || begun.elapsed() > Duration::from_secs(2);
            let (stopped, err) = lab::stopped(&lab, args, signal, is_time);
            assert_eq!(stopped, Some(code), "{err}");
            assert!(err.starts_with("error: stopped: nothing was "), "{err}");
            assert!(begun.elapsed() < Duration::from_secs(30), "{args:?}");
        }
    }
    assert!(!lab.path("ranking.json").exists());
}
