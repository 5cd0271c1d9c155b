//! `verify` as a CI step: many models, what becomes of each, and what the step exits with.

use std::fs;

use clap::ValueEnum as _;
use onnxseal_testkit::samples;
use serde_json::Value;

use crate::lab::{self, Lab};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A lab with `good/sealed.onnx`, and models in `zoo` that are good and bad in all ways.
fn zoo() -> Lab {
    let lab = Lab::new();
    let sealed = fs::read(lab.path(lab.protected())).unwrap();
    for folder in ["good", "zoo/sub"] {
        fs::create_dir_all(lab.path(folder)).unwrap();
    }
    fs::write(lab.path("good/sealed.onnx"), &sealed).unwrap();
    fs::write(lab.path("zoo/sealed"), &sealed).unwrap();
    fs::copy(lab.path("model.onnx"), lab.path("zoo/sub/plain.bin")).unwrap();
    fs::write(lab.path("zoo/text.txt"), "no model").unwrap();
    lab
}

/// Adds one that was changed, one for somebody else, one that is cut and one that is empty.
fn add_bad(lab: &Lab) {
    let mut forged = fs::read(lab.path("zoo/sealed")).unwrap();
    forged[20_000] ^= 1;
    fs::write(lab.path("zoo/forged.onnx"), forged).unwrap();
    fs::write(lab.path("zoo/cut.onnx"), &samples::gemm()[..99]).unwrap();
    fs::write(lab.path("zoo/empty.onnx"), "").unwrap();
    let (other, _) = lab.expect(0, &["keygen", "-o", "other.txt"]);
    let args = ["-q", "protect", "model.onnx", "-o", "zoo/other.onnx", "-r"];
    lab.expect(0, &[&args[..], &[other.trim()]].concat());
}

/// Model, status and whether that is a failure, of each.
fn rows(report: &Value) -> Vec<(&str, &str, bool)> {
    let rows = report["models"].as_array().unwrap().iter();
    rows.map(|row| {
        let text = |name: &str| row[name].as_str().unwrap();
        (
            text("model"),
            text("status"),
            row["failed"].as_bool().unwrap(),
        )
    })
    .collect()
}

#[test]
fn every_model_is_verified_and_the_worst_failure_is_the_exit_code() {
    let lab = zoo();
    let report = |code: i32, args: &[&str]| {
        let (out, _) = lab.expect(code, &[&["verify", "--json"], args].concat());
        let report = json(&out);
        assert_eq!(report["exit_code"], code);
        report
    };
    let plain = ("zoo/sub/plain.bin", "not_protected");
    let sealed = ("zoo/sealed", "ok", false);
    let found = report(0, &["zoo"]);
    assert_eq!(rows(&found), [sealed, (plain.0, plain.1, false)]);
    assert_eq!(found["models"][0]["authenticated"], false);
    assert_eq!(found["models"][1]["rule"], "ONNXSEAL001");
    let summary = &found["summary"];
    assert_eq!(
        [
            &summary["models"],
            &summary["ok"],
            &summary["not_protected"],
            &summary["failed"]
        ],
        [2, 1, 1, 0]
    );
    let found = report(6, &["zoo", "--require-protected", "-i", "id.txt"]);
    assert_eq!(rows(&found), [sealed, (plain.0, plain.1, true)]);
    assert_eq!(found["models"][0]["authenticated"], true);
    report(0, &["good", "zoo/sealed", "--require-protected"]);
    report(6, &["zoo", "--preset", "balanced"]);
    report(0, &["good", "zoo/sealed", "--preset", "balanced"]);
    let found = report(6, &["zoo/sealed", "good", "--preset", "full"]);
    assert_eq!(found["models"][0]["status"], "below_policy");

    add_bad(&lab);
    let found = report(4, &["zoo", "--require-protected", "-i", "id.txt"]);
    assert_eq!(
        rows(&found),
        [
            ("zoo/cut.onnx", "malformed", true),
            ("zoo/empty.onnx", "malformed", true),
            ("zoo/forged.onnx", "authentication_failed", true),
            ("zoo/other.onnx", "no_matching_key", true),
            sealed,
            (plain.0, plain.1, true),
        ]
    );
    // Without a key nobody can tell.
    report(3, &["zoo"]);
    report(5, &["good", "zoo/other.onnx", "-i", "id.txt"]);
    report(
        6,
        &[
            "zoo/sub",
            "zoo/other.onnx",
            "-i",
            "id.txt",
            "--require-protected",
        ],
    );
}

#[test]
fn people_read_a_line_for_each() {
    let lab = zoo();
    let (out, err) = lab.expect(0, &["verify", "zoo"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].starts_with("zoo/sealed: ok, ") && lines[0].contains("not checked"),
        "{out}"
    );
    assert_eq!(lines[1], "zoo/sub/plain.bin: not protected");
    assert_eq!(lines[2], "2 models: 1 ok, 1 not protected, 0 failed");
    assert_eq!((lines.len(), &*err), (3, ""));
    // What is not protected meets no demand.
    fs::write(lab.path("allowed"), "").unwrap();
    for demand in [
        &["--preset", "balanced"][..],
        &["-i", "id.txt"],
        &["--require-protected"],
    ] {
        let (out, _) = lab.expect(6, &[&["verify", "zoo"], demand].concat());
        assert!(out.contains("plain.bin: FAILED, not protected"), "{out}");
    }
    let args = ["verify", "zoo", "--allowed-signers", "allowed"];
    let (out, _) = lab.expect(4, &args);
    assert!(out.contains("plain.bin: FAILED, not protected"), "{out}");

    add_bad(&lab);
    let (out, err) = lab.expect(4, &["verify", "zoo", "-i", "id.txt"]);
    assert!(
        out.contains("zoo/forged.onnx: FAILED, authentication failed"),
        "{out}"
    );
    assert!(out.contains("6 models: 1 ok, 5 failed"), "{out}");
    assert_eq!(err, "error: 5 of 6 models failed\n");
    let (out, err) = lab.expect(4, &["-q", "verify", "zoo", "-i", "id.txt"]);
    assert_eq!((&*out, err.lines().count()), ("", 6), "{err}");
}

#[test]
fn nothing_to_check_is_a_failure() {
    let lab = Lab::new();
    fs::create_dir(lab.path("empty")).unwrap();
    fs::write(lab.path("list"), "# nothing yet\n").unwrap();
    let cases: [(i32, &[&str], &str); 5] = [
        (2, &["empty"], "nothing was checked"),
        (2, &["--list", "list"], "nothing was checked"),
        (2, &["empty", "*.onnx"], "matches nothing"),
        (7, &["empty", "absent.onnx"], "absent.onnx"),
        (7, &["absent.onnx"], "cannot open absent.onnx"),
    ];
    for (code, args, says) in cases {
        for format in [&[][..], &["--json"], &["--sarif"]] {
            let command = [&["verify"], format, args].concat();
            let (out, err) = lab.expect(code, &command);
            assert!(err.contains(says) && out.is_empty(), "{args:?}: {err}");
        }
    }
    lab.expect(2, &["verify"]);
}

#[test]
fn one_file_is_as_it_always_was() {
    let lab = zoo();
    let plain = json(&lab.expect(0, &["verify", "good/sealed.onnx", "--json"]).0);
    assert!(plain.get("models").is_none() && plain["authenticated"] == false);
    let named = lab.expect(0, &["verify", "good/sealed.onnx", "--json"]);
    assert_eq!(json(&named.0), plain);
    let (_, err) = lab.expect(2, &["verify", "model.onnx"]);
    assert!(err.contains("is not protected"), "{err}");
    let (out, _) = lab.expect(6, &["verify", "model.onnx", "--require-protected"]);
    assert!(out.contains("model.onnx: FAILED, not protected"), "{out}");
}

#[test]
fn models_in_onnx_runtimes_own_format_cannot_be_protected() {
    let lab = zoo();
    let ort = [&b"\x38\0\0\0ORTM"[..], &[0; 100]].concat();
    fs::write(lab.path("zoo/sub/model.bin"), &ort).unwrap();
    let (out, _) = lab.expect(0, &["verify", "zoo"]);
    assert!(
        out.contains("model.bin: not protected, and cannot be: "),
        "{out}"
    );
    let (out, _) = lab.expect(6, &["verify", "zoo", "--require-protected"]);
    let said = "model.bin: FAILED, not protected, and cannot be: it is a model in ONNX Runtime's own format (.ort); protect the ONNX model it was made from";
    assert!(out.contains(said), "{out}");
    let report = json(&lab.expect(0, &["verify", "zoo", "--json"]).0);
    assert_eq!(report["summary"]["not_protected"], 2);
    for command in [
        &["inspect"][..],
        &["verify"],
        &["unprotect", "-i", "id.txt", "-o", "out.onnx"],
    ] {
        let (_, err) = lab.expect(2, &[command, &["zoo/sub/model.bin"]].concat());
        assert!(
            err.contains("own format (.ort), which cannot be protected"),
            "{err}"
        );
        assert!(
            err.contains("protect the ONNX model it was made from"),
            "{err}"
        );
    }
}

#[test]
fn lists_and_globs_are_sources() {
    let lab = zoo();
    fs::write(lab.path("zoo/list"), "# ours\nsealed\n../good\n").unwrap();
    let (out, _) = lab.expect(0, &["verify", "--list", "zoo/list", "zoo/*ed", "--json"]);
    assert_eq!(rows(&json(&out)).len(), 2, "{out}");
}

#[test]
fn sarif_has_a_result_for_each_failure() {
    let lab = zoo();
    add_bad(&lab);
    let args = ["verify", "zoo", "-i", "id.txt", "--sarif"];
    let log = json(&lab.expect(4, &args).0);
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["version"], env!("CARGO_PKG_VERSION"));
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap().iter().map(|result| {
        let rule = &rules[result["ruleIndex"].as_u64().unwrap() as usize];
        assert_eq!(rule["id"], result["ruleId"]);
        let location = &result["locations"][0]["physicalLocation"]["artifactLocation"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        [&result["ruleId"], &result["level"], &location["uri"]].map(text)
    });
    let expected = [
        ["ONNXSEAL003", "error", "zoo/cut.onnx"],
        ["ONNXSEAL003", "error", "zoo/empty.onnx"],
        ["ONNXSEAL004", "error", "zoo/forged.onnx"],
        ["ONNXSEAL005", "error", "zoo/other.onnx"],
        ["ONNXSEAL001", "error", "zoo/sub/plain.bin"],
    ];
    assert_eq!(results.collect::<Vec<_>>(), expected);
    assert_eq!(run["artifacts"].as_array().unwrap().len(), 6);
    assert_eq!(run["invocations"][0]["exitCode"], 4);
    // Without a demand it is no failure.
    fs::remove_dir_all(lab.path("zoo")).unwrap();
    fs::create_dir(lab.path("zoo")).unwrap();
    fs::write(lab.path("zoo/plain.bin"), samples::gemm()).unwrap();
    let log = json(&lab.expect(0, &["verify", "zoo", "--sarif"]).0);
    assert_eq!(log["runs"][0]["results"][0]["level"], "note");
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_does_not_make_failures_pass() {
    let lab = zoo();
    add_bad(&lab);
    for format in ["", "--json", "--sarif"] {
        let script = format!(
            "(\"$0\" verify zoo -i id.txt {format}; echo $? > code) | true; sleep 0.1; cat code"
        );
        let output = lab.shell(&script).output().unwrap();
        assert_eq!(lab::stdout(&output), "4\n", "{format}");
    }
}

#[test]
fn a_folder_that_cannot_be_read_is_no_empty_folder() {
    let lab = zoo();
    let mut strace = std::process::Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "--trace=getdents64"]);
    // Each folder is read in two calls: the second folder is `zoo/sub`.
    strace.arg("--inject=getdents64:error=EACCES:when=3+");
    strace.args([env!("CARGO_BIN_EXE_onnxseal"), "verify", "zoo"]);
    let output = strace.current_dir(lab.dir.path()).output();
    let Some(output) = output.ok().filter(|output| output.status.code() != Some(1)) else {
        eprintln!("skipped: injecting faults needs strace, and leave to trace");
        return;
    };
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{err}");
    // What could be looked at was checked.
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(
        out.contains("zoo/sub: FAILED, cannot read zoo/sub"),
        "{out}"
    );
    assert!(out.contains("zoo/sealed: ok"), "{out}");
}

#[cfg(unix)]
#[test]
fn shells_and_man_get_what_they_want() {
    let lab = Lab::new();
    for shell in clap_complete::Shell::value_variants() {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut onnxseal::command(), "onnxseal", &mut script);
        let text = str::from_utf8(&script).unwrap();
        assert!(text.contains("require-protected"), "{shell}");
        fs::write(lab.path(&shell.to_string()), script).unwrap();
    }
    let checks = [
        ("bash", "bash -n bash"),
        // What bash offers for a command line.
        (
            "bash",
            "bash -c 'source ./bash; COMP_WORDS=(onnxseal ver); COMP_CWORD=1; _onnxseal onnxseal ver; \
             test \"${COMPREPLY[0]}\" = verify'",
        ),
        ("zsh", "zsh -n zsh"),
        ("fish", "fish -n fish"),
    ];
    for (program, check) in checks {
        let script = format!("command -v {program} >/dev/null || exit 77; {check}");
        match lab.shell(&script).output().unwrap().status.code() {
            Some(77) => eprintln!("skipped: there is no {program}"),
            code => assert_eq!(code, Some(0), "{check}"),
        }
    }

    fs::create_dir_all(lab.path("man/man1")).unwrap();
    clap_mangen::generate_to(onnxseal::command(), lab.path("man/man1")).unwrap();
    let mut pages: Vec<String> = fs::read_dir(lab.path("man/man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    assert!(pages.contains(&"onnxseal.1".into()) && pages.contains(&"onnxseal-verify.1".into()));
    let (help, _) = lab.expect(0, &["--help"]);
    let commands = help
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("Options:")
        .next()
        .unwrap();
    let n_commands = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    // `help` has no page of its own, and the tool has one; those of `batch`, `fingerprint` and
    // others have theirs.
    let of_other = |page: &&String| {
        let groups = [
            "batch",
            "fingerprint",
            "inputs",
            "labels",
            "licence",
            "tiers",
        ];
        let mut groups = groups.iter().map(|group| format!("onnxseal-{group}-"));
        groups.any(|group| page.starts_with(&group))
    };
    let n_pages = pages.len() - pages.iter().filter(of_other).count();
    assert_eq!(n_pages, n_commands.count(), "{pages:?}");
    let main = fs::read_to_string(lab.path("man/man1/onnxseal.1")).unwrap();
    assert!(main.contains("Exit codes"));
    for page in pages {
        let script = format!(
            "command -v groff >/dev/null || exit 77; groff -man -Tutf8 -ww -z man/man1/{page} 2>&1"
        );
        let output = lab.shell(&script).output().unwrap();
        match output.status.code() {
            Some(77) => eprintln!("skipped: there is no groff"),
            code => assert_eq!((code, &*lab::stdout(&output)), (Some(0), ""), "{page}"),
        }
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_a_model_is_verified_with_the_data_beside_the_link() {
    use std::os::unix::fs::symlink;

    let lab = Lab::with_sample(&samples::external_data());
    fs::create_dir_all(lab.path("link/weights")).unwrap();
    symlink("../sealed/model.onnx", lab.path("link/model.onnx")).unwrap();
    for file in ["weights/w.bin", "b.bin"] {
        fs::copy(lab.path("sealed").join(file), lab.path("link").join(file)).unwrap();
    }
    let both = [
        &["sealed/model.onnx", "link/model.onnx"][..],
        &["sealed", "link"],
        &["{sealed,link}/*.onnx"],
    ];
    let verify =
        |code, sources: &[&str]| lab.expect(code, &[&["verify", "-i", "id.txt"], sources].concat());
    for sources in both {
        let (out, _) = verify(0, sources);
        assert!(out.contains("2 models: 2 ok"), "{out}");
    }
    let mut data = fs::read(lab.path("link/weights/w.bin")).unwrap();
    data[0] ^= 1;
    fs::write(lab.path("link/weights/w.bin"), data).unwrap();
    for sources in both {
        let (out, _) = verify(4, sources);
        assert!(out.contains("2 models: 1 ok, 1 failed"), "{out}");
    }
}

#[test]
fn adapters_in_a_folder_are_not_passed_over() {
    let lab = zoo();
    // As ONNX Runtime 1.32 begins them.
    let adapter = [&b"\x0c\0\0\0TORT\0\0\0\0\xe4\xff\xff\xff"[..], &[1; 200]].concat();
    fs::write(lab.path("good/style.onnx_adapter"), adapter).unwrap();
    let adapter = "good/style.onnx_adapter";
    let (out, _) = lab.expect(0, &["verify", "good"]);
    assert!(
        out.contains("2 models: 1 ok, 1 not protected, 0 failed"),
        "{out}"
    );
    assert!(
        out.contains(adapter) && out.contains("merge it into its model"),
        "{out}"
    );
    let (out, _) = lab.expect(6, &["verify", "good", "--require-protected", "--json"]);
    let sealed = ("good/sealed.onnx", "ok", false);
    assert_eq!(
        rows(&json(&out)),
        [sealed, (adapter, "not_protected", true)]
    );
    lab.expect(6, &["verify", "good", "-i", "id.txt"]);
    for args in [
        &["verify", adapter][..],
        &["inspect", adapter],
        &["protect", adapter, "-o", "x.onnx", "-r", &lab.recipient],
    ] {
        let (_, err) = lab.expect(if args[0] == "protect" { 3 } else { 2 }, args);
        assert!(err.contains("an adapter (LoRA"), "{err}");
        assert!(err.contains("merge it into its model"), "{err}");
    }
    let batch = [
        "batch",
        "protect",
        "good",
        "--out",
        "out",
        "-r",
        &lab.recipient,
    ];
    assert!(lab.run(&batch).status.code() != Some(0));
}
