//! Key files as other programs write them, and names at the limits.

use std::fs;

use crate::lab::Lab;

/// Text as PowerShell's `>` writes it.
fn utf_16(text: &str) -> Vec<u8> {
    let units = text.replace('\n', "\r\n");
    let units = units.encode_utf16().flat_map(u16::to_le_bytes);
    [0xff, 0xfe].into_iter().chain(units).collect()
}

#[test]
fn key_files_may_be_utf_16_or_begin_with_a_mark() {
    let lab = Lab::new();
    let model = lab.model();
    let (identity, recipient) = (
        fs::read_to_string(lab.path("id.txt")).unwrap(),
        &lab.recipient,
    );
    let with_mark = |text: &str| ["\u{feff}", text].concat().into_bytes();
    for (i, write) in [utf_16, with_mark as fn(&str) -> Vec<u8>]
        .into_iter()
        .enumerate()
    {
        fs::write(lab.path("to.txt"), write(recipient)).unwrap();
        fs::write(lab.path("key.txt"), write(&identity)).unwrap();
        fs::write(lab.path("word.txt"), write("hunter2\n")).unwrap();
        let (sealed, locked) = (format!("{i}.onnx"), format!("{i}-word.onnx"));
        lab.expect(0, &["-q", "protect", model, "-o", &sealed, "-R", "to.txt"]);
        lab.expect(0, &["verify", &sealed, "-i", "key.txt"]);
        // Windows lacks this program.
        #[cfg(unix)]
        lab.expect(0, &["verify", &sealed, "--identity-command", "cat key.txt"]);
        let word = ["--passphrase-file", "word.txt"];
        lab.expect(
            0,
            &[&["-q", "protect", model, "-o", &locked][..], &word].concat(),
        );
        fs::write(lab.path("word.txt"), "hunter2\n").unwrap();
        lab.expect(0, &[&["verify", &locked][..], &word].concat());
    }
}

#[cfg(unix)]
#[test]
fn an_ssh_key_in_another_format_says_how_to_turn_it_into_one() {
    let lab = Lab::new();
    lab.protected();
    let Some(_) = crate::lab::ssh_key(&lab, "key") else {
        return;
    };
    let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
    fs::write(lab.path("key"), key).unwrap();
    let (_, err) = lab.expect(2, &["verify", "sealed.onnx", "-i", "key"]);
    assert!(
        err.contains("PKCS#8") && err.contains("`ssh-keygen -p -f FILE`"),
        "{err}"
    );
}

// Wine gives no full path of so long a name.
#[cfg(unix)]
#[test]
fn a_model_with_a_long_name_gets_other_recipients_too() {
    let lab = Lab::new();
    lab.protected();
    let name = format!("{}.onnx", "n".repeat(250));
    fs::rename(lab.path("sealed.onnx"), lab.path(&name)).unwrap();
    lab.expect(
        0,
        &["-q", "rekey", &name, "-i", "id.txt", "-r", &lab.recipient],
    );
    lab.expect(0, &["verify", &name, "-i", "id.txt"]);
    assert_eq!(fs::read_dir(lab.dir.path()).unwrap().count(), 3);
}
