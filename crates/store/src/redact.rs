//! Removes secret keys from messages, where somebody gave one in place of something else.

use std::borrow::Cow;
use std::path::Path;

/// The text that replaces a secret key in a message.
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
pub fn without_keys(text: &str) -> Cow<'_, str> {
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

/// `text` without secret keys, and without users, passwords and signatures of the URLs in it: they may
/// be secret, whoever wrote them there.
///
/// For messages that repeat what is no [`Location`](crate::Location); a [`Location`](crate::Location) has none of it.
pub fn redact(text: &str) -> String {
    let text = without_keys(text);
    let mut shown = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let ends = |c: char| c.is_whitespace() || "'\"<>`".contains(c);
        let (url, after) = after.split_at(after.find(ends).unwrap_or(after.len()));
        let authority = url.find(['/', '?', '#']).unwrap_or(url.len());
        let (authority, tail) = url.split_at(authority);
        match authority.rsplit_once('@') {
            Some((_, host)) => shown.extend(["***@", host]),
            None => shown.push_str(authority),
        }
        match tail.split_once('?') {
            Some((path, query)) if is_signed(query) => shown.extend([path, "?***"]),
            _ => shown.push_str(tail),
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// Whether the query of a URL opens something: a presigned URL's does, or Azure's with a SAS.
pub(crate) fn is_signed(query: &str) -> bool {
    const NAMES: [&str; 4] = ["sig", "token", "credential", "accesskey"];
    query.split('&').any(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
        NAMES.iter().any(|secret| name.contains(secret))
    })
}

/// Whether there is a secret key in `text`.
pub fn holds_secret(text: &str) -> bool {
    find(text).is_some()
}

/// A path as messages show it: without the secret key that it may be instead.
pub fn shown(path: &Path) -> String {
    without_keys(&path.to_string_lossy()).into_owned()
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

    #[test]
    fn secret_keys_are_not_shown_however_they_are_written() {
        let key = "AGE-SECRET-KEY-1QQPQ0JSECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRETSE";
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
            assert_eq!(without_keys(&secret), shown);
            assert!(holds_secret(&secret));
        }
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
            assert_eq!(without_keys(text), text);
        }
    }

    #[test]
    fn texts_lose_what_opens_urls() {
        for (text, shown) in [
            ("no URL: a@b ? c", "no URL: a@b ? c"),
            ("s3://b/k", "s3://b/k"),
            ("at 's3://id:pw@b/k' now", "at 's3://***@b/k' now"),
            ("http://u:p@q@h:1?x=y@z", "http://***@h:1?x=y@z"),
            (
                "a://u@h b://v@i/p?sig=1&x \"c://h/?X-Amz-Security-Token=z\".",
                "a://***@h b://***@i/p?*** \"c://h/?***\".",
            ),
            ("://@", "://***@"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }
}
