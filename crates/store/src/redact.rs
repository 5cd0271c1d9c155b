//! Removes secret keys from messages, for users who give a key in place of something else.

use std::borrow::Cow;
use std::path::Path;

const INSTEAD: &str = "[a secret key]";

/// Returns the bytes of a key in the text after its prefix, or `None` if it is not a key.
type Extent = fn(&str) -> Option<usize>;

/// The prefixes of secret keys, in lower case, and the extent of each.
const KINDS: [(&str, Extent); 5] = [
    ("age-secret-key-", bech32_bytes),
    ("age-plugin-", plugin_bytes),
    ("-----begin ", pem_bytes),
    // The beginning of the base64 of an OpenSSH private key without its first line.
    ("b3blbnnzac1rzxktdje", |rest| Some(rest.len())),
    ("putty-user-key-file-", |rest| Some(rest.len())),
];

/// A secret key has more than this many characters after its prefix.
const MIN_SECRET_CHARS: usize = 6;

/// Removes secret keys from `text`: age identities, those of plugins, private keys and encrypted
/// identity files in PEM. A key given in place of a file name thus stays out of messages and logs.
pub fn without_keys(text: &str) -> Cow<'_, str> {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some((at, len)) = find(rest) {
        let (before, after) = rest.split_at(at);
        shown.extend([before, INSTEAD]);
        rest = after.get(len..).unwrap_or_default();
    }
    match shown.is_empty() {
        true => Cow::Borrowed(text),
        false => Cow::Owned(shown + rest),
    }
}

/// Removes secret keys from `text`, and users, passwords and signatures from the URLs in it, which
/// may be secret.
///
/// Use it for messages that repeat any text other than a [`Location`](crate::Location), which never
/// contains these.
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

/// Returns whether the query of a URL grants access, as in a presigned URL, or Azure's with a SAS.
pub(crate) fn is_signed(query: &str) -> bool {
    const NAMES: [&str; 4] = ["sig", "token", "credential", "accesskey"];
    let query = query.to_ascii_lowercase();
    let mut names = query
        .split('&')
        .filter_map(|parameter| parameter.split('=').next());
    names.any(|name| NAMES.iter().any(|secret| name.contains(secret)))
}

pub fn holds_secret(text: &str) -> bool {
    find(text).is_some()
}

/// Returns a path for messages, without the secret key that it may be instead.
pub fn shown(path: &Path) -> String {
    without_keys(&path.to_string_lossy()).into_owned()
}

/// Returns whether `c` misleads readers of a terminal or a page: control characters move the
/// cursor, Unicode's `Bidi_Control` reorders its surroundings, and zero-width spaces are invisible.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

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

/// Returns the length of a bech32 string's data, up to the first other character.
fn bech32_bytes(rest: &str) -> Option<usize> {
    let other = |c: char| !c.is_ascii_alphanumeric() && c != '-';
    let len = rest.find(other).unwrap_or(rest.len());
    (len > MIN_SECRET_CHARS).then_some(len)
}

/// Returns the length of bech32 data after a plugin's name, if there is any: the name alone is not
/// secret.
fn plugin_bytes(rest: &str) -> Option<usize> {
    let len = bech32_bytes(rest)?;
    let (_, data) = rest.get(..len)?.split_once("-1")?;
    (data.len() > MIN_SECRET_CHARS).then_some(len)
}

/// Returns the length of PEM up to its last line, or of all text if that is missing.
fn pem_bytes(rest: &str) -> Option<usize> {
    let (label, body) = rest.split_once("-----")?;
    if !label.ends_with("private key") && label != "age encrypted file" {
        return None;
    }
    let end = format!("-----end {label}-----");
    let after = body.split_once(&end).map_or("", |(_, after)| after);
    Some(rest.len() - after.len())
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
