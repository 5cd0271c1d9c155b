//! Fingerprints as a vendor meets them: secrets, copies, leaks and pictures. Without ONNX Runtime's library the test that
//! needs it says so and passes.

use std::fs;
#[cfg(unix)]
use std::os::unix::fs::{PermissionsExt, symlink};

use onnxseal_testkit::build::{GraphBuilder, external, node, weights};
use serde_json::Value;

use crate::lab::{Lab, contents, fixture, has_onnxruntime};

/// A lab with `model.onnx`, `secret` and `customers.txt`: acme, globex and 98 others.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.model();
    let keygen = ["-q", "fingerprint", "keygen", "-o", "secret"];
    lab.expect(0, &keygen);
    let others = (0..98).map(|i| format!("customer {i}\n"));
    let names = format!(
        "# Who has a copy.\n\n acme \nglobex\n{}",
        others.collect::<String>()
    );
    fs::write(lab.path("customers.txt"), names).unwrap();
    lab
}

fn apply(lab: &Lab, customer: &str, more: &[&str]) -> (String, String) {
    let args = [
        "fingerprint",
        "apply",
        "model.onnx",
        "--customer",
        customer,
        "--secret",
        "secret",
    ];
    lab.expect(0, &[&args[..], more].concat())
}

const TRACE: [&str; 5] = [
    "fingerprint",
    "trace",
    "--original",
    "model.onnx",
    "--secret",
];

fn trace(lab: &Lab, leak: &str, more: &[&str]) -> (String, String) {
    let args = ["secret", leak, "--customers", "customers.txt"];
    lab.expect(0, &[&TRACE[..], &args, more].concat())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[cfg(unix)]
#[test]
fn a_secret_is_for_its_owner_and_opens_for_its_recipient() {
    let lab = Lab::new();
    lab.model();
    let keygen = ["fingerprint", "keygen", "-o", "secret"];
    let (out, err) = lab.expect(0, &keygen);
    assert!(out.is_empty() && err.contains("not encrypted"), "{err}");
    let mode = |name| {
        let metadata = fs::metadata(lab.path(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("secret"), 0o600);
    let before = contents(lab.dir.path());
    let (_, err) = lab.expect(2, &keygen);
    assert!(err.contains("never overwritten"), "{err}");
    assert!(contents(lab.dir.path()) == before);

    let keygen = ["fingerprint", "keygen", "-o", "secret.age", "-r"];
    let (_, err) = lab.expect(0, &[&keygen[..], &[&lab.recipient]].concat());
    assert!(!err.contains("not encrypted"), "{err}");
    assert_eq!(mode("secret.age"), 0o600);
    let text = fs::read_to_string(lab.path("secret.age")).unwrap();
    assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
    let to = ["--customer", "acme", "--no-check", "-o", "copy.onnx"];
    let apply = ["fingerprint", "apply", "model.onnx", "--secret"];
    let (_, err) = lab.expect(2, &[&apply[..], &["secret.age"], &to].concat());
    assert!(err.contains("no identity was given"), "{err}");
    assert!(!lab.path("copy.onnx").exists());
    let id = ["-i", "id.txt"];
    lab.expect(0, &[&apply[..], &["secret.age"], &to, &id].concat());
    let protect = [
        "-q",
        "protect",
        "model.onnx",
        "-o",
        "sealed.onnx",
        "-r",
        &lab.recipient,
        "--fingerprint",
        "acme",
        "--fingerprint-secret",
        "secret.age",
    ];
    lab.expect(2, &protect);
    let id = ["--fingerprint-identity", "id.txt"];
    lab.expect(0, &[&protect[..], &id].concat());
    // What is no secret says so, and shows none of it.
    let (_, err) = lab.expect(3, &[&apply[..], &["id.txt"], &to, &["-f"]].concat());
    assert!(
        err.contains("not a fingerprint secret") && !err.contains("AGE-SECRET"),
        "{err}"
    );
}

#[test]
fn a_trace_names_the_customer_of_a_copy_and_nobody_else() {
    let lab = lab();
    let original = fs::read(lab.path("model.onnx")).unwrap();
    let (out, err) = apply(&lab, "acme", &["--no-check", "-o", "acme.onnx"]);
    assert!(out.is_empty(), "{out}");
    assert!(
        err.contains("marked for acme") && err.contains("nothing was compared"),
        "{err}"
    );
    let (out, _) = apply(
        &lab,
        "globex",
        &["--no-check", "-o", "globex.onnx", "--json"],
    );
    let report = json(&out);
    assert_eq!(report["customer"], "globex");
    assert_eq!(report["comparison"], Value::Null);
    assert_eq!(report["strength"], 0.01);
    assert!(report["elements"].as_u64().unwrap() > 10_000);
    // The same name gives the same copy, and the original stays.
    apply(&lab, "acme", &["--no-check", "-o", "again.onnx"]);
    let read = |name: &str| fs::read(lab.path(name)).unwrap();
    assert!(read("acme.onnx") == read("again.onnx"));
    assert!(read("acme.onnx") != read("globex.onnx"));
    assert!(read("model.onnx") == original && read("acme.onnx") != original);

    let (out, err) = trace(&lab, "acme.onnx", &[]);
    assert!(err.is_empty(), "{err}");
    let rows: Vec<&str> = out.lines().filter(|line| !line.is_empty()).collect();
    assert!(rows[0].starts_with("customer"), "{out}");
    assert!(
        rows[1].starts_with("acme ") && rows[1].ends_with("accused"),
        "{out}"
    );
    assert_eq!(out.matches("  accused\n").count(), 1, "{out}");
    assert!(out.contains("and 60 more, none of them accused"), "{out}");
    let traced = json(&trace(&lab, "globex.onnx", &["--json"]).0);
    let suspects = traced["suspects"].as_array().unwrap();
    assert_eq!(suspects.len(), 100);
    assert_eq!(suspects[0]["customer"], "globex");
    let accused = suspects.iter().filter(|of| of["accused"] == true);
    assert_eq!(accused.count(), 1);
    let z = |i: usize| suspects[i]["z"].as_f64().unwrap();
    let threshold = traced["threshold"].as_f64().unwrap();
    assert!(z(0) > 20.0 && z(1) < threshold && threshold < 10.0);

    // Nobody is accused of the original, nor by another secret, and that is no failure.
    assert!(trace(&lab, "model.onnx", &[]).0.contains("on: nobody"));
    lab.expect(0, &["-q", "fingerprint", "keygen", "-o", "other"]);
    let args = ["other", "acme.onnx", "--customer", "acme"];
    let (out, _) = lab.expect(0, &[&TRACE[..], &args].concat());
    assert!(out.contains("on: nobody"), "{out}");
    let documented = fs::read_to_string(crate::lab::project("docs/JSON.md")).unwrap();
    let members = [&report, &traced, &suspects[0], &traced["found"][0]];
    for member in members.iter().flat_map(|of| of.as_object().unwrap().keys()) {
        assert!(documented.contains(&format!("`{member}`")), "{member}");
    }
}

#[test]
fn the_picture_shows_all_customers_and_the_line() {
    let lab = lab();
    apply(&lab, "acme", &["--no-check", "-o", "acme.onnx"]);
    let names = fs::read_to_string(lab.path("customers.txt")).unwrap();
    let odd = "<b> & \"sons\"";
    fs::write(lab.path("customers.txt"), format!("{names}{odd}\n")).unwrap();
    apply(&lab, odd, &["--no-check", "-o", "odd.onnx"]);
    for (leak, accused, other) in [
        ("acme.onnx", ">acme</text>", "&lt;b"),
        ("odd.onnx", ">&lt;b> &amp; \"sons\"</text>", ">acme<"),
    ] {
        trace(&lab, leak, &["--picture", "z.svg", "-f"]);
        let svg = fs::read_to_string(lab.path("z.svg")).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("prefers-color-scheme:dark") && !svg.contains("NaN"));
        assert!(svg.contains(accused) && !svg.contains(other), "{svg}");
        assert!(svg.contains("z of 101 customers") && svg.contains("accused from "));
        assert!(svg.matches("h0").count() > 20, "{svg}");
    }
    // It replaces nothing unasked, and nothing that is read at all.
    let before = contents(lab.dir.path());
    let args = ["secret", "acme.onnx", "--customers", "customers.txt"];
    for picture in [
        &["z.svg"][..],
        &["customers.txt", "-f"],
        &["secret", "-f"],
        &["model.onnx", "-f"],
        &["acme.onnx", "-f"],
    ] {
        lab.expect(2, &[&TRACE[..], &args, &["--picture"], picture].concat());
    }
    assert!(contents(lab.dir.path()) == before);
}

#[cfg(unix)]
#[test]
fn protect_marks_in_memory_what_apply_writes() {
    let lab = lab();
    let mark = ["--fingerprint", "acme", "--fingerprint-secret", "secret"];
    let protect = |model: &str, more: &[&str]| {
        let args = ["protect", model, "-r", &lab.recipient];
        lab.expect(0, &[&args[..], &mark, more].concat()).1
    };
    let unprotect = |model: &str, to: &str| {
        lab.expect(0, &["-q", "unprotect", model, "-i", "id.txt", "-o", to]);
    };
    let read = |name: &str| fs::read(lab.path(name)).unwrap();
    apply(&lab, "acme", &["--no-check", "-o", "acme.onnx"]);
    let before = contents(lab.dir.path()).len();
    let err = protect("model.onnx", &["-o", "sealed.onnx"]);
    assert!(err.contains("marked for acme"), "{err}");
    assert_eq!(contents(lab.dir.path()).len(), before + 1);
    unprotect("sealed.onnx", "opened.onnx");
    assert!(read("opened.onnx") == read("acme.onnx"));
    // In place, through a link too.
    fs::copy(lab.path("model.onnx"), lab.path("target.onnx")).unwrap();
    symlink("target.onnx", lab.path("link.onnx")).unwrap();
    protect("link.onnx", &["--in-place"]);
    assert!(lab.path("link.onnx").is_symlink());
    unprotect("target.onnx", "opened_too.onnx");
    assert!(read("opened_too.onnx") == read("acme.onnx"));
}

/// A model with two files of external data: all of the first is marked, and a part of the second.
fn with_external_data(lab: &Lab) {
    fs::create_dir(lab.path("plain")).unwrap();
    for (file, n) in [("w.bin", 4096), ("sub/v.bin", 4096 + 32)] {
        let path = lab.path("plain").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let raw = weights("w", &[n], n as u32).raw_data.unwrap();
        fs::write(path, raw).unwrap();
    }
    let len = Some(64 * 64 * 4);
    let model = GraphBuilder::new("external")
        .input("x", &[1, 64])
        .output("y", &[1, 64])
        .initializer(external("w", &[64, 64], "w.bin", Some(0), len))
        .initializer(external("v", &[64, 64], "sub/v.bin", Some(128), len))
        .initializer(external("b", &[32], "sub/v.bin", Some(0), Some(128)))
        .node(node("MatMul", &["x", "w"], &["m"]))
        .node(node("MatMul", &["m", "v"], &["y"]))
        .encode();
    fs::write(lab.path("plain/model.onnx"), model).unwrap();
}

#[test]
fn marked_external_data_have_the_names_that_they_have_without_a_mark() {
    let lab = lab();
    with_external_data(&lab);
    let model = "plain/model.onnx";
    let mark = ["--fingerprint", "acme", "--fingerprint-secret", "secret"];
    let args = ["-q", "protect", model, "-r", &lab.recipient, "-o"];
    let names = |folder: &str| {
        let files = contents(&lab.path(folder)).into_iter();
        let files = files.map(|(path, bytes)| (path, bytes.len()));
        let files = files.filter(|(path, _)| !path.ends_with("sealed.onnx"));
        files
            .map(|(path, len)| (path.strip_prefix(lab.path(folder)).unwrap().to_owned(), len))
            .collect::<Vec<_>>()
    };
    let original = contents(&lab.path("plain"));
    // Elsewhere under their own names; beside the original under others.
    for to in ["sealed.onnx", "marked.onnx"] {
        let more = if to == "marked.onnx" { &mark[..] } else { &[] };
        let folder = to.trim_end_matches(".onnx");
        let elsewhere = format!("{folder}/sealed.onnx");
        lab.expect(0, &[&args[..], &[&elsewhere], more].concat());
    }
    assert_eq!(names("sealed"), names("marked"));
    lab.expect(0, &[&args[..], &["plain/b.onnx"], &mark].concat());
    assert!(lab.path("plain/b.onnx.data/sub/v.bin").exists());
    let now = contents(&lab.path("plain"));
    assert!(original.iter().all(|file| now.contains(file)));

    let apply = ["-q", "fingerprint", "apply", model, "--customer", "acme"];
    let to = ["--secret", "secret", "--no-check", "-o", "copy/model.onnx"];
    lab.expect(0, &[&apply[..], &to].concat());
    let copy = contents(&lab.path("copy"));
    assert_eq!(copy.len(), 3);
    for sealed in ["marked/sealed.onnx", "plain/b.onnx"] {
        let open = ["-q", "unprotect", sealed, "-i", "id.txt", "-o"];
        lab.expect(0, &[&open[..], &["opened/model.onnx"]].concat());
        let opened = contents(&lab.path("opened"));
        let same = copy.iter().zip(&opened).all(|(a, b)| a.1 == b.1);
        assert!(same && opened.len() == 3, "{sealed}");
        fs::remove_dir_all(lab.path("opened")).unwrap();
    }
}

#[test]
fn what_cannot_be_marked_or_traced_is_refused() {
    let lab = lab();
    lab.protected();
    let apply = ["fingerprint", "apply", "--secret", "secret", "--no-check"];
    let acme = ["--customer", "acme", "-o", "out.onnx"];
    let trace = [&TRACE[..], &["secret"]].concat();
    let before = contents(lab.dir.path());
    for (command, more, code, said) in [
        (&apply[..], &["sealed.onnx", "", ""][..], 2, "unprotect"),
        (&apply, &["model.onnx", "--strength", "0"], 2, "strength"),
        (&apply, &["nothing.onnx", "", ""], 7, "nothing.onnx"),
        (
            &trace,
            &["sealed.onnx", "--customer", "acme"],
            2,
            "unprotect",
        ),
        (&trace, &["model.onnx", "--customer", " acme"], 2, "name"),
        (&trace, &["model.onnx", "", ""], 2, "--customers"),
    ] {
        let more = more.iter().copied().filter(|arg| !arg.is_empty());
        let mut args = [command, &more.collect::<Vec<_>>()].concat();
        if command == apply {
            args.extend(acme);
        }
        let (out, err) = lab.expect(code, &args);
        assert!(out.is_empty() && err.contains(said), "{args:?}: {err}");
    }
    let twice = [
        "model.onnx",
        "--customers",
        "customers.txt",
        "--customer",
        "acme",
    ];
    let (_, err) = lab.expect(2, &[&trace[..], &twice].concat());
    assert!(err.contains("\"acme\" is listed twice"), "{err}");
    let protect = ["protect", "model.onnx", "-o", "out.onnx"];
    for part in [
        &["--fingerprint", "acme"][..],
        &["--fingerprint-secret", "secret"],
        &["--fingerprint-identity", "id.txt"],
    ] {
        lab.expect(2, &[&protect[..], part].concat());
    }
    // A model that cannot be marked gets no new identity.
    let mark = [
        "--fingerprint",
        "\u{202e}",
        "--fingerprint-secret",
        "secret",
    ];
    lab.expect(2, &[&protect[..], &mark].concat());
    assert!(contents(lab.dir.path()) == before);
    // A copy takes the place of no input.
    let (_, err) = lab.expect(
        2,
        &[
            &apply[..],
            &["model.onnx", "-f", "--customer", "a", "-o", "secret"],
        ]
        .concat(),
    );
    assert!(err.contains("secret"), "{err}");
    assert!(contents(lab.dir.path()) == before);
}

#[test]
fn a_copy_is_compared_with_the_original() {
    let lab = lab();
    let mut command = lab.command(&["fingerprint", "apply", "model.onnx", "--customer", "acme"]);
    command.args(["--secret", "secret", "-o", "unseen.onnx", "--json"]);
    let output = { command }
        .env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["comparison"], Value::Null);
    let why = report["not_compared"].as_str().unwrap();
    assert!(why.contains("/nowhere/libonnxruntime.so"), "{why}");
    assert!(lab.path("unseen.onnx").exists());
    if !has_onnxruntime() {
        return;
    }
    let report = |more: &[&str]| {
        let to = ["-f", "-o", "copy.onnx", "--json"];
        json(&apply(&lab, "acme", &[&to[..], more].concat()).0)["comparison"].take()
    };
    let of = |report: &Value, name: &str| report[name].as_f64().unwrap();
    let random = report(&[]);
    assert_eq!(random["is_random"], true);
    assert_eq!(random["accuracy"], Value::Null);
    assert!((1e-5..0.1).contains(&of(&random, "difference")), "{random}");
    fs::copy(fixture("digits_test.csv"), lab.path("digits.csv")).unwrap();
    let data = ["--data", "digits.csv", "--scale", "16"];
    let usual = report(&data);
    assert_eq!(usual["is_random"], false);
    assert_eq!(usual["is_moved"], false);
    let accuracy = |report: &Value, i: usize| report["accuracy"][i].as_f64().unwrap();
    assert!(accuracy(&usual, 0) > 0.9, "{usual}");
    assert!((accuracy(&usual, 0) - accuracy(&usual, 1)).abs() < 0.02);
    assert!(of(&usual, "changed_classes") <= 2.0, "{usual}");
    let strong = report(&[&data[..], &["--strength", "0.2"]].concat());
    assert!(of(&strong, "difference") > 5.0 * of(&usual, "difference"));
    let (_, err) = apply(
        &lab,
        "acme",
        &[&data[..], &["-f", "-o", "copy.onnx"]].concat(),
    );
    assert!(
        err.contains("compared on ONNX Runtime") && err.contains("accuracy"),
        "{err}"
    );
    let documented = fs::read_to_string(crate::lab::project("docs/JSON.md")).unwrap();
    for member in usual.as_object().unwrap().keys() {
        assert!(documented.contains(&format!("`{member}`")), "{member}");
    }
    // Data that do not fit are an error, and nothing is written.
    let args = ["fingerprint", "apply", "model.onnx", "--customer", "acme"];
    let wrong = ["--secret", "secret", "--data", "w.npy", "-o", "new.onnx"];
    let mut npy = b"\x93NUMPY\x01\x00\x46\x00".to_vec();
    npy.extend(
        format!(
            "{:<69}\n",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }"
        )
        .as_bytes(),
    );
    npy.extend([0; 12]);
    fs::write(lab.path("w.npy"), npy).unwrap();
    let (_, err) = lab.expect(2, &[&args[..], &wrong].concat());
    assert!(err.contains("takes"), "{err}");
    assert!(!lab.path("new.onnx").exists());
}
