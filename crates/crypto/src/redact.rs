//! Messages without the secret keys that somebody gave where something else was expected.

use std::borrow::Cow;
use std::path::Path;

/// What takes the place of a secret key in a message.
const INSTEAD: &str = "[a secret key]";

/// How many bytes there are of a key, in the text after what it begins with; `None` where it is none.
type Extent = fn(&str) -> Option<usize>;

/// What secret keys begin with, in lower case, and how far each goes.
const KINDS: [(&str, Extent); 5] = [
    ("age-secret-key-", bech32_bytes),
    ("age-plugin-", plugin_bytes),
    ("-----begin ", pem_bytes),
    // What the base64 of an OpenSSH private key without its first line begins with.
    ("b3blbnnzac1rzxktdje", all_bytes),
    ("putty-user-key-file-", all_bytes),
];

/// A secret key has more characters than that after what shows that it is one.
const MIN_SECRET_CHARS: usize = 6;

/// `text` without the secret keys in it: age identities, those of plugins, private keys and
/// encrypted identity files in PEM. Whoever gives a key where a file name is expected finds it in no
/// message, and so in no log.
pub fn redact(text: &str) -> Cow<'_, str> {
    let Some((at, len)) = find(text) else {
        return Cow::Borrowed(text);
    };
    let (mut shown, mut rest) = (String::new(), text);
    let mut found = Some((at, len));
    while let Some((at, len)) = found {
        shown.push_str(rest.get(..at).unwrap_or_default());
        shown.push_str(INSTEAD);
        rest = rest.get(at + len..).unwrap_or_default();
        found = find(rest);
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Whether there is a secret key in `text`.
pub fn holds_secret(text: &str) -> bool {
    find(text).is_some()
}

/// A path as messages show it: without the secret key that it may be instead.
pub fn shown(path: &Path) -> String {
    redact(&path.to_string_lossy()).into_owned()
}

/// Where the first secret key begins, and how many bytes it has.
fn find(text: &str) -> Option<(usize, usize)> {
    let lower = text.to_ascii_lowercase();
    let first = |(begins, bytes): &(&str, Extent)| {
        let at = lower.match_indices(begins).map(|(at, _)| at);
        at.filter_map(|at| {
            let rest = lower.get(at + begins.len()..)?;
            Some((at, begins.len() + bytes(rest)?))
        })
        .next()
    };
    KINDS.iter().filter_map(first).min()
}

/// The data of a bech32 string, up to what none has.
fn bech32_bytes(rest: &str) -> Option<usize> {
    let len = rest
        .bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        .count();
    (len > MIN_SECRET_CHARS).then_some(len)
}

/// The same after the name of a plugin, which is no secret by itself.
fn plugin_bytes(rest: &str) -> Option<usize> {
    let len = bech32_bytes(rest)?;
    let (_, data) = rest.get(..len)?.split_once("-1")?;
    (data.len() > MIN_SECRET_CHARS).then_some(len)
}

/// What PEM has up to its last line, or all there is where that is missing.
fn pem_bytes(rest: &str) -> Option<usize> {
    let (label, body) = rest.split_once("-----")?;
    if !label.ends_with("private key") && label != "age encrypted file" {
        return None;
    }
    let end = format!("-----end {label}-----");
    match body.find(&end) {
        Some(at) => Some(rest.len() - body.len() + at + end.len()),
        None => Some(rest.len()),
    }
}

fn all_bytes(rest: &str) -> Option<usize> {
    Some(rest.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::wrap::generate_identity;

    #[test]
    fn secret_keys_are_not_shown_however_they_are_written() {
        let identity = generate_identity().to_file_text();
        let key = identity.lines().last().unwrap();
        let pem =
            "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret+/=\n-----END OPENSSH PRIVATE KEY-----";
        for (secret, shown) in [
            (key.to_owned(), "[a secret key]"),
            (key.to_ascii_lowercase(), "[a secret key]"),
            (format!(" \n{key}\n"), " \n[a secret key]\n"),
            (
                format!("cannot open {key}: no"),
                "cannot open [a secret key]: no",
            ),
            (format!("{key} {key}"), "[a secret key] [a secret key]"),
            (
                "ü AGE-PLUGIN-YUBIKEY-1QSECRETX ü".into(),
                "ü [a secret key] ü",
            ),
            (pem.into(), "[a secret key]"),
            (format!("{pem}!"), "[a secret key]!"),
            (
                pem.replace('\n', "\\n").to_ascii_lowercase(),
                "[a secret key]",
            ),
            (pem.get(..50).unwrap().into(), "[a secret key]"),
            (
                "-----BEGIN PRIVATE KEY-----\nsecret".into(),
                "[a secret key]",
            ),
            (
                "-----BEGIN AGE ENCRYPTED FILE-----\nsecret".into(),
                "[a secret key]",
            ),
            ("b3BlbnNzaC1rZXktdjEAAAAAsecret".into(), "[a secret key]"),
        ] {
            assert_eq!(redact(&secret), shown);
            assert!(holds_secret(&secret));
        }
        assert!(redact(&identity).starts_with("# public key: age1"));
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "",
            "model.onnx",
            "AGE-SECRET-KEY-1",
            "AGE-SECRET-KEY-PQ-1...",
            "the plugin age-plugin-yubikey is not installed",
            "age-plugin-1password",
            "-----BEGIN PUBLIC KEY-----\nMCow",
            "-----BEGIN SSH SIGNATURE-----",
            "-----BEGIN ",
            "ü-----ü",
        ] {
            assert_eq!(redact(text), text);
        }
    }
}
