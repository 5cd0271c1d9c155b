//! Every kind of key except ssh keys and plugins: files of stock age open, and our own come back.

use std::collections::HashSet;
use std::sync::Mutex;

use age_core::format::{FileKey, Stanza};

use super::super::recipients::encrypt;
use super::*;

/// Answers every question with one passphrase, and records the questions.
pub(super) struct Typed {
    passphrase: Option<&'static str>,
    pub(super) asked: Mutex<Vec<String>>,
}

impl Typed {
    pub(super) fn new(passphrase: Option<&'static str>) -> Arc<Typed> {
        let asked = Mutex::default();
        Arc::new(Typed { passphrase, asked })
    }

    fn note(&self, asked: &str) {
        self.asked.lock().unwrap().push(asked.to_owned());
    }
}

impl Prompt for Typed {
    fn passphrase(&self, description: &str) -> Option<Passphrase> {
        self.note(description);
        let text = self.passphrase?;
        Some(Passphrase::new(text, "typed").unwrap())
    }

    fn text(&self, description: &str) -> Option<String> {
        self.note(description);
        Some("text".to_owned())
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        self.note(&format!("{message} {yes} {no:?}"));
        Some(true)
    }

    fn show(&self, message: &str) {
        self.note(message);
    }
}

pub(super) fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap()
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text, "test").unwrap()
}

pub(super) fn read(file: &str, prompt: Arc<Typed>) -> Result<Identities, Error> {
    Identities::read_with(file.as_bytes(), "key", prompt)
}

pub(super) const RIGHT: Option<&str> = Some("correct horse");
pub(super) const WRONG: Option<&str> = Some("wrong horse");

#[test]
fn keys_that_cannot_be_used_say_why() {
    let vectors = load("keys.json");
    let unusable = &vectors["unusable"];
    for (public, reason) in [
        (
            text(&unusable["rsa_small"]["public"]),
            "less than 2048 bits",
        ),
        (
            text(&unusable["ecdsa"]["public"]),
            "use ssh-ed25519 or ssh-rsa",
        ),
        (
            "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHAAAABHNzaDo=",
            "sign but not decrypt",
        ),
        // Numbers of a zero byte, at which age panics.
        ("ssh-rsa AAAAB3NzaC1yc2EAAAABAAAAAAEA", "damaged"),
        ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQA=", "damaged"),
    ] {
        let fault = Recipients::parse(&[public]).unwrap_err().to_string();
        assert!(fault.contains(reason), "{fault}");
    }
    // Text after a key is a comment only after a space.
    let key = text(&vectors["ssh"]["ed25519"]["public"]);
    let bare = key.strip_suffix(" test").unwrap();
    for (text, good) in [
        (key.to_owned(), true),
        (bare.to_owned(), true),
        (format!("{bare}AAAA"), false),
        (format!("{bare}=="), false),
        (bare[..bare.len() - 1].to_owned(), false),
    ] {
        assert_eq!(Recipients::parse(&[&text]).is_ok(), good, "{text}");
    }

    for (private, reason) in [
        (text(&unusable["ecdsa"]["private"]), "use ssh-ed25519"),
        (
            text(&unusable["rsa_pem_encrypted"]["private"]),
            "ssh-keygen -p",
        ),
        (
            "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
            "another kind",
        ),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "another kind"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "no intact",
        ),
    ] {
        let fault = read(private, Typed::new(None)).unwrap_err();
        assert!(matches!(fault, Error::Unusable(_)));
        assert!(fault.to_string().contains(reason), "{fault}");
    }
    for (line, reason) in [
        (bare, "line 2 is a recipient"),
        ("AGE-SECRET-KEY-PQ-1QQQQ", "typing error"),
        ("AGE-SECRET-KEY-1QQQQ", "typing error"),
        ("something", "no identity"),
    ] {
        let fault = read(&format!("#\n{line}\n"), Typed::new(None)).unwrap_err();
        assert!(fault.to_string().contains(reason), "{fault}");
    }
}

#[test]
fn passphrases_open_what_they_wrapped() {
    let vectors = load("keys.json");
    let right = || Identities::passphrase(&passphrase("correct horse"));
    let stock = text(&vectors["scrypt"]);
    let opened = right().unwrap(stock).unwrap();
    assert_eq!(opened.expose()[..], hex(&vectors["dek"]));

    let wrong = Identities::passphrase(&passphrase("wrong horse"));
    let fault = wrong.unwrap(stock);
    assert!(
        matches!(fault, Err(Error::WrongPassphrase { .. })),
        "{fault:?}"
    );
    // A wrong passphrase does not hide other identities, and the right one is found.
    let mut both = wrong;
    both.merge(right());
    assert!(both.unwrap(stock).is_ok());
    // Without a passphrase, the message says that one is needed.
    let fault = Identities::from(generate_identity()).unwrap(stock);
    assert!(
        matches!(&fault, Err(Error::NoMatchingKey { recipients }) if recipients == &["scrypt"])
    );

    let key = DataKey::generate().unwrap();
    let armored = Recipients::passphrase(&passphrase("correct horse"))
        .wrap(&key)
        .unwrap();
    assert_eq!(right().unwrap(&armored).unwrap().expose(), key.expose());
}

#[test]
fn the_work_for_a_passphrase_is_limited() {
    let vectors = load("keys.json");
    let file = armor::dearmor(text(&vectors["scrypt"])).unwrap();
    let with_factor = |factor: &str| {
        let at = file.windows(4).position(|w| w == b" 18\n").unwrap();
        let mut file = file.clone();
        file.splice(at + 1..at + 3, factor.bytes());
        armor::armor(&file).unwrap()
    };
    let identities = Identities::passphrase(&passphrase("correct horse"));
    for factor in ["21", "63", "64", "255"] {
        let fault = identities.unwrap(&with_factor(factor));
        assert!(
            matches!(fault, Err(Error::LimitExceeded { .. })),
            "{fault:?}"
        );
    }
    for factor in ["256", "018", "-1", "x"] {
        let fault = identities.unwrap(&with_factor(factor));
        assert!(
            matches!(fault, Err(Error::MalformedKey { .. })),
            "{fault:?}"
        );
    }
    // Another factor, another key: the header's MAC is never reached.
    let fault = identities.unwrap(&with_factor("1"));
    assert!(matches!(fault, Err(Error::WrongPassphrase { .. })));
    // The limit applies to an encrypted identity file too.
    let fault = read(&with_factor("21"), Typed::new(RIGHT));
    assert!(
        matches!(fault, Err(Error::LimitExceeded { .. })),
        "{fault:?}"
    );
}

#[test]
fn identity_files_may_be_encrypted() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let vectors = load("keys.json");
    let stock = &vectors["identity_file"];
    let wrapped = text(&stock["wrapped"]);
    let binary = STANDARD.decode(text(&stock["binary"])).unwrap();
    let armored = text(&stock["armored"]);
    for file in [armored.as_bytes(), &binary] {
        let typed = Typed::new(RIGHT);
        let identities = Identities::read_with(file, "id.age", Arc::clone(&typed) as _).unwrap();
        assert!(identities.unwrap(wrapped).is_ok());
        let asked = typed.asked.lock().unwrap();
        assert_eq!(*asked, ["passphrase for the identity file id.age"]);
    }
    let fault = read(armored, Typed::new(WRONG));
    assert!(matches!(fault, Err(Error::WrongPassphrase(name)) if name == "key"));
    let fault = Identities::read(armored.as_bytes(), "key");
    assert!(matches!(fault, Err(Error::PassphraseNeeded { .. })));
    let mut changed = binary.clone();
    *changed.last_mut().unwrap() ^= 1;
    for file in [&changed[..], &binary[..binary.len() - 1], &binary[..100]] {
        let fault = Identities::read_with(file, "key", Typed::new(RIGHT));
        assert!(matches!(fault, Err(Error::Unusable(_))), "{fault:?}");
    }
    let fault = read(
        text(&vectors["identity_file_to_recipient"]),
        Typed::new(RIGHT),
    );
    assert!(matches!(fault, Err(Error::Unusable(_))));

    let identity = generate_identity();
    let file = identity
        .to_encrypted_file_text(&passphrase("correct horse"))
        .unwrap();
    assert!(!file.contains("AGE-SECRET") && !file.contains("age1"));
    let (key, armored) = wrapped_to(&identity);
    let opened = read(&file, Typed::new(RIGHT))
        .unwrap()
        .unwrap(&armored)
        .unwrap();
    assert_eq!(opened.expose(), key.expose());
}

#[test]
fn passphrases_are_lines() {
    let read = |bytes: &[u8]| Passphrase::read(bytes, "file");
    for bytes in [
        &b"secret"[..],
        b"secret\n",
        b"secret\r\n",
        b"secret\nmore\n",
    ] {
        assert_eq!(read(bytes).unwrap().expose(), b"secret");
    }
    assert_eq!(read(b" a b \n").unwrap().expose(), b" a b ");
    assert_eq!(read(&[b'x'; 1024]).unwrap().expose().len(), 1024);
    for bytes in [
        &b""[..],
        b"\n",
        b"\r\n",
        b"\nsecret\n",
        b"\xff\n",
        &[b'x'; 1025],
        &[b'x'; 4096],
    ] {
        let fault = read(bytes).unwrap_err();
        assert!(matches!(fault, Error::Unusable(_)), "{fault}");
    }
    assert!(passphrase("a").is_same(&passphrase("a")));
    assert!(!passphrase("a").is_same(&passphrase("b")));
    assert_eq!(format!("{:?}", passphrase("a")), "Passphrase(..)");
}

const TAGGED: &str = "age1tag1qt8lw0ual6avlwmwatk888yqnmdamm7xfd0wak53ut6elz5c4swx2yqdj4e";

/// A post-quantum recipient: ML-KEM-768 takes any 1152 bytes of small enough coefficients, zeros
/// among them, and the P-256 point is that of [`TAGGED`]'s generator.
fn post_quantum() -> String {
    let mut bytes = vec![0; 1184];
    bytes.extend(hex(&serde_json::json!(concat!(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    ))));
    enum Long {}
    impl bech32::Checksum for Long {
        type MidstateRepr = u32;
        const CODE_LENGTH: usize = usize::MAX;
        const CHECKSUM_LENGTH: usize = bech32::Bech32::CHECKSUM_LENGTH;
        const GENERATOR_SH: [u32; 5] = bech32::Bech32::GENERATOR_SH;
        const TARGET_RESIDUE: u32 = bech32::Bech32::TARGET_RESIDUE;
    }
    let hrp = bech32::Hrp::parse("age1tagpq").unwrap();
    bech32::encode_lower::<Long>(hrp, &bytes).unwrap()
}

#[test]
fn tagged_recipients_need_no_plugin_to_wrap() {
    let key = DataKey::generate().unwrap();
    let stranger = Identities::from(generate_identity());
    let own = generate_identity();
    for (recipients, kinds) in [
        (vec![TAGGED.to_owned()], vec!["p256tag"]),
        (
            vec![TAGGED.to_owned(), own.recipient()],
            vec!["p256tag", "X25519"],
        ),
        (vec![post_quantum()], vec!["mlkem768p256tag"]),
    ] {
        let armored = Recipients::parse(&recipients).unwrap().wrap(&key).unwrap();
        let fault = stranger.unwrap(&armored);
        assert!(
            matches!(&fault, Err(Error::NoMatchingKey { recipients }) if *recipients == kinds),
            "{fault:?}"
        );
    }
}

#[test]
fn recipients_that_age_does_not_combine_are_refused() {
    let own = generate_identity().recipient();
    let fault = Recipients::parse(&[post_quantum(), own.clone()]);
    assert!(matches!(fault, Err(Error::IncompatibleRecipients { .. })));
    let with_passphrase = || Recipients::passphrase(&passphrase("correct horse"));
    let mut recipients = with_passphrase();
    for other in [Recipients::parse(&[&own]).unwrap(), with_passphrase()] {
        let fault = recipients.merge(other).unwrap_err();
        assert!(
            fault.to_string().contains("a passphrase stands alone"),
            "{fault}"
        );
    }
    let mut recipients = Recipients::parse(&[&own]).unwrap();
    assert!(recipients.merge(with_passphrase()).is_err());
}

#[test]
fn recipients_are_kept_once() {
    let vectors = load("keys.json");
    let ssh = text(&vectors["ssh"]["ed25519"]["public"]);
    let bare = ssh.strip_suffix(" test").unwrap();
    let own = generate_identity().recipient();
    let upper = own.to_uppercase();
    let mut recipients = Recipients::parse(&[&own, ssh, &upper, bare, &own]).unwrap();
    assert_eq!(format!("{recipients:?}"), "Recipients(2)");
    recipients
        .merge(Recipients::parse(&[&own, TAGGED]).unwrap())
        .unwrap();
    assert_eq!(format!("{recipients:?}"), "Recipients(3)");
    let armored = recipients.wrap(&DataKey::generate().unwrap()).unwrap();
    let fault = Identities::default().unwrap(&armored);
    assert!(matches!(fault, Err(Error::NoMatchingKey { recipients }) if recipients.len() == 3));
}

#[test]
fn recipients_files() {
    let vectors = load("keys.json");
    let ssh = text(&vectors["ssh"]["rsa"]["public"]);
    let own = generate_identity().recipient();
    let read = |text: &str| Recipients::read(text.as_bytes(), "team.txt");
    for (file, n) in [
        (own.clone(), 1),
        (format!("# us\n{own}\n\n{ssh}\r\n  # them\n"), 2),
        (format!("{own} \n{TAGGED}\n{own}\n"), 2),
    ] {
        let recipients = read(&file).unwrap();
        assert_eq!(format!("{recipients:?}"), format!("Recipients({n})"));
    }
    for file in ["", "\n", "# nobody\n#\n"] {
        let fault = read(file).unwrap_err();
        assert_eq!(fault.to_string(), "team.txt holds no recipient");
    }
    let ecdsa = text(&vectors["unusable"]["ecdsa"]["public"]);
    for bad in ["x", ecdsa, "AGE-SECRET-KEY-1QQQQ", "age1", &post_quantum()] {
        let fault = read(&format!("# us\n{own}\n{bad}\n")).unwrap_err();
        assert_eq!(fault.to_string(), "team.txt, line 3: unusable recipient");
        let source = std::error::Error::source(&fault).unwrap().to_string();
        assert!(!source.contains("KEY-1"), "{source}");
    }
    let fault = Recipients::read(&b"\xff\n"[..], "team.txt");
    assert!(matches!(fault, Err(Error::RecipientsFile(line, _)) if line.ends_with(", line 1")));
    let long = "#\n".repeat(MAX_KEY_FILE_BYTES / 2) + "#";
    assert!(matches!(read(&long), Err(Error::LimitExceeded { .. })));
}

#[test]
fn a_header_of_another_file_is_refused() {
    let owner = generate_identity();
    let (first, second) = (wrapped_to(&owner).1, wrapped_to(&owner).1);
    let parts = |armored: &str| {
        let file = armor::dearmor(armored).unwrap();
        let mac = file.windows(4).position(|w| w == b"--- ").unwrap();
        let payload = mac + 4 + 43 + 1;
        (
            file[..mac].to_vec(),
            file[mac..payload].to_vec(),
            file[payload..].to_vec(),
        )
    };
    let (one, two) = (parts(&first), parts(&second));
    let identities = Identities::from(owner);
    let whole = [&one.0[..], &one.1, &one.2].concat();
    identities.unwrap(&armor(&whole).unwrap()).unwrap();
    for mixed in [
        [&two.0[..], &one.1, &one.2].concat(),
        [&one.0[..], &two.1, &one.2].concat(),
        [&two.0[..], &two.1, &one.2].concat(),
    ] {
        let fault = identities.unwrap(&armor(&mixed).unwrap());
        assert!(matches!(fault, Err(Error::Unauthentic)), "{fault:?}");
    }
}

#[test]
fn notes_wrap_nothing() {
    let key = DataKey::generate().unwrap();
    let (own, stranger) = (generate_identity(), generate_identity());
    let text = "for \u{fc}ber-customers: who has it? ask key-team@example.com".repeat(3);
    for others in [
        vec![own.recipient()],
        vec![own.recipient(), TAGGED.to_owned()],
    ] {
        let recipients = Recipients::parse(&others).unwrap();
        let noted = recipients.with_comment(&text).unwrap().listed().unwrap();
        let armored = noted.wrap(&key).unwrap();
        let unwrapped = identities(&own.to_file_text()).unwrap(&armored);
        assert_eq!(unwrapped.unwrap().expose(), key.expose());
        assert_eq!(Header::read(&armored).unwrap().kinds.len(), others.len());
        let found = Header::read(&armored).unwrap();
        assert_eq!(
            (found.comment.as_deref(), found.recipients),
            (Some(&*text), others)
        );
        let fault = identities(&stranger.to_file_text()).unwrap(&armored);
        assert!(
            matches!(fault, Err(Error::NoMatchingKey { .. })),
            "{fault:?}"
        );
    }
    // With the labels of the recipients beside them.
    let hybrid = Recipients::parse(&[post_quantum()])
        .unwrap()
        .listed()
        .unwrap();
    let armored = hybrid.wrap(&key).unwrap();
    assert_eq!(Header::read(&armored).unwrap().kinds, ["mlkem768p256tag"]);
    assert_eq!(Header::read(&armored).unwrap().recipients, [post_quantum()]);

    let plain = Recipients::parse(&[own.recipient()])
        .unwrap()
        .wrap(&key)
        .unwrap();
    let found = Header::read(&plain).unwrap();
    assert_eq!((found.comment, found.recipients), (None, Vec::new()));
    let alone = || Recipients::passphrase(&passphrase("correct horse"));
    assert!(alone().listed().is_err() && alone().with_comment("mine").is_err());
    for bad in ["two\nlines", "\u{1b}[2J", &"x".repeat(1025)] {
        let recipients = Recipients::parse(&[own.recipient()]).unwrap();
        assert!(recipients.with_comment(bad).is_err());
    }
}

#[test]
fn what_is_no_note_of_ours_is_left_out() {
    let (key, own) = (DataKey::generate().unwrap(), generate_identity());
    let forged = |stanzas: &[(&str, &[u8])]| {
        let stanzas = stanzas.iter().map(|(tag, body)| Stanza {
            tag: (*tag).to_owned(),
            args: Vec::new(),
            body: body.to_vec(),
        });
        let forger = Forger {
            own: x25519_of(&own),
            stanzas: stanzas.collect(),
        };
        let file = encrypt(
            std::iter::once(&forger as &dyn age::Recipient),
            key.expose(),
        )
        .unwrap();
        let header = Header::read(&armor(&file).unwrap()).unwrap();
        (header.comment, header.recipients)
    };
    let (comment, recipient) = ("onnxseal-comment", "onnxseal-recipient");
    for (tag, body) in [
        (comment, b"\x1b[2Jgone".as_slice()),
        (comment, b"two\nlines"),
        (comment, b"\xff"),
        (comment, &[b'x'; 1025]),
        (recipient, b""),
        (recipient, b"age1\n"),
        (recipient, &[b'x'; 4097]),
        ("onnxseal-else", b"text"),
    ] {
        assert_eq!(forged(&[(tag, body)]), (None, Vec::new()), "{tag} {body:?}");
    }
    let good = forged(&[(comment, b"\xff"), (comment, b"good"), (recipient, b"one")]);
    assert_eq!(good, (Some("good".to_owned()), vec!["one".to_owned()]));
}

/// A recipient beside whose stanza others stand.
struct Forger {
    own: age::x25519::Recipient,
    stanzas: Vec<Stanza>,
}

impl age::Recipient for Forger {
    fn wrap_file_key(
        &self,
        file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        let (mut all, labels) = self.own.wrap_file_key(file_key)?;
        all.extend(self.stanzas.iter().map(|stanza| Stanza {
            tag: stanza.tag.clone(),
            args: Vec::new(),
            body: stanza.body.clone(),
        }));
        Ok((all, labels))
    }
}
