//! Where outputs may not go: over each other, over other models, over a new key.

use std::fs;
#[cfg(unix)]
use std::os::unix::fs::symlink;
use std::path::Path;

use onnxseal_testkit::build;

use crate::lab::{self, Lab, contents};

#[test]
fn several_files_never_replace_others() {
    let lab = Lab::new();
    with_external_files(&lab, &["w.bin"]);
    let protect = ["-q", "protect", "m/model.onnx", "-r", &lab.recipient];
    lab.expect(0, &[&protect[..], &["-o", "out/model.onnx"]].concat());
    let before = contents(lab.dir.path());
    let (_, err) = lab.expect(
        2,
        &[&protect[..], &["-o", "out/model.onnx", "--force"]].concat(),
    );
    assert!(err.contains("new folder"), "{err}");
    let (_, err) = lab.expect(
        2,
        &[&protect[..], &["-o", "out/other.onnx", "--force"]].concat(),
    );
    assert!(err.contains("new folder"), "{err}");
    let back = [
        "unprotect",
        "out/model.onnx",
        "-i",
        "id.txt",
        "-o",
        "m/model.onnx",
    ];
    lab.expect(2, &[&back[..], &["--force"]].concat());
    assert!(contents(lab.dir.path()) == before);
}

/// Writes a model whose external files stand at `locations`, into the folder `m`.
fn with_external_files(lab: &Lab, locations: &[&str]) {
    let mut graph = build::GraphBuilder::new("several").input("x", &[1, 4]);
    for (i, location) in locations.iter().enumerate() {
        let (w, from, to) = (format!("w{i}"), format!("x{i}"), format!("x{}", i + 1));
        let from = if i == 0 { "x" } else { &from };
        graph = graph
            .initializer(build::external(&w, &[4, 4], location, None, None))
            .node(build::node("MatMul", &[from, &w], &[&to]));
        let path = lab.path("m").join(location);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, build::le_bytes(&build::floats(16, i as u32))).unwrap();
    }
    let output = format!("x{}", locations.len());
    fs::write(
        lab.path("m/model.onnx"),
        graph.output(&output, &[1, 4]).encode(),
    )
    .unwrap();
}

#[test]
fn an_external_file_does_not_take_the_place_of_the_new_identity() {
    let lab = Lab::new();
    with_external_files(&lab, &["model.onnx.identity.txt"]);
    for force in [&[][..], &["--force"]] {
        let args = [&["protect", "m/model.onnx", "-o", "out/model.onnx"], force].concat();
        lab.expect(2, &args);
        assert!(!lab.path("out/model.onnx").exists());
        assert!(!lab.path("out/model.onnx.identity.txt").exists());
    }
}

#[cfg(unix)]
#[test]
fn two_outputs_do_not_become_one_through_a_link() {
    let lab = Lab::new();
    with_external_files(&lab, &["a/w.bin", "b/w.bin"]);
    fs::create_dir_all(lab.path("out/a")).unwrap();
    symlink("a", lab.path("out/b")).unwrap();
    for force in [&[][..], &["--force"]] {
        let args = [
            "protect",
            "m/model.onnx",
            "-o",
            "out/model.onnx",
            "-r",
            &lab.recipient,
        ];
        lab.expect(2, &[&args[..], force].concat());
        assert!(!lab.path("out/model.onnx").exists() && !lab.path("out/a/w.bin").exists());
    }
}

#[cfg(unix)]
#[test]
fn external_data_is_written_through_no_link() {
    let lab = Lab::new();
    with_external_files(&lab, &["a/b/w.bin"]);
    let recipient = &lab.recipient;
    let protect = ["-q", "protect", "m/model.onnx", "-r", recipient, "-o"];
    // The folder that the user names may be reached through a link.
    fs::create_dir_all(lab.path("real")).unwrap();
    symlink("real", lab.path("out")).unwrap();
    lab.expect(0, &[&protect[..], &["out/model.onnx"]].concat());
    assert!(lab.path("real/a/b/w.bin").is_file());
    let sealed = ["-i", "id.txt", "real/model.onnx", "-o"];
    let unprotect = [&["-q", "unprotect"], &sealed[..]].concat();
    let rekey = [&["-q", "rekey", "-r", recipient], &sealed[..]].concat();
    let rotate = [&["-q", "rotate", "-r", recipient], &sealed[..]].concat();

    fs::create_dir_all(lab.path("elsewhere/b")).unwrap();
    for (n, (link, to)) in [("a", "../elsewhere"), ("a/b", "../../elsewhere")]
        .iter()
        .enumerate()
    {
        for (m, args) in [&protect[..], &unprotect, &rekey, &rotate]
            .iter()
            .enumerate()
        {
            let folder = format!("linked-{n}-{m}");
            let link = lab.path(&folder).join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(to, &link).unwrap();
            let output = format!("{folder}/model.onnx");
            let (_, err) = lab.expect(2, &[args, &[output.as_str()][..]].concat());
            assert!(err.contains("is a link"), "{err}");
            assert!(!lab.path(&output).exists() && link.is_symlink());
            assert!(
                fs::read_dir(lab.path("elsewhere/b"))
                    .unwrap()
                    .next()
                    .is_none()
            );
        }
    }
    // What stands in the way of a folder stays, and folders made before it go.
    fs::create_dir_all(lab.path("blocked/a")).unwrap();
    fs::write(lab.path("blocked/a/b"), "a file").unwrap();
    lab.expect(2, &[&unprotect[..], &["blocked/model.onnx"]].concat());
    assert_eq!(
        fs::read_to_string(lab.path("blocked/a/b")).unwrap(),
        "a file"
    );
    lab.expect(0, &[&unprotect[..], &["new/folder/model.onnx"]].concat());
    for file in ["model.onnx", "a/b/w.bin"] {
        let read = |folder: &str| fs::read(lab.path(folder).join(file)).unwrap();
        assert!(read("new/folder") == read("m"));
    }
}

#[cfg(unix)]
#[test]
fn hidden_names_and_control_characters_are_not_written() {
    let lab = Lab::new();
    for name in [
        ".bashrc",
        ".ssh/authorized_keys",
        "a/.b/w.bin",
        ".model.onnx.onnxseal-journal",
        ".onnxseal/w.bin",
        "a\nb.bin",
        "\u{9b}2J.bin",
    ] {
        with_external_files(&lab, &[name]);
        let args = [
            "protect",
            "m/model.onnx",
            "-o",
            "out/model.onnx",
            "-r",
            &lab.recipient,
        ];
        let (_, err) = lab.expect(2, &args);
        assert!(err.contains("does not write"), "{err}");
        assert!(!lab.path("out").exists());
        fs::remove_dir_all(lab.path("m")).unwrap();
    }
    // A model that another program protected so is opened and changed where it lies.
    let fixture = |name: &str| lab::project("fixtures").join(name);
    let (sealed, key) = (
        fixture("sealed/unwritten/hidden"),
        fixture("sealed/keys/id.txt"),
    );
    fs::create_dir_all(lab.path("old/.tiny")).unwrap();
    for file in ["model.onnx", ".tiny/weight.bin"] {
        fs::copy(sealed.join(file), lab.path("old").join(file)).unwrap();
    }
    let key = key.to_str().unwrap();
    let opened = ["-q", "-i", key, "old/model.onnx"];
    lab.expect(0, &[&["verify"], &opened[..]].concat());
    let to = ["-r", &lab.recipient];
    for args in [
        &["unprotect"][..],
        &["rekey", to[0], to[1]],
        &["rotate", to[0], to[1]],
    ] {
        let (_, err) = lab.expect(2, &[args, &opened, &["-o", "out/model.onnx"]].concat());
        assert!(
            err.contains(".tiny/weight.bin") && err.contains("begins with a dot"),
            "{err}"
        );
        assert!(err.contains("in memory"), "{err}");
        assert!(!lab.path("out").exists());
    }
    lab.expect(0, &[&["rekey", to[0], to[1]], &opened[..]].concat());
    lab.expect(0, &["-q", "verify", "-i", "id.txt", "old/model.onnx"]);
}

#[cfg(unix)]
#[test]
fn new_files_get_no_more_than_the_umask_allows() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    with_external_files(&lab, &["a/w.bin"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let set = |name: &str, bits| {
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(bits)).unwrap();
    };
    set("m/model.onnx", 0o4755);
    set("m/a/w.bin", 0o2666);
    let run = |umask: &str, rest: &str| {
        let script = format!(
            "umask {umask}; set -e; {}",
            rest.replace("TOOL", "\"$0\" -q")
        );
        let output = lab
            .shell(&script.replace("RECIPIENT", &lab.recipient))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(
        "077",
        "TOOL protect m/model.onnx -o new/s/model.onnx -r RECIPIENT
         TOOL protect m/model.onnx -o new/k/model.onnx
         TOOL unprotect new/s/model.onnx -o new/u/model.onnx -i id.txt
         TOOL rekey new/s/model.onnx -o new/w/model.onnx -i id.txt -r RECIPIENT
         TOOL rotate new/s/model.onnx -o new/r/model.onnx -i id.txt -r RECIPIENT
         TOOL batch protect m --out new/b -r RECIPIENT --report new/report.json
         TOOL keygen -o new/id.txt",
    );
    let found = lab::files(&lab.path("new"));
    assert!(found.len() > 14, "{found:?}");
    for path in found {
        let bits = mode(&path);
        assert_eq!(bits & !0o700, 0, "{} {bits:o}", path.display());
    }
    run(
        "027",
        "TOOL unprotect new/s/model.onnx -o mine/model.onnx -i id.txt",
    );
    // Of what the input has, no more: it is its owner's alone since it was protected.
    assert_eq!(mode(&lab.path("mine/a/w.bin")), 0o600);
    run(
        "027",
        "TOOL protect m/model.onnx -o some/model.onnx -r RECIPIENT",
    );
    assert_eq!(mode(&lab.path("some/model.onnx")), 0o750);
    assert_eq!(mode(&lab.path("some/a/w.bin")), 0o640);

    // What takes the place of a model has that one's permissions, but for special bits.
    lab.model();
    set("model.onnx", 0o6775);
    run("077", "TOOL protect model.onnx --in-place -r RECIPIENT");
    assert_eq!(mode(&lab.path("model.onnx")), 0o775);
    run("077", "TOOL rotate model.onnx -i id.txt -r RECIPIENT");
    assert_eq!(mode(&lab.path("model.onnx")), 0o775);
}

#[test]
fn a_folder_as_output_takes_a_file_of_the_models_name() {
    let lab = Lab::new();
    let model = lab.model();
    fs::create_dir(lab.path("there")).unwrap();
    let (to, with) = (["-r", lab.recipient.as_str()], ["-i", "id.txt"]);
    lab.expect(
        0,
        &[&["-q", "protect", model, "-o", "there"], &to[..]].concat(),
    );
    lab.expect(0, &["-q", "protect", model, "-o", "with-key/"]);
    assert!(lab.path("with-key/model.onnx.identity.txt").is_file());
    let sealed = "there/model.onnx";
    let (out, _) = lab.expect(
        0,
        &[&["unprotect", sealed, "-o", "back/"], &with[..]].concat(),
    );
    assert!(out.contains("back/model.onnx"), "{out}");
    lab.expect(
        0,
        &[&["-q", "rekey", sealed, "-o", "rekeyed/"], &with[..], &to].concat(),
    );
    lab.expect(
        0,
        &[&["-q", "rotate", sealed, "-o", "rotated/"], &with[..], &to].concat(),
    );
    for name in ["there", "rekeyed", "rotated"] {
        lab.expect(
            0,
            &[&["-q", "verify", &format!("{name}/model.onnx")], &with[..]].concat(),
        );
    }
    assert!(fs::read(lab.path("back/model.onnx")).unwrap() == fs::read(lab.path(model)).unwrap());
    // In the folder of the input it would be the input.
    lab.expect(2, &[&["-q", "protect", model, "-o", "."], &to[..]].concat());

    // What is meant otherwise is said.
    let (_, err) = lab.expect(7, &[&["protect", "there", "-o", "x"], &to[..]].concat());
    assert!(err.contains("onnxseal batch protect"), "{err}");
    fs::write(lab.path("k1.pub"), &lab.recipient).unwrap();
    let (_, err) = lab.expect(2, &["protect", model, "-o", "x.onnx", "-r", "k1.pub"]);
    assert!(err.contains("-R k1.pub"), "{err}");
    let batch = [
        &["-q", "batch", "protect", "there", "--out", "all"],
        &to[..],
    ]
    .concat();
    fs::copy(lab.path(model), lab.path("there/plain.onnx")).unwrap();
    fs::remove_file(lab.path(sealed)).unwrap();
    lab.expect(0, &batch);
    let (_, err) = lab.expect(2, &batch);
    assert!(err.contains("--resume"), "{err}");
}

#[test]
fn files_that_are_no_models_say_what_they_are() {
    let lab = Lab::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    for (content, what, advice) in [
        (pointer.as_bytes(), "a Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "HTML", "downloaded"),
        (
            b"PK\x03\x04archive/data.pkl",
            "PyTorch",
            "torch.onnx.export",
        ),
        (b"GGUF\x03\0\0\0\0\0", "GGUF", ""),
        (b"{\"a\": 1}", "JSON", ""),
    ] {
        fs::write(lab.path("m.onnx"), content).unwrap();
        for args in [
            &["plan", "m.onnx"][..],
            &["protect", "m.onnx", "-o", "x", "-r", &lab.recipient],
            &["inspect", "m.onnx"],
            &["verify", "m.onnx"],
            &["unprotect", "m.onnx", "-i", "id.txt", "-o", "x"],
        ] {
            let (_, err) = lab.expect(3, args);
            assert!(
                err.contains(what) && err.contains(advice),
                "{args:?}: {err}"
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn one_external_file_a_tensor_is_not_too_many() {
    let lab = Lab::new();
    let locations: Vec<String> = (0..600).map(|i| format!("w{i}.bin")).collect();
    let locations: Vec<&str> = locations.iter().map(String::as_str).collect();
    with_external_files(&lab, &locations);
    let tool = env!("CARGO_BIN_EXE_onnxseal");
    let recipient = &lab.recipient;
    let script = format!(
        "ulimit -Sn 256; '{tool}' -q protect m/model.onnx -o out/model.onnx --no-sync -r {recipient} && \
         '{tool}' -q unprotect out/model.onnx -i id.txt -o back/model.onnx --no-sync"
    );
    let output = lab.shell(&script).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for location in locations {
        let read = |folder: &str| fs::read(lab.path(folder).join(location)).unwrap();
        assert!(read("back") == read("m"));
    }
}
