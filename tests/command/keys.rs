//! Keys of every kind, from wherever the command takes them, against stock `age` and `ssh-keygen`.
//! Tests say that they skip where one of these is missing.

use std::fs;
use std::io::Write as _;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::lab::{self, Lab};

const PASSPHRASE: &str = "correct horse battery";

/// Whether all of these programs are installed; says so where not.
fn installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    programs.iter().all(|program| {
        let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        if !found {
            eprintln!("skipped: {program} is not installed");
        }
        found
    })
}

/// Runs another program in the lab's folder, which must succeed.
fn run(lab: &Lab, program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    let output = command.current_dir(lab.dir.path()).args(args).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    output
}

/// Makes an ssh key pair and returns the public key.
fn ssh_keygen(lab: &Lab, name: &str, args: &[&str]) -> String {
    let passphrase = if args.contains(&"-N") {
        &[][..]
    } else {
        &["-N", ""]
    };
    let all = [&["-q", "-f", name], passphrase, args].concat();
    run(lab, "ssh-keygen", &all);
    fs::read_to_string(lab.path(&format!("{name}.pub"))).unwrap()
}

/// Makes an identity with `age-keygen` and returns its recipient.
fn age_keygen(lab: &Lab, name: &str) -> String {
    run(lab, "age-keygen", &["-o", name]);
    let output = run(lab, "age-keygen", &["-y", name]);
    lab::stdout(&output).trim().to_owned()
}

/// Writes the wrapped data key of `model` to `name`.
fn extract_key(lab: &Lab, model: &str, name: &str) {
    let file = fs::read(lab.path(model)).unwrap();
    let text = String::from_utf8_lossy(&file);
    let start = text.find("-----BEGIN AGE ENCRYPTED FILE-----").unwrap();
    let end = text.find("-----END AGE ENCRYPTED FILE-----\n").unwrap() + 33;
    fs::write(lab.path(name), &text[start..end]).unwrap();
}

/// Types `answers` into the command; returns its exit code and what it showed.
#[cfg(unix)]
fn type_into(lab: &Lab, answers: &[&str], args: &[&str]) -> (Option<i32>, String) {
    let command = [&[env!("CARGO_BIN_EXE_onnxseal")], args].concat();
    let output = lab.typing(answers, &command).output().unwrap();
    (output.status.code(), lab::stdout(&output))
}

/// Restores `sealed.onnx` and compares it with the original.
fn restores(lab: &Lab, args: &[&str]) {
    let all = [
        "-q",
        "unprotect",
        "sealed.onnx",
        "--force",
        "-o",
        "back.onnx",
    ];
    lab.expect(0, &[&all, args].concat());
    assert_restored(lab);
}

fn assert_restored(lab: &Lab) {
    let original = fs::read(lab.path("model.onnx")).unwrap();
    assert!(fs::read(lab.path("back.onnx")).unwrap() == original);
    fs::remove_file(lab.path("back.onnx")).unwrap();
}

/// Protects the model to `sealed.onnx`.
fn protect(lab: &Lab, args: &[&str]) {
    let all = ["-q", "protect", lab.model(), "--force", "-o", "sealed.onnx"];
    lab.expect(0, &[&all, args].concat());
}

fn write_private(lab: &Lab, name: &str, text: &str) {
    fs::write(lab.path(name), text).unwrap();
    #[cfg(unix)]
    fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn stock_age_opens_what_is_wrapped_to_its_keys_and_to_ssh_keys() {
    if !installed(&["age", "age-keygen", "ssh-keygen"]) {
        return;
    }
    let lab = Lab::new();
    let age = age_keygen(&lab, "age.txt");
    let ed25519 = ssh_keygen(&lab, "ed25519", &["-t", "ed25519"]);
    let rsa = ssh_keygen(&lab, "rsa", &["-t", "rsa", "-b", "2048"]);
    fs::write(
        lab.path("team.txt"),
        format!("# the team\n\n{ed25519}{rsa}"),
    )
    .unwrap();
    protect(
        &lab,
        &[
            "-r",
            &age,
            "-R",
            "team.txt",
            "-R",
            "ed25519.pub",
            "-r",
            &lab.recipient,
            "--list-recipients",
            "--comment",
            "opens in age too",
        ],
    );
    extract_key(&lab, "sealed.onnx", "key.age");
    let keys = ["age.txt", "ed25519", "rsa", "id.txt"].map(|identity| {
        restores(&lab, &["-i", identity]);
        run(&lab, "age", &["-d", "-i", identity, "key.age"]).stdout
    });
    assert_eq!(keys[0].len(), 32);
    assert!(keys.iter().all(|key| *key == keys[0]));

    // Nobody else, and the message names the kinds.
    lab.expect(0, &["keygen", "-o", "other.txt"]);
    let (_, err) = lab.expect(5, &["verify", "sealed.onnx", "-i", "other.txt"]);
    assert!(
        err.contains(
            "it opens with 2 age keys (X25519), 1 ssh key (ssh-ed25519), 1 ssh key (ssh-rsa)"
        ),
        "{err}"
    );
}

#[test]
fn what_age_refuses_is_refused_with_what_to_use_instead() {
    if !installed(&["ssh-keygen"]) {
        return;
    }
    let lab = Lab::new();
    let model = lab.model();
    let ecdsa = ssh_keygen(&lab, "ecdsa", &["-t", "ecdsa"]);
    let small = ssh_keygen(&lab, "small", &["-t", "rsa", "-b", "1024"]);
    for (recipient, reason) in [
        (ecdsa.as_str(), "use ssh-ed25519 or ssh-rsa"),
        (&small, "less than 2048 bits"),
    ] {
        let recipient = recipient.trim();
        let (_, err) = lab.expect(2, &["protect", model, "-o", "x", "-r", recipient]);
        assert!(err.contains(reason), "{err}");
        fs::write(
            lab.path("team.txt"),
            format!("{}\n{recipient}\n", lab.recipient),
        )
        .unwrap();
        let (_, err) = lab.expect(2, &["protect", model, "-o", "x", "-R", "team.txt"]);
        assert!(
            err.contains("team.txt, line 2") && err.contains(reason),
            "{err}"
        );
    }
    let (_, err) = lab.expect(2, &["verify", lab.protected(), "-i", "ecdsa"]);
    assert!(err.contains("use ssh-ed25519"), "{err}");
}

#[cfg(unix)]
#[test]
fn a_model_that_nobody_could_open_is_not_made() {
    let lab = Lab::new();
    let model = lab.model();
    for nobody in ["", "# nobody yet\n\n"] {
        fs::write(lab.path("team.txt"), nobody).unwrap();
        let (_, err) = lab.expect(2, &["protect", model, "-o", "x.onnx", "-R", "team.txt"]);
        assert!(err.contains("team.txt holds no recipient"), "{err}");
    }
    fs::write(lab.path("pass.txt"), "\n").unwrap();
    let (_, err) = lab.expect(
        2,
        &[
            "protect",
            model,
            "-o",
            "x.onnx",
            "--passphrase-file",
            "pass.txt",
        ],
    );
    assert!(err.contains("empty"), "{err}");
    fs::write(lab.path("pass.txt"), PASSPHRASE).unwrap();
    let (_, err) = lab.expect(
        2,
        &[
            "protect",
            model,
            "-o",
            "x.onnx",
            "--passphrase-file",
            "pass.txt",
            "-r",
            &lab.recipient,
        ],
    );
    assert!(err.contains("stands alone"), "{err}");
    lab.expect(
        2,
        &[
            "protect",
            model,
            "-o",
            "x",
            "--passphrase",
            "--passphrase-file",
            "/dev/fd/3",
        ],
    );
    assert!(!lab.path("x.onnx").exists() && !lab.path("x.onnx.identity.txt").exists());
}

#[cfg(unix)]
#[test]
fn a_passphrase_opens_a_model_from_a_file_or_a_descriptor() {
    let lab = Lab::new();
    write_private(&lab, "pass.txt", &format!("{PASSPHRASE}\r\nand a note\n"));
    write_private(&lab, "wrong.txt", "incorrect horse\n");
    protect(&lab, &["--passphrase-file", "pass.txt"]);
    restores(&lab, &["--passphrase-file", "pass.txt"]);
    for redirection in [
        "--passphrase-file /dev/fd/7 7<pass.txt",
        "--passphrase-file /dev/fd/0 <pass.txt",
        "--passphrase-file - <pass.txt",
    ] {
        let script = format!("\"$0\" -q unprotect sealed.onnx -o back.onnx {redirection}");
        let output = lab.shell(&script).output().unwrap();
        assert!(output.status.success(), "{redirection}: {output:?}");
        assert_restored(&lab);
    }
    // A pipe that stays open does not stall it: a line is enough.
    let mut command = lab.command(&["verify", "sealed.onnx", "--passphrase-file", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    writeln!(pipe, "{PASSPHRASE}").unwrap();
    assert!(child.wait().unwrap().success());
    drop(pipe);

    let (_, err) = lab.expect(
        5,
        &["verify", "sealed.onnx", "--passphrase-file", "wrong.txt"],
    );
    assert!(
        err.contains("wrong passphrase for sealed.onnx") && err.contains("hint"),
        "{err}"
    );
    let (_, err) = lab.expect(5, &["verify", "sealed.onnx", "-i", "id.txt"]);
    assert!(
        err.contains("it opens with 1 passphrase") && err.contains("--passphrase-file"),
        "{err}"
    );
    let closed = ["verify", "sealed.onnx", "--passphrase-file", "/dev/fd/99"];
    let (_, err) = lab.expect(7, &closed);
    assert!(err.contains("/dev/fd/99"), "{err}");
}

#[cfg(unix)]
#[test]
fn a_passphrase_is_stock_ages() {
    if !installed(&["age", "python3"]) {
        return;
    }
    let lab = Lab::new();
    write_private(&lab, "pass.txt", PASSPHRASE);
    protect(&lab, &["--passphrase-file", "pass.txt"]);
    extract_key(&lab, "sealed.onnx", "key.age");
    let mut age = lab.typing(&[PASSPHRASE], &["age", "-d", "-o", "dek", "key.age"]);
    let output = age.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(lab.path("dek")).unwrap().len(), 32);
}

#[cfg(unix)]
#[test]
fn the_environment_names_an_identity() {
    let lab = Lab::new();
    lab.protected();
    let verify = |value: Option<&str>, rest: &str| {
        let mut shell = lab.shell(&format!(
            "\"$0\" unprotect sealed.onnx --force -o back.onnx {rest}"
        ));
        shell.env_remove("ONNXSEAL_IDENTITY");
        value.map(|value| shell.env("ONNXSEAL_IDENTITY", value));
        let output = shell.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), err)
    };
    lab.expect(0, &["keygen", "-o", "other.txt"]);
    for (value, rest) in [
        (Some("id.txt"), ""),
        (Some("fd:9"), "9<id.txt"),
        (Some("fd:0"), "<id.txt"),
        (Some("other.txt"), "-i id.txt"),
        (None, "-i - <id.txt"),
        (Some(""), "-i id.txt"),
    ] {
        assert_eq!(verify(value, rest), (0, String::new()), "{value:?} {rest}");
        assert_restored(&lab);
    }
    for (value, rest, code, message) in [
        (None, "", 2, "ONNXSEAL_IDENTITY"),
        (Some(""), "", 2, "ONNXSEAL_IDENTITY is empty"),
        (Some("fd:x"), "", 2, "fd:x"),
        (Some("fd:9"), "", 7, "/dev/fd/9"),
        (Some("absent.txt"), "", 7, "absent.txt"),
        (Some("other.txt"), "", 5, "X25519"),
        (Some("id.txt"), "-i other.txt", 5, "X25519"),
        (None, "-i - -i - <id.txt", 2, "standard input"),
        (
            None,
            "-i - --passphrase-file /dev/fd/0 <id.txt",
            2,
            "standard input",
        ),
    ] {
        let (found, err) = verify(value, rest);
        assert_eq!(found, code, "{value:?} {rest}: {err}");
        assert!(err.contains(message), "{value:?} {rest}: {err}");
    }
    // A pipe is as good as a file: `verify` then reads every byte, without -i.
    let script = "cat id.txt | ONNXSEAL_IDENTITY=fd:0 \"$0\" verify sealed.onnx";
    let output = lab.shell(script).output().unwrap();
    assert!(lab::stdout(&output).contains("authentic"), "{output:?}");
}

/// A key given where the name of a file is expected, or a file of keys where one of something else is:
/// nothing that the command prints has a part of it.
#[test]
fn no_message_has_a_secret_key() {
    let lab = Lab::new();
    let (model, plain) = (lab.protected(), "model.onnx");
    let file = fs::read_to_string(lab.path("id.txt")).unwrap();
    let key = file.lines().last().unwrap();
    let body = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW";
    let pem = |label: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let secrets = [
        key.to_owned(),
        key.to_ascii_lowercase(),
        format!(" \n\t{key}\n"),
        file.clone(),
        format!("./{key}"),
        "AGE-PLUGIN-YUBIKEY-1QQQQQQQQQQQQQQQQQQQ".to_owned(),
        pem("OPENSSH PRIVATE KEY"),
        pem("RSA PRIVATE KEY").to_ascii_lowercase(),
        pem("AGE ENCRYPTED FILE"),
        body.to_owned(),
    ];
    let check = |output: &Output, secret: &str, how: &str| {
        let shown = [&output.stdout[..], &output.stderr].concat();
        let shown = String::from_utf8_lossy(&shown).to_ascii_lowercase();
        assert!(!output.status.success(), "{how}: {shown}");
        let secret = secret.to_ascii_lowercase();
        for part in secret.split(['\n', ' ']).filter(|part| part.len() > 30) {
            // A part of it gives some of it away as well; that of a public key does not.
            let tail = &part[part.len() - 12..];
            let public = part.starts_with("age1");
            assert!(public || !shown.contains(tail), "{how}: {shown}");
        }
    };
    for secret in &secrets {
        let mut unprotect = lab.command(&["unprotect", model, "-o", "out.onnx"]);
        let output = unprotect.env("ONNXSEAL_IDENTITY", secret).output().unwrap();
        check(&output, secret, "ONNXSEAL_IDENTITY");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(
            err.contains("ONNXSEAL_IDENTITY holds a key; it must name a file, or fd:N"),
            "{err}"
        );
        let to_me = ["protect", plain, "-o", "out.onnx", "-r", &lab.recipient];
        let opened = ["unprotect", model, "-o", "out.onnx", "-i", "id.txt"];
        let verify = ["verify", model];
        for (args, more) in [
            (
                &["unprotect", model, "-o", "out.onnx"][..],
                &["-i", secret][..],
            ),
            (&["protect", plain, "-o", "out.onnx"], &["-r", secret]),
            (&["protect", plain, "-o", "out.onnx"], &["-R", secret]),
            (&to_me, &["--sign-key", secret]),
            (&to_me, &["--policy", secret]),
            (&to_me, &["--preset", secret]),
            (&to_me, &["--coefficient", secret]),
            (&to_me, &["--claim", secret]),
            (&to_me, &[secret]),
            (&opened, &["--allowed-signers", secret]),
            (
                &["unprotect", model, "-i", "id.txt"],
                &["-o", secret, "--no-such"],
            ),
            (&["rekey", "-i", "id.txt", "-r", &lab.recipient], &[secret]),
            (&["sign", model, "--key"], &[secret]),
            (&verify, &["--list", secret]),
            (&verify, &["--policy", secret]),
            (&["inspect"], &[secret]),
            (&["plan"], &[secret]),
            (&[], &[secret]),
        ] {
            let args = [args, more].concat();
            check(&lab.run(&args), secret, &format!("{args:?}"));
        }
        write_private(&lab, "secret", secret);
        for args in [
            &["protect", plain, "-o", "out.onnx", "-R", "secret"][..],
            &[&to_me[..], &["--policy", "secret"]].concat(),
            &[&opened[..], &["--allowed-signers", "secret"]].concat(),
            &["verify", "--list", "secret"],
            &["verify", model, "--policy", "secret"],
            &[
                "batch",
                "protect",
                "--list",
                "secret",
                "--out",
                "x",
                "-r",
                &lab.recipient,
            ],
            &["sign", model, "--signature", "secret"],
            &["inspect", "secret"],
        ] {
            check(&lab.run(args), secret, &format!("file: {args:?}"));
        }
    }
    // Nor is what was to be a passphrase.
    let option = "--passphrase=hunter2-and-more";
    let output = lab.run(&["unprotect", model, "-o", "out.onnx", option]);
    check(&output, &"hunter2-and-more".repeat(2), option);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!err.contains("hunter2"), "{err}");
    for args in [&["keygen"][..], &["unprotect", model, "-o", "out.onnx"]] {
        let output = lab.run(&[args, &["--passphrase", "hunter2-and-more"]].concat());
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && !err.contains("hunter2"),
            "{err}"
        );
    }
}

#[cfg(unix)]
#[test]
fn an_encrypted_identity_file_is_stock_ages_in_both_directions() {
    if !installed(&["age", "age-keygen", "python3", "setsid"]) {
        return;
    }
    let lab = Lab::new();
    write_private(&lab, "pass.txt", PASSPHRASE);
    let (recipient, _) = lab.expect(
        0,
        &["keygen", "-o", "ours.age", "--passphrase-file", "pass.txt"],
    );
    let text = fs::read_to_string(lab.path("ours.age")).unwrap();
    assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n") && !text.contains("SECRET"));
    let stock = age_keygen(&lab, "stock.txt");
    let command = ["age", "-p", "-o", "stock.age", "stock.txt"];
    let mut age = lab.typing(&[PASSPHRASE, PASSPHRASE], &command);
    assert!(age.output().unwrap().status.success());

    protect(&lab, &["-r", recipient.trim(), "-r", &stock]);
    let unprotect = ["-q", "unprotect", "sealed.onnx", "-o", "back.onnx", "-i"];
    for identity in ["ours.age", "stock.age"] {
        let args = [&unprotect[..], &[identity]].concat();
        let (code, shown) = type_into(&lab, &[PASSPHRASE], &args);
        assert_eq!(code, Some(0), "{shown}");
        assert!(
            shown.contains(&format!("passphrase for the identity file {identity}: ")),
            "{shown}"
        );
        assert!(!shown.contains(PASSPHRASE), "{shown}");
        assert_restored(&lab);
    }
    extract_key(&lab, "sealed.onnx", "key.age");
    let command = ["age", "-d", "-i", "ours.age", "-o", "dek", "key.age"];
    let mut age = lab.typing(&[PASSPHRASE], &command);
    assert!(age.output().unwrap().status.success());
    assert_eq!(fs::read(lab.path("dek")).unwrap().len(), 32);

    let args = [&unprotect[..], &["ours.age"]].concat();
    let (code, shown) = type_into(&lab, &["wrong"], &args);
    assert_eq!(code, Some(5), "{shown}");
    assert!(shown.contains("wrong passphrase for ours.age"), "{shown}");
    // Where there is no terminal, nothing waits for one.
    let mut alone = Command::new("setsid");
    alone
        .arg("-w")
        .arg(env!("CARGO_BIN_EXE_onnxseal"))
        .args(&args);
    let output = alone.current_dir(lab.dir.path()).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(
        err.contains("ours.age needs a passphrase") && err.contains("terminal"),
        "{err}"
    );
}

#[test]
fn keygen_prints_the_recipient_beside_an_encrypted_identity() {
    let lab = Lab::new();
    write_private(&lab, "pass.txt", PASSPHRASE);
    let (out, err) = lab.expect(0, &["keygen", "--passphrase-file", "pass.txt"]);
    assert!(out.ends_with("-----END AGE ENCRYPTED FILE-----\n"), "{out}");
    assert!(err.starts_with("public key: age1"), "{err}");
}

#[test]
fn keygen_tells_the_recipients_of_an_identity_file() {
    let lab = Lab::new();
    let (made, _) = lab.expect(0, &["keygen", "-o", "new.txt"]);
    assert_eq!(lab.expect(0, &["keygen", "-y", "new.txt"]).0, made);
    if installed(&["ssh-keygen"]) {
        let public = ssh_keygen(&lab, "ssh", &["-t", "ed25519", "-N", ""]);
        let told = lab.expect(0, &["keygen", "-y", "ssh"]).0;
        assert!(public.starts_with(told.trim()), "{told} {public}");
    }
    let (_, err) = lab.expect(2, &["keygen", "-y", "new.txt", "-o", "other.txt"]);
    assert!(err.contains("cannot be used with"), "{err}");
    lab.expect(7, &["keygen", "-y", "absent.txt"]);
}

#[cfg(unix)]
#[test]
fn an_encrypted_ssh_key_asks_for_its_passphrase() {
    if !installed(&["ssh-keygen", "python3"]) {
        return;
    }
    let lab = Lab::new();
    for (name, args) in [
        ("ed25519", ["-t", "ed25519", "-N", PASSPHRASE]),
        ("rsa", ["-t", "rsa", "-N", PASSPHRASE]),
    ] {
        let public = ssh_keygen(&lab, name, &args);
        protect(&lab, &["-r", public.trim()]);
        let args = [
            "-q",
            "unprotect",
            "sealed.onnx",
            "-o",
            "back.onnx",
            "-i",
            name,
        ];
        let (code, shown) = type_into(&lab, &[PASSPHRASE], &args);
        assert_eq!(code, Some(0), "{shown}");
        assert!(
            shown.contains(&format!("passphrase for the ssh key {name}: ")),
            "{shown}"
        );
        assert_restored(&lab);
        let (code, shown) = type_into(&lab, &["wrong"], &args);
        assert_eq!(code, Some(5), "{shown}");
        assert!(
            shown.contains(&format!("wrong passphrase for {name}")),
            "{shown}"
        );
    }
}

#[cfg(unix)]
#[test]
fn secrets_that_others_can_read_are_warned_of() {
    let lab = Lab::new();
    lab.protected();
    let mode = |bits| fs::set_permissions(lab.path("id.txt"), fs::Permissions::from_mode(bits));
    let verify = ["verify", "sealed.onnx", "-i", "id.txt"];
    for (bits, warned) in [(0o600, false), (0o400, false), (0o640, true), (0o644, true)] {
        mode(bits).unwrap();
        let (_, err) = lab.expect(0, &verify);
        let expected = format!("warning: others can read or write id.txt (mode {bits:o})");
        assert_eq!(err.contains(&expected), warned, "{bits:o}: {err}");
        let (_, err) = lab.expect(0, &[&["-q"], &verify[..]].concat());
        assert_eq!(err, "");
    }
}

/// A folder in PATH with a plugin of the name `test`; returns PATH, and the plugin's recipient, whose
/// identity it writes to `token.txt`.
#[cfg(unix)]
fn plugin(lab: &Lab) -> (String, String) {
    let program = lab.path("bin/age-plugin-test");
    fs::create_dir(lab.path("bin")).unwrap();
    // A link, for a file that was just written may be busy.
    std::os::unix::fs::symlink(lab::project("tests/lab/age-plugin-test"), &program).unwrap();
    let output = Command::new(&program).arg("--generate").output().unwrap();
    let text = lab::stdout(&output);
    write_private(lab, "token.txt", &text);
    let recipient = text.lines().next().unwrap().rsplit(' ').next().unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", lab.path("bin").display());
    (path, recipient.to_owned())
}

#[cfg(unix)]
#[test]
fn plugins_wrap_and_unwrap() {
    if !installed(&["age", "python3"]) {
        return;
    }
    let lab = Lab::new();
    let (path, token) = plugin(&lab);
    let with_path = |args: &[&str]| {
        let output = lab.command(args).env("PATH", &path).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), err)
    };
    let args = [
        "-q",
        "protect",
        lab.model(),
        "-o",
        "sealed.onnx",
        "-r",
        &token,
        "-r",
        &lab.recipient,
    ];
    assert_eq!(with_path(&args), (Some(0), String::new()));
    let unprotect = [
        "-q",
        "unprotect",
        "sealed.onnx",
        "-o",
        "back.onnx",
        "-i",
        "token.txt",
    ];
    let (code, err) = with_path(&unprotect);
    assert_eq!((code, err.as_str()), (Some(0), "the test token blinks\n"));
    assert_restored(&lab);
    restores(&lab, &["-i", "id.txt"]);

    // Stock age does too, by the same plugin.
    extract_key(&lab, "sealed.onnx", "key.age");
    let age = |args: &[&str]| {
        let mut age = Command::new("age");
        let output = age
            .args(args)
            .env("PATH", &path)
            .current_dir(lab.dir.path())
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    age(&["-d", "-i", "token.txt", "-o", "dek", "key.age"]);
    assert_eq!(fs::read(lab.path("dek")).unwrap().len(), 32);

    // Who has no such plugin is told so, and a token of others is no match.
    let (_, err) = lab.expect(2, &unprotect);
    assert!(err.contains("age-plugin-test is not installed"), "{err}");
    let (_, err) = lab.expect(2, &["protect", "model.onnx", "-o", "x", "-r", &token]);
    assert!(err.contains("age-plugin-test is not installed"), "{err}");
    protect(&lab, &["-r", &lab.recipient]);
    let (code, err) = with_path(&["verify", "sealed.onnx", "-i", "token.txt"]);
    assert_eq!(code, Some(5), "{err}");
}

#[cfg(unix)]
#[test]
fn plugins_that_do_not_end_are_ended() {
    if !installed(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let (path, token) = plugin(&lab);
    let wrap = [
        "-q",
        "protect",
        lab.model(),
        "-o",
        "sealed.onnx",
        "-r",
        &token,
    ];
    let run = |args: &[&str], fault: &str| {
        let _ = fs::remove_file(lab.path("pid"));
        let mut command = lab.command(args);
        command
            .env("PATH", &path)
            .env("AGE_PLUGIN_TEST_PID", lab.path("pid"));
        if fault == "hang" {
            command.env("ONNXSEAL_PLUGIN_SECONDS", "1");
        }
        if !fault.is_empty() {
            command.env("AGE_PLUGIN_TEST_FAULT", fault);
        }
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), err)
    };
    assert_eq!(run(&wrap, ""), (Some(0), String::new()));
    fs::rename(lab.path("sealed.onnx"), lab.path("good.onnx")).unwrap();
    let unwrap = ["-q", "verify", "good.onnx", "-i", "token.txt"];
    for (fault, said) in [
        (
            "endless line",
            "age-plugin-test: it says more than 1048576 bytes",
        ),
        (
            "endless messages",
            "age-plugin-test: it says more than 1048576 bytes",
        ),
        (
            "hang",
            "age-plugin-test: it did not answer within 1 seconds",
        ),
        ("end", "age-plugin-test: it ended without an answer"),
        (
            "nonsense",
            "age-plugin-test: it does not keep to the protocol",
        ),
    ] {
        for args in [&wrap[..], &unwrap] {
            let (code, err) = run(args, fault);
            assert_eq!(code, Some(1), "{fault}: {err}");
            let last = err.lines().last().unwrap_or_default();
            assert!(last.contains(said), "{fault}: {last}");
            assert!(!lab.path("sealed.onnx").exists());
            // Nothing of it is left running; its second may be over before it begins.
            let pid = fs::read_to_string(lab.path("pid"));
            assert!(pid.is_ok() || fault == "hang");
            let is_there = |pid: String| Path::new("/proc").join(pid).exists();
            assert!(!pid.is_ok_and(is_there) || fault == "end", "{fault}");
        }
    }
    assert_eq!(run(&unwrap, "").0, Some(0));
}

#[cfg(unix)]
#[test]
fn plugins_ask_on_the_terminal() {
    if !installed(&["python3"]) {
        return;
    }
    let lab = Lab::new();
    let (path, token) = plugin(&lab);
    let args = [
        "-q",
        "protect",
        lab.model(),
        "-o",
        "sealed.onnx",
        "-r",
        &token,
    ];
    let output = lab.command(&args).env("PATH", &path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let binary = env!("CARGO_BIN_EXE_onnxseal");
    let unprotect = [
        binary,
        "-q",
        "unprotect",
        "sealed.onnx",
        "-o",
        "back.onnx",
        "-i",
        "token.txt",
    ];
    for (pin, code, expected) in [("1234", 0, "blinks"), ("0000", 1, "that is not the PIN")] {
        let mut command = lab.typing(&[pin], &unprotect);
        let output = command
            .env("PATH", &path)
            .env("AGE_PLUGIN_TEST_PIN", "1234")
            .output();
        let output = output.unwrap();
        let shown = lab::stdout(&output);
        assert_eq!(output.status.code(), Some(code), "{shown}");
        assert!(
            shown.contains("PIN of the test token: ") && shown.contains(expected),
            "{shown}"
        );
    }
    assert_restored(&lab);
}
