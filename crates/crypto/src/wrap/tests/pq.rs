//! Post-quantum keys: what the npm package `age-encryption` wrapped, and what cannot be combined.

use super::*;

#[test]
fn files_of_another_implementation() {
    let vectors = load("pq.json");
    let text = |name: &str| vectors[name].as_str().unwrap().trim().to_owned();
    let own = identities(&text("identity"));
    assert_eq!(own.recipients(), [text("recipient")]);
    for name in ["wrapped", "to_both"] {
        let key = own.unwrap(&format!("{}\n", text(name))).unwrap();
        assert_eq!(key.expose()[..], hex(&vectors["dek"]), "{name}");
    }
    let fault = own.unwrap(&format!("{}\n", text("to_another")));
    assert!(
        matches!(&fault, Err(Error::NoMatchingKey { recipients }) if recipients == &["mlkem768x25519"]),
        "{fault:?}"
    );
    // Its secret key is ours.
    let lower = identities(&text("identity").to_lowercase());
    assert_eq!(lower.recipients(), [text("recipient")]);
}

#[test]
fn they_wrap_alone_and_beside_each_other() {
    let key = DataKey::generate().unwrap();
    let (one, two) = (
        generate_pq_identity().unwrap(),
        generate_pq_identity().unwrap(),
    );
    let file = one.to_file_text();
    assert!(file.starts_with("# public key: age1pq1") && file.contains("\nAGE-SECRET-KEY-PQ-1"));
    let names = [
        one.recipient(),
        two.recipient(),
        one.recipient().to_uppercase(),
    ];
    let armored = Recipients::parse(&names).unwrap().wrap(&key).unwrap();
    let kinds = Header::read(&armored).unwrap().kinds;
    assert_eq!(kinds, ["mlkem768x25519"; 2]);
    let mut all = identities(&file);
    assert_eq!(all.unwrap(&armored).unwrap().expose(), key.expose());
    let stranger = Identities::from(generate_pq_identity().unwrap());
    for stranger in [stranger, generate_identity().into()] {
        let fault = stranger.unwrap(&armored);
        assert!(
            matches!(fault, Err(Error::NoMatchingKey { .. })),
            "{fault:?}"
        );
    }
    all.merge(two.into());
    let known = all.recipients_of(&armored).unwrap();
    assert_eq!(known.names().count(), 2);
    // One byte less.
    let cut = armored.replacen("\n", "\nAAAA", 1);
    assert!(matches!(all.unwrap(&cut), Err(Error::MalformedKey { .. })));
}

#[test]
fn they_do_not_stand_beside_others() {
    let pq = generate_pq_identity().unwrap().recipient();
    let ssh = load("keys.json")["ssh"]["ed25519"]["public"].clone();
    for other in [
        generate_identity().recipient(),
        ssh.as_str().unwrap().to_owned(),
    ] {
        let fault = Recipients::parse(&[&pq, &other]).unwrap_err().to_string();
        assert!(
            fault.contains("give every reader a post-quantum key"),
            "{fault}"
        );
    }
    let typing_error = Recipients::parse(&[&pq[..pq.len() - 1]]).unwrap_err();
    assert!(
        typing_error.to_string().contains("typing error"),
        "{typing_error}"
    );
}
