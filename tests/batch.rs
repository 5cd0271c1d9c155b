//! `onnxseal batch`: many models at once, each on its own; faults of one, and of the system.
#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs)]

mod lab;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use lab::{Lab, contents, files};
use onnxseal_testkit::build::{GraphBuilder, node, weights};
use onnxseal_testkit::{Sample, samples};
use serde_json::Value;

/// A lab with models of many kinds below `zoo`, one of them with external data.
fn zoo() -> Lab {
    let lab = Lab::new();
    for sample in samples::all() {
        put(&lab, &format!("zoo/{}", sample.name), &sample);
    }
    // Not a model, and one without the usual name.
    fs::write(lab.path("zoo/README.md"), "models").unwrap();
    fs::write(lab.path("zoo/plain-name"), samples::gemm()).unwrap();
    lab
}

/// A lab with `n` small models in `zoo`.
fn small(n: usize) -> Lab {
    let lab = Lab::new();
    fs::create_dir(lab.path("zoo")).unwrap();
    for i in 0..n {
        fs::write(lab.path(&format!("zoo/{i:03}.onnx")), samples::conv_net()).unwrap();
    }
    lab
}

/// A model of `side` times 4 KiB.
fn wide(side: i64) -> Vec<u8> {
    GraphBuilder::new("wide")
        .input("x", &[1, 1024])
        .output("y", &[1, side])
        .initializer(weights("w", &[1024, side], 1))
        .node(node("MatMul", &["x", "w"], &["y"]))
        .encode()
}

fn put(lab: &Lab, folder: &str, sample: &Sample) {
    fs::create_dir_all(lab.path(folder)).unwrap();
    sample.write(&lab.path(folder)).unwrap();
}

fn protect<'a>(lab: &'a Lab, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["batch", "protect", "zoo", "--out", "out", "-r"];
    [&args[..], &[&lab.recipient], more].concat()
}

fn report(lab: &Lab, name: &str) -> Value {
    serde_json::from_slice(&fs::read(lab.path(name)).unwrap()).unwrap()
}

/// What the report says of each outcome: done, skipped, failed, pending.
fn totals(report: &Value) -> [u64; 4] {
    ["done", "skipped", "failed", "pending"].map(|name| report["totals"][name].as_u64().unwrap())
}

/// The outputs, without records, each with what tells whether it was written again.
fn stamps(folder: &Path) -> Vec<(PathBuf, u64, i64, i64)> {
    let stamp = |path: PathBuf| {
        let metadata = path.metadata().unwrap();
        (
            path,
            metadata.ino(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        )
    };
    outputs(folder).into_iter().map(stamp).collect()
}

fn outputs(folder: &Path) -> Vec<PathBuf> {
    let is_record = |path: &PathBuf| path.starts_with(folder.join(".onnxseal"));
    files(folder)
        .into_iter()
        .filter(|path| !is_record(path))
        .collect()
}

/// Whether what lies below two folders is the same, but for records.
fn same(one: &Path, other: &Path, but_for: &[&str]) -> bool {
    let all = |folder: &Path| -> Vec<_> {
        let all = contents(folder).into_iter();
        let all = all.map(|(path, bytes)| (path.strip_prefix(folder).unwrap().to_owned(), bytes));
        all.filter(|(path, _)| !path.starts_with(".onnxseal"))
            .filter(|(path, _)| !but_for.iter().any(|name| path == Path::new(name)))
            .collect()
    };
    all(one) == all(other)
}

#[test]
fn a_zoo_goes_through_all_operations_and_comes_back() {
    let lab = zoo();
    let n = samples::all().len() as u64 + 1;
    let other = lab.expect(0, &["keygen", "-o", "other.txt"]).0;
    let other = other.trim();
    let (out, err) = lab.expect(0, &protect(&lab, &["--report", "report.json"]));
    assert!(
        out.starts_with(&format!("protect: {n} done of {n} models; ")),
        "{out}"
    );
    assert_eq!(err.lines().count() as u64, n, "{err}");
    assert_eq!(
        outputs(&lab.path("out")).len(),
        outputs(&lab.path("zoo")).len() - 1
    );
    let told = report(&lab, "report.json");
    assert_eq!(totals(&told), [n, 0, 0, 0]);
    assert_eq!(
        (&told["synced"], &told["stopped"]),
        (&true.into(), &false.into())
    );
    for model in told["models"].as_array().unwrap() {
        let path = |name: &str| lab.path(model[name].as_str().unwrap());
        for (of, list) in [("source", "input_files"), ("output", "output_files")] {
            for file in model[list].as_array().unwrap() {
                let path = match file["path"].as_str().unwrap() {
                    "" => path(of),
                    name => path(of).parent().unwrap().join(name),
                };
                let bytes = fs::read(path).unwrap();
                assert_eq!(file["bytes"], bytes.len() as u64);
                assert_eq!(file["blake3"], blake3::hash(&bytes).to_hex().as_str());
            }
        }
        assert!(model["weights"]["share"].is_number());
        assert!(model["seconds"].as_f64().unwrap() > 0.0);
    }

    let verify = [
        "batch", "verify", "out", "-i", "id.txt", "--preset", "balanced",
    ];
    let (out, _) = lab.expect(0, &[&verify[..], &["--report", "v.json"]].concat());
    assert!(
        out.starts_with(&format!("verify: {n} done of {n} models; ")),
        "{out}"
    );
    let verified = report(&lab, "v.json");
    for (made, seen) in
        (told["models"].as_array().unwrap().iter()).zip(verified["models"].as_array().unwrap())
    {
        assert_eq!(made["output_files"], seen["input_files"]);
        assert_eq!(seen.get("output"), None);
    }
    let keys = ["-i", "id.txt", "-r", other];
    let rekey = ["batch", "rekey", "out", "--out", "rekeyed"];
    lab.expect(0, &[&rekey[..], &keys].concat());
    let rotate = [
        "batch", "rotate", "out", "--out", "rotated", "--preset", "full",
    ];
    lab.expect(0, &[&rotate[..], &keys].concat());
    for folder in ["rekeyed", "rotated"] {
        lab.expect(5, &["-q", "batch", "verify", folder, "-i", "id.txt"]);
        let back = format!("back-{folder}");
        let unprotect = [
            "-q",
            "batch",
            "unprotect",
            folder,
            "-i",
            "other.txt",
            "--out",
        ];
        let (out, err) = lab.expect(0, &[&unprotect[..], &[&back]].concat());
        assert_eq!((out.as_str(), err.as_str()), ("", ""));
        assert!(same(&lab.path("zoo"), &lab.path(&back), &["README.md"]));
    }
}

#[test]
fn members_of_the_report_are_documented() {
    fn members(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => object.iter().for_each(|(name, value)| {
                names.insert(name.clone());
                members(value, names);
            }),
            Value::Array(values) => values.iter().for_each(|value| members(value, names)),
            Value::String(text) if !text.contains(['/', ' ', '.']) && text.len() < 20 => {
                names.insert(text.clone());
            }
            _ => (),
        }
    }
    let lab = small(3);
    fs::write(lab.path("zoo/bad.onnx"), "bad").unwrap();
    lab.expect(3, &protect(&lab, &["--report", "r.json", "--shard", "0/1"]));
    let mut names = BTreeSet::new();
    members(&report(&lab, "r.json"), &mut names);
    assert!(
        names.contains("malformed") && names.contains("done"),
        "{names:?}"
    );
    let documented = fs::read_to_string(lab::project("docs/JSON.md")).unwrap();
    for name in names.iter().filter(|name| !name.is_empty()) {
        let mut words = documented.split(|c: char| !c.is_alphanumeric() && c != '_');
        assert!(
            words.any(|word| word == name),
            "{name} is not in docs/JSON.md"
        );
    }
}

#[test]
fn resuming_does_nothing_twice_and_nothing_over_what_is_not_ours() {
    let lab = zoo();
    let n = samples::all().len() as u64 + 1;
    let resume = |more: &[&str], code: i32| {
        let args = [&["--resume", "--report", "r.json"], more].concat();
        let printed = lab.expect(code, &protect(&lab, &args));
        (totals(&report(&lab, "r.json")), printed.1)
    };
    assert_eq!(resume(&[], 0).0, [n, 0, 0, 0]);
    let first = stamps(&lab.path("out"));
    assert_eq!(resume(&[], 0).0, [0, n, 0, 0]);
    assert_eq!(stamps(&lab.path("out")), first);
    // What was skipped is reported as what was done.
    let told = report(&lab, "r.json");
    assert!(told["models"][0]["weights"]["share"].is_number());
    assert_eq!(told["models"][0]["input_files"][0]["path"], "");

    // Without --resume, they are in the way.
    let (_, err) = lab.expect(2, &protect(&lab, &[]));
    assert!(
        err.contains("exists already") && err.contains("--resume"),
        "{err}"
    );

    // A source changed, back in time; an output went missing; half of a model in two files did.
    fs::write(lab.path("zoo/gemm/model.onnx"), samples::conv_net()).unwrap();
    let file = File::options()
        .write(true)
        .open(lab.path("zoo/gemm/model.onnx"))
        .unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    fs::remove_file(lab.path("out/lstm/model.onnx")).unwrap();
    fs::remove_file(lab.path("out/external_data/model.onnx")).unwrap();
    assert_eq!(resume(&[], 0).0, [3, n - 3, 0, 0]);
    lab.expect(0, &["-q", "batch", "verify", "out", "-i", "id.txt"]);
    let changed = stamps(&lab.path("out"));
    assert_eq!(changed.len(), first.len());
    assert!(
        changed
            .iter()
            .filter(|stamp| !first.contains(stamp))
            .count()
            >= 3
    );

    // Another request: all is done again, over what we made.
    assert_eq!(resume(&["--preset", "full"], 0).0, [n, 0, 0, 0]);
    lab.expect(
        0,
        &[
            "-q", "batch", "verify", "out", "-i", "id.txt", "--preset", "full",
        ],
    );
    assert_eq!(resume(&["--preset", "full"], 0).0, [0, n, 0, 0]);
    assert_eq!(
        resume(&["--preset", "full", "--claim", "a=b"], 0).0,
        [n, 0, 0, 0]
    );

    // Files that somebody else wrote, in place of an output and of a part of one.
    let (one, part) = (
        lab.path("out/lstm/model.onnx"),
        lab.path("out/external_data/weights/w.bin"),
    );
    fs::write(&one, "precious").unwrap();
    fs::write(&part, "precious").unwrap();
    let (found, err) = resume(&["--preset", "full", "--claim", "a=b"], 2);
    assert_eq!(found, [0, n - 2, 2, 0]);
    assert!(
        err.contains("out/lstm/model.onnx") && err.contains("w.bin"),
        "{err}"
    );
    assert!(err.contains("--force"), "{err}");
    assert_eq!(fs::read(&one).unwrap(), b"precious");
    assert_eq!(fs::read(&part).unwrap(), b"precious");
    let (found, _) = resume(&["--preset", "full", "--claim", "a=b", "--force"], 2);
    assert_eq!(
        found,
        [1, n - 2, 1, 0],
        "several files never replace others"
    );
    assert_eq!(fs::read(&part).unwrap(), b"precious");
    fs::remove_file(&part).unwrap();
    assert_eq!(
        resume(&["--preset", "full", "--claim", "a=b"], 0).0,
        [1, n - 1, 0, 0]
    );

    // A record that is damaged counts for nothing.
    for record in files(&lab.path("out/.onnxseal")) {
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, text.replace("\"path\":\"\"", "\"path\":\"../x\"")).unwrap();
    }
    assert_eq!(resume(&["--preset", "full"], 2).0, [0, 0, n, 0]);
}

#[test]
fn a_model_that_fails_takes_no_other_along() {
    let lab = small(6);
    fs::write(lab.path("zoo/002.onnx"), "no model").unwrap();
    let (out, err) = lab.expect(3, &protect(&lab, &["--report", "r.json"]));
    assert_eq!(totals(&report(&lab, "r.json")), [5, 0, 1, 0]);
    assert!(out.contains("5 done, 1 failed of 6 models"), "{out}");
    assert!(
        err.contains("zoo/002.onnx") && err.contains("1 of 6 models failed"),
        "{err}"
    );
    let error = &report(&lab, "r.json")["models"][2]["error"];
    assert_eq!(error["class"], "malformed");
    assert!(error["message"].as_str().unwrap().contains("zoo/002.onnx"));
    assert_eq!(outputs(&lab.path("out")).len(), 5);

    // Another class: the code is neither's.
    fs::copy(lab.path("out/001.onnx"), lab.path("zoo/001.onnx")).unwrap();
    let all = ["--resume", "--report", "r.json"];
    let (_, err) = lab.expect(1, &protect(&lab, &all));
    assert!(err.contains("is protected already"), "{err}");
    assert_eq!(totals(&report(&lab, "r.json")), [0, 4, 2, 0]);

    // Quiet or not, failures are named.
    let (out, quiet) = lab.expect(1, &[&["-q"], &protect(&lab, &["--resume"])[..]].concat());
    assert!(out.is_empty() && quiet.contains("zoo/002.onnx"), "{quiet}");

    // One after the other, and no more after the first that fails.
    let first = ["--fail-fast", "--jobs", "1", "--report", "r.json"];
    fs::remove_dir_all(lab.path("out")).unwrap();
    let (_, err) = lab.expect(2, &protect(&lab, &first));
    assert_eq!(totals(&report(&lab, "r.json")), [1, 0, 1, 4]);
    assert!(err.contains("4 were not begun"), "{err}");
    assert_eq!(outputs(&lab.path("out")).len(), 1);
}

#[test]
fn a_model_for_somebody_else_fails_alone() {
    let lab = small(3);
    let other = lab.expect(0, &["keygen", "-o", "other.txt"]).0;
    lab.expect(0, &protect(&lab, &[]));
    let args = [
        "-q",
        "protect",
        "zoo/000.onnx",
        "-o",
        "out/x.onnx",
        "-r",
        other.trim(),
    ];
    lab.expect(0, &args);
    for args in [
        vec!["batch", "verify", "out", "-i", "id.txt"],
        vec!["batch", "unprotect", "out", "-i", "id.txt", "--out", "back"],
        vec![
            "batch",
            "rotate",
            "out",
            "-i",
            "id.txt",
            "-r",
            &lab.recipient,
            "--out",
            "new",
        ],
    ] {
        let (out, err) = lab.expect(5, &args);
        assert!(out.contains("3 done, 1 failed of 4"), "{out}");
        assert!(err.contains("no identity opens out/x.onnx"), "{err}");
        assert!(err.contains("--identity"), "{err}");
    }
    assert_eq!(outputs(&lab.path("back")).len(), 3);
    assert_eq!(outputs(&lab.path("new")).len(), 3);
}

#[test]
fn one_output_has_one_source() {
    let lab = Lab::new();
    for folder in ["a", "b"] {
        fs::create_dir(lab.path(folder)).unwrap();
        fs::write(lab.path(folder).join("m.onnx"), samples::gemm()).unwrap();
    }
    let run = |sources: &[&str]| {
        let args = [
            &["batch", "protect"],
            sources,
            &["--out", "out", "-r", &lab.recipient],
        ];
        let (_, err) = lab.expect(2, &args.concat());
        assert!(!lab.path("out").exists());
        err
    };
    let err = run(&["a", "b"]);
    assert!(
        err.contains("a/m.onnx and b/m.onnx") && err.contains("m.onnx in the"),
        "{err}"
    );
    // Models that share external data, and so would both write it.
    let sample = samples::external_data();
    put(&lab, "c", &sample);
    fs::copy(lab.path("c/model.onnx"), lab.path("c/twin.onnx")).unwrap();
    let err = run(&["c"]);
    assert!(
        err.contains("c/model.onnx and c/twin.onnx") && err.contains("w.bin"),
        "{err}"
    );
    // What is in the output folder is no source, but an output that is one of the sources is worse.
    fs::create_dir_all(lab.path("d/out")).unwrap();
    fs::write(lab.path("d/m.onnx"), samples::gemm()).unwrap();
    fs::write(lab.path("d/out/old.onnx"), samples::gemm()).unwrap();
    let args = ["batch", "protect", "d", "-r", &lab.recipient, "--out"];
    let (out, err) = lab.expect(0, &[&args[..], &["d/out"]].concat());
    assert!(
        err.contains("passed over 1 model") && out.contains("1 done of 1 model;"),
        "{err}{out}"
    );
    for sources in ["d", "d/out", "d/out/old.onnx"] {
        let args = ["batch", "protect", sources, "-r", &lab.recipient];
        let out = if sources == "d" { "d" } else { "d/out" };
        let before = contents(&lab.path("d"));
        let (_, err) = lab.expect(2, &[&args[..], &["--force", "--out", out]].concat());
        assert!(err.contains("lies in the output folder"), "{err}");
        assert!(contents(&lab.path("d")) == before);
    }
}

#[test]
fn nothing_to_do_is_an_error_but_not_for_a_part() {
    let lab = small(1);
    fs::create_dir(lab.path("empty")).unwrap();
    let args = ["batch", "protect", "--out", "out", "-r", &lab.recipient];
    let (_, err) = lab.expect(2, &[&args[..], &["empty"]].concat());
    assert!(err.contains("no models"), "{err}");
    lab.expect(7, &[&args[..], &["absent"]].concat());
    lab.expect(2, &args);
    fs::write(lab.path("list"), "# all\nzoo/0*.onnx\n").unwrap();
    let (out, _) = lab.expect(0, &[&args[..], &["--list", "list"]].concat());
    assert!(out.contains("1 done of 1 model;"), "{out}");
    assert!(lab.path("out/zoo/000.onnx").exists());
    let parts: Vec<String> = (0..4)
        .map(|part| {
            lab.expect(
                0,
                &protect(&lab, &["--force", "--shard", &format!("{part}/4")]),
            )
            .0
        })
        .collect();
    assert_eq!(
        parts
            .iter()
            .filter(|out| out.contains("0 done of 0 models"))
            .count(),
        3
    );
    for bad in ["4/4", "1", "a/b"] {
        lab.expect(2, &protect(&lab, &["--shard", bad]));
    }
}

#[test]
fn parts_make_the_whole() {
    let lab = small(20);
    for part in ["0/3", "2/3", "1/3"] {
        lab.expect(0, &protect(&lab, &["--shard", part]));
    }
    assert_eq!(outputs(&lab.path("out")).len(), 20);
    assert_eq!(files(&lab.path("out/.onnxseal")).len(), 20);
    lab.expect(0, &protect(&lab, &["--resume", "--report", "r.json"]));
    assert_eq!(totals(&report(&lab, "r.json")), [0, 20, 0, 0]);
}

#[test]
fn memory_is_kept_to() {
    let lab = small(5);
    let (_, err) = lab.expect(2, &protect(&lab, &["--memory", "100K"]));
    assert!(
        err.contains("not enough") && err.contains("MiB by themselves"),
        "{err}"
    );
    assert!(!lab.path("out").exists());
    lab.expect(2, &protect(&lab, &["--memory", "lots"]));
    // Room for the threads and hardly more: one after the other.
    let needed = err
        .split(" need ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let mib: u64 = needed.parse().unwrap();
    let threads = format!("{}", (mib << 20) + 1000);
    let (_, err) = lab.expect(0, &protect(&lab, &["--memory", &threads]));
    assert!(err.contains("runs alone"), "{err}");
    assert_eq!(outputs(&lab.path("out")).len(), 5);
}

#[test]
fn a_signal_lets_running_models_end_and_is_reported() {
    let lab = small(400);
    let args = protect(&lab, &["--jobs", "1", "--report", "r.json"]);
    let mut child = lab.command(&args);
    let mut child = child
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(
        lines
            .next()
            .unwrap()
            .unwrap()
            .starts_with("done: zoo/000.onnx")
    );
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{rest:?}");
    assert!(rest.last().unwrap().contains("--resume"), "{rest:?}");
    let told = report(&lab, "r.json");
    let [done, _, failed, pending] = totals(&told);
    assert!(done > 0 && pending > 0 && failed == 0 && done + pending == 400);
    assert_eq!(told["stopped"], true);
    assert_eq!(outputs(&lab.path("out")).len() as u64, done);
    lab.expect(0, &protect(&lab, &["--resume", "--report", "r.json"]));
    assert_eq!(totals(&report(&lab, "r.json")), [pending, done, 0, 0]);
}

#[test]
fn a_full_disk_is_the_fault_of_those_that_do_not_fit() {
    let lab = Lab::new();
    fs::create_dir(lab.path("zoo")).unwrap();
    fs::write(lab.path("zoo/a-wide.onnx"), wide(1024)).unwrap();
    fs::write(lab.path("zoo/b.onnx"), samples::gemm()).unwrap();
    let before = contents(&lab.path("zoo"));
    // Files may have 1 MiB at most, which needs no administrator; then a disk of 2 MiB.
    let script = format!(
        "trap '' XFSZ; ulimit -f 1024; exec \"$0\" batch protect zoo --out out -r {}",
        lab.recipient
    );
    let output = lab.shell(&script).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{err}");
    assert!(err.contains("a-wide.onnx"), "{err}");
    assert_eq!(outputs(&lab.path("out")), [lab.path("out/b.onnx")]);

    assert!(contents(&lab.path("zoo")) == before);

    if let Some(disk) = lab::Disk::mount(lab.path("disk")) {
        let args = [
            "batch",
            "protect",
            "zoo",
            "--out",
            "disk/out",
            "-r",
            &lab.recipient,
        ];
        let (_, err) = lab.expect(7, &[&args[..], &["--report", "r.json"]].concat());
        assert!(
            err.contains("a-wide.onnx") && err.contains("os error 28"),
            "{err}"
        );
        assert_eq!(outputs(&disk.0.join("out")), [disk.0.join("out/b.onnx")]);
        assert_eq!(totals(&report(&lab, "r.json")), [1, 0, 1, 0]);
        // With room, the rest is done.
        fs::remove_file(lab.path("zoo/a-wide.onnx")).unwrap();
        fs::write(lab.path("zoo/a-wide.onnx"), samples::conv_net()).unwrap();
        lab.expect(0, &[&args[..], &["--resume"]].concat());
    }
}

#[test]
fn folders_that_cannot_be_written_and_sources_that_can_only_be_read() {
    let lab = small(2);
    fs::write(lab.path("a-file"), "").unwrap();
    let mut folders = vec!["a-file", "a-file/below"];
    if cfg!(target_os = "linux") {
        folders.push("/proc");
    }
    let before = files(lab.dir.path());
    for folder in folders {
        let args = [
            "batch",
            "protect",
            "zoo",
            "--out",
            folder,
            "-r",
            &lab.recipient,
        ];
        let (out, err) = lab.expect(7, &args);
        assert!(
            out.contains("2 failed") && err.contains(folder),
            "{out}{err}"
        );
        assert_eq!(files(lab.dir.path()), before);
    }
    // A report that cannot be written is an error, if the models are not.
    let (_, err) = lab.expect(7, &protect(&lab, &["--report", "a-file/r.json"]));
    assert!(
        err.contains("cannot write the report a-file/r.json"),
        "{err}"
    );
    fs::remove_dir_all(lab.path("out")).unwrap();

    for path in files(&lab.path("zoo")) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
    }
    fs::set_permissions(lab.path("zoo"), fs::Permissions::from_mode(0o500)).unwrap();
    lab.expect(0, &protect(&lab, &[]));
    // Read-only outputs and records are no hindrance to what comes after.
    lab.expect(0, &protect(&lab, &["--resume", "--preset", "full"]));
    fs::set_permissions(lab.path("zoo"), fs::Permissions::from_mode(0o700)).unwrap();
    let back = [
        "-q",
        "batch",
        "unprotect",
        "out",
        "--out",
        "back",
        "-i",
        "id.txt",
    ];
    lab.expect(0, &back);
    assert!(same(&lab.path("zoo"), &lab.path("back"), &[]));
}

#[test]
fn a_source_that_changes_meanwhile_fails_alone() {
    let lab = small(3);
    fs::write(lab.path("zoo/001.onnx"), wide(4096)).unwrap();
    let done = AtomicBool::new(false);
    let file = File::options()
        .append(true)
        .open(lab.path("zoo/001.onnx"))
        .unwrap();
    let (_, err) = thread::scope(|scope| {
        scope.spawn(|| {
            // Another time of change at every moment, so at two of them too.
            for second in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
                file.set_modified(time).unwrap();
            }
        });
        let printed = lab.run(&protect(&lab, &["--report", "r.json"]));
        done.store(true, Ordering::Relaxed);
        let err = String::from_utf8(printed.stderr).unwrap();
        (assert_eq!(printed.status.code(), Some(7), "{err}"), err)
    });
    assert!(
        err.contains("zoo/001.onnx changed while it was being read"),
        "{err}"
    );
    assert_eq!(totals(&report(&lab, "r.json")), [2, 0, 1, 0]);
    assert_eq!(outputs(&lab.path("out")).len(), 2);
    lab.expect(0, &protect(&lab, &["--resume"]));
}

#[test]
fn recipients_files_and_signatures_are_those_of_the_single_commands() {
    let lab = small(3);
    let Some(key) = lab::ssh_key(&lab, "publisher") else {
        return;
    };
    let (bob, _) = lab.expect(0, &["keygen", "-o", "bob.txt"]);
    fs::write(
        lab.path("team.txt"),
        format!("# the team\n{bob}{}\n", lab.recipient),
    )
    .unwrap();
    fs::write(lab.path("allowed"), format!("release@example.com {key}\n")).unwrap();
    let args = ["batch", "protect", "zoo", "--out", "out", "-R", "team.txt"];
    lab.expect(2, &args[..5]);
    lab.expect(0, &[&args[..], &["--sign-key", "publisher"]].concat());
    let demand = ["--allowed-signers", "allowed"];
    lab.expect(0, &[&["batch", "verify", "out"], &demand[..]].concat());
    lab.expect(
        0,
        &[&["verify", "out", "-i", "bob.txt"], &demand[..]].concat(),
    );

    // Without a signature, and with other readers, nothing of that is taken for done.
    let again = ["--resume", "--report", "r.json"];
    lab.expect(
        0,
        &[&args[..], &["--sign-key", "publisher"], &again].concat(),
    );
    assert_eq!(totals(&report(&lab, "r.json")), [0, 3, 0, 0]);
    lab.expect(0, &[&args[..], &again].concat());
    assert_eq!(totals(&report(&lab, "r.json")), [3, 0, 0, 0]);
    lab.expect(4, &[&["batch", "verify", "out"], &demand[..]].concat());
    for command in ["unprotect", "rekey", "rotate"] {
        let mut args = vec!["batch", command, "out", "--out", "back", "-i", "bob.txt"];
        if command != "unprotect" {
            args.extend(["-R", "team.txt"]);
        }
        args.extend(demand);
        lab.expect(4, &args);
        assert!(!lab.path("back").exists());
    }
}

#[test]
fn without_records_nothing_is_known_later() {
    let lab = small(2);
    lab.expect(0, &protect(&lab, &["--no-records", "--report", "r.json"]));
    let found = report(&lab, "r.json");
    assert_eq!(totals(&found), [2, 0, 0, 0]);
    assert!(found["models"][0].get("output_files").is_none());
    assert_eq!(files(&lab.path("out")).len(), 2);
    lab.expect(2, &protect(&lab, &["--no-records", "--resume"]));
    let before = contents(&lab.path("out"));
    let (_, err) = lab.expect(2, &protect(&lab, &["--resume"]));
    assert!(err.contains("out/000.onnx"), "{err}");
    assert!(contents(&lab.path("out")) == before);
}
