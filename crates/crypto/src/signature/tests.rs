#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use ssh_key::private::{KeypairData, PrivateKey};
use tempfile::TempDir;

use super::*;
use crate::error::NotAllowed;
use crate::tests::vectors::{list, load};
use crate::wrap::Passphrase;

/// 2026-06-15 12:00:00 UTC.
const NOW: u64 = 1_781_524_800;
const NOW_WRITTEN: &str = "20260615120000Z";
/// Ciphers that may encrypt private keys: the default, and others.
const CIPHERS: [&str; 4] = [
    "aes256-ctr",
    "aes256-cbc",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
];
const SIGNER: &str = "alice@example.com";
const MESSAGE: &[u8] = b"onnxseal/v1/signature\nof a test\n";

fn no_passphrase() -> Result<Passphrase, Error> {
    panic!("nobody should be asked for a passphrase");
}

fn key(text: &str) -> SigningKey {
    SigningKey::read(text.as_bytes(), "key", no_passphrase).unwrap()
}

fn allowed(text: &str) -> AllowedSigners {
    AllowedSigners::read(text.as_bytes(), "allowed").unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// The cases of the vectors with keys of types that are accepted, each with a file that allows its
/// key and no other.
fn cases() -> Vec<(Value, AllowedSigners)> {
    let vectors = load("sshsig.json");
    assert_eq!(text(&vectors["message"]).as_bytes(), MESSAGE);
    let with_allowed = |case: &Value| {
        let allowed = allowed(&format!("{SIGNER} {}\n", text(&case["public"])));
        (case.clone(), allowed)
    };
    let is_accepted = |case: &&Value| !is_refused(case);
    let accepted = list(&vectors["cases"]).iter().filter(is_accepted);
    accepted.map(with_allowed).collect()
}

/// Whether the key is on a curve that is not accepted.
fn is_refused(case: &Value) -> bool {
    ["ecdsa-sha2-nistp384 ", "ecdsa-sha2-nistp521 "]
        .into_iter()
        .any(|prefix| text(&case["public"]).starts_with(prefix))
}

fn case(name: &str) -> (Value, AllowedSigners) {
    let is_wanted = |(case, _): &(Value, _)| text(&case["name"]) == name;
    cases().into_iter().find(is_wanted).unwrap()
}

/// The stock `ssh-keygen` in a folder of its own.
struct Keygen(TempDir);

impl Keygen {
    /// `None`, with a message, where there is no `ssh-keygen`.
    fn new() -> Option<Keygen> {
        match Command::new("ssh-keygen").arg("-?").output() {
            Ok(_) => Some(Keygen(tempfile::tempdir().unwrap())),
            Err(_) => {
                eprintln!("skipped: there is no ssh-keygen");
                None
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs it there with arguments separated by blanks; `''` is an empty one.
    fn run(&self, arguments: &str, stdin: &[u8]) -> Output {
        let arguments = arguments.split(' ').map(|argument| match argument {
            "''" => "",
            other => other,
        });
        let mut child = Command::new("ssh-keygen")
            .args(arguments)
            .current_dir(self.0.path())
            .env("TZ", "UTC")
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end before it has read all.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait_with_output().unwrap()
    }

    fn must(&self, arguments: &str, stdin: &[u8]) -> String {
        let output = self.run(arguments, stdin);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ssh-keygen {arguments}: {err}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes a key without passphrase; gives private and public key.
    fn generate(&self, name: &str, options: &str) -> (String, String) {
        self.must(&format!("-q -N '' -C {name} -f {name} {options}"), b"");
        let public = self.read(&format!("{name}.pub")).trim_end().to_owned();
        (self.read(name), public)
    }

    fn sign(&self, name: &str, namespace: &str) -> String {
        self.must(&format!("-q -Y sign -n {namespace} -f {name}"), MESSAGE)
    }

    /// Whether it accepts the signature of [`MESSAGE`].
    fn accepts(&self, allowed: &str, armored: &str) -> bool {
        self.write("allowed", allowed);
        self.write("sig", armored);
        let rest = format!("-f allowed -I {SIGNER} -n {NAMESPACE} -s sig");
        let arguments = format!("-Y verify -Overify-time={NOW_WRITTEN} {rest}");
        self.run(&arguments, MESSAGE).status.success()
    }
}

// --- vectors ---

#[test]
fn signatures_of_the_vectors_are_verified() {
    for (case, allowed) in cases() {
        let armored = text(&case["armored"]);
        let signer = allowed.verify(Some(SIGNER), MESSAGE, armored).unwrap();
        let key_type = text(&case["public"]).split(' ').next().unwrap();
        let fingerprint = text(&case["fingerprint"]);
        assert_eq!(signer.principals, [SIGNER]);
        assert_eq!(signer.fingerprint, fingerprint);
        assert_eq!(signer.key_type, key_type);
        let claimed = fingerprint_of(armored).unwrap();
        assert_eq!(claimed.fingerprint, fingerprint);
        assert_eq!(claimed.key_type, key_type);

        let other = allowed.verify(Some(SIGNER), b"other", armored);
        assert!(matches!(other, Err(Error::BadSignature)), "{other:?}");
    }
}

#[test]
fn signatures_on_larger_curves_are_refused_by_name() {
    let vectors = load("sshsig.json");
    let refused = list(&vectors["cases"])
        .iter()
        .filter(|case| is_refused(case));
    let mut n = 0;
    for case in refused {
        let allowed = allowed(&format!("{SIGNER} {}\n", text(&case["public"])));
        match allowed.verify(Some(SIGNER), MESSAGE, text(&case["armored"])) {
            Err(Error::MalformedSignature(reason)) => {
                assert!(reason.contains("\"ecdsa-sha2-nistp"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        n += 1;
    }
    assert_eq!(n, 3);
}

#[test]
fn ed25519_keys_of_the_vectors_sign_and_others_say_who_does() {
    let mut n_signed = 0;
    for case in list(&load("sshsig.json")["cases"]) {
        let Some(private) = case["private"].as_str() else {
            continue;
        };
        let is_ed25519 = text(&case["public"]).starts_with("ssh-ed25519 ");
        let key = SigningKey::read(private.as_bytes(), "key", || {
            assert!(is_ed25519, "only a usable key asks for its passphrase");
            Passphrase::new(text(&case["passphrase"]), "test")
        });
        match key {
            Ok(key) => {
                assert_eq!(key.fingerprint(), text(&case["fingerprint"]));
                assert_eq!(key.sign(MESSAGE).unwrap(), text(&case["armored"]));
                assert_eq!(format!("{key:?}"), "SigningKey(..)");
                n_signed += 1;
            }
            Err(Error::Unusable(reason)) if !is_ed25519 => {
                assert!(reason.contains("ssh-keygen -Y sign") || reason.contains("malformed"));
            }
            Err(fault) => panic!("{}: {fault:?}", case["name"]),
        }
    }
    assert!(n_signed > 1);
}

#[test]
fn a_passphrase_is_asked_for_once_and_must_be_right() {
    let (case, _) = case("ed25519, encrypted");
    let read = |passphrase: &dyn Fn() -> Result<Passphrase, Error>| {
        SigningKey::read(text(&case["private"]).as_bytes(), "key", passphrase).unwrap_err()
    };
    for wrong in ["correct hors", "correct horse "] {
        let fault = read(&|| Passphrase::new(wrong, "test"));
        assert!(
            matches!(&fault, Error::WrongPassphrase(name) if name == "key"),
            "{fault:?}"
        );
    }
    let fault = read(&|| Err(Error::Misuse("none")));
    assert!(matches!(fault, Error::Misuse { .. }));
}

// --- one encoding ---

#[test]
fn no_changed_bit_is_accepted() {
    for (case, allowed) in cases() {
        let armored = text(&case["armored"]);
        let blob = dearmor(armored).unwrap();
        for bit in 0..8 * armored.len() {
            let mut changed = armored.as_bytes().to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            let Ok(changed) = String::from_utf8(changed) else {
                continue;
            };
            let other = dearmor(&changed).is_ok_and(|other| other != blob);
            assert!(
                other || parse(&changed).is_err(),
                "{}: bit {bit}",
                case["name"]
            );
        }
        for bit in 0..8 * blob.len() {
            let mut changed = blob.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let fault = allowed.verify(None, MESSAGE, &armor(&changed));
            assert!(fault.is_err(), "{}: bit {bit} of the blob", case["name"]);
        }
        for len in 0..blob.len() {
            let fault = parse(&armor(&blob[..len]));
            assert!(matches!(fault, Err(Error::MalformedSignature { .. })));
        }
        let fault = parse(&armor(&[&blob[..], &[0]].concat()));
        assert!(matches!(fault, Err(Error::MalformedSignature { .. })));
    }
}

#[test]
fn armor_has_one_spelling() {
    let (case, _) = case("ed25519");
    let armored = text(&case["armored"]);
    let body = armored.replace('\n', "");
    for other in [
        armored.replace('\n', "\r\n"),
        armored.trim_end().to_owned(),
        format!("{armored}\n"),
        format!(" {armored}"),
        armored.replacen("SIGNATURE-----\n", "SIGNATURE-----\n\n", 1),
        armored.replacen("\n-----END", "=\n-----END", 1),
        armored.replace("SSH SIGNATURE", "SSH SIGNATURES"),
        body.replace("SIGNATURE-----U", "SIGNATURE-----\nU")
            .replace("-----END", "\n-----END")
            + "\n",
        format!("{BEGIN}{END}"),
        BEGIN.to_owned(),
        END.to_owned(),
        String::new(),
    ] {
        let fault = fingerprint_of(&other);
        assert!(
            matches!(fault, Err(Error::MalformedSignature { .. })),
            "{other:?}: {fault:?}"
        );
    }
    let long = "A".repeat(MAX_SIGNATURE_BYTES + 1);
    let fault = fingerprint_of(&long);
    assert!(matches!(fault, Err(Error::LimitExceeded { .. })));
}

#[test]
fn lines_of_armor_are_full_but_for_the_last() {
    for len in 0..300 {
        let armored = armor(&vec![7; len]);
        let lines: Vec<&str> = armored.lines().collect();
        let (last, full) = lines[1..lines.len() - 1]
            .split_last()
            .unwrap_or((&"A", &[]));
        assert!(full.iter().all(|line| line.len() == ARMOR_COLUMNS));
        assert!((1..=ARMOR_COLUMNS).contains(&last.len()));
        assert_eq!(dearmor(&armored).unwrap(), vec![7; len]);
    }
}

/// An SSHSIG of the parts given, otherwise as OpenSSH writes it.
fn blob(version: u32, key: &[u8], namespace: &str, reserved: &[u8], hash: &str) -> Vec<u8> {
    let mut blob = MAGIC.to_vec();
    version.encode(&mut blob).unwrap();
    key.encode(&mut blob).unwrap();
    namespace.encode(&mut blob).unwrap();
    reserved.encode(&mut blob).unwrap();
    hash.encode(&mut blob).unwrap();
    let mut signature = Vec::new();
    "ssh-ed25519".encode(&mut signature).unwrap();
    [7; 64].as_slice().encode(&mut signature).unwrap();
    signature.encode(&mut blob).unwrap();
    blob
}

#[test]
fn every_field_is_as_it_must_be() {
    let (case, _) = case("ed25519");
    let public = PublicKey::from_openssh(text(&case["public"])).unwrap();
    let key = public.to_bytes().unwrap();
    let parse = |blob: Vec<u8>| super::parse(&armor(&blob));
    parse(blob(1, &key, NAMESPACE, b"", "sha512")).unwrap();
    parse(blob(1, &key, NAMESPACE, b"", "sha256")).unwrap();

    let named = |name: &str| {
        let mut key = Vec::new();
        name.encode(&mut key).unwrap();
        [5; 32].as_slice().encode(&mut key).unwrap();
        key
    };
    let padded = [&key[..], &[0]].concat();
    for (wrong, reason) in [
        (blob(0, &key, NAMESPACE, b"", "sha512"), "version"),
        (blob(2, &key, NAMESPACE, b"", "sha512"), "no SSH signature"),
        (blob(1, &key, "file", b"", "sha512"), "\"file\""),
        (blob(1, &key, "", b"", "sha512"), "no SSH signature"),
        (blob(1, &key, "onnxseal\0", b"", "sha512"), "\\0"),
        (blob(1, &key, NAMESPACE, b"x", "sha512"), "version"),
        (blob(1, &key, NAMESPACE, b"", "sha1"), "no SSH signature"),
        (blob(1, &key, NAMESPACE, b"", "SHA512"), "no SSH signature"),
        (
            blob(1, &padded, NAMESPACE, b"", "sha512"),
            "no SSH signature",
        ),
        (blob(1, b"", NAMESPACE, b"", "sha512"), "not supported"),
        (
            blob(1, &named("ssh-dss"), NAMESPACE, b"", "sha512"),
            "ssh-dss",
        ),
        (
            blob(
                1,
                &named("ssh-ed25519-cert-v01@openssh.com"),
                NAMESPACE,
                b"",
                "sha512",
            ),
            "cert-v01",
        ),
        (
            blob(
                1,
                &named("sk-ssh-ed25519@openssh.com"),
                NAMESPACE,
                b"",
                "sha512",
            ),
            "no SSH signature",
        ),
    ] {
        match parse(wrong) {
            Err(Error::MalformedSignature(got)) => {
                assert!(got.contains(reason), "expected {reason}: {got}");
            }
            other => panic!("expected {reason}: {other:?}"),
        }
    }
    // The key's length may not lie beyond the key either.
    let mut longer = blob(1, &key, NAMESPACE, b"", "sha512");
    longer[MAGIC.len() + 7] += 1;
    assert!(parse(longer).is_err());
}

#[test]
fn garbage_is_refused() {
    // A linear congruential generator: the same garbage every time.
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let (case, allowed) = case("ed25519, encrypted");
    let private = text(&case["private"]).as_bytes();
    let blob = dearmor(text(&case["armored"])).unwrap();
    let passphrase = || Passphrase::new("no", "test");
    for _ in 0..3000 {
        let mut bytes = blob.clone();
        for _ in 0..1 + random(8) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        bytes.truncate(random(bytes.len() + 1));
        bytes.resize(bytes.len() + random(40), random(256) as u8);
        assert!(allowed.verify(None, MESSAGE, &armor(&bytes)).is_err());

        let len = random(200);
        let noise: Vec<u8> = (0..len).map(|_| random(256) as u8).collect();
        assert!(fingerprint_of(&armor(&noise)).is_err());
        assert!(fingerprint_of(&String::from_utf8_lossy(&noise)).is_err());
        assert!(SigningKey::read(noise.as_slice(), "key", no_passphrase).is_err());
        let _ = AllowedSigners::read(noise.as_slice(), "allowed");
        let tokens = [
            "*",
            "!",
            ",",
            " ",
            "\"",
            "=",
            "\\\"",
            "\n",
            "namespaces=",
            "valid-after=",
            "20260101",
            "Z",
            "cert-authority",
            text(&case["public"]),
            "é",
            "\r",
            "#",
            "\t",
        ];
        let line: String = (0..random(12))
            .map(|_| tokens[random(tokens.len())])
            .collect();
        let _ = AllowedSigners::read(line.as_bytes(), "allowed");
    }
    for at in (0..private.len()).step_by(3) {
        assert!(SigningKey::read(&private[..at], "key", passphrase).is_err());
    }
}

// --- private keys ---

#[test]
fn what_cannot_sign_says_why() {
    let reason = |text: &str| match SigningKey::read(text.as_bytes(), "id", no_passphrase) {
        Err(Error::Unusable(reason)) => {
            assert!(reason.starts_with("id: cannot sign with it: "), "{reason}");
            reason
        }
        other => panic!("{text:?}: {other:?}"),
    };
    let (case, _) = case("ed25519");
    for (text, expected) in [
        (text(&case["public"]), "it is a public key"),
        ("sk-ssh-ed25519@openssh.com AAAA", "it is a public key"),
        ("ecdsa-sha2-nistp256 AAAA", "it is a public key"),
        ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n", "older PEM"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n",
            "is malformed",
        ),
        ("AGE-SECRET-KEY-1...", "no OpenSSH private key"),
        ("", "no OpenSSH private key"),
    ] {
        assert!(reason(text).contains(expected), "{text}: {}", reason(text));
    }

    let long = vec![b' '; MAX_SIGNING_KEY_BYTES + 1];
    let fault = SigningKey::read(long.as_slice(), "id", no_passphrase);
    assert!(matches!(fault, Err(Error::LimitExceeded { .. })));

    // What ssh-keygen writes for a key in hardware: no secret, but a handle.
    let public = ssh_key::public::Ed25519PublicKey([9; 32]).into();
    let security_key = ssh_key::private::SkEd25519::new(public, 1, vec![1, 2, 3]);
    let security_key = security_key.map(|key| PrivateKey::new(KeypairData::SkEd25519(key), ""));
    let security_key = security_key.unwrap().unwrap();
    let written = security_key.to_openssh(ssh_key::LineEnding::LF).unwrap();
    assert!(reason(&written).contains("ssh-keygen -Y sign"));
}

#[test]
fn a_private_key_that_is_not_the_public_one_signs_nothing() {
    let (case, _) = case("ed25519");
    let private = PrivateKey::from_openssh(text(&case["private"])).unwrap();
    let KeypairData::Ed25519(pair) = private.key_data() else {
        panic!("not ed25519");
    };
    let mut forged = pair.clone();
    forged.public.0[0] ^= 1;
    let forged = PrivateKey::new(KeypairData::Ed25519(forged), "").unwrap();
    let forged = forged.to_openssh(ssh_key::LineEnding::LF).unwrap();
    let signed =
        SigningKey::read(forged.as_bytes(), "key", no_passphrase).and_then(|key| key.sign(MESSAGE));
    assert!(signed.is_err(), "{signed:?}");
}

// --- with ssh-keygen ---

#[test]
fn ssh_keygen_and_we_accept_each_others_signatures() {
    let Some(keygen) = Keygen::new() else { return };
    for (name, options) in [
        ("ed25519", "-t ed25519"),
        ("ecdsa256", "-t ecdsa -b 256"),
        ("rsa2048", "-t rsa -b 2048"),
        ("rsa3072", "-t rsa -b 3072"),
    ] {
        let (private, public) = keygen.generate(name, options);
        let line = format!("{SIGNER} {public}\n");
        let theirs = keygen.sign(name, NAMESPACE);
        allowed(&line)
            .verify(Some(SIGNER), MESSAGE, &theirs)
            .unwrap();
        if name != "ed25519" {
            continue;
        }
        let ours = key(&private).sign(MESSAGE).unwrap();
        assert!(keygen.accepts(&line, &ours), "{name}");
        assert_eq!(ours, theirs, "{name}");

        for cipher in CIPHERS {
            keygen.write(name, &private);
            keygen.must(
                &format!("-q -p -a 2 -Z {cipher} -P '' -N pass -f {name}"),
                b"",
            );
            let read = SigningKey::read(keygen.read(name).as_bytes(), name, || {
                Passphrase::new("pass", "test")
            });
            assert_eq!(read.unwrap().sign(MESSAGE).unwrap(), ours);
        }
    }
}

#[test]
fn other_signatures_of_ssh_keygen_are_refused() {
    let Some(keygen) = Keygen::new() else { return };
    let (_, public) = keygen.generate("key", "-t ed25519");
    let allowed = allowed(&format!("{SIGNER} {public}\n"));
    let reason = |armored: &str| match allowed.verify(None, MESSAGE, armored) {
        Err(Error::MalformedSignature(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason(&keygen.sign("key", "file")).contains("namespace is \"file\""));

    keygen.must(&format!("-q -s key -I test -n {SIGNER} key.pub"), b"");
    let by_certificate = keygen.sign("key-cert.pub", NAMESPACE);
    assert!(reason(&by_certificate).contains("ssh-ed25519-cert-v01@openssh.com"));
    assert!(
        matches!(
            SigningKey::read(keygen.read("key-cert.pub").as_bytes(), "key", no_passphrase),
            Err(Error::Unusable(_))
        ),
        "a certificate is no private key"
    );

    let sha256 = keygen.must("-q -Y sign -O hashalg=sha256 -n onnxseal -f key", MESSAGE);
    allowed.verify(Some(SIGNER), MESSAGE, &sha256).unwrap();

    let (small, _) = keygen.generate("small", "-t rsa -b 1024");
    let fault = SigningKey::read(small.as_bytes(), "small", no_passphrase);
    assert!(matches!(fault, Err(Error::Unusable(_))));
    let fault = parse(&keygen.sign("small", NAMESPACE));
    assert!(
        matches!(fault, Err(Error::MalformedSignature { .. })),
        "{fault:?}"
    );
}

/// The verdicts of `ssh-keygen` and this crate on an allowed signers file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// Both accept.
    Yes,
    /// Both refuse, as we give the reason.
    No(NotAllowed),
    /// Both refuse; we name the malformed line.
    Malformed,
    /// `ssh-keygen` accepts. We refuse the file, and name the line.
    Stricter,
}

#[test]
fn allowed_signers_are_read_as_ssh_keygen_reads_them() {
    use NotAllowed::{Expired, Namespace, NotYetValid, Principal, UnknownKey};
    use Verdict::{Malformed, No, Stricter, Yes};

    let Some(keygen) = Keygen::new() else { return };
    let (private, public) = keygen.generate("key", "-t ed25519");
    let (_, other) = keygen.generate("other", "-t ecdsa");
    let armored = key(&private).sign(MESSAGE).unwrap();
    let bare = public.rsplit_once(' ').unwrap().0;
    let data = bare.split_once(' ').unwrap().1;

    // KEY is the key that signed, with a comment; BARE without; DATA its base64; OTHER another key.
    let rows = [
        ("alice@example.com KEY", Yes),
        ("alice@example.com BARE", Yes),
        ("", No(UnknownKey)),
        ("# alice@example.com KEY", No(UnknownKey)),
        ("alice@example.com OTHER", No(UnknownKey)),
        ("\n# comment\n\n  \t\nalice@example.com KEY", Yes),
        ("alice@example.com KEY\r", Yes),
        ("alice@example.com BARE\r", Yes),
        ("\r\nalice@example.com BARE\r\n\r", Yes),
        ("  alice@example.com KEY", Yes),
        ("\talice@example.com\tKEY", Yes),
        ("alice@example.com   KEY   ", Yes),
        ("alice@example.com ssh-ed25519  \t DATA", Yes),
        (
            "alice@example.com ssh-ed25519 DATA   a  longer comment # more",
            Yes,
        ),
        // Principals.
        ("bob@example.com KEY", No(Principal)),
        ("Alice@example.com KEY", No(Principal)),
        ("bob@example.com,alice@example.com KEY", Yes),
        ("bob@example.com, alice@example.com KEY", Malformed),
        ("* KEY", Yes),
        ("*@example.com KEY", Yes),
        ("*@example.org KEY", No(Principal)),
        ("al?ce@example.com KEY", Yes),
        ("alice?@example.com KEY", No(Principal)),
        ("a*e@*.c?m KEY", Yes),
        ("**alice** KEY", Yes),
        ("*alice KEY", No(Principal)),
        ("[a]lice@example.com KEY", No(Principal)),
        ("*,!alice@example.com KEY", No(Principal)),
        ("!alice@example.com,* KEY", No(Principal)),
        ("!bob@*,*@example.com KEY", Yes),
        ("!bob@* KEY", No(Principal)),
        ("alice@example.com,!*@example.com KEY", No(Principal)),
        (",alice@example.com, KEY", Yes),
        ("! KEY", No(Principal)),
        ("\"alice@example.com\" KEY", Yes),
        ("\"bob smith,alice@example.com\" KEY", Yes),
        ("\"alice@example.com\"KEY", Yes),
        ("alice\"@example.com\" KEY", Yes),
        ("\"alice@example.com KEY", Malformed),
        ("bob@example.com KEY\nalice@example.com KEY", Yes),
        ("alice@example.com OTHER\nalice@example.com KEY", Yes),
        // Namespaces.
        ("alice@example.com namespaces=\"onnxseal\" KEY", Yes),
        ("alice@example.com namespaces=\"file\" KEY", No(Namespace)),
        ("alice@example.com namespaces=\"file,onnxseal\" KEY", Yes),
        ("alice@example.com namespaces=\"onnx*\" KEY", Yes),
        (
            "alice@example.com namespaces=\"*,!onnxseal\" KEY",
            No(Namespace),
        ),
        ("alice@example.com namespaces=\"!file,*\" KEY", Yes),
        (
            "alice@example.com namespaces=\"Onnxseal\" KEY",
            No(Namespace),
        ),
        ("alice@example.com namespaces=\"\" KEY", No(Namespace)),
        (
            "alice@example.com namespaces=\"file, onnxseal\" KEY",
            No(Namespace),
        ),
        ("alice@example.com namespaces=\"\\\"x,onnxseal\" KEY", Yes),
        ("alice@example.com namespaces=\"a\\b,onnxseal\" KEY", Yes),
        ("alice@example.com NameSpaces=\"onnxseal\" KEY", Yes),
        ("alice@example.com namespaces=onnxseal KEY", Malformed),
        ("alice@example.com namespaces=\"onnxseal KEY", Malformed),
        ("alice@example.com namespaces KEY", Malformed),
        ("alice@example.com namespaces= KEY", Malformed),
        (
            "alice@example.com namespaces=\"onnxseal\",namespaces=\"file\" KEY",
            Malformed,
        ),
        ("alice@example.com namespaces=\"onnxseal\"x KEY", Malformed),
        ("alice@example.com namespaces=\"onnxseal\", KEY", Malformed),
        ("alice@example.com ,namespaces=\"onnxseal\" KEY", Yes),
        (
            "alice@example.com namespaces=\"onnxseal\",,valid-after=\"20200101Z\" KEY",
            Yes,
        ),
        // It is 2026-06-15 12:00:00 UTC.
        ("alice@example.com valid-after=\"20260614Z\" KEY", Yes),
        ("alice@example.com valid-after=\"20260615Z\" KEY", Yes),
        (
            "alice@example.com valid-after=\"20260616Z\" KEY",
            No(NotYetValid),
        ),
        ("alice@example.com valid-after=\"202606151200Z\" KEY", Yes),
        (
            "alice@example.com valid-after=\"202606151201Z\" KEY",
            No(NotYetValid),
        ),
        ("alice@example.com valid-after=\"20260615120000Z\" KEY", Yes),
        (
            "alice@example.com valid-after=\"20260615120001Z\" KEY",
            No(NotYetValid),
        ),
        (
            "alice@example.com valid-before=\"20260615120000Z\" KEY",
            Yes,
        ),
        (
            "alice@example.com valid-before=\"20260615115959Z\" KEY",
            No(Expired),
        ),
        (
            "alice@example.com valid-before=\"20260615Z\" KEY",
            No(Expired),
        ),
        ("alice@example.com valid-before=\"20260616z\" KEY", Yes),
        ("alice@example.com valid-before=\"20260616UTC\" KEY", Yes),
        ("alice@example.com valid-before=\"20260616\" KEY", Stricter),
        (
            "alice@example.com valid-after=\"20260101Z\",valid-before=\"20270101Z\" KEY",
            Yes,
        ),
        (
            "alice@example.com valid-before=\"20270101Z\",valid-after=\"20260101Z\" KEY",
            Yes,
        ),
        (
            "alice@example.com valid-after=\"20270101Z\",valid-before=\"20260101Z\" KEY",
            Malformed,
        ),
        (
            "alice@example.com valid-after=\"20260101Z\",valid-before=\"20260101Z\" KEY",
            Malformed,
        ),
        (
            "alice@example.com valid-after=\"20260101Z\",valid-after=\"20260101Z\" KEY",
            Malformed,
        ),
        (
            "alice@example.com valid-before=\"20270101Z\",valid-before=\"2028\" KEY",
            Malformed,
        ),
        ("alice@example.com valid-before=20270101Z KEY", Malformed),
        ("alice@example.com valid-before=\"2027\" KEY", Malformed),
        (
            "alice@example.com valid-before=\"202701010\" KEY",
            Malformed,
        ),
        (
            "alice@example.com valid-before=\"20271301Z\" KEY",
            Malformed,
        ),
        (
            "alice@example.com valid-before=\"20270100Z\" KEY",
            Malformed,
        ),
        (
            "alice@example.com valid-before=\"202701012460Z\" KEY",
            Malformed,
        ),
        (
            "alice@example.com valid-before=\"2027-01-01\" KEY",
            Malformed,
        ),
        ("alice@example.com valid-before=\"tomorrow\" KEY", Malformed),
        ("alice@example.com valid-before=\"\" KEY", Malformed),
        ("alice@example.com valid-before=\"Z\" KEY", Malformed),
        ("alice@example.com valid-after=\"19700101Z\" KEY", Malformed),
        ("alice@example.com valid-after=\"19600101Z\" KEY", Malformed),
        ("alice@example.com valid-after=\"19700102Z\" KEY", Yes),
        // The C library takes it for the next day, or skips a blank.
        ("alice@example.com valid-before=\"20270230Z\" KEY", Stricter),
        (
            "alice@example.com valid-before=\"20270101000060Z\" KEY",
            Stricter,
        ),
        ("alice@example.com valid-before=\"2027 101Z\" KEY", Stricter),
        // Other options.
        ("alice@example.com cert-authority KEY", No(UnknownKey)),
        (
            "alice@example.com cert-authority,namespaces=\"onnxseal\" KEY",
            No(UnknownKey),
        ),
        (
            "alice@example.com cert-authority KEY\nalice@example.com KEY",
            Yes,
        ),
        ("alice@example.com no-cert-authority KEY", Malformed),
        ("alice@example.com cert-authorityx KEY", Malformed),
        ("alice@example.com no-touch-required KEY", Malformed),
        ("alice@example.com verify-required KEY", Malformed),
        (
            "alice@example.com namespaces=\"onnxseal\",unknown KEY",
            Malformed,
        ),
        ("alice@example.com unknown=\"x\" KEY", Malformed),
        // Keys.
        ("alice@example.com", Malformed),
        ("alice@example.com ssh-ed25519", Malformed),
        ("KEY", Malformed),
        ("alice@example.com ssh-ed25519 AAAA", Malformed),
        ("alice@example.com ecdsa-sha2-nistp256 DATA", Malformed),
        ("alice@example.com SSH-ED25519 DATA", Malformed),
        ("alice@example.com ssh-unknown DATA", Malformed),
        (
            "alice@example.com namespaces=\"onnxseal\" ssh-ed25519 AAAA",
            Malformed,
        ),
        ("alice@example.com namespaces=\"onnxseal\"", Malformed),
        // A malformed line beside one that allows.
        ("alice@example.com KEY\nalice@example.com", Stricter),
        ("alice@example.com\nalice@example.com KEY", Stricter),
        (
            "bob@example.com unknown KEY\nalice@example.com KEY",
            Stricter,
        ),
        (
            "alice@example.com KEY\nbob@example.com unknown KEY",
            Stricter,
        ),
    ];
    for (row, expected) in rows {
        let text = row
            .replace("KEY", &public)
            .replace("BARE", bare)
            .replace("DATA", data)
            .replace("OTHER", &other);
        for text in [text.clone(), text + "\n"] {
            let theirs = keygen.accepts(&text, &armored);
            let file = AllowedSigners::read(text.as_bytes(), "allowed");
            let ours = match file {
                Err(Error::Unusable(_)) if theirs => Stricter,
                Err(Error::Unusable(_)) => Malformed,
                Err(fault) => panic!("{row}: {fault}"),
                Ok(file) => match file.verify_at(Some(SIGNER), MESSAGE, &armored, NOW) {
                    Ok(_) => Yes,
                    Err(Error::SignerNotAllowed(_, reason)) => No(reason),
                    Err(fault) => panic!("{row}: {fault}"),
                },
            };
            assert_eq!(ours, expected, "{row}");
            assert_eq!(
                theirs,
                matches!(expected, Yes | Stricter),
                "ssh-keygen: {row}"
            );
        }
    }
}

#[test]
fn principals_are_found_as_ssh_keygen_finds_them() {
    let Some(keygen) = Keygen::new() else { return };
    let (private, public) = keygen.generate("key", "-t ed25519");
    let (_, other) = keygen.generate("other", "-t ed25519");
    let armored = key(&private).sign(MESSAGE).unwrap();
    let text = format!(
        "bob@example.com {other}\n*@example.com,!bob@* {public}\ncarol,dave {public}\n\
         carol valid-before=\"20200101Z\" {public}\ncarol,eve {public}\n"
    );
    let signer = allowed(&text).verify(None, MESSAGE, &armored).unwrap();
    let expected = ["*@example.com", "!bob@*", "carol", "dave", "eve"];
    assert_eq!(signer.principals, expected);
    keygen.write("allowed", &text);
    keygen.write("sig", &armored);
    let found = keygen.must("-Y find-principals -f allowed -s sig", b"");
    assert!(found.lines().all(|line| {
        line.split(',')
            .all(|principal| expected.contains(&principal))
    }));
}

#[test]
fn a_line_that_names_nobody_allows_nobody() {
    let Some(keygen) = Keygen::new() else { return };
    let (private, public) = keygen.generate("key", "-t ed25519");
    let armored = key(&private).sign(MESSAGE).unwrap();
    for (line, is_allowed) in [
        ("!bob@*", false),
        ("!bob@*,!eve", false),
        ("!bob@*,al*", true),
    ] {
        let file = allowed(&format!("{line} {public}\n"));
        assert_eq!(file.verify(None, MESSAGE, &armored).is_ok(), is_allowed);
    }
}

// --- files ---

#[test]
fn files_have_a_limit_and_faults_name_the_line() {
    let long = vec![b'\n'; MAX_ALLOWED_SIGNERS_BYTES + 1];
    let fault = AllowedSigners::read(long.as_slice(), "allowed");
    assert!(matches!(fault, Err(Error::LimitExceeded { .. })));
    AllowedSigners::read(&long[1..], "allowed").unwrap();

    let (case, _) = case("ed25519");
    let line = format!("{SIGNER} {}\n", text(&case["public"]));
    for wrong in ["alice", "\u{e9}", "a\0b"] {
        let file = format!("# comment\n{line}\n{wrong}\n{line}");
        match AllowedSigners::read(file.as_bytes(), "allowed") {
            Err(fault @ Error::Unusable(_)) => {
                assert!(
                    fault.to_string().starts_with("allowed, line 4: "),
                    "{fault}"
                );
            }
            other => panic!("{wrong:?}: {other:?}"),
        }
    }
    let latin = [line.as_bytes(), b"caf\xe9 ssh-ed25519 AAAA\n"].concat();
    let fault = AllowedSigners::read(latin.as_slice(), "allowed");
    let fault = fault.unwrap_err();
    assert!(
        matches!(&fault, Error::Unusable(text) if text.starts_with("allowed, line 2: ")),
        "{fault}"
    );

    let missing = fs::File::open(std::env::temp_dir());
    if let Ok(folder) = missing {
        let fault = AllowedSigners::read(folder, "folder");
        assert!(matches!(fault, Err(Error::Io(name, _)) if name == "folder"));
    }
    assert_eq!(format!("{:?}", allowed(&line)), "AllowedSigners(1)");
}

#[test]
fn local_times_are_refused() {
    let (case, _) = case("ed25519");
    let line = |time: &str| format!("{SIGNER} valid-after=\"{time}\" {}", text(&case["public"]));
    AllowedSigners::read(line("20260101Z").as_bytes(), "allowed").unwrap();
    let fault = AllowedSigners::read(line("20260101").as_bytes(), "allowed");
    assert!(fault.unwrap_err().to_string().ends_with("with a Z"));
}
