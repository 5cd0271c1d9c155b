//! `rekey`, `rotate` and `sign` as a user meets them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use onnxseal_testkit::samples;

use crate::lab::{Lab, contents, files, ssh_key, stdout};

/// A second identity in the lab: its recipient; the file is `bob.txt`.
fn bob(lab: &Lab) -> String {
    let (out, _) = lab.expect(0, &["keygen", "-o", "bob.txt"]);
    out.trim().to_owned()
}

#[test]
fn rekey_gives_a_model_other_readers() {
    let lab = Lab::new();
    let bob = bob(&lab);
    let (model, original) = (lab.protected(), fs::read(lab.path("model.onnx")).unwrap());
    let before = fs::read(lab.path(model)).unwrap();

    let (_, err) = lab.expect(0, &["rekey", model, "-i", "id.txt", "-r", &bob]);
    assert!(err.contains("no longer open it"), "{err}");
    let (_, err) = lab.expect(5, &["unprotect", model, "-i", "id.txt", "-o", "x.onnx"]);
    assert!(err.contains("X25519"), "{err}");
    lab.expect(5, &["rekey", model, "-i", "id.txt", "-r", &lab.recipient]);
    let both = ["-r", &bob, "-r", &lab.recipient, "-o", "both.onnx"];
    let (_, err) = lab.expect(0, &[&["rekey", model, "-i", "bob.txt"], &both[..]].concat());
    assert!(!err.contains("no more"), "{err}");
    for identity in ["id.txt", "bob.txt"] {
        lab.expect(
            0,
            &["unprotect", "both.onnx", "-i", identity, "-fo", "x.onnx"],
        );
        assert!(fs::read(lab.path("x.onnx")).unwrap() == original);
    }
    // What is not the wrapped key did not change.
    let after = fs::read(lab.path("both.onnx")).unwrap();
    let same = before
        .iter()
        .zip(&after)
        .take_while(|(a, b)| a == b)
        .count();
    let key = b"onnxseal.key";
    let at = before.windows(key.len()).rposition(|window| window == key);
    assert!(same > at.unwrap() - 8, "{same}");
}

#[test]
fn readers_are_added_and_none_is_lost_unsaid() {
    let lab = Lab::new();
    let (bob, model) = (bob(&lab), lab.protected());
    let (out, _) = lab.expect(
        0,
        &[
            "keygen",
            "-o",
            "carol.txt",
            "--comment",
            "Carol, for audits",
        ],
    );
    let carol = out.trim();
    let identity = fs::read_to_string(lab.path("carol.txt")).unwrap();
    assert!(
        identity.starts_with("# comment: Carol, for audits\n# public key: "),
        "{identity}"
    );
    lab.expect(2, &["keygen", "--comment", "two\nlines"]);

    let (_, err) = lab.expect(0, &["rekey", "--add", model, "-i", "id.txt", "-r", &bob]);
    assert!(err.contains("present recipients"), "{err}");
    for identity in ["id.txt", "bob.txt"] {
        lab.expect(0, &["-q", "verify", model, "-i", identity]);
    }
    let before = fs::read(lab.path(model)).unwrap();
    let add = ["rekey", "--add", model, "-i", "id.txt", "-r", carol];
    let (_, err) = lab.expect(2, &add);
    assert!(
        err.contains("2 recipient(s)") && err.contains("of 1 of them"),
        "{err}"
    );
    assert!(err.contains("without --add"), "{err}");
    assert!(fs::read(lab.path(model)).unwrap() == before);
    lab.expect(0, &[&add[..], &["-i", "bob.txt"]].concat());
    for identity in ["id.txt", "bob.txt", "carol.txt"] {
        lab.expect(0, &["-q", "verify", model, "-i", identity]);
    }
}

#[test]
fn a_model_says_who_has_its_keys_if_it_is_to() {
    let lab = Lab::new();
    let (bob, model) = (bob(&lab), "noted.onnx");
    lab.model();
    let (out, _) = lab.expect(0, &["keygen", "-o", "carol.txt"]);
    let carol = out.trim();
    let noted = [
        "--list-recipients",
        "--comment",
        "for ACME: ask \u{e9}quipe-cl\u{e9}s",
    ];
    let protect = [
        "protect",
        "model.onnx",
        "-o",
        model,
        "-r",
        &lab.recipient,
        "-r",
        &bob,
    ];
    lab.expect(0, &[&protect[..], &noted].concat());
    let (out, _) = lab.expect(0, &["inspect", model]);
    assert!(out.contains("opens with: 2 age keys (X25519)\n"), "{out}");
    assert!(
        out.contains("comment (not checked): for ACME: ask \u{e9}quipe-cl\u{e9}s\n"),
        "{out}"
    );

    // Nobody else's identity is needed to keep them, and what the model says stays.
    lab.expect(0, &["rekey", "--add", model, "-i", "id.txt", "-r", carol]);
    let (out, _) = lab.expect(0, &["inspect", "--json", model]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["comment"], noted[2]);
    let listed: Vec<&str> = (report["public_keys"].as_array().unwrap().iter())
        .map(|key| key.as_str().unwrap())
        .collect();
    assert_eq!(listed.len(), 3);
    for recipient in [&*lab.recipient, &*bob, carol] {
        assert!(listed.contains(&recipient), "{out}");
    }
    for identity in ["id.txt", "bob.txt", "carol.txt"] {
        lab.expect(0, &["-q", "verify", model, "-i", identity]);
    }

    // Other recipients are others: nothing is said of them but what is asked for.
    lab.expect(0, &["rekey", model, "-i", "id.txt", "-r", &bob]);
    let (out, _) = lab.expect(0, &["inspect", model]);
    assert!(!out.contains("comment") && !out.contains("age1"), "{out}");

    let secret = fs::read_to_string(lab.path("carol.txt")).unwrap();
    let secret = secret.lines().last().unwrap();
    let (_, err) = lab.expect(
        2,
        &[
            "rekey",
            model,
            "-i",
            "bob.txt",
            "-r",
            carol,
            "--comment",
            secret,
        ],
    );
    assert!(
        err.contains("the comment holds a secret key") && !err.contains(secret),
        "{err}"
    );
    fs::write(lab.path("secret.txt"), "correct horse\n").unwrap();
    let passphrase = [
        "rekey",
        model,
        "-i",
        "bob.txt",
        "--new-passphrase-file",
        "secret.txt",
    ];
    let (_, err) = lab.expect(2, &[&passphrase[..], &["--list-recipients"]].concat());
    assert!(err.contains("a passphrase stands alone"), "{err}");
}

#[test]
fn nobody_is_locked_out_by_mistake() {
    let lab = Lab::new();
    let model = lab.protected();
    fs::write(lab.path("nobody.txt"), "# all have left\n\n").unwrap();
    let before = contents(lab.dir.path());
    for command in ["rekey", "rotate"] {
        let args = [command, model, "-i", "id.txt"];
        let (_, err) = lab.expect(2, &args);
        assert!(err.contains("--recipient"), "{err}");
        let (_, err) = lab.expect(2, &[&args[..], &["-R", "nobody.txt"]].concat());
        assert!(err.contains("nobody.txt"), "{err}");
        let (_, err) = lab.expect(2, &[&args[..], &["-r", "age1nobody"]].concat());
        assert!(err.contains("age1nobody"), "{err}");
        let (_, err) = lab.expect(2, &[command, model, "-r", &lab.recipient]);
        assert!(err.contains("--identity"), "{err}");
    }
    assert!(contents(lab.dir.path()) == before);
}

#[test]
fn a_key_of_another_model_is_not_wrapped_anew() {
    let lab = Lab::new();
    let model = lab.protected();
    let protect = ["-q", "protect", "model.onnx", "-o", "other.onnx", "-r"];
    lab.expect(0, &[&protect[..], &[&lab.recipient]].concat());
    let key_of = |name: &str| {
        let bytes = fs::read(lab.path(name)).unwrap();
        let tail = onnxseal_onnx::tail::split(&bytes).unwrap().unwrap();
        let at = tail.entries.last().unwrap().field.start as usize;
        (bytes[..at].to_vec(), bytes[at..].to_vec())
    };
    let (head, key) = (key_of(model).0, key_of("other.onnx").1);
    fs::write(lab.path("swapped.onnx"), [&head[..], &key].concat()).unwrap();
    let before = contents(lab.dir.path());
    for command in ["rekey", "rotate"] {
        let args = [
            command,
            "swapped.onnx",
            "-i",
            "id.txt",
            "-r",
            &lab.recipient,
        ];
        let (_, err) = lab.expect(4, &args);
        assert!(err.contains("swapped.onnx"), "{err}");
        // A cut header.
        fs::write(
            lab.path("cut.onnx"),
            [&head[..], &key[..key.len() / 2]].concat(),
        )
        .unwrap();
        lab.expect(
            3,
            &[command, "cut.onnx", "-i", "id.txt", "-r", &lab.recipient],
        );
        fs::remove_file(lab.path("cut.onnx")).unwrap();
    }
    assert!(contents(lab.dir.path()) == before);
}

#[test]
fn rotate_changes_key_and_plan() {
    let lab = Lab::with_sample(&samples::external_data());
    let bob = bob(&lab);
    let args = ["rotate", "sealed/model.onnx", "-i", "id.txt", "-r", &bob];
    let (_, err) = lab.expect(2, &args);
    assert!(
        err.contains("external") && err.contains("--output"),
        "{err}"
    );
    let to = [
        "-o",
        "rotated/model.onnx",
        "--preset",
        "full",
        "--claim",
        "lot=7",
    ];
    let (out, _) = lab.expect(0, &[&args[..], &to].concat());
    assert!(
        out.contains("100.0 %") && out.contains("claim lot=7"),
        "{out}"
    );
    lab.expect(2, &[&args[..], &to].concat());
    let verify = ["verify", "rotated/model.onnx", "--preset", "full", "-i"];
    lab.expect(5, &[&verify[..], &["id.txt"]].concat());
    lab.expect(0, &[&verify[..], &["bob.txt"]].concat());
    let back = ["unprotect", "rotated/model.onnx", "-i", "bob.txt"];
    lab.expect(0, &[&back[..], &["-o", "back/model.onnx"]].concat());
    let bytes = |folder: &str| -> Vec<_> {
        let found = files(&lab.path(folder));
        found.iter().map(|path| fs::read(path).unwrap()).collect()
    };
    assert!(bytes("back") == bytes("plain"));
}

#[test]
fn who_asks_for_revoke_is_sent_to_rotate() {
    let lab = Lab::new();
    for args in [&["revoke", "model.onnx"][..], &["batch", "revoke"]] {
        let (_, err) = lab.expect(2, args);
        assert!(err.contains("tip: `onnxseal rotate`"), "{err}");
        assert!(!err.contains("rekey"), "{err}");
    }
    let (_, err) = lab.expect(2, &["rekez"]);
    assert!(err.contains("'rekey'"), "{err}");
}

#[test]
fn rotate_in_place_replaces_the_model_in_one_step() {
    let lab = Lab::with_models();
    let before = fs::read(lab.path("sealed/model.onnx")).unwrap();
    let args = ["-q", "rotate", "sealed/model.onnx", "-i", "id.txt", "-r"];
    lab.expect(0, &[&args[..], &[&lab.recipient]].concat());
    assert!(fs::read(lab.path("sealed/model.onnx")).unwrap() != before);
    assert_eq!(files(&lab.path("sealed")).len(), 1);
    let back = ["-q", "unprotect", "sealed/model.onnx", "-i", "id.txt"];
    lab.expect(0, &[&back[..], &["-o", "back.onnx"]].concat());
    let read = |name: &str| fs::read(lab.path(name)).unwrap();
    assert!(read("back.onnx") == read("plain/model.onnx"));
}

#[test]
fn a_publisher_signs_and_others_tell() {
    let lab = Lab::new();
    let (Some(key), Some(_)) = (ssh_key(&lab, "publisher"), ssh_key(&lab, "stranger")) else {
        return;
    };
    fs::write(lab.path("allowed"), format!("release@example.com {key}\n")).unwrap();
    let model = lab.protected();
    let verify = ["verify", model, "--allowed-signers", "allowed"];
    let (_, err) = lab.expect(4, &verify);
    assert!(err.contains("not signed"), "{err}");

    lab.expect(0, &["sign", model, "--key", "stranger"]);
    let (_, err) = lab.expect(4, &verify);
    assert!(err.contains("not allowed"), "{err}");
    let (_, err) = lab.expect(0, &["sign", model, "--key", "publisher"]);
    assert!(err.contains("SHA256:"), "{err}");
    let (out, _) = lab.expect(0, &verify);
    assert!(out.contains("signed by: release@example.com"), "{out}");
    // What was checked is what is said, of one model and of a list.
    let authentic = "every byte of every file is authentic";
    for (asked, said, listed) in [
        (
            &["--allowed-signers", "allowed"][..],
            "every byte of every file is as it was signed, except onnxseal.key.1\n",
            "every byte as signed by release@example.com, except onnxseal.key.1\n",
        ),
        (
            &["-i", "id.txt"],
            &format!("{authentic}, except onnxseal.sig\n"),
            "every byte authentic, except onnxseal.sig\n",
        ),
        (
            &["-i", "id.txt", "--allowed-signers", "allowed"],
            &format!("{authentic}\n"),
            "every byte as signed by release@example.com\n",
        ),
    ] {
        let (out, _) = lab.expect(0, &[&["verify", model], asked].concat());
        assert!(out.contains(said), "{out}");
        let (out, _) = lab.expect(
            0,
            &[&["verify", "--require-protected", model], asked].concat(),
        );
        assert!(out.contains(listed), "{out}");
    }
    let (out, _) = lab.expect(0, &["inspect", model]);
    assert!(out.contains("signature by ssh-ed25519"), "{out}");
    let (_, err) = lab.expect(4, &[&verify[..], &["--signer", "dev@example.com"]].concat());
    assert!(err.contains("signer"), "{err}");

    // It stays with rekey, and goes with rotate.
    let demand = ["-i", "id.txt", "--allowed-signers", "allowed"];
    let recipient = ["-r", &lab.recipient];
    lab.expect(0, &[&["rekey", model], &demand[..], &recipient].concat());
    lab.expect(
        0,
        &[&verify[..], &["--signer", "release@example.com"]].concat(),
    );
    let rotate = [&["-q", "rotate", model], &demand[..], &recipient].concat();
    let before = fs::read(lab.path(model)).unwrap();
    let (_, err) = lab.expect(2, &rotate);
    assert!(
        err.contains("is signed") && err.contains("--drop-signature"),
        "{err}"
    );
    let batch = ["-q", "batch", "rotate", model, "--out", "rotated"];
    let (_, err) = lab.expect(2, &[&batch[..], &demand, &recipient].concat());
    assert!(err.contains("is signed"), "{err}");
    assert!(!lab.path("rotated/sealed.onnx").exists());
    assert!(fs::read(lab.path(model)).unwrap() == before);
    lab.expect(
        0,
        &[&batch[..], &demand, &recipient, &["--drop-signature"]].concat(),
    );
    lab.expect(0, &[&rotate[..], &["--drop-signature"]].concat());
    for command in ["rekey", "rotate"] {
        lab.expect(4, &[&[command, model], &demand[..], &recipient].concat());
    }
    let unprotect = [&["unprotect", model, "-o", "x.onnx"], &demand[..]].concat();
    lab.expect(4, &unprotect);
    assert!(!lab.path("x.onnx").exists());

    // What an agent or a hardware token signs.
    let script = "$0 sign sealed.onnx --print-message >message
        ssh-keygen -q -Y sign -n onnxseal -f publisher message 2>/dev/null";
    assert!(lab.shell(script).status().unwrap().success());
    lab.expect(0, &["sign", model, "--signature", "message.sig"]);
    lab.expect(0, &unprotect);
    let args = ["-Y", "verify", "-n", "onnxseal", "-f", "allowed"];
    let mut check = Command::new("ssh-keygen");
    check
        .args(args)
        .args(["-I", "release@example.com", "-s", "message.sig"]);
    check.current_dir(lab.dir.path()).stdout(Stdio::null());
    let message = fs::File::open(lab.path("message")).unwrap();
    assert!(check.stdin(message).status().unwrap().success());

    lab.expect(
        0,
        &[
            "-q",
            "protect",
            "model.onnx",
            "-o",
            "new.onnx",
            "--sign-key",
            "publisher",
            "-r",
            &lab.recipient,
        ],
    );
    lab.expect(0, &["verify", "new.onnx", "--allowed-signers", "allowed"]);
    lab.expect(2, &["sign", "new.onnx", "--key", "publisher.pub"]);
    lab.expect(2, &["verify", "new.onnx", "--allowed-signers", "publisher"]);
    lab.expect(
        2,
        &["verify", "new.onnx", "--signer", "release@example.com"],
    );
}

#[test]
fn a_journal_that_was_cut_short_does_no_harm() {
    let lab = Lab::new();
    let model = lab.protected();
    let before = fs::read(lab.path(model)).unwrap();
    let journal = lab.path(".sealed.onnx.onnxseal-journal");
    let bob = bob(&lab);
    let two = ["-r", &bob, "-r", &lab.recipient];
    lab.expect(
        0,
        &[&["-q", "rekey", model, "-i", "id.txt"], &two[..]].concat(),
    );
    let after = fs::read(lab.path(model)).unwrap();
    assert!(!journal.exists() && after != before);

    // A journal of nothing is not taken for one.
    fs::write(&journal, "onnxseal journal 1\n").unwrap();
    lab.expect(0, &["-q", "rekey", model, "-i", "bob.txt", "-r", &bob]);
    assert!(!journal.exists());
    lab.expect(0, &["-q", "verify", model, "-i", "bob.txt"]);
}

#[test]
fn links_and_modes_stay() {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
        let lab = Lab::new();
        let model = lab.path(lab.protected());
        fs::set_permissions(&model, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("sealed.onnx", lab.path("link.onnx")).unwrap();
        fs::hard_link(&model, lab.path("hard.onnx")).unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let before = inode(&model);
        let args = ["link.onnx", "-i", "id.txt", "-r", &lab.recipient];
        lab.expect(0, &[&["-q", "rekey"], &args[..]].concat());
        assert_eq!(inode(&model), before, "written where it lies");
        lab.expect(0, &[&["-q", "rotate"], &args[..]].concat());
        assert_ne!(inode(&model), before, "replaced in one step");
        assert!(lab.path("link.onnx").is_symlink());
        assert_eq!(fs::metadata(&model).unwrap().mode() & 0o777, 0o640);
        // The other name keeps the older model, which still opens.
        for name in ["hard.onnx", "link.onnx"] {
            lab.expect(0, &["-q", "verify", name, "-i", "id.txt"]);
        }
        let output = lab.run(&["inspect", "hard.onnx", "--json"]);
        assert!(!stdout(&output).is_empty());
    }
}
