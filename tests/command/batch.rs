//! `onnxseal batch`: many models at once, each on its own; faults of one, and of the system.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use onnxseal_testkit::build::{GraphBuilder, node, weights};
use onnxseal_testkit::{Sample, samples};
use serde_json::Value;

use crate::lab::{self, Lab, contents, files};

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
#[cfg(unix)]
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
    let (out, err) = lab.expect(
        0,
        &protect(&lab, &["--report", "report.json", "--sync", "--checksum"]),
    );
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
    let (out, _) = lab.expect(
        0,
        &[&verify[..], &["--report", "v.json", "--checksum"]].concat(),
    );
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

#[cfg(unix)]
#[test]
fn models_are_rotated_and_rekeyed_where_they_lie() {
    let lab = zoo();
    let [other, third] = ["other.txt", "third.txt"].map(|file| {
        let made = lab.expect(0, &["keygen", "-o", file]).0;
        made.trim().to_owned()
    });
    lab.expect(
        0,
        &[&["-q"], &protect(&lab, &["--no-records"])[..]].concat(),
    );
    let n = samples::all().len() as u64 + 1;
    let external = |path: &PathBuf| {
        let name = samples::external_data().name;
        path.components().any(|folder| folder.as_os_str() == name)
    };
    let of_one_file = |path: &PathBuf| !external(path);
    std::os::unix::fs::symlink("plain-name", lab.path("out/latest")).unwrap();
    fs::set_permissions(
        lab.path("out/plain-name"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    let before = contents(&lab.path("out"));

    let rotate = ["batch", "rotate", "out", "-i", "id.txt", "-r", &other];
    let told = ["--preset", "full", "--report", "r.json"];
    let (out, err) = lab.expect(2, &[&rotate[..], &told].concat());
    assert!(
        out.contains(&format!("{} done, 1 failed of {n} models", n - 1)),
        "{out}"
    );
    assert!(
        err.contains("hint: write them to a folder with --out"),
        "{err}"
    );
    let found = report(&lab, "r.json");
    for model in found["models"].as_array().unwrap() {
        assert_eq!(model["source"], model["output"]);
        let is_done = model["outcome"] == "done";
        assert_eq!(
            is_done,
            of_one_file(&model["source"].as_str().unwrap().into())
        );
        let [bytes, encrypted] =
            ["bytes", "encrypted_bytes"].map(|name| model["weights"][name].as_u64());
        // Two single elements, and the indices of sparse values.
        let clear = match model["source"].as_str().unwrap() {
            "out/qdq/model.onnx" => 5,
            "out/sparse/model.onnx" => 24,
            _ => 0,
        };
        assert!(!is_done || bytes == encrypted.map(|n| n + clear), "{model}");
    }
    let after = contents(&lab.path("out"));
    assert_eq!(
        after.len(),
        before.len(),
        "nothing is left, no records either"
    );
    for ((path, old), (_, new)) in before.iter().zip(&after) {
        assert_eq!(old == new, external(path), "{}", path.display());
    }
    assert!(lab.path("out/latest").is_symlink());
    let mode = fs::metadata(lab.path("out/plain-name")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o640);

    // A key that opens all of them rekeys all, the model with external data too.
    let rekey = [
        "batch",
        "rekey",
        "out",
        "-i",
        "id.txt",
        "-i",
        "other.txt",
        "-r",
        &third,
    ];
    let (out, _) = lab.expect(0, &rekey);
    assert!(
        out.starts_with(&format!("rekey: {n} done of {n} models; ")),
        "{out}"
    );
    let back = [
        "batch",
        "unprotect",
        "out",
        "-i",
        "third.txt",
        "--out",
        "back",
    ];
    lab.expect(0, &[&["-q"], &back[..]].concat());
    fs::remove_file(lab.path("zoo/README.md")).unwrap();
    for (path, content) in contents(&lab.path("zoo")) {
        let path = lab
            .path("back")
            .join(path.strip_prefix(lab.path("zoo")).unwrap());
        assert!(
            path.exists() && fs::read(&path).unwrap() == content,
            "{}",
            path.display()
        );
    }
}

#[test]
fn what_is_changed_in_place_has_no_records() {
    let lab = small(2);
    lab.expect(0, &protect(&lab, &[]));
    let before = contents(&lab.path("out"));
    for more in ["--resume", "--no-records", "--checksum"] {
        let rotate = [
            "batch",
            "rotate",
            "out",
            "-i",
            "id.txt",
            "-r",
            &lab.recipient,
            more,
        ];
        let (_, err) = lab.expect(2, &rotate);
        assert!(err.contains("--out"), "{err}");
    }
    for (command, key) in [("protect", "-r"), ("unprotect", "-i")] {
        let key = [
            key,
            if key == "-i" {
                "id.txt"
            } else {
                &lab.recipient
            },
        ];
        let (_, err) = lab.expect(2, &[&["batch", command, "out"][..], &key].concat());
        assert!(err.contains("--out"), "{err}");
    }
    assert!(contents(&lab.path("out")) == before);
}

#[cfg(unix)]
#[test]
fn a_file_with_several_names_is_changed_in_place_once() {
    use std::os::unix::fs::symlink;

    let lab = small(2);
    lab.expect(0, &protect(&lab, &[]));
    let names = crate::lab::files(&lab.path("out"));
    let model = names
        .iter()
        .find(|path| path.extension().is_some_and(|end| end == "onnx"));
    let model = model.unwrap().file_name().unwrap();
    // One name stands before the file's own, one after it.
    for link in ["out/0.onnx", "out/zz.onnx"] {
        symlink(model, lab.path(link)).unwrap();
    }
    let keys = ["-i", "id.txt", "-r", &lab.recipient];
    for command in ["rekey", "rotate"] {
        let (out, err) = lab.expect(0, &[&["batch", command, "out"][..], &keys].concat());
        assert!(out.contains("2 done of 2 models"), "{out}");
        assert_eq!(err.matches("which is changed once").count(), 2, "{err}");
        let own = Path::new("out").join(model);
        let own = format!("same file as {}", own.display());
        assert_eq!(err.matches(&own).count(), 2, "{err}");
        assert!(lab.path("out/0.onnx").is_symlink());
        let (out, _) = lab.expect(0, &["verify", "out", "-i", "id.txt"]);
        assert!(out.contains("4 models: 4 ok"), "{out}");
        // Links alone lead to it too.
        let links = ["out/0.onnx", "out/zz.onnx"];
        let (out, _) = lab.expect(0, &[&["batch", command][..], &links, &keys].concat());
        assert!(out.contains("1 done of 1 model"), "{out}");
    }
}

#[test]
fn models_with_tiers_go_through_all_operations() {
    let lab = zoo();
    let n = samples::all().len() as u64 + 1;
    let tiers =
        "preset = \"full\"\n[[tier]]\nname = \"trial\"\nshare = 0.3\n[[tier]]\nname = \"full\"\n";
    fs::write(lab.path("tiers.toml"), tiers).unwrap();
    let trial = lab.expect(0, &["keygen", "-o", "trial.txt"]).0;
    let (trial, full) = (
        format!("trial={}", trial.trim()),
        format!("full={}", lab.recipient),
    );
    let to = ["-r", &trial, "-r", &full];
    let protect = ["-q", "batch", "protect", "zoo", "--out", "out"];
    let protect = [&protect[..], &["--policy", "tiers.toml"], &to].concat();
    lab.expect(0, &protect);
    let rotate = ["-q", "batch", "rotate", "out", "--out", "rotated"];
    lab.expect(0, &[&rotate[..], &["-i", "id.txt"], &to].concat());
    let again = [&rotate[..], &["--resume"], &to].concat();
    lab.expect(0, &[&again[..], &["-i", "id.txt"]].concat());
    // The trial's key opens no original, and is no key to rotate by.
    let by_trial = ["-i", "trial.txt"];
    let refused = ["-q", "batch", "rotate", "out", "--out", "refused"];
    lab.expect(5, &[&refused[..], &by_trial, &to].concat());
    lab.expect(5, &[&again[..], &by_trial].concat());
    let unprotect = |from: &str, out: &str, more: &[&str], code: i32| {
        let args = ["batch", "unprotect", from, "--out", out];
        let args = [&args[..], &["--resume", "--report", "r.json"], more].concat();
        lab.expect(code, &args);
        totals(&report(&lab, "r.json"))
    };
    for from in ["out", "rotated"] {
        let (back, less) = (format!("back-{from}"), format!("less-{from}"));
        unprotect(from, &less, &by_trial, 5);
        let folder = lab.path(&less);
        assert!(!folder.exists() || outputs(&folder).is_empty());
        let named = [&by_trial[..], &["--tier", "trial"]].concat();
        assert_eq!(unprotect(from, &less, &named, 0), [n, 0, 0, 0]);
        assert_eq!(unprotect(from, &less, &named, 0), [0, n, 0, 0]);
        assert_eq!(unprotect(from, &back, &["-i", "id.txt"], 0), [n, 0, 0, 0]);
        // What a higher key has done is not done for a lower one.
        assert_eq!(unprotect(from, &back, &by_trial, 5), [0, 0, n, 0]);
        assert!(same(&lab.path("zoo"), &lab.path(&back), &["README.md"]));
        assert!(!same(&lab.path("zoo"), &lab.path(&less), &["README.md"]));
        // Another edition is another output, which is not there yet.
        let both = ["-i", "id.txt", "--tier", "trial"];
        assert_eq!(unprotect(from, &back, &both, 0)[1], 0);
        assert!(same(&lab.path(&less), &lab.path(&back), &[]));
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

#[cfg(unix)]
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
    assert_eq!(
        resume(&["--preset", "strong", "--allow-clear", "*"], 0).0,
        [n, 0, 0, 0]
    );
    lab.expect(
        0,
        &[
            "-q",
            "batch",
            "verify",
            "out",
            "-i",
            "id.txt",
            "--preset",
            "strong",
            "--allow-clear",
            "*",
        ],
    );
    assert_eq!(
        resume(&["--preset", "strong", "--allow-clear", "*"], 0).0,
        [0, n, 0, 0]
    );
    assert_eq!(
        resume(
            &["--preset", "strong", "--allow-clear", "*", "--claim", "a=b"],
            0
        )
        .0,
        [n, 0, 0, 0]
    );

    // Files that somebody else wrote, in place of an output and of a part of one.
    let (one, part) = (
        lab.path("out/lstm/model.onnx"),
        lab.path("out/external_data/weights/w.bin"),
    );
    fs::write(&one, "precious").unwrap();
    fs::write(&part, "precious").unwrap();
    let (found, err) = resume(
        &["--preset", "strong", "--allow-clear", "*", "--claim", "a=b"],
        2,
    );
    assert_eq!(found, [0, n - 2, 2, 0]);
    assert!(
        err.contains("out/lstm/model.onnx") && err.contains("w.bin"),
        "{err}"
    );
    assert!(err.contains("--force"), "{err}");
    assert_eq!(fs::read(&one).unwrap(), b"precious");
    assert_eq!(fs::read(&part).unwrap(), b"precious");
    let (found, _) = resume(
        &[
            "--preset",
            "strong",
            "--allow-clear",
            "*",
            "--claim",
            "a=b",
            "--force",
        ],
        2,
    );
    assert_eq!(
        found,
        [1, n - 2, 1, 0],
        "several files never replace others"
    );
    assert_eq!(fs::read(&part).unwrap(), b"precious");
    fs::remove_file(&part).unwrap();
    assert_eq!(
        resume(
            &["--preset", "strong", "--allow-clear", "*", "--claim", "a=b"],
            0
        )
        .0,
        [1, n - 1, 0, 0]
    );

    // A record that is damaged counts for nothing.
    for record in files(&lab.path("out/.onnxseal")) {
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, text.replace("\"path\":\"\"", "\"path\":\"../x\"")).unwrap();
    }
    assert_eq!(resume(&["--preset", "strong"], 2).0, [0, 0, n, 0]);
}

/// Gives a file the time of its last write that it had, or that of an hour ago.
fn set_time(path: &Path, time: Option<SystemTime>) {
    let hour = Duration::from_secs(3600);
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(time.unwrap_or_else(|| SystemTime::now() - hour))
        .unwrap();
}

/// Changes a byte of a file, which keeps its length, number and time.
fn change_unnoticed(path: &Path) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(path, bytes).unwrap();
    set_time(path, Some(time));
}

#[cfg(unix)]
#[test]
fn resuming_goes_by_times_and_with_checksum_by_digests() {
    let lab = small(4);
    put(&lab, "zoo/several", &samples::external_data());
    files(&lab.path("zoo"))
        .iter()
        .for_each(|path| set_time(path, None));
    let run = |more: &[&str], expected: [u64; 4]| {
        let code = if expected[2] > 0 { 2 } else { 0 };
        let args = [&["--resume", "--report", "r.json"], more].concat();
        lab.expect(code, &protect(&lab, &args));
        assert_eq!(totals(&report(&lab, "r.json")), expected, "{more:?}");
    };
    let has_digests = || {
        let records = files(&lab.path("out/.onnxseal"));
        let text = |path: &PathBuf| fs::read_to_string(path).unwrap();
        records.iter().any(|path| text(path).contains("blake3"))
    };
    run(&[], [5, 0, 0, 0]);
    assert!(!has_digests());
    let first = stamps(&lab.path("out"));
    run(&[], [0, 5, 0, 0]);
    assert_eq!(stamps(&lab.path("out")), first);

    // A source that was written, or replaced, counts as another, whatever time it has.
    let source = lab.path("zoo/000.onnx");
    set_time(&source, None);
    run(&[], [1, 4, 0, 0]);
    let time = fs::metadata(&source).unwrap().modified().unwrap();
    fs::copy(&source, lab.path("copy")).unwrap();
    fs::rename(lab.path("copy"), &source).unwrap();
    set_time(&source, Some(time));
    run(&[], [1, 4, 0, 0]);
    set_time(&lab.path("zoo/several/b.bin"), None);
    run(&[], [1, 4, 0, 0]);

    // Nothing tells of this but digests, and there are none of it: it is made again.
    let output = lab.path("out/001.onnx");
    change_unnoticed(&output);
    run(&[], [0, 5, 0, 0]);
    run(&["--checksum"], [5, 0, 0, 0]);
    run(&["--checksum"], [0, 5, 0, 0]);
    change_unnoticed(&output);
    run(&[], [0, 5, 0, 0]);
    run(&["--checksum"], [1, 4, 0, 0]);
    set_time(&source, None);
    run(&["--checksum"], [0, 5, 0, 0]);
    // Its digest stays in the record, so that its time need not fit.
    run(&[], [0, 5, 0, 0]);

    // What was written otherwise is somebody's, and stays.
    set_time(&lab.path("zoo/002.onnx"), None);
    fs::remove_file(lab.path("out/002.onnx")).unwrap();
    run(&[], [1, 4, 0, 0]);
    let mut bytes = fs::read(lab.path("out/002.onnx")).unwrap();
    bytes[100] ^= 1;
    fs::write(lab.path("out/002.onnx"), &bytes).unwrap();
    set_time(&lab.path("out/002.onnx"), None);
    run(&[], [0, 4, 1, 0]);
    assert_eq!(fs::read(lab.path("out/002.onnx")).unwrap(), bytes);
}

#[cfg(unix)]
#[test]
fn times_count_until_the_system_starts_anew_and_then_if_the_run_waited_for_the_disk() {
    let run = |lab: &Lab, more: &[&str], expected: [u64; 4]| {
        let args = [&["--resume", "--report", "r.json"], more].concat();
        lab.expect(0, &protect(lab, &args));
        assert_eq!(totals(&report(lab, "r.json")), expected, "{more:?}");
    };
    let reboot = |lab: &Lab| {
        for i in 0..2 {
            forge(lab, &format!("00{i}.onnx"), |record| {
                assert!(record["run"]["boot"].is_string() || !cfg!(target_os = "linux"));
                record["run"]["boot"] = "another".into();
            });
        }
    };
    for (first, then) in [
        (&[][..], [2, 0, 0, 0]),
        (&["--sync"], [0, 2, 0, 0]),
        (&["--checksum"], [0, 2, 0, 0]),
        (&["--force"], [2, 0, 0, 0]),
    ] {
        let lab = small(2);
        files(&lab.path("zoo"))
            .iter()
            .for_each(|path| set_time(path, None));
        run(&lab, first, [2, 0, 0, 0]);
        let before = stamps(&lab.path("out"));
        reboot(&lab);
        run(&lab, &[], then);
        assert_eq!(stamps(&lab.path("out")) == before, then[1] == 2);
        // A run that waits makes what it skips count too.
        run(&lab, &["--sync"], [0, 2, 0, 0]);
        reboot(&lab);
        run(&lab, &[], [0, 2, 0, 0]);
    }
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
    assert!(lab::slashes(error["message"].as_str().unwrap().to_owned()).contains("zoo/002.onnx"));
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
    assert!(err.contains("4 were not started"), "{err}");
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
        err.contains("skipped 1 model") && out.contains("1 done of 1 model;"),
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

#[cfg(unix)]
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

#[cfg(unix)]
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
        // One at a time: the large model fills the disk for as long as it is being written.
        let alone = ["--jobs", "1", "--report", "r.json"];
        let (_, err) = lab.expect(7, &[&args[..], &alone].concat());
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

#[cfg(unix)]
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
        let (_, err) = lab.expect(7, &args);
        assert!(err.contains(folder), "{err}");
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
    lab.expect(0, &protect(&lab, &["--resume", "--preset", "strong"]));
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
        // Which reads the weights twice, so that there is time for a change.
        let args = ["--report", "r.json", "--preset", "balanced"];
        let printed = lab.run(&protect(&lab, &args));
        done.store(true, Ordering::Relaxed);
        let err = lab::slashes(String::from_utf8(printed.stderr).unwrap());
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

/// A lab whose `zoo` has models in several files and in one.
fn several_files() -> Lab {
    let lab = small(2);
    for name in ["a", "b", "c"] {
        put(&lab, &format!("zoo/{name}"), &samples::external_data());
    }
    lab
}

#[test]
fn two_runs_at_once_leave_a_folder_that_goes_on() {
    let lab = several_files();
    for round in 0..5 {
        let args = protect(&lab, &["--resume"]);
        let start = || lab.command(&args).stderr(Stdio::piped()).spawn().unwrap();
        let runs = [start(), start()].map(|run| run.wait_with_output().unwrap());
        let mut codes = runs.each_ref().map(|run| run.status.code().unwrap());
        codes.sort_unstable();
        // Both, if one came after the other.
        assert!(matches!(codes, [0, 0 | 2]), "round {round}: {runs:?}");
        for run in runs.iter().filter(|run| run.status.code() == Some(2)) {
            let err = String::from_utf8_lossy(&run.stderr);
            assert!(err.contains("another batch (process "), "{err}");
        }
        lab.expect(0, &protect(&lab, &["--resume", "--report", "r.json"]));
        assert_eq!(totals(&report(&lab, "r.json")), [0, 5, 0, 0]);
        lab.expect(0, &["-q", "verify", "out", "-i", "id.txt"]);
        assert_eq!(files(&lab.path("out/.onnxseal")).len(), 5, "locks are left");
        fs::remove_dir_all(lab.path("out")).unwrap();
    }
}

#[test]
fn a_folder_is_kept_from_others_by_a_living_process_alone() {
    let lab = small(1);
    fs::create_dir_all(lab.path("out/.onnxseal")).unwrap();
    let lock = lab.path("out/.onnxseal/part-1-of-3.lock");
    fs::write(&lock, "process 1 on elsewhere").unwrap();
    let held = File::open(&lock).unwrap();
    held.lock().unwrap();
    for part in [
        &[][..],
        &["--shard", "1/3"],
        &["--shard", "0/2"],
        &["--no-records"],
    ] {
        let (_, err) = lab.expect(2, &protect(&lab, part));
        assert!(
            err.contains("process 1 on elsewhere") && err.contains("--shard"),
            "{err}"
        );
    }
    assert!(outputs(&lab.path("out")).is_empty());
    lab.expect(0, &protect(&lab, &["--shard", "0/3"]));
    drop(held);
    lab.expect(0, &protect(&lab, &["--resume"]));
    assert_eq!(outputs(&lab.path("out")).len(), 1);
    assert!(!lock.exists());
}

/// Makes the record of `model` what `change` makes of it.
fn change_record(lab: &Lab, model: &str, change: impl Fn(&[u8]) -> Vec<u8>) {
    for path in files(&lab.path("out/.onnxseal")) {
        let text = fs::read(&path).unwrap();
        let record = serde_json::from_slice::<Value>(&text);
        if record.is_ok_and(|record| record["model"] == model) {
            fs::write(&path, change(&text)).unwrap();
        }
    }
}

#[test]
fn what_a_power_loss_left_is_made_again_or_named() {
    let lab = several_files();
    lab.expect(0, &protect(&lab, &[]));
    let resume = |more: &[&str], code: i32| {
        let args = [&["--resume", "--report", "r.json"], more].concat();
        let (_, err) = lab.expect(code, &protect(&lab, &args));
        let found = totals(&report(&lab, "r.json"));
        let verified = lab.run(&["-q", "verify", "out", "-i", "id.txt"]);
        assert_eq!(verified.status.success(), code == 0, "{err}");
        (found, err)
    };
    let write = |path: &str, bytes: &[u8]| fs::write(lab.path(path), bytes).unwrap();
    // Names got to the disk, and no bytes: of an output, of a record, of both, of one file of several.
    write("out/000.onnx", b"");
    assert_eq!(resume(&[], 0).0, [1, 4, 0, 0]);
    change_record(&lab, "000.onnx", |_| Vec::new());
    write("out/000.onnx", b"");
    write("out/a/weights/w.bin", b"");
    assert_eq!(resume(&[], 0).0, [2, 3, 0, 0]);
    change_record(&lab, "a/model.onnx", |text| text[..text.len() / 2].to_vec());
    for file in files(&lab.path("out/a")) {
        fs::write(file, b"").unwrap();
    }
    assert_eq!(resume(&[], 0).0, [1, 4, 0, 0]);
    // Of external data the names did not.
    fs::remove_dir_all(lab.path("out/b/weights")).unwrap();
    write("out/b/model.onnx", b"");
    assert_eq!(resume(&[], 0).0, [1, 4, 0, 0]);
    assert_eq!(resume(&[], 0).0, [0, 5, 0, 0]);

    // The bytes of an output got there in part: it never counts as done. Nobody can tell it from a file
    // of somebody else.
    let whole = fs::read(lab.path("out/000.onnx")).unwrap();
    let mut holes = whole.clone();
    holes[64..].fill(0);
    for torn in [&whole[..whole.len() / 2], &holes] {
        write("out/000.onnx", torn);
        let (found, err) = resume(&[], 2);
        assert_eq!(found, [0, 4, 1, 0]);
        assert!(err.contains("out/000.onnx"), "{err}");
        assert_eq!(fs::read(lab.path("out/000.onnx")).unwrap(), torn);
        assert_eq!(resume(&["--force"], 0).0, [1, 4, 0, 0]);
    }
    // Those of its record did not: it is named too.
    change_record(&lab, "000.onnx", |_| Vec::new());
    let args = [&["--resume"], &["--report", "r.json"][..]].concat();
    let (_, err) = lab.expect(2, &protect(&lab, &args));
    assert!(err.contains("out/000.onnx"), "{err}");
    assert_eq!(resume(&["--force"], 0).0, [1, 4, 0, 0]);
}

#[test]
fn outputs_of_a_run_whose_record_another_wrote_over_are_known() {
    let lab = several_files();
    // Without it, only records of models that were just written have checksums, which tell.
    lab.expect(0, &protect(&lab, &["--checksum"]));
    let first = lab.path("first");
    fs::rename(lab.path("out"), &first).unwrap();
    // A second run found the record of the first, and no outputs yet; then those came.
    fs::create_dir(lab.path("out")).unwrap();
    fs::create_dir(lab.path("out/.onnxseal")).unwrap();
    for record in files(&first.join(".onnxseal")) {
        fs::copy(
            &record,
            lab.path("out/.onnxseal").join(record.file_name().unwrap()),
        )
        .unwrap();
    }
    lab.expect(0, &protect(&lab, &["--checksum", "--resume"]));
    for path in outputs(&first) {
        fs::copy(
            &path,
            lab.path("out").join(path.strip_prefix(&first).unwrap()),
        )
        .unwrap();
    }
    lab.expect(
        0,
        &protect(&lab, &["--checksum", "--resume", "--report", "r.json"]),
    );
    assert_eq!(totals(&report(&lab, "r.json")), [5, 0, 0, 0]);
    lab.expect(0, &["-q", "verify", "out", "-i", "id.txt"]);
}

#[test]
fn demands_and_identities_are_part_of_what_is_asked_for() {
    let lab = small(2);
    let Some(key) = lab::ssh_key(&lab, "publisher") else {
        return;
    };
    let other = lab::ssh_key(&lab, "other").unwrap();
    fs::write(lab.path("allowed"), format!("a@b {key}\n")).unwrap();
    fs::write(lab.path("others"), format!("a@b {other}\n")).unwrap();
    lab.expect(0, &["keygen", "-o", "stranger.txt"]);
    lab.expect(0, &protect(&lab, &["--sign-key", "publisher"]));
    lab.expect(
        0,
        &[
            "-q",
            "protect",
            "zoo/000.onnx",
            "-o",
            "out/unsigned.onnx",
            "-r",
            &lab.recipient,
        ],
    );
    let commands: [&[&str]; 3] = [
        &["batch", "unprotect"],
        &["batch", "rekey", "-r", &lab.recipient],
        &[
            "batch",
            "rotate",
            "-r",
            &lab.recipient,
            "--sign-key",
            "publisher",
        ],
    ];
    for command in commands {
        let (into, report_to) = (command[1], ["--resume", "--report", "r.json"]);
        let run = |identity: &str, more: &[&str], code: i32| {
            let args = ["out", "--out", into, "-i", identity];
            lab.expect(code, &[command, &args, &report_to, more].concat());
            totals(&report(&lab, "r.json"))
        };
        assert_eq!(run("id.txt", &[], 0), [3, 0, 0, 0]);
        assert_eq!(run("id.txt", &[], 0), [0, 3, 0, 0]);
        // Another identity opens none of them.
        assert_eq!(run("stranger.txt", &[], 5), [0, 0, 3, 0]);
        // The one that is not signed is not done before where a signature is demanded.
        let demand = ["--allowed-signers", "allowed"];
        assert_eq!(run("id.txt", &demand, 4), [2, 0, 1, 0], "{into}");
        assert_eq!(run("id.txt", &demand, 4), [0, 2, 1, 0], "{into}");
        let signer = [&demand[..], &["--signer", "a@b"]].concat();
        assert_eq!(run("id.txt", &signer, 4), [2, 0, 1, 0], "{into}");
        assert_eq!(
            run("id.txt", &["--allowed-signers", "others"], 4),
            [0, 0, 3, 0]
        );
    }
}

/// Changes a record of `out`, which is JSON.
fn forge(lab: &Lab, model: &str, change: impl Fn(&mut Value)) {
    let is_json = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
    for path in files(&lab.path("out/.onnxseal"))
        .into_iter()
        .filter(is_json)
    {
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        if record["model"] == model {
            change(&mut record);
            fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
        }
    }
}

fn digest_of(lab: &Lab, path: &str, name: &str) -> Value {
    let bytes = fs::read(lab.path(path)).unwrap();
    serde_json::json!({
        "path": name,
        "bytes": bytes.len(),
        "blake3": blake3::hash(&bytes).to_hex().as_str(),
    })
}

#[cfg(unix)]
#[test]
fn a_forged_record_removes_nothing_elsewhere_and_passes_nothing_as_protected() {
    let lab = small(2);
    lab.expect(0, &protect(&lab, &[]));
    fs::create_dir(lab.path("elsewhere")).unwrap();
    fs::write(lab.path("elsewhere/precious.bin"), "precious").unwrap();
    fs::write(lab.path("elsewhere/model.onnx"), samples::gemm()).unwrap();
    std::os::unix::fs::symlink("../elsewhere", lab.path("out/link")).unwrap();
    std::os::unix::fs::symlink("../elsewhere/precious.bin", lab.path("out/file-link")).unwrap();
    let before = contents(&lab.path("elsewhere"));
    // Through a linked folder, and through a link.
    for (name, path) in [
        ("link/precious.bin", "elsewhere/precious.bin"),
        ("file-link", "elsewhere/precious.bin"),
    ] {
        let precious = digest_of(&lab, path, name);
        forge(&lab, "000.onnx", |record| {
            record["replaced"] = serde_json::json!([precious]);
        });
        let (_, err) = lab.expect(2, &protect(&lab, &["--resume", "--preset", "strong"]));
        assert!(err.contains(name), "{err}");
        assert!(contents(&lab.path("elsewhere")) == before);
    }
    assert!(lab.path("out/file-link").exists());

    // The source itself as its own protected form; and another model that is not protected.
    for plain in ["zoo/000.onnx", "elsewhere/model.onnx"] {
        fs::copy(lab.path(plain), lab.path("out/000.onnx")).unwrap();
        let output = digest_of(&lab, plain, "");
        forge(&lab, "000.onnx", |record| {
            record["output"] = serde_json::json!([output]);
            record["replaced"] = serde_json::json!([]);
        });
        let args = ["--resume", "--preset", "strong", "--report", "r.json"];
        lab.expect(2, &protect(&lab, &args));
        assert_eq!(totals(&report(&lab, "r.json")), [0, 1, 1, 0], "{plain}");
        assert!(fs::read(lab.path("out/000.onnx")).unwrap() == fs::read(lab.path(plain)).unwrap());
    }
}

#[cfg(unix)]
#[test]
fn nothing_is_written_through_a_linked_folder() {
    let lab = small(1);
    fs::create_dir_all(lab.path("zoo/sub")).unwrap();
    fs::write(lab.path("zoo/sub/m.onnx"), samples::gemm()).unwrap();
    fs::create_dir(lab.path("elsewhere")).unwrap();
    fs::create_dir(lab.path("out")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", lab.path("out/sub")).unwrap();
    let (_, err) = lab.expect(7, &protect(&lab, &["--report", "r.json"]));
    assert!(
        err.contains("out/sub/m.onnx") && err.contains("a link"),
        "{err}"
    );
    assert_eq!(totals(&report(&lab, "r.json")), [1, 0, 1, 0]);
    assert!(files(&lab.path("elsewhere")).is_empty());
}

#[cfg(unix)]
#[test]
fn leftovers_of_killed_runs_are_no_models_and_go() {
    let lab = several_files();
    lab.expect(0, &protect(&lab, &[]));
    // What a kill leaves between two system calls, or where there are no unnamed files.
    let left = ["out/a", "out", "out/.onnxseal"].map(|folder| format!("{folder}/.onnxseal-abc123"));
    let plain = fs::read(lab.path("zoo/000.onnx")).unwrap();
    for path in &left {
        fs::write(lab.path(path), &plain).unwrap();
    }
    let held = lab.path("out/.onnxseal-held00");
    fs::write(&held, &plain).unwrap();
    let lock = File::open(&held).unwrap();
    lock.lock().unwrap();
    let (out, err) = lab.expect(0, &["verify", "--require-protected", "out", "-i", "id.txt"]);
    assert!(
        out.contains("5 models: 5 ok") && err.contains("skipped 4 unfinished files"),
        "{out}{err}"
    );
    let (out, _) = lab.expect(0, &["batch", "verify", "out", "-i", "id.txt"]);
    assert!(out.contains("5 done of 5 models"), "{out}");
    // Also where there is nothing else to do.
    lab.expect(0, &protect(&lab, &["--resume"]));
    for path in &left {
        assert!(!lab.path(path).exists(), "{path}");
    }
    assert!(held.exists());
    drop(lock);
    // A single command clears its output's folder as well.
    lab.expect(
        0,
        &[
            "-q",
            "protect",
            "zoo/000.onnx",
            "-o",
            "out/one.onnx",
            "-r",
            &lab.recipient,
        ],
    );
    assert!(!held.exists());
}

#[cfg(unix)]
#[test]
fn a_report_replaces_earlier_reports_and_nothing_else() {
    let lab = several_files();
    fs::write(lab.path("list"), "zoo\n").unwrap();
    fs::write(lab.path("policy.toml"), "preset = \"full\"\n").unwrap();
    fs::write(lab.path("notes.json"), "{\"operation\": 1}").unwrap();
    let args = [
        "batch",
        "protect",
        "--list",
        "list",
        "--out",
        "out",
        "-r",
        &lab.recipient,
    ];
    let args = [&args[..], &["--policy", "policy.toml"]].concat();
    let before = contents(lab.dir.path());
    let refused = |command: &[&str], report: &str| {
        let (_, err) = lab.expect(2, &[command, &["--report", report]].concat());
        assert!(contents(lab.dir.path()) == before, "{report}");
        err
    };
    for force in [&[][..], &["--force"]] {
        let args = [&args[..], force].concat();
        for report in [
            "list",
            "./policy.toml",
            "zoo/000.onnx",
            "zoo/a/weights/w.bin",
            "out/zoo/000.onnx",
            "out/zoo/../zoo/a/weights/w.bin",
            "out/.onnxseal/x.json",
            "zoo",
        ] {
            refused(&args, report);
        }
        let verify = ["batch", "verify", "zoo", "-i", "id.txt"];
        refused(&[&verify[..], force].concat(), "id.txt");
    }
    let err = refused(&args, "notes.json");
    assert!(err.contains("--force"), "{err}");
    refused(&args, "id.txt");
    std::os::unix::fs::symlink("r.json", lab.path("link.json")).unwrap();
    lab.expect(
        2,
        &[&args[..], &["--force", "--report", "link.json"]].concat(),
    );
    // An earlier one, and what was made for it.
    fs::write(lab.path("r.json"), "").unwrap();
    lab.expect(0, &[&args[..], &["--report", "r.json"]].concat());
    lab.expect(
        0,
        &[&args[..], &["--resume", "--report", "r.json"]].concat(),
    );
    lab.expect(
        0,
        &[
            &args[..],
            &["--resume", "--force", "--report", "notes.json"],
        ]
        .concat(),
    );
    assert_eq!(totals(&report(&lab, "notes.json")), [0, 5, 0, 0]);
    // Nor is the file that the environment names written over.
    let mut command = lab.command(&["batch", "verify", "out", "--force", "--report", "id.txt"]);
    let output = command.env("ONNXSEAL_IDENTITY", "id.txt").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[cfg(unix)]
#[test]
fn what_cannot_be_looked_at_is_a_row_of_the_report() {
    let lab = small(2);
    std::os::unix::fs::symlink("circle", lab.path("zoo/circle")).unwrap();
    std::os::unix::fs::symlink("nowhere", lab.path("zoo/gone.onnx")).unwrap();
    let (out, err) = lab.expect(7, &protect(&lab, &["--report", "r.json"]));
    assert!(out.contains("2 done, 2 failed of 4 models"), "{out}");
    assert!(
        err.contains("zoo/circle") && err.contains("zoo/gone.onnx"),
        "{err}"
    );
    let told = report(&lab, "r.json");
    let rows: Vec<_> = told["models"].as_array().unwrap().iter().collect();
    let sources: Vec<_> = rows
        .iter()
        .map(|row| row["source"].as_str().unwrap())
        .collect();
    assert_eq!(
        sources,
        [
            "zoo/000.onnx",
            "zoo/001.onnx",
            "zoo/circle",
            "zoo/gone.onnx"
        ]
    );
    for row in &rows[2..] {
        assert_eq!(
            (&row["outcome"], &row["error"]["class"]),
            (&"failed".into(), &"io".into())
        );
        assert_eq!(row.get("output"), None);
    }
    // Each is of one part.
    let failed: u64 = (0..3)
        .map(|part| {
            let shard = format!("{part}/3");
            lab.run(&protect(
                &lab,
                &["--resume", "--shard", &shard, "--report", "r.json"],
            ));
            totals(&report(&lab, "r.json"))[2]
        })
        .sum();
    assert_eq!(failed, 2);
    let (out, _) = lab.expect(7, &["verify", "out", "zoo/circle", "-i", "id.txt"]);
    assert!(out.contains("3 models: 2 ok, 1 failed"), "{out}");
    let (out, _) = lab.expect(6, &["verify", "--require-protected", "zoo", "--json"]);
    assert!(out.contains("\"unreadable\""), "{out}");
    fs::remove_file(lab.path("zoo/000.onnx")).unwrap();
    fs::remove_file(lab.path("zoo/001.onnx")).unwrap();
    let (out, _) = lab.expect(7, &protect(&lab, &["--fail-fast"]));
    assert!(out.contains("0 done, 2 failed of 2 models"), "{out}");
}
