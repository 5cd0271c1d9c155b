//! URLs of objects in stores.

use std::fmt;
use std::path::{Component, Path};

use crate::error::{Result, location_error};
use crate::redact::is_signed;

/// The URL of an object: `s3://bucket/key`, `gs://bucket/key` or `az://container/key`.
///
/// The key is literal, without percent-decoding. It has no empty part, no part `.` or `..`, and no
/// control characters, so an object has one URL. If a folder may be meant, the key may also end in
/// `/`, or be empty for a whole bucket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectUrl {
    scheme: Scheme,
    bucket: String,
    key: String,
}

/// The kinds of stores.
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
        let parts = if of_folder {
            key.strip_suffix('/').unwrap_or(key)
        } else {
            key
        };
        let of_bucket = |c: char| c.is_ascii_alphanumeric() || "-._$".contains(c);
        // Do not repeat the text, which may contain a password.
        let fault = if bucket.is_empty() || !bucket.chars().all(of_bucket) {
            "the bucket is no name; credentials come from the environment, not from URLs"
        } else if key.is_empty() && of_folder {
            return Ok(ObjectUrl {
                scheme,
                bucket: bucket.to_owned(),
                key: String::new(),
            });
        } else if key.is_empty() {
            "there is no key after the bucket"
        } else if parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
            "the key has a part that is empty, \".\" or \"..\""
        } else if key.contains(char::is_control) {
            "the key has control characters"
        } else if key
            .split_once('?')
            .is_some_and(|(_, query)| is_signed(query))
        {
            "the key goes on with a signature or a token; name the object alone, credentials come from the environment"
        } else {
            let (bucket, key) = (bucket.to_owned(), key.to_owned());
            return Ok(ObjectUrl {
                scheme,
                bucket,
                key,
            });
        };
        let scheme = scheme.name();
        Err(location_error(format!(
            "not a {scheme}://bucket/key URL: {fault}"
        )))
    }

    pub(crate) fn beside(&self, path: &str) -> ObjectUrl {
        let key = match self.key.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{path}"),
            None => path.to_owned(),
        };
        ObjectUrl {
            key,
            ..self.clone()
        }
    }

    /// Returns the prefix of all keys in this folder.
    pub fn prefix(&self) -> String {
        if self.names_folder() {
            self.key.clone()
        } else {
            format!("{}/", self.key)
        }
    }

    /// Returns whether it can only be a folder.
    pub fn names_folder(&self) -> bool {
        self.key.is_empty() || self.key.ends_with('/')
    }
    pub(crate) fn join(&self, relative: &Path) -> Result<ObjectUrl> {
        let names: Option<Vec<&str>> = (relative.components())
            .map(|name| match name {
                Component::Normal(name) => name.to_str(),
                _ => None,
            })
            .collect();
        let key = names.map(|names| self.prefix() + &names.join("/"));
        // A name, for example on Windows, may have characters that a key may not.
        let url =
            key.map(|key| ObjectUrl::parse(self.scheme, &format!("{}/{key}", self.bucket), false));
        url.unwrap_or_else(|| {
            let name = relative.display();
            Err(location_error(format!(
                "{name} cannot be the key of an object: its names are no Unicode"
            )))
        })
    }
}

impl ObjectUrl {
    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns the name of the bucket or container.
    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns its key in the bucket.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the URL of another key in this bucket.
    pub fn with_key(&self, key: &str) -> Result<ObjectUrl> {
        ObjectUrl::parse(self.scheme, &format!("{}/{key}", self.bucket), false)
    }
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        SCHEMES
            .iter()
            .find(|(_, scheme)| *scheme == self)
            .map_or("", |(name, _)| name)
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectUrl {
            scheme,
            bucket,
            key,
        } = self;
        write!(f, "{}://{bucket}/{key}", scheme.name())
    }
}
