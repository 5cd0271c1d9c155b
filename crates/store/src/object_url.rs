//! URLs of objects in stores.

use std::fmt;
use std::path::{Component, Path};

use crate::error::{Error, Result};
use crate::redact::is_signed;

/// The URL of an object: `s3://bucket/key`, `gs://bucket/key` or `az://container/key`.
///
/// The key is literal, without percent-decoding. It has no empty part, no part `.` or `..`, and no
/// control characters, so an object has one URL. If a folder may be meant, the key may also end in
/// `/`, or be empty for a whole bucket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectUrl {
    pub(crate) scheme: Scheme,
    pub(crate) bucket: String,
    key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scheme {
    S3,
    Gs,
    Az,
}

pub(crate) const SCHEMES: [(&str, Scheme); 3] =
    [("s3", Scheme::S3), ("gs", Scheme::Gs), ("az", Scheme::Az)];

impl ObjectUrl {
    pub(crate) fn parse(scheme: Scheme, rest: &str, of_folder: bool) -> Result<ObjectUrl> {
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let folder = key.strip_suffix('/').filter(|_| of_folder);
        let mut parts = folder.unwrap_or(key).split('/');
        let of_bucket = |c: char| c.is_ascii_alphanumeric() || "-._$".contains(c);
        let query = key.split_once('?').map(|(_, query)| query);
        // Do not repeat the text, which may contain a password.
        let fault = if bucket.is_empty() || !bucket.chars().all(of_bucket) {
            "the bucket is no name; credentials come from the environment, not from URLs"
        } else if key.is_empty() && !of_folder {
            "there is no key after the bucket"
        } else if !key.is_empty() && parts.any(|part| matches!(part, "" | "." | "..")) {
            "the key has a part that is empty, \".\" or \"..\""
        } else if key.contains(char::is_control) {
            "the key has control characters"
        } else if query.is_some_and(is_signed) {
            "the key goes on with a signature or a token; name the object alone, credentials come from the environment"
        } else {
            return Ok(ObjectUrl {
                scheme,
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            });
        };
        let text = format!("not a {}://bucket/key URL: {fault}", scheme.name());
        Err(Error::Location(text))
    }

    pub(crate) fn beside(&self, path: &str) -> ObjectUrl {
        let folder = self.key.rfind('/').map_or(0, |slash| slash + 1);
        let key = format!("{}{path}", self.key.get(..folder).unwrap_or_default());
        ObjectUrl {
            key,
            ..self.clone()
        }
    }

    /// Returns the prefix of all keys in this folder.
    pub fn prefix(&self) -> String {
        let slash = if self.names_folder() { "" } else { "/" };
        format!("{}{slash}", self.key)
    }

    /// Returns whether it can only be a folder.
    pub fn names_folder(&self) -> bool {
        self.key.is_empty() || self.key.ends_with('/')
    }

    pub(crate) fn join(&self, relative: &Path) -> Result<ObjectUrl> {
        let name = |name| match name {
            Component::Normal(name) => name.to_str(),
            _ => None,
        };
        let names: Option<Vec<&str>> = relative.components().map(name).collect();
        let Some(names) = names else {
            return Err(Error::Location(format!(
                "{} cannot be the key of an object: its names are no Unicode",
                relative.display()
            )));
        };
        // A name, for example on Windows, may have characters that a key may not.
        self.with_key(&(self.prefix() + &names.join("/")))
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn with_key(&self, key: &str) -> Result<ObjectUrl> {
        ObjectUrl::parse(self.scheme, &format!("{}/{key}", self.bucket), false)
    }
}

impl Scheme {
    fn name(self) -> &'static str {
        let found = SCHEMES.iter().find(|(_, scheme)| *scheme == self);
        found.map_or("", |(name, _)| name)
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme.name(), self.bucket, self.key)
    }
}
