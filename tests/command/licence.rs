//! Licences as vendors and customers meet them.

use std::fs;

use serde_json::Value;

use crate::lab::{self, Lab};

/// A folder with a model protected to the publisher alone, and an identity of a customer.
fn vendor() -> (Lab, String) {
    let lab = Lab::new();
    let model = lab.model();
    lab.expect(
        0,
        &[
            "-q",
            "protect",
            model,
            "-o",
            "sealed.onnx",
            "-r",
            &lab.recipient,
        ],
    );
    let (customer, _) = lab.expect(0, &["keygen", "-o", "acme.txt"]);
    (lab, customer.trim().to_owned())
}

fn issue(lab: &Lab, code: i32, to: &str, out: &str, more: &[&str]) -> String {
    let args = [
        "licence",
        "issue",
        "sealed.onnx",
        "-i",
        "id.txt",
        "-r",
        to,
        "-o",
        out,
    ];
    lab.expect(code, &[&args[..], more].concat()).1
}

/// Opens the model as the customer, and returns what the command says on failure.
fn open(lab: &Lab, code: i32, more: &[&str]) -> String {
    let args = [
        "unprotect",
        "sealed.onnx",
        "-i",
        "acme.txt",
        "-o",
        "opened.onnx",
        "-f",
    ];
    let (_, error) = lab.expect(code, &[&args[..], more].concat());
    if code == 0 {
        let original = fs::read(lab.path("model.onnx")).unwrap();
        assert_eq!(fs::read(lab.path("opened.onnx")).unwrap(), original);
        fs::remove_file(lab.path("opened.onnx")).unwrap();
    } else {
        assert!(!lab.path("opened.onnx").exists());
    }
    error
}

#[test]
fn a_licence_opens_the_model_named_beside_it_or_in_the_environment() {
    let (lab, customer) = vendor();
    let before = fs::read(lab.path("sealed.onnx")).unwrap();
    issue(
        &lab,
        0,
        &customer,
        "acme.licence",
        &["--claim", "customer=acme"],
    );
    assert_eq!(fs::read(lab.path("sealed.onnx")).unwrap(), before);
    open(&lab, 5, &[]);
    open(&lab, 0, &["--licence", "acme.licence"]);
    let with = lab.command(&["verify", "sealed.onnx", "-i", "acme.txt"]);
    let run = |mut command: std::process::Command, licence: &str| {
        command
            .env("ONNXSEAL_LICENCE", licence)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(run(with, "acme.licence"), Some(0));
    let missing = lab.command(&["verify", "sealed.onnx", "-i", "acme.txt"]);
    assert_eq!(run(missing, "missing.licence"), Some(7));
    let empty = lab.command(&["verify", "sealed.onnx", "-i", "acme.txt"]);
    assert_eq!(run(empty, ""), Some(2));
    // Beside the model it is tried last, so its dates do not shut the publisher out.
    fs::copy(lab.path("acme.licence"), lab.path("sealed.onnx.licence")).unwrap();
    open(&lab, 0, &[]);
    issue(
        &lab,
        0,
        &customer,
        "sealed.onnx.licence",
        &["-f", "--not-after", "2020-01-01"],
    );
    open(&lab, 9, &[]);
    lab.expect(0, &["verify", "sealed.onnx", "-i", "id.txt"]);
    // One that is named is used.
    open(&lab, 0, &["--licence", "acme.licence"]);
    // No output takes its place while it is read.
    let over = [
        "unprotect",
        "sealed.onnx",
        "-i",
        "id.txt",
        "-f",
        "-o",
        "sealed.onnx.licence",
    ];
    lab.expect(2, &over);
    // A publisher's calls take none.
    lab.expect(
        5,
        &["rekey", "sealed.onnx", "-i", "acme.txt", "-r", &customer],
    );
}

#[test]
fn dates_have_an_exit_code_and_say_whom_to_ask() {
    let (lab, customer) = vendor();
    let contact = ["--claim", "contact=sales@example.com"];
    for (date, text) in [
        (["--not-after", "2020-02-29"], "opened until 2020-02-29"),
        (["--not-before", "9990-01-01"], "opens from 9990-01-01"),
    ] {
        issue(
            &lab,
            0,
            &customer,
            "a.licence",
            &[&date[..], &contact, &["-f"]].concat(),
        );
        let error = open(&lab, 9, &["--licence", "a.licence"]);
        assert!(
            error.contains(text) && error.contains("sales@example.com"),
            "{error}"
        );
        lab.expect(9, &["licence", "verify", "a.licence", "-i", "acme.txt"]);
        let several = [
            "verify",
            "sealed.onnx",
            "--require-protected",
            "-i",
            "acme.txt",
        ];
        let several = [&several[..], &["--licence", "a.licence", "--json"]].concat();
        assert!(lab.expect(9, &several).0.contains("not_in_force"));
        let (shown, _) = lab.expect(0, &["licence", "show", "a.licence"]);
        assert!(shown.contains("not in force"), "{shown}");
    }
    for date in ["2027-02-29", "soon", "2027-1-1", "2027-01-01T00:00:00"] {
        let error = issue(&lab, 2, &customer, "b.licence", &["--not-after", date]);
        assert!(error.contains("no date"), "{error}");
    }
    issue(
        &lab,
        2,
        &customer,
        "b.licence",
        &["--claim", "Not_After=2027-01-01"],
    );
    assert!(!lab.path("b.licence").exists());
}

#[test]
fn dates_of_models_are_kept_and_marked() {
    let lab = Lab::new();
    let protect = |out: &str, claim: &str, code| {
        let to = &lab.recipient;
        let args = [
            "-q",
            "protect",
            lab.model(),
            "-o",
            out,
            "-r",
            to,
            "--claim",
            claim,
        ];
        lab.expect(code, &args).1
    };
    protect("no.onnx", "not-after=never", 2);
    protect("past.onnx", "not-after=2020-01-01", 0);
    let open = ["unprotect", "past.onnx", "-i", "id.txt", "-o", "x.onnx"];
    let (_, error) = lab.expect(9, &open);
    assert!(error.contains("2020-01-01"), "{error}");
    let (said, _) = lab.expect(0, &["verify", "past.onnx", "-i", "id.txt"]);
    assert!(said.contains("NOT IN FORCE"), "{said}");
    let (said, _) = lab.expect(0, &["verify", "past.onnx", "-i", "id.txt", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["not_in_force"], "not-after");
    let report = [
        "batch",
        "verify",
        "past.onnx",
        "-i",
        "id.txt",
        "--report",
        "r.json",
    ];
    lab.expect(0, &report);
    let report: Value = serde_json::from_slice(&fs::read(lab.path("r.json")).unwrap()).unwrap();
    assert_eq!(report["models"][0]["not_in_force"], "not-after");
    // The publisher gives it another date.
    let rotate = ["rotate", "past.onnx", "-i", "id.txt", "-r", &lab.recipient];
    lab.expect(2, &[&rotate[..], &["--claim", "not-after=soon"]].concat());
    lab.expect(
        0,
        &[&rotate[..], &["--claim", "not-after=9999-12-31"]].concat(),
    );
    lab.expect(0, &open);
}

#[test]
fn a_table_makes_a_licence_for_each_row() {
    let (lab, customer) = vendor();
    let table = format!(
        "customer,recipient,not-after,contract\nacme,{customer},2999-01-01,7\nwrong,age1x,,\nold,{customer},2020-01-01,8\nbad,{customer},2020-02-30,8\n"
    );
    fs::write(lab.path("customers.csv"), table).unwrap();
    let args = [
        "licence",
        "issue",
        "sealed.onnx",
        "-i",
        "id.txt",
        "--table",
        "customers.csv",
        "-o",
        "out",
    ];
    let (_, error) = lab.expect(2, &args);
    assert!(
        error.contains("failed: wrong") && error.contains("failed: bad"),
        "{error}"
    );
    assert!(error.contains("2 of 4 rows"), "{error}");
    assert_eq!(fs::read_dir(lab.path("out")).unwrap().count(), 2);
    let (shown, _) = lab.expect(0, &["licence", "show", "out/acme.licence", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["claims"]["contract"], "7");
    open(&lab, 0, &["--licence", "out/acme.licence"]);
    open(&lab, 9, &["--licence", "out/old.licence"]);
    // None takes another's place unasked.
    lab.expect(2, &args);
}

#[test]
fn signatures_are_checked_and_demanded() {
    let (lab, customer) = vendor();
    let Some(key) = lab::ssh_key(&lab, "sign") else {
        return;
    };
    let signers = "signers";
    fs::write(lab.path(signers), format!("release@example.com {key}\n")).unwrap();
    issue(&lab, 0, &customer, "plain.licence", &[]);
    issue(
        &lab,
        0,
        &customer,
        "signed.licence",
        &["--sign-key", "sign"],
    );
    let verify = |licence: &str, code| {
        lab.expect(
            code,
            &["licence", "verify", licence, "--allowed-signers", signers],
        )
    };
    verify("plain.licence", 4);
    assert!(verify("signed.licence", 0).0.contains("signed by release"));
    let text = fs::read_to_string(lab.path("signed.licence")).unwrap();
    fs::write(
        lab.path("changed.licence"),
        text.replace("- sealed", "- Sealed"),
    )
    .unwrap();
    verify("changed.licence", 4);
    let error = open(&lab, 4, &["--licence", "changed.licence"]);
    assert!(error.contains("changed since it was issued"), "{error}");
    lab.expect(0, &["-q", "sign", "sealed.onnx", "-k", "sign"]);
    open(
        &lab,
        4,
        &["--allowed-signers", signers, "--licence", "plain.licence"],
    );
    open(
        &lab,
        0,
        &["--allowed-signers", signers, "--licence", "signed.licence"],
    );
}

#[test]
fn a_licence_is_for_the_models_that_it_lists() {
    let (lab, customer) = vendor();
    let again = [
        "-q",
        "protect",
        "model.onnx",
        "-o",
        "other.onnx",
        "-r",
        &lab.recipient,
    ];
    lab.expect(0, &again);
    issue(&lab, 0, &customer, "one.licence", &[]);
    let other = ["verify", "other.onnx", "-i", "acme.txt", "--licence"];
    let (_, error) = lab.expect(5, &[&other[..], &["one.licence"]].concat());
    assert!(error.contains("no key for"), "{error}");
    let both = [
        "licence",
        "issue",
        ".",
        "-i",
        "id.txt",
        "-r",
        &customer,
        "-o",
        "both.licence",
    ];
    // The folder has the original too.
    lab.expect(2, &both);
    fs::remove_file(lab.path("model.onnx")).unwrap();
    lab.expect(0, &both);
    lab.expect(0, &[&other[..], &["both.licence"]].concat());
    // Others keep the same model once.
    fs::copy(lab.path("other.onnx"), lab.path("copy.onnx")).unwrap();
    lab.expect(0, &[&both[..], &["-f"]].concat());
    let (shown, _) = lab.expect(0, &["licence", "show", "both.licence", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["models"].as_array().unwrap().len(), 2);
    // Renewed keys need another licence, and whoever has the old one is told.
    lab.expect(
        0,
        &["rotate", "other.onnx", "-i", "id.txt", "-r", &lab.recipient],
    );
    lab.expect(5, &[&other[..], &["both.licence"]].concat());
    fs::copy(lab.path("both.licence"), lab.path("other.onnx.licence")).unwrap();
    let (_, error) = lab.expect(5, &["verify", "other.onnx", "-i", "acme.txt"]);
    assert!(
        error.contains("other.onnx.licence is for other files"),
        "{error}"
    );
}

#[test]
fn a_batch_opens_with_a_licence_and_goes_on() {
    let (lab, customer) = vendor();
    issue(&lab, 0, &customer, "a.licence", &[]);
    let batch = [
        "batch",
        "unprotect",
        "sealed.onnx",
        "-i",
        "acme.txt",
        "--out",
        "opened",
    ];
    lab.expect(5, &batch);
    let batch = [&batch[..], &["--licence", "a.licence"]].concat();
    lab.expect(0, &batch);
    let (_, said) = lab.expect(0, &[&batch[..], &["--resume"]].concat());
    assert!(said.contains("done before"), "{said}");
}
