#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use super::armor::armor;
use super::*;
use crate::keys::DataKey;
use crate::tests::vectors::{hex, list, load};

mod keys;
mod plugins;
mod pq;
mod ssh;

fn identities(text: &str) -> Identities {
    Identities::read(text.as_bytes(), "keys.txt").unwrap()
}

fn wrapped_to(identity: &Identity) -> (DataKey, String) {
    let key = DataKey::generate().unwrap();
    let armored = Recipients::parse(&[identity.recipient()])
        .unwrap()
        .wrap(&key)
        .unwrap();
    (key, armored)
}

fn x25519_of(identity: &Identity) -> age::x25519::Recipient {
    identity.recipient().parse().unwrap()
}

/// Wraps any payload, as a foreign writer could.
fn wrap_raw(identity: &Identity, payload: &[u8]) -> Vec<u8> {
    age::encrypt(&x25519_of(identity), payload).unwrap()
}

#[test]
fn age_files_of_another_implementation() {
    let vectors = load("age.json");
    let identities = identities(vectors["identity"].as_str().unwrap());
    for case in list(&vectors["cases"]) {
        let name = &case["name"];
        let unwrapped = identities.unwrap(case["armored"].as_str().unwrap());
        match (case["expected"].as_str().unwrap(), unwrapped) {
            ("ok", Ok(key)) => assert_eq!(key.expose()[..], hex(&vectors["dek"]), "{name}"),
            ("no matching key", Err(Error::NoMatchingKey { recipients })) => {
                let expected: Vec<_> = list(&case["recipients"])
                    .iter()
                    .map(|kind| kind.as_str().unwrap())
                    .collect();
                assert_eq!(recipients, expected, "{name}");
            }
            ("malformed", Err(Error::MalformedKey { .. })) => {}
            (expected, got) => panic!("{name}: expected {expected}, got {got:?}"),
        }
    }
}

#[test]
fn wrapped_keys_return_to_every_recipient() {
    let owners = [
        generate_identity(),
        generate_identity(),
        generate_identity(),
    ];
    let recipients: Vec<String> = owners.iter().map(Identity::recipient).collect();
    let key = DataKey::generate().unwrap();
    let armored = Recipients::parse(&recipients).unwrap().wrap(&key).unwrap();
    for owner in &owners {
        let opened = identities(&owner.to_file_text()).unwrap(&armored).unwrap();
        assert_eq!(opened.expose(), key.expose());
    }

    let stranger = Identities::from(generate_identity());
    let Err(Error::NoMatchingKey { recipients }) = stranger.unwrap(&armored) else {
        panic!("a stranger's key must not match");
    };
    assert_eq!(recipients, ["X25519"; 3]);
    let none = Identities::default().unwrap(&armored);
    assert!(matches!(none, Err(Error::NoMatchingKey { .. })));

    let mut merged = stranger;
    merged.merge(identities(&owners[1].to_file_text()));
    assert_eq!(merged.unwrap(&armored).unwrap().expose(), key.expose());
}

#[test]
fn no_changed_byte_is_accepted() {
    let owner = generate_identity();
    let (_, armored) = wrapped_to(&owner);
    let identities = Identities::from(owner);
    identities.unwrap(&armored).unwrap();
    for at in 0..armored.len() {
        let mut changed = armored.clone().into_bytes();
        let original = changed[at];
        for other in [
            original ^ 1,
            original ^ 2,
            original ^ 0x20,
            b'\n',
            b' ',
            b'=',
            b'A',
            b'/',
        ] {
            changed[at] = other;
            let changed = str::from_utf8(&changed).unwrap();
            let accepted = identities.unwrap(changed).is_ok();
            assert!(
                !accepted || other == original,
                "byte {at} as {other:#x} is accepted"
            );
        }
    }
}

#[test]
fn no_changed_byte_under_the_armor_is_accepted() {
    let owner = generate_identity();
    let file = wrap_raw(&owner, &[7; 32]);
    let identities = Identities::from(owner);
    identities.unwrap(&armor(&file).unwrap()).unwrap();
    for bit in 0..8 * file.len() {
        let mut changed = file.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let fault = identities.unwrap(&armor(&changed).unwrap()).err();
        assert!(fault.is_some(), "bit {bit} may be flipped");
    }
    for len in 0..file.len() {
        assert!(
            identities.unwrap(&armor(&file[..len]).unwrap()).is_err(),
            "cut at {len}"
        );
    }
    // The payload of 16 + 32 + 16 bytes lies at the end; header and identity are then right.
    let mut changed = file.clone();
    changed[file.len() - 40] ^= 1;
    let fault = identities.unwrap(&armor(&changed).unwrap());
    assert!(matches!(fault, Err(Error::Unauthentic)));
    // So does the header's MAC, before it.
    let mut changed = file.clone();
    changed[file.len() - 80] = if file[file.len() - 80] == b'A' {
        b'B'
    } else {
        b'A'
    };
    let fault = identities.unwrap(&armor(&changed).unwrap());
    assert!(matches!(fault, Err(Error::Unauthentic)), "{fault:?}");
}

#[test]
fn only_one_armor_is_accepted() {
    let owner = generate_identity();
    let (_, armored) = wrapped_to(&owner);
    let identities = Identities::from(owner);
    let bare: String = armored
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    for other in [
        String::new(),
        armored.trim_end().to_owned(),
        format!("{armored}\n"),
        format!("{armored} "),
        format!("\n{armored}"),
        format!("{armored}{armored}"),
        armored.replace('\n', "\r\n"),
        armored.replacen('\n', " \n", 1),
        armored.to_lowercase(),
        bare,
    ] {
        let fault = identities.unwrap(&other);
        assert!(
            matches!(fault, Err(Error::MalformedKey { .. })),
            "{other:?} gives {fault:?}"
        );
    }
}

#[test]
fn a_binary_age_file_is_malformed() {
    let owner = generate_identity();
    let text = "age-encryption.org/v1\n-> X25519 a\n\n--- a\n";
    let fault = Identities::from(owner).unwrap(text);
    assert!(matches!(fault, Err(Error::MalformedKey { .. })));
}

#[test]
fn payloads_of_another_length_are_malformed() {
    let owner = generate_identity();
    let files = [0, 1, 31, 33, 64, 65536].map(|len| (len, wrap_raw(&owner, &vec![1; len])));
    let identities = Identities::from(owner);
    for (len, file) in files {
        let fault = identities.unwrap(&armor(&file).unwrap());
        assert!(
            matches!(fault, Err(Error::MalformedKey { .. })),
            "{len} bytes: {fault:?}"
        );
    }
}

#[test]
fn headers_are_limited() {
    let identities = Identities::from(generate_identity());
    let stanzas = |n| format!("age-encryption.org/v1\n{}--- \n", "-> a\n\n".repeat(n)).into_bytes();
    let fault = identities.unwrap(&armor(&stanzas(2048)).unwrap());
    assert!(
        matches!(fault, Err(Error::LimitExceeded { .. })),
        "{fault:?}"
    );
    let fault = identities.unwrap(&armor(&stanzas(2047)).unwrap());
    assert!(
        matches!(fault, Err(Error::MalformedKey { .. })),
        "{fault:?}"
    );
    let fault = identities.unwrap(&armor(&vec![b'a'; MAX_WRAPPED_BYTES]).unwrap());
    assert!(
        matches!(fault, Err(Error::LimitExceeded { .. })),
        "{fault:?}"
    );
}

#[test]
fn many_recipients_are_written_only_if_they_can_be_read() {
    let owner = generate_identity();
    let key = DataKey::generate().unwrap();
    let others: Vec<_> = (0..999).map(|_| generate_identity().recipient()).collect();
    let to = |n: usize| {
        let mut recipients = Recipients::parse(&[owner.recipient()]).unwrap();
        let others = Recipients::parse(&others[..n - 1]).unwrap();
        recipients.merge(others).unwrap();
        recipients.wrap(&key)
    };
    let many = to(900).unwrap();
    assert!(matches!(to(1000), Err(Error::LimitExceeded { .. })));
    assert_eq!(
        Identities::from(owner).unwrap(&many).unwrap().expose(),
        key.expose()
    );
}

#[test]
fn strings_that_are_no_recipients() {
    let fault = Recipients::parse(&[] as &[&str]);
    assert!(matches!(fault, Err(Error::Misuse { .. })));
    let secret = generate_identity()
        .to_file_text()
        .lines()
        .last()
        .unwrap()
        .to_owned();
    let own = generate_identity().recipient();
    for (text, kind) in [
        ("", "no recipient"),
        ("bob\u{1b}[2J", "no recipient"),
        (&secret, "an identity, which is secret"),
        (
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
            "an incomplete or damaged ssh public key",
        ),
        (
            "age1yubikey1q2w3e4r5t6y7u8i9",
            "an age recipient with a typing error",
        ),
        (
            "age1tag1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqs9dxcmj",
            "an age recipient with a typing error",
        ),
        (
            &own[..own.len() - 1],
            "an age recipient with a typing error",
        ),
        (&format!("{own} "), "an age recipient with a typing error"),
    ] {
        let fault = Recipients::parse(&[&own, text]).unwrap_err();
        let message = fault.to_string();
        assert!(
            matches!(fault, Error::InvalidRecipient(_, k) if k == kind),
            "{message}"
        );
        assert!(
            !message.contains('\u{1b}') && message.len() < 110,
            "{message}"
        );
        assert!(!message.contains("SECRET-KEY"), "{message}");
    }
}

#[test]
fn recipients_of_low_order_are_refused() {
    let vectors = load("age.json");
    for recipient in list(&vectors["low_order_recipients"]) {
        let recipient = recipient.as_str().unwrap();
        let fault = Recipients::parse(&[recipient]);
        let kind = "a public key of low order";
        assert!(matches!(fault, Err(Error::InvalidRecipient(_, k)) if k == kind));
    }
    Recipients::parse(&[vectors["recipient"].as_str().unwrap()]).unwrap();
}

#[test]
fn identity_files() {
    let vectors = load("age.json");
    let secret = vectors["identity"].as_str().unwrap();
    for text in [
        format!("# created: 2024-01-01T00:00:00Z\n# public key: age1\n{secret}\n"),
        format!("\r\n{secret}\r\n\r\n"),
        format!("{secret}\n{secret}"),
    ] {
        identities(&text);
    }

    let long = "#\n".repeat(MAX_KEY_FILE_BYTES / 2) + "#";
    let fault = Identities::read(long.as_bytes(), "keys.txt");
    assert!(matches!(fault, Err(Error::LimitExceeded { .. })));
    for bad in [
        "".to_owned(),
        "# nothing\n".to_owned(),
        format!("{secret}\n{secret}x\n"),
    ] {
        let fault = Identities::read(bad.as_bytes(), "keys.txt").unwrap_err();
        assert!(matches!(fault, Error::Unusable(_)));
        let message = fault.to_string();
        assert!(
            message.starts_with("keys.txt: ") && !message.contains("1GQ9778"),
            "{message}"
        );
    }
    let fault = Identities::read(&b"\xff\n"[..], "keys.txt");
    assert!(matches!(fault, Err(Error::Unusable(_))));

    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("broken"))
        }
    }
    assert!(matches!(
        Identities::read(Broken, "keys.txt"),
        Err(Error::Io { .. })
    ));
}

#[test]
fn nothing_secret_is_printed() {
    let identity = generate_identity();
    let text = identity.to_file_text();
    assert!(text.starts_with("# public key: age1") && text.contains("\nAGE-SECRET-KEY-1"));
    assert_eq!(format!("{identity:?}"), "Identity(..)");
    assert_eq!(format!("{:?}", Identities::from(identity)), "Identities(1)");
}

#[test]
fn recipients_are_told_as_far_as_identities_tell_them() {
    let (alice, bob) = (generate_identity(), generate_identity());
    let recipients = Recipients::parse(&[alice.recipient(), bob.recipient()]).unwrap();
    let mut expected = [alice.recipient(), bob.recipient()];
    expected.sort_unstable();
    let armored = recipients.wrap(&DataKey::generate().unwrap()).unwrap();
    let unknown = |identities: &Identities| match identities.recipients_of(&armored) {
        Err(Error::UnknownRecipients { present, unknown }) => (present, unknown),
        other => panic!("{other:?}"),
    };
    let mut all = Identities::from(generate_identity());
    assert_eq!(unknown(&all), (2, 2));
    all.merge(alice.into());
    assert_eq!(unknown(&all), (2, 1));
    all.merge(bob.into());
    let known = all.recipients_of(&armored).unwrap();
    assert!(known.names().eq(expected.iter().map(String::as_str)));
    assert!(all.recipients_of("no key").is_err());
}

#[test]
fn listed_recipients_need_no_identities() {
    let (alice, bob, carol) = (
        generate_identity(),
        generate_identity(),
        generate_identity(),
    );
    let recipients = Recipients::parse(&[alice.recipient(), bob.recipient()]).unwrap();
    let noted = recipients.with_comment("theirs").unwrap().listed().unwrap();
    let key = DataKey::generate().unwrap();
    let armored = noted.wrap(&key).unwrap();
    let present = Identities::default().recipients_of(&armored).unwrap();
    assert!(present.names().eq(noted.names().collect::<BTreeSet<_>>()));

    // Added recipients are listed too, and the comment stays unless a new one replaces it.
    let more = Recipients::parse(&[carol.recipient()]).unwrap();
    let all = more.and(present).unwrap().wrap(&key).unwrap();
    let notes = Header::read(&all).unwrap();
    assert_eq!(
        (notes.comment.as_deref(), notes.recipients.len()),
        (Some("theirs"), 3)
    );
    let more = more.with_comment("ours").unwrap();
    let present = Identities::default().recipients_of(&armored).unwrap();
    let all = more.and(present).unwrap().wrap(&key).unwrap();
    assert_eq!(Header::read(&all).unwrap().comment.as_deref(), Some("ours"));
    for identity in [alice, bob, carol] {
        assert!(Identities::from(identity).unwrap(&all).is_ok());
    }
}

#[test]
fn a_comment_stands_in_the_identity_file() {
    let identity = generate_identity()
        .with_comment("Alice's laptop, ü")
        .unwrap();
    let text = identity.to_file_text();
    assert!(text.starts_with("# comment: Alice's laptop, ü\n# public key: age1"));
    assert_eq!(format!("{:?}", identities(&text)), "Identities(1)");
    for bad in ["two\nlines", "\u{1b}[2J", &"x".repeat(1025)] {
        assert!(generate_identity().with_comment(bad).is_err());
    }
}
