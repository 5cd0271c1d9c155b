//! ssh keys: files that stock age wrapped to them open, and hostile keys and stanzas do no harm.

use super::keys::{RIGHT, Typed, WRONG, read, text};
use super::*;

#[test]
fn ssh_keys_open_what_stock_age_wrapped_to_them() {
    let vectors = load("keys.json");
    let dek = hex(&vectors["dek"]);
    for (name, key) in vectors["ssh"].as_object().unwrap() {
        let typed = Typed::new(RIGHT);
        let identities = read(text(&key["private"]), Arc::clone(&typed)).unwrap();
        let asked = typed.asked.lock().unwrap();
        let encrypted = !matches!(name.as_str(), "ed25519" | "rsa" | "rsa_pem");
        assert_eq!(
            *asked,
            vec!["passphrase for the ssh key key"; encrypted.into()],
            "{name}"
        );
        let opened = identities.unwrap(text(&key["wrapped"])).unwrap();
        assert_eq!(opened.expose()[..], dek, "{name}");

        // Our own files open too, for this key and another.
        let key_text = text(&key["public"]);
        let other = generate_identity();
        let recipients = Recipients::parse(&[key_text, &other.recipient()]).unwrap();
        let data_key = DataKey::generate().unwrap();
        let armored = recipients.wrap(&data_key).unwrap();
        for identities in [&identities, &Identities::from(other)] {
            let opened = identities.unwrap(&armored).unwrap();
            assert_eq!(opened.expose(), data_key.expose(), "{name}");
        }
        let stranger = Identities::from(generate_identity()).unwrap(&armored);
        let Err(Error::NoMatchingKey { recipients }) = stranger else {
            panic!("{name}: {stranger:?}");
        };
        let kind = key_text.split(' ').next().unwrap();
        assert_eq!(recipients, [kind, "X25519"]);
    }
}

#[test]
fn ssh_keys_that_are_encrypted_want_their_passphrase() {
    let vectors = load("keys.json");
    for name in ["ed25519_encrypted", "ed25519_cbc", "ed25519_gcm"] {
        let file = text(&vectors["ssh"][name]["private"]);
        let fault = read(file, Typed::new(WRONG));
        assert!(
            matches!(&fault, Err(Error::WrongPassphrase(name)) if name == "key"),
            "{name}: {fault:?}"
        );
        let fault = read(file, Typed::new(None));
        assert!(matches!(fault, Err(Error::PassphraseNeeded { .. })));
        let fault = Identities::read(file.as_bytes(), "key");
        assert!(matches!(fault, Err(Error::PassphraseNeeded { .. })));
    }
}

/// Joins a key's lines of base64, changes them and wraps them again at another width.
fn rewritten(pem: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut bytes = STANDARD.decode(body).unwrap();
    change(&mut bytes);
    let body = STANDARD.encode(bytes);
    let first = pem.lines().next().unwrap();
    let last = first.replace("BEGIN", "END");
    format!(
        "{first}\r\n{}\r\n{}\r\n{last}\r\n",
        &body[..64],
        &body[64..]
    )
}

#[test]
fn ssh_keys_may_be_wrapped_at_any_width() {
    let vectors = load("keys.json");
    for name in ["ed25519", "ed25519_gcm", "rsa"] {
        let file = rewritten(text(&vectors["ssh"][name]["private"]), |_| {});
        read(&file, Typed::new(RIGHT)).unwrap();
    }
}

#[test]
fn no_byte_of_a_private_key_makes_it_panic() {
    let vectors = load("keys.json");
    for (name, step) in [
        ("ed25519", 1),
        ("ed25519_gcm", 7),
        ("rsa", 13),
        ("rsa_pem", 13),
    ] {
        let file = text(&vectors["ssh"][name]["private"]);
        let mut len = 0;
        rewritten(file, |bytes| len = bytes.len());
        for at in (0..len).step_by(step) {
            for value in [0, 0xff] {
                let file = rewritten(file, |bytes| bytes[at] = value);
                let _ = read(&file, Typed::new(RIGHT));
            }
            let _ = read(&file[..at], Typed::new(RIGHT));
        }
    }
}

/// An age file whose only stanza is this one, with a MAC and a payload of nothing.
fn with_stanza(first_line: &str, body: &[u8]) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    let body = STANDARD_NO_PAD.encode(body);
    let mut file = format!("age-encryption.org/v1\n{first_line}\n");
    for line in body.as_bytes().chunks(64) {
        file.push_str(str::from_utf8(line).unwrap());
        file.push('\n');
    }
    if body.len().is_multiple_of(64) {
        file.push('\n');
    }
    file.push_str(&format!("--- {}\n", STANDARD_NO_PAD.encode([0; 32])));
    let mut file = file.into_bytes();
    file.extend([0; 64]);
    armor::armor(&file).unwrap()
}

#[test]
fn what_a_stranger_puts_into_a_stanza_does_no_harm() {
    let vectors = load("keys.json");
    for name in ["ed25519", "rsa"] {
        let key = &vectors["ssh"][name];
        let identities = read(text(&key["private"]), Typed::new(None)).unwrap();
        let file = armor::dearmor(text(&key["wrapped"])).unwrap();
        let header = String::from_utf8_lossy(&file);
        let stanza = header.lines().nth(1).unwrap();
        for len in [0, 1, 16, 31, 32, 33, 255, 256, 257, 512] {
            for byte in [0, 1, 0xff] {
                let fault = identities.unwrap(&with_stanza(stanza, &vec![byte; len]));
                assert!(fault.is_err(), "{name} {len} {byte}");
            }
        }
        let words: Vec<&str> = stanza.split(' ').collect();
        for n in 1..=words.len() {
            for more in [
                "",
                " AA",
                " AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                " !",
            ] {
                let stanza = words[..n].join(" ") + more;
                let fault = identities.unwrap(&with_stanza(&stanza, &[1; 32]));
                assert!(fault.is_err(), "{stanza}");
            }
        }
        // A file of stock age, with a bit of each byte changed.
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            let fault = identities.unwrap(&armor::armor(&changed).unwrap());
            assert!(fault.is_err(), "{name} {at}");
        }
    }
}

#[test]
fn the_work_for_an_ssh_keys_passphrase_is_limited() {
    let vectors = load("keys.json");
    let file = text(&vectors["ssh"]["ed25519_encrypted"]["private"]);
    // The rounds follow the salt of 16 bytes: `-a 4` wrote a 4.
    let file = rewritten(file, |bytes| {
        let rounds = [0, 0, 0, 16]
            .iter()
            .chain(&bytes[bytes.windows(6).position(|w| w == b"bcrypt").unwrap() + 14..][..16])
            .chain(&[0, 0, 0, 4])
            .copied()
            .collect::<Vec<u8>>();
        let at = bytes.windows(24).position(|w| w == rounds).unwrap();
        bytes[at + 20..at + 24].copy_from_slice(&(MAX_BCRYPT_ROUNDS + 1).to_be_bytes());
    });
    let typed = Typed::new(RIGHT);
    let fault = read(&file, Arc::clone(&typed));
    assert!(
        matches!(fault, Err(Error::LimitExceeded { .. })),
        "{fault:?}"
    );
    assert!(typed.asked.lock().unwrap().is_empty());
}

#[test]
fn ssh_recipients_of_low_order_are_refused() {
    // All eight points whose order divides 8: with any secret, the result is zero.
    for point in [
        "AEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "McXanA9TdhPujwLdg0QZw8qIFP6LDnMxk7H/XeSrAN6",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACA",
        "CbolY/CsiewRcP0ifLvmPDV36wF08YzObE4AohtU/wF",
        "Oz///////////////////////////////////////9/",
        "CbolY/CsiewRcP0ifLvmPDV36wF08YzObE4AohtU/yF",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "McXanA9TdhPujwLdg0QZw8qIFP6LDnMxk7H/XeSrAP6",
    ] {
        let key = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{point}");
        // age itself accepts it, and wraps so that anyone can unwrap.
        assert!(key.parse::<age::ssh::Recipient>().is_ok(), "{key}");
        let fault = Recipients::parse(&[&key]);
        assert!(
            matches!(
                fault,
                Err(Error::InvalidRecipient(_, "a public key of low order"))
            ),
            "{fault:?}"
        );
    }
}
