//! External data: where it may lie, and what is said where it may not.

use std::fs;
#[cfg(unix)]
use std::os::unix::fs::symlink;
use std::path::Path;

use onnxseal_onnx::proto::TensorProto;
use onnxseal_testkit::build::{GraphBuilder, entry, external, node};
use onnxseal_testkit::samples::{self, Sample};

use crate::lab::{Lab, contents};

/// A MatMul whose weights `w` `[4, 3]` lie at `location`.
fn at(location: &str) -> Vec<u8> {
    with(external("w", &[4, 3], location, None, None))
}

fn with(w: TensorProto) -> Vec<u8> {
    GraphBuilder::new("g")
        .input("x", &[1, 4])
        .output("y", &[1, 3])
        .initializer(w)
        .node(node("MatMul", &["x", "w"], &["y"]))
        .encode()
}

/// Moves the files of the model in `folder` to `blobs`, and puts links in their places, as the cache
/// of Hugging Face has them.
#[cfg(unix)]
fn cache(lab: &Lab, folder: &str) {
    fs::create_dir_all(lab.path("blobs")).unwrap();
    for file in ["model.onnx", "weights/w.bin", "b.bin"] {
        let (from, blob) = (lab.path(folder).join(file), file.replace('/', "-"));
        let blob = format!("{folder}-{blob}");
        fs::rename(&from, lab.path("blobs").join(&blob)).unwrap();
        let up = "../".repeat(from.strip_prefix(lab.dir.path()).unwrap().iter().count() - 1);
        symlink(Path::new(&up).join("blobs").join(blob), from).unwrap();
    }
}

/// The files of `sample` are in `folder`, byte for byte.
fn assert_restored(lab: &Lab, folder: &str, sample: &Sample) {
    let read = |file: &str| fs::read(lab.path(folder).join(file)).unwrap();
    assert!(read("model.onnx") == sample.model);
    let mut files = sample.files.iter();
    assert!(files.all(|(file, bytes)| read(file) == *bytes));
}

#[cfg(unix)]
#[test]
fn models_in_the_cache_of_hugging_face_are_models_like_others() {
    let sample = samples::external_data();
    let lab = Lab::with_sample(&sample);
    cache(&lab, "plain");
    cache(&lab, "sealed");
    for args in [
        &["plan", "plain/model.onnx"][..],
        &["inspect", "sealed/model.onnx"],
        &["verify", "sealed/model.onnx"],
        &["verify", "sealed/model.onnx", "-i", "id.txt"],
        &[
            "-q",
            "protect",
            "plain/model.onnx",
            "-o",
            "again/model.onnx",
            "-r",
            &lab.recipient,
        ],
        &["verify", "again/model.onnx", "-i", "id.txt"],
        &[
            "-q",
            "rotate",
            "sealed/model.onnx",
            "-o",
            "new/model.onnx",
            "-i",
            "id.txt",
            "-r",
            &lab.recipient,
        ],
        &[
            "-q",
            "unprotect",
            "new/model.onnx",
            "-o",
            "back/model.onnx",
            "-i",
            "id.txt",
        ],
        &[
            "-q",
            "unprotect",
            "sealed/model.onnx",
            "-o",
            "too/model.onnx",
            "-i",
            "id.txt",
        ],
    ] {
        lab.expect(0, args);
    }
    for back in ["back", "too"] {
        assert_restored(&lab, back, &sample);
    }
    // Beside the links, no output takes the place of what they lead to.
    let blobs = contents(&lab.path("blobs"));
    let args = [
        "-q",
        "protect",
        "plain/model.onnx",
        "-o",
        "plain/b.onnx",
        "-r",
        &lab.recipient,
    ];
    lab.expect(0, &args);
    lab.expect(0, &["verify", "plain/b.onnx", "-i", "id.txt"]);
    assert!(contents(&lab.path("blobs")) == blobs);
}

#[cfg(unix)]
#[test]
fn in_place_a_link_to_another_folder_loses_nothing() {
    let lab = Lab::with_sample(&samples::external_data());
    cache(&lab, "plain");
    cache(&lab, "sealed");
    let before = contents(lab.dir.path());
    let recipient = ["-r", &lab.recipient];
    let protect = [
        &["protect", "plain/model.onnx", "--in-place"][..],
        &recipient,
    ]
    .concat();
    let rotate = [
        &["rotate", "sealed/model.onnx", "-i", "id.txt"][..],
        &recipient,
    ]
    .concat();
    let renamed = [&rotate[..], &["--external-data", "new"]].concat();
    for args in [protect, rotate, renamed] {
        let output = lab.run(&args);
        assert!(!output.status.success());
        assert!(contents(lab.dir.path()) == before);
    }
    // Only the end of the model file changes.
    lab.expect(
        0,
        &[
            "-q",
            "rekey",
            "sealed/model.onnx",
            "-i",
            "id.txt",
            "-r",
            &lab.recipient,
        ],
    );
    lab.expect(0, &["verify", "sealed/model.onnx", "-i", "id.txt"]);
}

#[cfg(unix)]
#[test]
fn links_lead_below_the_folders_of_the_model_or_nowhere() {
    let lab = Lab::with_sample(&samples::external_data());
    cache(&lab, "sealed");
    fs::rename(lab.path("blobs/sealed-b.bin"), lab.path("b.bin")).unwrap();
    fs::remove_file(lab.path("sealed/b.bin")).unwrap();
    for to in ["../b.bin", "../blobs/out"] {
        let _ = fs::remove_file(lab.path("sealed/b.bin"));
        symlink(to, lab.path("sealed/b.bin")).unwrap();
        let _ = symlink("../b.bin", lab.path("blobs/out"));
        let (_, err) = lab.expect(3, &["verify", "sealed/model.onnx", "-i", "id.txt"]);
        assert!(
            err.contains("below the model's folder") && err.contains("cp -L"),
            "{err}"
        );
    }
}

#[test]
fn external_data_that_was_not_fetched_says_so() {
    let lab = Lab::with_sample(&samples::external_data());
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1\n",
        "0".repeat(64)
    );
    for folder in ["plain", "sealed"] {
        fs::write(lab.path(folder).join("weights/w.bin"), &pointer).unwrap();
    }
    for args in [
        &["plan", "plain/model.onnx"][..],
        &["verify", "sealed/model.onnx", "-i", "id.txt"],
    ] {
        let (_, err) = lab.expect(3, args);
        assert!(
            err.contains("w.bin is a Git LFS pointer, not external data"),
            "{err}"
        );
        assert!(err.contains("`git lfs pull`"), "{err}");
    }
}

#[cfg(unix)]
#[test]
fn locations_that_no_program_should_follow_come_with_a_way_out() {
    let lab = Lab::new();
    fs::write(lab.path("w.bin"), [0; 48]).unwrap();
    for location in ["/etc/hostname", "../w.bin", "a\\w.bin", "C:/w.bin"] {
        fs::write(lab.path("model.onnx"), at(location)).unwrap();
        let (_, err) = lab.expect(3, &["plan", "model.onnx"]);
        assert!(
            err.contains("hint: ") && err.contains("below the model's folder"),
            "{err}"
        );
    }
    // What is written has other rules than what is read.
    for location in [".w.bin", "a\nb.bin"] {
        fs::write(lab.path(location), [0; 48]).unwrap();
        fs::write(lab.path("model.onnx"), at(location)).unwrap();
        let args = [
            "-q",
            "protect",
            "model.onnx",
            "-o",
            "out/x.onnx",
            "-r",
            &lab.recipient,
        ];
        let (_, err) = lab.expect(2, &args);
        assert!(
            err.contains("error: model.onnx keeps weights in a file"),
            "{err}"
        );
        assert!(err.contains("hint: rename the file"), "{err}");
        assert!(!lab.path("out").exists());
    }
}

#[test]
fn a_reader_of_a_model_with_external_data_is_revoked() {
    let sample = samples::external_data();
    let lab = Lab::with_sample(&sample);
    let (bob, _) = lab.expect(0, &["keygen", "-o", "bob.txt"]);
    let readers = ["-r", &lab.recipient, "-r", bob.trim()];
    let rekey = ["-q", "rekey", "sealed/model.onnx", "-i", "id.txt"];
    lab.expect(0, &[&rekey[..], &readers].concat());
    let verify = |identity| ["-q", "verify", "sealed/model.onnx", "-i", identity];
    lab.expect(0, &verify("bob.txt"));
    let before = contents(&lab.path("sealed"));

    let rotate = ["rotate", "sealed/model.onnx", "-i", "id.txt", "-r"];
    let rotate =
        |more: &[&'static str]| -> Vec<&str> { [&rotate[..], &[&lab.recipient], more].concat() };
    // What says how: in place, and beside the old one.
    for more in [&[][..], &["-o", "sealed/new.onnx"]] {
        let (_, err) = lab.expect(2, &rotate(more));
        assert!(err.contains("--external-data NAME"), "{err}");
    }
    assert!(contents(&lab.path("sealed")) == before);
    let (out, err) = lab.expect(0, &rotate(&["--external-data", "v/2", "--json"]));
    assert!(
        err.contains("beside the model: weights/w.bin, b.bin\ndelete it"),
        "{err}"
    );
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let paths = |member: &str| -> Vec<&str> {
        let files = report[member].as_array().unwrap();
        files
            .iter()
            .map(|file| file["path"].as_str().unwrap())
            .collect()
    };
    assert_eq!(paths("files"), ["", "v/2/weights/w.bin", "v/2/b.bin"]);
    assert_eq!(paths("original_files"), ["", "weights/w.bin", "b.bin"]);
    assert_eq!(paths("left_files"), ["weights/w.bin", "b.bin"]);
    lab.expect(5, &verify("bob.txt"));
    lab.expect(0, &verify("id.txt"));

    // What the old model file needs is there until it is deleted.
    for (path, bytes) in &before {
        if !path.ends_with("model.onnx") {
            assert!(fs::read(path).unwrap() == *bytes);
            fs::remove_file(path).unwrap();
        }
    }
    lab.expect(0, &verify("id.txt"));
    let (_, err) = lab.expect(2, &rotate(&["--external-data", "v/2"]));
    assert!(err.contains("--external-data NAME"), "{err}");
    let (_, err) = lab.expect(0, &[&["-q"], &*rotate(&["--external-data", "3"])].concat());
    assert_eq!(err, "");
    let back = ["-q", "unprotect", "sealed/model.onnx", "-i", "id.txt"];
    lab.expect(0, &[&back[..], &["-o", "back/model.onnx"]].concat());
    assert_restored(&lab, "back", &sample);
}

/// ONNX Runtime would compute with the copies, whatever becomes of the weights.
#[test]
fn packed_copies_of_weights_go_before_weights_are_changed() {
    let lab = Lab::new();
    let mut w = external("w", &[4, 3], "w.bin", Some(0), Some(48));
    w.external_data
        .push(entry("prepacked_0", "MatMul+1|48;48;0"));
    fs::write(lab.path("model.onnx"), with(w)).unwrap();
    fs::write(lab.path("w.bin"), [7; 96]).unwrap();
    let mut commands: Vec<&[&str]> = Vec::new();
    if cfg!(feature = "labels") {
        commands.push(&["labels", "inspect", "model.onnx"]);
    }
    if cfg!(feature = "assess") && crate::lab::has_onnxruntime() {
        commands.push(&["assess", "model.onnx"]);
    }
    for args in commands {
        let (_, err) = lab.expect(2, args);
        assert!(
            err.contains("packed copies of weights") && err.contains("--repack"),
            "{err}"
        );
    }
}
