//! Outputs never replace a file that the command reads, nor a link. Standard output, pipes and devices
//! take outputs as streams, and the command reads from them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
#[cfg(unix)]
use std::os::unix::fs::{FileTypeExt as _, symlink};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use onnxseal_testkit::build::{GraphBuilder, external, floats, le_bytes, node};

use crate::lab::{self, Lab, contents};

/// The words of a command that names all kinds of files that it reads, each with an `@`, and its outputs.
const COMMANDS: &[(&str, &[&str])] = &[
    (
        "protect @model.onnx -R @recipients --policy @policy --ranking @ranking --sign-key @signer \
         --passphrase-file @passphrase --fingerprint acme --fingerprint-secret @secret \
         --fingerprint-identity @identity",
        &["--output"],
    ),
    (
        "rekey @model.onnx -i @identity -R basic=@recipients --allowed-signers @signers \
         --new-passphrase-file @passphrase",
        &["--output"],
    ),
    (
        "rotate @model.onnx -i @identity -R @recipients --policy @policy --ranking @ranking \
         --sign-key @signer --allowed-signers @signers",
        &["--output"],
    ),
    (
        "unprotect @model.onnx -i @identity --passphrase-file @passphrase --allowed-signers @signers \
         --licence @licence",
        &["--output"],
    ),
    (
        "licence issue @model.onnx -i @identity -R @recipients --sign-key @signer",
        &["--output"],
    ),
    (
        "licence issue @model.onnx -i @identity --table @table",
        &["--output"],
    ),
    ("keygen --passphrase-file @passphrase", &["--output"]),
    (
        "assess @model.onnx -i @identity --allowed-signers @signers --data @data.npz --labels @labels.npy \
         --policy @policy --ranking @ranking --base @base.onnx",
        &["--report"],
    ),
    (
        "rank @model.onnx -i @identity --method activation --data @data.npz --labels @labels.npy",
        &["--output"],
    ),
    (
        "tiers tune @model.onnx -i @identity --target a=0.5 --data @data.npz --labels @labels.npy \
         --policy @policy --ranking @ranking",
        &["--output"],
    ),
    ("fingerprint keygen -R @recipients", &["--output"]),
    (
        "fingerprint apply @model.onnx --customer acme --secret @secret -i @identity --data @data.npz \
         --labels @labels.npy",
        &["--output"],
    ),
    (
        "fingerprint trace @model.onnx --original @base.onnx --secret @secret -i @identity \
         --customers @customers",
        &["--picture"],
    ),
    ("inputs keygen --block 4 -R @recipients", &["--output"]),
    (
        "inputs rewrite @model.onnx --key @key -i @identity",
        &["--output"],
    ),
    (
        "inputs rekey @model.onnx --key @key --to @to -i @identity",
        &["--output"],
    ),
    (
        "inputs encrypt @data.npz --key @key -i @identity",
        &["--output"],
    ),
    ("labels setup -R @recipients", &["--output"]),
    (
        "labels keygen --users @users --authority @authority -i @identity",
        &["--output"],
    ),
    (
        "labels protect @model.onnx --authority @authority -i @identity --data @data.npz \
         --labels @labels.npy --targets @targets",
        &["--output"],
    ),
    ("labels targets --classes 10", &["--output"]),
    (
        "labels trace --model @model.onnx --authority @authority -i @identity",
        &["--inputs"],
    ),
    (
        "batch protect @model.onnx --list @list -R @recipients --policy @policy --ranking @ranking \
         --sign-key @signer --out new",
        &["--report"],
    ),
    (
        "batch unprotect @model.onnx -i @identity --allowed-signers @signers --out new",
        &["--report"],
    ),
    (
        "batch rekey @model.onnx -i @identity -R @recipients --out new",
        &["--report"],
    ),
    (
        "batch rotate @model.onnx -i @identity -R @recipients --policy @policy --sign-key @signer --out new",
        &["--report"],
    ),
    (
        "batch verify @model.onnx -i @identity --policy @policy --ranking @ranking",
        &["--report"],
    ),
];

/// Options for what is written.
const OUTPUTS: [&str; 4] = ["--output", "--report", "--inputs", "--picture"];

/// A lab with a model whose weights lie in `w.bin`, and other files that commands read.
fn files_to_read() -> Lab {
    let lab = Lab::new();
    let model = GraphBuilder::new("external")
        .input("x", &[1, 4])
        .initializer(external("w", &[4, 4], "w.bin", None, None))
        .node(node("MatMul", &["x", "w"], &["y"]))
        .output("y", &[1, 4])
        .encode();
    for name in ["model.onnx", "base.onnx"] {
        fs::write(lab.path(name), &model).unwrap();
    }
    fs::write(lab.path("w.bin"), le_bytes(&floats(16, 1))).unwrap();
    for (command, _) in COMMANDS {
        for name in read(command).filter(|name| !name.ends_with(".onnx")) {
            fs::write(lab.path(name), format!("the secret of {name}")).unwrap();
        }
    }
    lab
}

/// The files that a command reads.
fn read(command: &str) -> impl Iterator<Item = &str> {
    let words = command.split_whitespace();
    words.filter_map(|word| word.split_once('@').map(|(_, name)| name))
}

fn words(command: &str) -> Vec<String> {
    let words = command.split_whitespace();
    words.map(|word| word.replace('@', "")).collect()
}

#[cfg(unix)]
#[test]
fn no_output_is_what_the_command_reads() {
    let lab = files_to_read();
    fs::create_dir(lab.path("names")).unwrap();
    let mut names: BTreeSet<&str> = BTreeSet::from(["w.bin"]);
    COMMANDS
        .iter()
        .for_each(|(command, _)| names.extend(read(command)));
    for name in names {
        fs::hard_link(lab.path(name), lab.path("names").join(name)).unwrap();
        symlink(lab.path(name), lab.path(&format!("names/link-{name}"))).unwrap();
    }
    let before = contents(lab.dir.path());
    for (command, outputs) in COMMANDS {
        let words = words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let help = lab.expect(0, &[&group(&words)[..], &["--help"]].concat()).0;
        let has_model = command.contains("@model.onnx").then_some("w.bin");
        for (name, output) in read(command)
            .chain(has_model)
            .flat_map(|name| outputs.iter().map(move |output| (name, *output)))
        {
            for path in [
                name.to_owned(),
                format!("./names/../{name}"),
                format!("names/{name}"),
                format!("names/link-{name}"),
            ] {
                let force = if help.contains("--force") {
                    &["--force"][..]
                } else {
                    &[]
                };
                let args = [&words[..], &[output, &path], force].concat();
                let (_, err) = lab.expect(2, &args);
                let told = ["would be written over", "is an input of this model"];
                assert!(
                    told.iter().any(|told| err.contains(told)),
                    "{args:?}: {err}"
                );
            }
        }
    }
    assert!(contents(lab.dir.path()) == before);
}

/// The names of the command that `words` begin with.
fn group<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let groups = [
        "batch",
        "fingerprint",
        "inputs",
        "labels",
        "licence",
        "tiers",
    ];
    words[..1 + usize::from(groups.contains(&words[0]))].to_vec()
}

/// A command that writes and is not in the list is not tested.
#[test]
fn all_commands_that_write_are_in_the_list() {
    let lab = Lab::new();
    fs::create_dir(lab.path("pages")).unwrap();
    clap_mangen::generate_to(onnxseal::command(), lab.path("pages")).unwrap();
    let mut known = BTreeSet::new();
    for (command, outputs) in COMMANDS {
        let words: Vec<&str> = command.split_whitespace().collect();
        for output in *outputs {
            known.insert(format!("{} {output}", group(&words).join(" ")));
        }
    }
    for page in fs::read_dir(lab.path("pages")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        let name = name.trim_end_matches(".1").replacen("onnxseal", "", 1);
        let name = name.trim_start_matches('-').to_owned();
        let words: Vec<&str> = name.splitn(2, '-').collect();
        if name.is_empty()
            || name.contains("help")
            || lab.run(&[&words[..], &["--help"]].concat()).status.code() != Some(0)
        {
            continue;
        }
        let (help, _) = lab.expect(0, &[&words[..], &["--help"]].concat());
        for output in OUTPUTS {
            let has = help.contains(&format!("{output} <"));
            let entry = format!("{} {output}", words.join(" "));
            assert!(!has || known.contains(&entry), "{entry}");
        }
    }
    assert_eq!(known.len(), 26);
}

#[test]
fn outputs_in_folders_replace_no_file_that_is_read() {
    let lab = Lab::new();
    let model = lab.model();
    fs::create_dir_all(lab.path("zoo")).unwrap();
    fs::rename(lab.path(model), lab.path("zoo/m.onnx")).unwrap();
    fs::create_dir(lab.path("out")).unwrap();
    fs::write(lab.path("out/m.onnx"), &lab.recipient).unwrap();
    let batch = [
        "batch",
        "protect",
        "zoo",
        "--out",
        "out",
        "-R",
        "out/m.onnx",
        "-f",
    ];
    let before = fs::read(lab.path("out/m.onnx")).unwrap();
    lab.expect(2, &batch);
    assert!(fs::read(lab.path("out/m.onnx")).unwrap() == before);
    let protect = [
        "protect",
        "zoo/m.onnx",
        "-o",
        "out",
        "-R",
        "out/m.onnx",
        "-f",
    ];
    lab.expect(2, &protect);
    assert!(fs::read(lab.path("out/m.onnx")).unwrap() == before);
}

#[cfg(feature = "inputs")]
#[test]
fn keyed_data_replace_no_key() {
    let lab = Lab::new();
    fs::create_dir(lab.path("images")).unwrap();
    fs::copy("fixtures/inputs/photo.jpg", lab.path("images/a.jpg")).unwrap();
    fs::create_dir(lab.path("out")).unwrap();
    lab.expect(
        0,
        &["-q", "inputs", "keygen", "--block", "4", "-o", "out/a.png"],
    );
    let before = fs::read(lab.path("out/a.png")).unwrap();
    let encrypt = [
        "inputs",
        "encrypt",
        "images",
        "-o",
        "out",
        "--key",
        "out/a.png",
        "-f",
    ];
    let (_, err) = lab.expect(2, &encrypt);
    assert!(err.contains("would be written over"), "{err}");
    assert!(fs::read(lab.path("out/a.png")).unwrap() == before);
}

// --- authorities ------------------------------------------------------------------------------------------------------

#[cfg(unix)]
#[cfg(feature = "labels")]
#[test]
fn a_command_that_fails_leaves_the_authority_as_it_was() {
    if !lab::has_onnxruntime() {
        return;
    }
    let lab = Lab::new();
    let model = lab.model();
    lab.expect(0, &["-q", "labels", "setup", "-o", "real"]);
    symlink("real", lab.path("authority")).unwrap();
    let before = fs::read(lab.path("real")).unwrap();
    // The folder that the output goes to cannot be made.
    let protect = [
        "labels",
        "protect",
        model,
        "--authority",
        "authority",
        "--no-check",
        "-o",
    ];
    fs::write(lab.path("file"), "").unwrap();
    lab.expect(7, &[&protect[..], &["file/out.onnx"]].concat());
    assert!(fs::read(lab.path("real")).unwrap() == before);
    // A link to it stays a link.
    lab.expect(0, &[&protect[..], &["out.onnx"]].concat());
    assert!(
        fs::symlink_metadata(lab.path("authority"))
            .unwrap()
            .is_symlink()
    );
    assert!(fs::read(lab.path("real")).unwrap() != before);
    // What is no file cannot be written again.
    let pipe = lab.shell("cat real | \"$0\" labels keygen --authority - --user eve -o eve.key");
    assert_eq!({ pipe }.output().unwrap().status.code(), Some(2));
    assert!(!lab.path("-").exists());
}

// --- streams ----------------------------------------------------------------------------------------------------------

#[cfg(unix)]
#[test]
fn force_replaces_files_alone() {
    let lab = Lab::with_models();
    fs::write(lab.path("victim"), "victim").unwrap();
    symlink("victim", lab.path("link")).unwrap();
    symlink("nowhere", lab.path("dangling")).unwrap();
    let _socket = UnixListener::bind(lab.path("socket")).unwrap();
    let unprotect = ["unprotect", "sealed/model.onnx", "-i", "id.txt", "-f", "-o"];
    let rank = [
        "rank",
        "plain/model.onnx",
        "--method",
        "activation",
        "-f",
        "-o",
    ];
    for name in ["link", "dangling", "socket"] {
        for args in [&unprotect[..], &rank] {
            let (_, err) = lab.expect(2, &[args, &[name]].concat());
            assert!(err.contains(name) && err.contains("replace"), "{err}");
        }
    }
    let is_there = |name: &str| fs::symlink_metadata(lab.path(name)).unwrap().file_type();
    assert!(is_there("link").is_symlink() && is_there("dangling").is_symlink());
    assert!(is_there("socket").is_socket());
    assert_eq!(fs::read_to_string(lab.path("victim")).unwrap(), "victim");
    // What a device gets is gone, and the device stays.
    let device = Command::new("mknod")
        .args(["null", "c", "1", "3"])
        .current_dir(lab.dir.path())
        .status();
    if device.is_ok_and(|status| status.success()) {
        for args in [&unprotect[..], &rank] {
            lab.expect(0, &[&["-q"], args, &["null"]].concat());
            assert!(is_there("null").is_char_device());
        }
    }
}

/// Runs a command while the pipe is read; gives what came.
#[cfg(unix)]
fn through_pipe(lab: &Lab, pipe: &str, args: &[&str]) -> Vec<u8> {
    let path = lab.path(pipe);
    let reader = thread::spawn(move || {
        let mut read = Vec::new();
        File::open(path).unwrap().read_to_end(&mut read).unwrap();
        read
    });
    lab.expect(0, args);
    assert!(
        fs::symlink_metadata(lab.path(pipe))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    reader.join().unwrap()
}

#[cfg(unix)]
fn make_pipe(lab: &Lab, name: &str) -> bool {
    let made = Command::new("mkfifo").arg(lab.path(name)).status();
    let made = made.is_ok_and(|status| status.success());
    if !made {
        eprintln!("skipped: no mkfifo");
    }
    made
}

#[cfg(unix)]
#[test]
fn pipes_and_standard_output_take_models() {
    let lab = Lab::with_models();
    let original = fs::read(lab.path("plain/model.onnx")).unwrap();
    let recipient = lab.recipient.clone();
    let to_stdout = |args: &[&str]| {
        let output = lab.run(&[args, &["-o", "-"]].concat());
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {err}");
        assert!(!lab.path("-").exists());
        output.stdout
    };
    let protect = ["protect", "plain/model.onnx", "-r", &recipient];
    let with = ["-i", "id.txt"];
    let to = ["-r", recipient.as_str()];
    for args in [
        protect.to_vec(),
        [&["rekey", "sealed/model.onnx"][..], &with, &to].concat(),
        [&["rotate", "sealed/model.onnx"][..], &with, &to].concat(),
    ] {
        fs::write(lab.path("s.onnx"), to_stdout(&args)).unwrap();
        let unprotect = [&["unprotect", "s.onnx"][..], &with].concat();
        assert!(to_stdout(&unprotect) == original, "{args:?}");
        if make_pipe(&lab, "pipe") {
            let force = if args == protect { &["-f"][..] } else { &[] };
            let args = [&unprotect[..], &["-o", "pipe"], force].concat();
            assert!(through_pipe(&lab, "pipe", &args) == original);
            fs::remove_file(lab.path("pipe")).unwrap();
        }
    }
    // Nothing is let out of a model that is not authentic.
    let mut sealed = fs::read(lab.path("s.onnx")).unwrap();
    sealed[2000] ^= 1;
    fs::write(lab.path("s.onnx"), sealed).unwrap();
    let (out, _) = lab.expect(4, &["unprotect", "s.onnx", "-i", "id.txt", "-o", "-"]);
    assert!(out.is_empty());
    // Two things cannot come at once, and a new identity has no place.
    let (_, err) = lab.expect(2, &[&protect[..], &["-o", "-", "--json"]].concat());
    assert!(err.contains("standard output"), "{err}");
    let (_, err) = lab.expect(2, &["protect", "plain/model.onnx", "-o", "-"]);
    assert!(err.contains("--recipient"), "{err}");
    assert!(!Path::new("/dev/stdout.identity.txt").exists());
}

#[test]
fn what_has_several_files_goes_to_no_stream() {
    let lab = files_to_read();
    let recipient = lab.recipient.clone();
    let (_, err) = lab.expect(2, &["protect", "model.onnx", "-r", &recipient, "-o", "-"]);
    assert!(err.contains("beside it"), "{err}");
    lab.expect(
        0,
        &[
            "-q",
            "protect",
            "model.onnx",
            "-r",
            &recipient,
            "-o",
            "s/model.onnx",
        ],
    );
    lab.expect(2, &["unprotect", "s/model.onnx", "-i", "id.txt", "-o", "-"]);
    let batch = ["batch", "protect", "model.onnx", "--out", "-", "-r"];
    let (_, err) = lab.expect(2, &[&batch[..], &[&recipient]].concat());
    assert!(err.contains("folder"), "{err}");
    assert!(!lab.path("-").exists());
}

#[test]
fn texts_go_to_standard_output() {
    let lab = Lab::new();
    let model = lab.model();
    let printed = |args: &[&str]| {
        let out = lab.run(args);
        assert_eq!(
            out.status.code(),
            Some(0),
            "{args:?} {}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(!lab.path("-").exists(), "{args:?}");
        out.stdout
    };
    let identity = printed(&["keygen", "-o", "-"]);
    assert!(
        identity.ends_with(b"\n")
            && String::from_utf8(identity)
                .unwrap()
                .contains("AGE-SECRET-KEY-1")
    );
    if lab::has_onnxruntime() {
        let rank = ["rank", model, "--method", "activation", "-o", "-"];
        assert!(printed(&rank).starts_with(b"{"));
    }
    lab.protected();
    let report = printed(&[
        "batch",
        "verify",
        "sealed.onnx",
        "-i",
        "id.txt",
        "--report",
        "-",
    ]);
    serde_json::from_slice::<serde_json::Value>(&report).unwrap();
    #[cfg(feature = "inputs")]
    assert!(printed(&["inputs", "keygen", "--block", "4", "-o", "-"]).ends_with(b"\n"));
    #[cfg(feature = "labels")]
    {
        fs::write(
            lab.path("authority"),
            printed(&["labels", "setup", "-o", "-"]),
        )
        .unwrap();
        let key = printed(&[
            "labels",
            "keygen",
            "--authority",
            "authority",
            "--user",
            "a",
            "-o",
            "-",
        ]);
        assert!(!key.is_empty());
        assert!(printed(&["labels", "targets", "--classes", "4", "-o", "-"]).starts_with(b"PK"));
        lab.expect(
            2,
            &[
                "labels",
                "keygen",
                "--authority",
                "authority",
                "--user",
                "a",
                "--user",
                "b",
                "-o",
                "-",
            ],
        );
    }
}

#[cfg(unix)]
#[test]
fn a_terminal_shows_no_model() {
    let lab = Lab::with_models();
    let binary = env!("CARGO_BIN_EXE_onnxseal");
    let on_terminal = |line: &str| {
        let output = lab.on_terminal(line)?;
        Some((output.status.code(), output.stdout))
    };
    let unprotect = format!("'{binary}' unprotect sealed/model.onnx -i id.txt -o -");
    let Some((code, shown)) = on_terminal(&unprotect) else {
        eprintln!("skipped: a terminal needs the program `script` of util-linux");
        return;
    };
    let shown = String::from_utf8(shown).unwrap();
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("is a terminal"), "{shown}");
    let (code, shown) = on_terminal(&format!("{unprotect} -f")).unwrap();
    assert!(code == Some(0) && shown.len() > 4 << 20);
}

// --- what is read -----------------------------------------------------------------------------------------------------

/// Runs a command that must come to an end by itself; gives its exit code and what it said.
#[cfg(unix)]
fn ends(lab: &Lab, args: &[&str]) -> (Option<i32>, String) {
    let mut command = lab.command(args);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it goes on: {args:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    (child.wait().unwrap().code(), err)
}

#[cfg(unix)]
#[test]
fn endless_devices_and_sockets_are_not_read_for_ever() {
    let lab = files_to_read();
    lab.expect(0, &["-q", "labels", "setup", "-o", "good"]);
    let _socket = UnixListener::bind(lab.path("socket")).unwrap();
    let sealed = "sealed.onnx";
    lab.protected();
    for command in [
        "protect model.onnx -o new -R @",
        "protect model.onnx -o new --passphrase-file @",
        "protect model.onnx -o new -r R --policy @",
        "protect model.onnx -o new -r R --preset balanced --ranking @",
        "protect model.onnx -o new -r R --sign-key @",
        "labels protect model.onnx -o new --authority @",
        "plan model.onnx --policy @",
        "verify S -i @",
        "verify S --allowed-signers @",
        "verify S --policy @",
        "verify --list @",
        "batch verify --list @",
        "unprotect S -o new -i @",
        "unprotect S -o new --passphrase-file @",
        "rekey S -o new -r R -i @",
        "rekey S -o new -i id.txt --new-passphrase-file @",
        "sign S --key @",
        "sign S --signature @",
        "inputs rewrite model.onnx -o new --key @",
        "labels users --authority @",
        "labels keygen --authority @ --user a -o new",
        "labels keygen --authority good --users @ -o new",
        "labels keygen --authority good --user a -o new -i @",
    ] {
        for (path, told) in [("/dev/zero", ""), ("socket", "socket"), (".", "folder")] {
            let words = command.split_whitespace().map(|word| match word {
                "@" => path,
                "R" => lab.recipient.as_str(),
                "S" => sealed,
                word => word,
            });
            let (code, err) = ends(&lab, &words.collect::<Vec<_>>());
            assert!(
                code.is_some_and(|code| code != 0),
                "{command} {path}: {err}"
            );
            assert!(err.contains(told), "{command} {path}: {err}");
            assert!(!lab.path("new").exists());
        }
    }
}

#[cfg(unix)]
#[test]
fn pipes_hand_over_keys_and_policies() {
    let lab = Lab::with_models();
    if !make_pipe(&lab, "pipe") {
        return;
    }
    fs::write(lab.path("policy.toml"), "preset = \"strong\"\n").unwrap();
    fs::write(lab.path("recipients"), &lab.recipient).unwrap();
    let feed = |from: &str, args: &[&str]| {
        let (bytes, pipe): (Vec<u8>, PathBuf) =
            (fs::read(lab.path(from)).unwrap(), lab.path("pipe"));
        let writer = thread::spawn(move || {
            File::options()
                .write(true)
                .open(pipe)
                .unwrap()
                .write_all(&bytes)
                .unwrap();
        });
        lab.expect(0, &[&["-q"], args].concat());
        writer.join().unwrap();
    };
    feed("id.txt", &["verify", "sealed/model.onnx", "-i", "pipe"]);
    feed(
        "recipients",
        &["protect", "plain/model.onnx", "-o", "a.onnx", "-R", "pipe"],
    );
    let policy = [
        "protect",
        "plain/model.onnx",
        "-r",
        &lab.recipient,
        "-o",
        "b.onnx",
        "--policy",
        "pipe",
    ];
    feed("policy.toml", &policy);
    let list = lab.path("list");
    fs::write(
        &list,
        format!("{}\n", lab.path("sealed/model.onnx").display()),
    )
    .unwrap();
    feed("list", &["verify", "--list", "pipe", "-i", "id.txt"]);
    // And standard input, for whatever is read whole.
    let policy = "\"$0\" -q plan plain/model.onnx --policy - < policy.toml";
    let output = lab.shell(policy).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", lab::stdout(&output));
}

// --- what is shown ----------------------------------------------------------------------------------------------------

#[test]
fn names_that_show_as_others_are_refused_and_escaped() {
    let lab = Lab::new();
    let odd = "a\u{202e}b";
    #[cfg(feature = "labels")]
    {
        lab.expect(0, &["-q", "labels", "setup", "-o", "authority"]);
        for name in [odd, "a\u{200b}b", "a\u{9b}b"] {
            let keygen = [
                "labels",
                "keygen",
                "--authority",
                "authority",
                "-o",
                "key",
                "--user",
            ];
            lab.expect(2, &[&keygen[..], &[name]].concat());
            assert!(!lab.path("key").exists());
        }
    }
    // What is in a model is anybody's.
    let odd = "w\u{202e}\u{9b}2J\u{200b}";
    let odd_model = GraphBuilder::new("odd")
        .input("x", &[1, 64])
        .initializer(onnxseal_testkit::build::weights(odd, &[64, 64], 1))
        .node(node("MatMul", &["x", odd], &["y"]))
        .output("y", &[1, 64])
        .encode();
    fs::write(lab.path("odd.onnx"), odd_model).unwrap();
    for view in [&[][..], &["--json"], &["--jsonl"]] {
        let (out, _) = lab.expect(0, &[&["plan", "odd.onnx"], view].concat());
        assert!(!out.contains(['\u{202e}', '\u{9b}', '\u{200b}']), "{out}");
        assert!(out.contains("202e"), "{out}");
    }
    let (out, _) = lab.expect(0, &["plan", "odd.onnx", "--json"]);
    let read: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(read.to_string().contains(odd));
}
