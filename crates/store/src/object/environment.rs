//! Checks the environment's settings of stores before a client uses them: some make the client
//! panic, and its errors repeat some.

use std::ffi::OsStr;

use object_store::aws::AmazonS3ConfigKey as S3;
use object_store::azure::AzureConfigKey as Azure;
use object_store::gcp::GoogleConfigKey as Google;

use crate::object_url::{SCHEMES, Scheme};

/// The kind of value in a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// A secret, which goes into headers and must not appear in messages.
    Secret,
    /// An `http://` or `https://` URL, which messages may show.
    Endpoint,
    /// The path of a file, or a text of several lines, which does not go into headers unchanged.
    Text,
    /// Text that goes into headers or URLs.
    Plain,
}

/// The first of these parts that the name of a variable contains says what it holds.
const NAMES: [(&str, Holds); 13] = [
    ("_file", Holds::Text),
    ("ca_certificate", Holds::Text),
    ("service_account", Holds::Text),
    ("application_credentials", Holds::Text),
    ("use_fabric_endpoint", Holds::Plain),
    ("endpoint", Holds::Endpoint),
    ("base_url", Holds::Endpoint),
    ("service_url", Holds::Endpoint),
    ("secret", Holds::Secret),
    ("token", Holds::Secret),
    ("kms_key_id", Holds::Plain),
    ("_key", Holds::Secret),
    // It may contain a password.
    ("proxy_url", Holds::Secret),
];

/// Returns the kind of value in the variable `name`, or `None` if this kind of store does not read
/// it.
fn what(scheme: Scheme, name: &str) -> Option<Holds> {
    let key = name.to_ascii_lowercase();
    let is_read = match scheme {
        Scheme::S3 => name.starts_with("AWS_") && key.parse::<S3>().is_ok(),
        Scheme::Gs if name == "SERVICE_ACCOUNT" => true,
        Scheme::Gs => name.starts_with("GOOGLE_") && key.parse::<Google>().is_ok(),
        Scheme::Az if name == "IDENTITY_ENDPOINT" => true,
        Scheme::Az => name.starts_with("AZURE_") && key.parse::<Azure>().is_ok(),
    };
    let known = NAMES.iter().find(|(part, _)| key.contains(part));
    is_read.then(|| known.map_or(Holds::Plain, |(_, holds)| *holds))
}

pub(super) fn check(scheme: Scheme) -> Result<(), String> {
    std::env::vars_os().try_for_each(|(name, value)| check_one(scheme, &name, &value))
}

fn check_one(scheme: Scheme, name: &OsStr, value: &OsStr) -> Result<(), String> {
    let holds = |name| Some((name, what(scheme, name)?));
    let Some((name, holds)) = name.to_str().and_then(holds) else {
        return Ok(());
    };
    let Some(value) = value.to_str() else {
        return Err(format!("the variable {name} is no Unicode"));
    };
    if holds != Holds::Text && !value.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return Err(format!(
            "the variable {name} has a line break, or another character that is not printable ASCII"
        ));
    }
    let fault = match reqwest::Url::parse(value) {
        _ if holds != Holds::Endpoint => return Ok(()),
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            let rest = [url.query(), url.fragment(), url.password()];
            if url.username().is_empty() && rest == [None; 3] {
                return Ok(());
            }
            "has a user, a password, a query or a fragment in its URL"
        }
        _ => "is no http:// or https:// URL",
    };
    Err(format!(
        "the variable {name} {fault}; credentials have variables of their own"
    ))
}

/// Masks the secrets of all kinds of stores in `text`, since a store may repeat them.
pub(super) fn mask(text: &str) -> String {
    let mut masked = text.to_owned();
    for (name, value) in std::env::vars_os() {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
            continue;
        };
        let is_secret = |(_, scheme)| what(scheme, name) == Some(Holds::Secret);
        // Shorter values are not secrets, and may be parts of words.
        if value.len() >= 8 && SCHEMES.into_iter().any(is_secret) {
            masked = masked.replace(value, "***");
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_the_client_cannot_take_is_refused_by_name() {
        let check =
            |scheme, name: &str, value: &str| check_one(scheme, name.as_ref(), value.as_ref());
        for (scheme, name, value) in [
            (Scheme::S3, "AWS_SESSION_TOKEN", "secret\nsecret"),
            (Scheme::S3, "AWS_ACCESS_KEY_ID", "secret\n"),
            (Scheme::S3, "AWS_REGION", "secr\u{e4}t"),
            (Scheme::S3, "AWS_ENDPOINT_URL", "https://user:secret@host/"),
            (Scheme::S3, "AWS_ENDPOINT_URL", "https://secret@host/"),
            (
                Scheme::S3,
                "AWS_ENDPOINT_URL_S3",
                "https://host/?sig=secret",
            ),
            (Scheme::S3, "AWS_ENDPOINT", "secret:9000"),
            (Scheme::S3, "AWS_METADATA_ENDPOINT", "secret"),
            (Scheme::Gs, "GOOGLE_BEARER_TOKEN", "secret\r"),
            (Scheme::Gs, "GOOGLE_BASE_URL", "ftp://secret/"),
            (Scheme::Az, "AZURE_STORAGE_ACCOUNT_KEY", "secret\n"),
            (Scheme::Az, "AZURE_STORAGE_TOKEN", "secret\t"),
            (Scheme::Az, "AZURE_STORAGE_ENDPOINT", "http://host/a?secret"),
        ] {
            let error = check(scheme, name, value).unwrap_err();
            assert!(error.contains(name) && !error.contains("secret"), "{error}");
            // Other stores do not read it.
            for other in [Scheme::S3, Scheme::Gs, Scheme::Az] {
                assert_eq!(check(other, name, value).is_ok(), other != scheme);
            }
        }
        for (scheme, name, value) in [
            (Scheme::S3, "AWS_ACCESS_KEY_ID", "AKIA0/+="),
            (Scheme::S3, "AWS_ENDPOINT_URL", "http://127.0.0.1:9000/path"),
            (
                Scheme::S3,
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                "/home/k\u{f6}nig/token",
            ),
            (Scheme::S3, "AWS_PROFILE", "not\nread"),
            (Scheme::Gs, "GOOGLE_SERVICE_ACCOUNT_KEY", "{\n}"),
            (Scheme::Az, "AZURE_PROXY_CA_CERTIFICATE", "-----BEGIN\n"),
            (Scheme::Az, "AZURE_STORAGE_SAS_KEY", "sv=2021&sig=a%2Bb"),
            (
                Scheme::S3,
                "AWS_PROXY_URL",
                "http://user:password@proxy:3128",
            ),
        ] {
            check(scheme, name, value).unwrap();
        }
    }
}
