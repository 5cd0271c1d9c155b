//! The system fails: full disks, files that cannot be written, links. The input stays as it
//! was, no part of an output is left behind, and the exit code is 7.

use std::fs::{self, File};
#[cfg(unix)]
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use onnxseal_testkit::build::{GraphBuilder, external, node, weights};
use onnxseal_testkit::samples;

use crate::lab::{Disk, Lab, contents, files};

#[cfg(unix)]
#[test]
fn a_full_disk_gets_no_part_of_an_output() {
    let lab = Lab::with_models();
    let Some(disk) = Disk::mount(lab.path("disk")) else {
        return;
    };
    let inputs =
        || ["plain", "sealed"].map(|name| fs::read(lab.path(name).join("model.onnx")).unwrap());
    let before = inputs();
    let recipient = ["-r", &lab.recipient];
    let protect = ["protect", "plain/model.onnx", "-o", "disk/x.onnx"];
    let unprotect = [
        "unprotect",
        "sealed/model.onnx",
        "-i",
        "id.txt",
        "-o",
        "disk/x.onnx",
    ];
    // Without a recipient an identity is written first: it must go again.
    for args in [
        [&protect[..], &recipient].concat(),
        protect.to_vec(),
        unprotect.to_vec(),
        [&["rekey"], &unprotect[1..], &recipient].concat(),
        [&["rotate"], &unprotect[1..], &recipient].concat(),
    ] {
        let (_, err) = lab.expect(7, &args);
        assert!(
            err.contains("disk/x.onnx") && err.contains("os error 28"),
            "{err}"
        );
        assert_eq!(files(&disk.0), [] as [PathBuf; 0], "{args:?}");
    }
    assert!(inputs() == before);

    // In place, where there is room for the model but not for its protected form.
    let model = GraphBuilder::new("half")
        .input("x", &[1, 512])
        .output("y", &[1, 640])
        .initializer(weights("w", &[512, 640], 1))
        .node(node("MatMul", &["x", "w"], &["y"]))
        .encode();
    fs::write(lab.path("disk/model.onnx"), &model).unwrap();
    let args = [
        "protect",
        "disk/model.onnx",
        "--in-place",
        "-r",
        &lab.recipient,
    ];
    lab.expect(7, &args);
    assert_eq!(files(&disk.0), [lab.path("disk/model.onnx")]);
    assert!(fs::read(lab.path("disk/model.onnx")).unwrap() == model);

    // Not even room for an identity.
    let rest = vec![0; 4 << 20];
    let _ = fs::write(lab.path("disk/rest"), rest);
    lab.expect(7, &["keygen", "-o", "disk/id.txt"]);
    assert!(!lab.path("disk/id.txt").exists());
}

#[cfg(unix)]
#[test]
fn external_data_that_does_not_fit_takes_its_model_along() {
    let lab = Lab::new();
    let content = vec![1; 4 << 20];
    let model = GraphBuilder::new("wide")
        .input("x", &[1, 1024])
        .output("y", &[1, 1024])
        .initializer(external("w", &[1024, 1024], "w.bin", None, None))
        .node(node("MatMul", &["x", "w"], &["y"]))
        .encode();
    fs::create_dir(lab.path("plain")).unwrap();
    fs::write(lab.path("plain/model.onnx"), model).unwrap();
    fs::write(lab.path("plain/w.bin"), content).unwrap();
    let Some(disk) = Disk::mount(lab.path("disk")) else {
        return;
    };
    let args = [
        "protect",
        "plain/model.onnx",
        "-o",
        "disk/model.onnx",
        "-r",
        &lab.recipient,
    ];
    let (_, err) = lab.expect(7, &args);
    // That of the two whose bytes came last.
    assert!(
        err.contains("disk/w.bin") || err.contains("disk/model.onnx"),
        "{err}"
    );
    assert_eq!(files(&disk.0), [] as [PathBuf; 0]);
}

/// A write that fails half way, without being the administrator: files may have 1 MiB at most.
#[cfg(unix)]
#[test]
fn a_write_that_fails_leaves_nothing() {
    let lab = Lab::with_models();
    fs::create_dir(lab.path("out")).unwrap();
    let before = contents(lab.dir.path());
    let cases = [
        format!(
            "protect plain/model.onnx -o out/x.onnx -r {}",
            lab.recipient
        ),
        format!("protect plain/model.onnx --in-place -r {}", lab.recipient),
        format!(
            "protect plain/model.onnx -o sealed/model.onnx --force -r {}",
            lab.recipient
        ),
        "unprotect sealed/model.onnx -i id.txt -o out/x.onnx".to_owned(),
        format!(
            "rekey sealed/model.onnx -i id.txt -o out/x.onnx -r {}",
            lab.recipient
        ),
        format!(
            "rotate sealed/model.onnx -i id.txt -o out/x.onnx -r {}",
            lab.recipient
        ),
        format!("rotate sealed/model.onnx -i id.txt -r {}", lab.recipient),
    ];
    for case in cases {
        let script = format!("trap '' XFSZ; ulimit -f 1024; exec \"$0\" {case}");
        let output = lab.shell(&script).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(7), "{case}: {err}");
        assert!(err.contains(".onnx"), "{case}: {err}");
        assert!(contents(lab.dir.path()) == before, "{case}");
    }
}

#[cfg(unix)]
#[test]
fn folders_that_cannot_be_written() {
    let lab = Lab::with_models();
    let sealed = "sealed/model.onnx";
    fs::write(lab.path("a-file"), "").unwrap();
    fs::create_dir(lab.path("locked")).unwrap();
    fs::set_permissions(lab.path("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    let mut folders = vec!["a-file", "a-file/below"];
    if cfg!(target_os = "linux") {
        folders.push("/proc");
    }
    // Modes do not bind the administrator.
    match File::create(lab.path("locked/probe")) {
        Ok(_) => eprintln!("skipped: a folder whose mode forbids writing"),
        Err(_) => folders.push("locked"),
    }
    let before = files(lab.dir.path());
    for folder in folders {
        let out = format!("{folder}/x.onnx");
        for args in [
            vec![
                "protect",
                "plain/model.onnx",
                "-o",
                &out,
                "-r",
                &lab.recipient,
            ],
            vec!["protect", "plain/model.onnx", "-o", &out],
            vec!["unprotect", sealed, "-i", "id.txt", "-o", &out],
            [
                &["rekey", sealed, "-i", "id.txt", "-o", &out][..],
                &["-r", &lab.recipient],
            ]
            .concat(),
            [
                &["rotate", sealed, "-i", "id.txt", "-o", &out][..],
                &["-r", &lab.recipient],
            ]
            .concat(),
        ] {
            let (_, err) = lab.expect(7, &args);
            assert!(err.contains(folder), "{err}");
            assert_eq!(files(lab.dir.path()), before);
        }
    }
}

#[cfg(unix)]
#[test]
fn inputs_that_cannot_be_written_can_be_read() {
    let lab = Lab::with_models();
    for name in ["plain", "sealed"] {
        let model = lab.path(name).join("model.onnx");
        fs::set_permissions(model, fs::Permissions::from_mode(0o400)).unwrap();
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o500)).unwrap();
    }
    let args = [
        "protect",
        "plain/model.onnx",
        "-o",
        "a/x.onnx",
        "-r",
        &lab.recipient,
    ];
    lab.expect(0, &args);
    lab.expect(
        0,
        &[
            "unprotect",
            "sealed/model.onnx",
            "-i",
            "id.txt",
            "-o",
            "b/x.onnx",
        ],
    );
    assert_eq!(
        fs::read(lab.path("plain/model.onnx")).unwrap(),
        fs::read(lab.path("b/x.onnx")).unwrap()
    );
    let sealed = ["sealed/model.onnx", "-i", "id.txt", "-r", &lab.recipient];
    lab.expect(0, &[&["rekey"], &sealed[..], &["-o", "c/x.onnx"]].concat());
    lab.expect(0, &[&["rotate"], &sealed[..], &["-o", "d/x.onnx"]].concat());
    // Where it lies, it cannot be changed.
    let model = lab.path("sealed/model.onnx");
    match File::options().write(true).open(&model) {
        Ok(_) => eprintln!("skipped: a file whose mode forbids writing"),
        Err(_) => {
            let before = fs::read(&model).unwrap();
            for command in ["rekey", "rotate"] {
                lab.expect(7, &[&[command], &sealed[..]].concat());
                assert!(fs::read(&model).unwrap() == before);
                assert_eq!(files(&lab.path("sealed")).len(), 1);
            }
        }
    }
    for name in ["plain", "sealed"] {
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_rekey_in_place_that_finds_no_room_changes_nothing() {
    let lab = Lab::new();
    let Some(disk) = Disk::mount(lab.path("disk")) else {
        return;
    };
    let protected = lab.path(lab.protected());
    let mut recipients = String::new();
    for i in 0..80 {
        let name = format!("{i}.txt");
        let (recipient, _) = lab.expect(0, &["keygen", "-o", &name]);
        recipients.push_str(&recipient);
    }
    fs::write(lab.path("many.txt"), recipients).unwrap();
    let model = lab.path("disk/model.onnx");
    let args = ["rekey", "disk/model.onnx", "-i", "id.txt", "-R", "many.txt"];
    // From no room at all to room for the journal alone, to room for everything.
    let mut codes = Vec::new();
    for pages in 0..16 {
        fs::copy(&protected, &model).unwrap();
        let before = fs::read(&model).unwrap();
        let filler = lab.path("disk/filler");
        let _ = fs::write(&filler, vec![1; 4 << 20]);
        let filled = fs::metadata(&filler).unwrap().len();
        let file = File::options().write(true).open(&filler).unwrap();
        file.set_len(filled.saturating_sub(pages * 4096)).unwrap();
        let output = lab.run(&args);
        let code = output.status.code().unwrap();
        assert!(code == 0 || code == 7, "{output:?}");
        if code == 7 {
            assert!(fs::read(&model).unwrap() == before, "{pages} pages");
        }
        assert_eq!(files(&disk.0).len(), 2, "{pages} pages");
        fs::remove_file(filler).unwrap();
        lab.expect(
            0,
            &["-q", "verify", "disk/model.onnx", "-i", "id.txt"][..3 + 2 * usize::from(code == 7)],
        );
        codes.push(code);
    }
    // Between them either: age adds stanzas of random length.
    assert!(codes[0] == 7 && codes[15] == 0, "{codes:?}");
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_no_model() {
    let lab = Lab::with_models();
    symlink("nowhere", lab.path("dangling")).unwrap();
    symlink("cycle", lab.path("cycle")).unwrap();
    for model in ["plain", "/dev/null", "dangling", "cycle", "absent"] {
        for args in [
            vec!["plan", model],
            vec!["protect", model, "-o", "x", "-r", &lab.recipient],
            vec!["inspect", model],
            vec!["verify", model],
            vec!["unprotect", model, "-i", "id.txt", "-o", "x"],
        ] {
            if args == ["verify", "plain"] {
                continue; // A folder, in which it finds models.
            }
            // What cannot be read is a row of what `verify` prints.
            let (out, err) = lab.expect(7, &args);
            assert!((out + &err).contains(model), "{err}");
            assert!(!lab.path("x").exists());
        }
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting_for_its_other_end() {
    let lab = Lab::new();
    let made = Command::new("mkfifo").arg(lab.path("pipe")).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no mkfifo");
        return;
    }
    let mut plan = lab.command(&["plan", "pipe"]).spawn().unwrap();
    for _ in 0..200 {
        if let Some(status) = plan.try_wait().unwrap() {
            assert_eq!(status.code(), Some(7));
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    plan.kill().unwrap();
    panic!("it waits");
}

#[cfg(unix)]
#[test]
fn links_stay_links_and_are_not_written_through() {
    let lab = Lab::with_models();
    let original = fs::read(lab.path("plain/model.onnx")).unwrap();
    symlink("plain/model.onnx", lab.path("link")).unwrap();
    fs::write(lab.path("victim"), "victim").unwrap();
    symlink("victim", lab.path("to-victim")).unwrap();
    let protect = |more: &[&str]| {
        let args = ["-q", "protect", "link", "-r", &lab.recipient];
        lab.run(&[&args[..], more].concat())
    };
    let is_link = |name: &str| fs::symlink_metadata(lab.path(name)).unwrap().is_symlink();

    // The output is the input, by another name.
    assert_eq!(
        protect(&["-o", "plain/model.onnx", "--force"])
            .status
            .code(),
        Some(2)
    );
    // An output that is a link is neither replaced nor followed.
    for force in [&[][..], &["--force"]] {
        let refused = protect(&[&["-o", "to-victim"], force].concat());
        assert_eq!(refused.status.code(), Some(2));
        assert!(is_link("to-victim"));
    }
    assert_eq!(fs::read_to_string(lab.path("victim")).unwrap(), "victim");
    assert!(fs::read(lab.path("plain/model.onnx")).unwrap() == original);

    assert_eq!(protect(&["--in-place"]).status.code(), Some(0));
    assert!(is_link("link"));
    lab.expect(0, &["verify", "plain/model.onnx", "-i", "id.txt"]);
    lab.expect(0, &["unprotect", "link", "-i", "id.txt", "-o", "back.onnx"]);
    assert!(fs::read(lab.path("back.onnx")).unwrap() == original);
    assert_eq!(files(&lab.path("plain")).len(), 1);
}

#[test]
fn an_input_that_changes_meanwhile_is_refused() {
    let lab = Lab::with_models();
    for (name, args) in [
        (
            "plain",
            vec![
                "protect",
                "plain/model.onnx",
                "-o",
                "x",
                "-r",
                &lab.recipient,
            ],
        ),
        (
            "sealed",
            vec!["unprotect", "sealed/model.onnx", "-i", "id.txt", "-o", "x"],
        ),
        (
            "sealed",
            vec![
                "rekey",
                "sealed/model.onnx",
                "-i",
                "id.txt",
                "-o",
                "x",
                "-r",
                &lab.recipient,
            ],
        ),
        (
            "sealed",
            vec![
                "rotate",
                "sealed/model.onnx",
                "-i",
                "id.txt",
                "-r",
                &lab.recipient,
            ],
        ),
    ] {
        // On a busy machine the thread that changes the file may not run while the command does.
        let output = (0..20)
            .map(|_| run_while_it_changes(&lab, name, &args))
            .find(|output| {
                let _ = fs::remove_file(lab.path("x"));
                !output.status.success()
            });
        let output = output.expect("no run noticed a change");
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(7), "{err}");
        assert!(err.contains("changed while it was being read"), "{err}");
        assert!(!lab.path("x").exists());
    }
}

/// Runs the command while somebody changes `folder/model.onnx`.
fn run_while_it_changes(lab: &Lab, folder: &str, args: &[&str]) -> Output {
    let done = AtomicBool::new(false);
    let file = File::options()
        .append(true)
        .open(lab.path(folder).join("model.onnx"))
        .unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            // Another time of change at every moment, so at two of them too.
            for second in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
                file.set_modified(time).unwrap();
            }
        });
        let output = lab.run(args);
        done.store(true, Ordering::Relaxed);
        output
    })
}

#[test]
fn external_files_that_go_missing_are_named() {
    let lab = Lab::with_sample(&samples::external_data());
    for folder in ["plain", "sealed"] {
        fs::remove_file(lab.path(folder).join("weights/w.bin")).unwrap();
    }
    for args in [
        vec!["plan", "plain/model.onnx"],
        vec![
            "protect",
            "plain/model.onnx",
            "-o",
            "x/m",
            "-r",
            &lab.recipient,
        ],
        vec!["verify", "sealed/model.onnx"],
        vec!["verify", "sealed/model.onnx", "-i", "id.txt"],
        vec![
            "unprotect",
            "sealed/model.onnx",
            "-i",
            "id.txt",
            "-o",
            "x/m",
        ],
    ] {
        let (_, err) = lab.expect(7, &args);
        assert!(err.contains("w.bin") && err.contains("os error 2"), "{err}");
        assert!(!lab.path("x").exists());
    }
}
