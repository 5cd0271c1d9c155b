//! Where a model lies: in a file, or in an object store.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

#[cfg(feature = "protect")]
use crate::error::io;
use crate::error::{Error, Result};
use crate::protected::folder_of;

/// Where a model lies, or goes.
///
/// Paths become locations by `From`; [`Location::parse`] reads what a user wrote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// A file.
    File(PathBuf),
    /// An object in a store. Only with the feature `object-store` can it be reached.
    Object(ObjectUrl),
}

/// The URL of an object: `s3://bucket/key`, `gs://bucket/key` or `az://container/key`.
///
/// The key is taken literally: nothing in it is percent-decoded. It has no empty part, none that is
/// `.` or `..`, and no control characters; so there is one URL for an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectUrl {
    scheme: Scheme,
    bucket: String,
    key: String,
}

/// The kinds of stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    S3,
    Gs,
    Az,
}

const SCHEMES: [(&str, Scheme); 3] = [("s3", Scheme::S3), ("gs", Scheme::Gs), ("az", Scheme::Az)];

impl Location {
    /// Reads a path or a URL: `s3://`, `gs://`, `az://` name objects and `file://` a file; all else
    /// is a path, be it `a:b` or `C:\model.onnx`.
    ///
    /// # Errors
    /// `Usage` for URLs of another scheme, and those that are none.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Location> {
        let text = text.as_ref();
        let path = || Location::File(PathBuf::from(text));
        // No URL that is known has other than Unicode.
        let Some((scheme, rest)) = text.to_str().and_then(|text| text.split_once("://")) else {
            return Ok(path());
        };
        let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(of_scheme)
        {
            return Ok(path());
        }
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "file" {
            return Ok(Location::File(file_path(rest)?));
        }
        match SCHEMES.iter().find(|(known, _)| *known == scheme) {
            Some(&(_, scheme)) => Ok(Location::Object(ObjectUrl::parse(scheme, rest)?)),
            None => Err(Error::Misuse(format!(
                "{scheme}:// is no kind of location that is known: expected a path, or an s3://, gs://, az:// or file:// URL"
            ))),
        }
    }

    /// The path of a file, or the URL of an object as one: what messages call it.
    /// The path of a file that is to be changed where it lies. A link to it stays a link.
    ///
    /// # Errors
    /// [`Error::InPlaceObject`].
    #[cfg(feature = "protect")]
    pub(crate) fn in_place(self) -> Result<PathBuf> {
        match self {
            Location::File(path) => path.canonicalize().map_err(io("open", &path)),
            Location::Object(_) => Err(Error::InPlaceObject {
                path: self.to_name(),
            }),
        }
    }

    pub(crate) fn to_name(&self) -> PathBuf {
        match self {
            Location::File(path) => path.clone(),
            Location::Object(url) => PathBuf::from(url.to_string()),
        }
    }

    /// The location of the file that `path`, relative and separated by `/`, names beside this one.
    pub(crate) fn beside(&self, path: &str) -> Location {
        match self {
            Location::File(file) => Location::File(folder_of(file).join(path)),
            Location::Object(url) => Location::Object(url.beside(path)),
        }
    }
}

impl ObjectUrl {
    fn parse(scheme: Scheme, rest: &str) -> Result<ObjectUrl> {
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let of_bucket = |c: char| c.is_ascii_alphanumeric() || "-._$".contains(c);
        // What was written is not repeated: it may hold a password.
        let fault = if bucket.is_empty() || !bucket.chars().all(of_bucket) {
            "the bucket is no name; credentials come from the environment, not from URLs"
        } else if key.is_empty() {
            "there is no key after the bucket"
        } else if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
            "the key has a part that is empty, \".\" or \"..\""
        } else if key.contains(char::is_control) {
            "the key has control characters"
        } else {
            let (bucket, key) = (bucket.to_owned(), key.to_owned());
            return Ok(ObjectUrl {
                scheme,
                bucket,
                key,
            });
        };
        let scheme = scheme.name();
        Err(Error::Misuse(format!(
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
}

#[cfg(feature = "object-store")]
impl ObjectUrl {
    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The bucket's or container's name.
    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl Scheme {
    fn name(self) -> &'static str {
        SCHEMES
            .iter()
            .find(|(_, scheme)| *scheme == self)
            .map_or("", |(name, _)| name)
    }
}

/// The path in a `file://` URL, without `file://` (RFC 8089).
fn file_path(rest: &str) -> Result<PathBuf> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8();
    match decoded {
        Ok(path) if path.starts_with('/') && !path.contains('\0') => {
            // On Windows the drive comes after the slash.
            let skipped = usize::from(cfg!(windows));
            Ok(PathBuf::from(path.get(skipped..).unwrap_or_default()))
        }
        _ => Err(Error::Misuse(
            "not a file:///path URL: expected an absolute path on this machine, in UTF-8".into(),
        )),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::File(path) => path.display().fmt(f),
            Location::Object(url) => url.fmt(f),
        }
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

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Location {
        Location::File(path)
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Location {
        Location::File(path.clone())
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Location {
        Location::File(path.to_owned())
    }
}

impl From<&Location> for Location {
    fn from(location: &Location) -> Location {
        location.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_known_urls_are_no_paths() {
        for text in [
            "model.onnx",
            "a:b",
            "C:\\models\\m.onnx",
            "s3:/bucket/key",
            "s3:",
            "./s3://bucket/key",
            "dir/x://y",
            "://x",
            "-x://y",
            "",
        ] {
            assert_eq!(Location::parse(text).unwrap(), Location::File(text.into()));
        }
        for (text, same) in [
            ("s3://bucket/key", "s3://bucket/key"),
            ("S3://b/dir/m.onnx", "s3://b/dir/m.onnx"),
            ("gs://b_1.x/a b%20?#:c@d", "gs://b_1.x/a b%20?#:c@d"),
            ("az://$web/m", "az://$web/m"),
        ] {
            let location = Location::parse(text).unwrap();
            assert!(matches!(location, Location::Object(_)), "{text}");
            assert_eq!(location.to_string(), same);
        }
    }

    #[test]
    fn urls_that_name_no_object_are_refused() {
        for text in [
            "http://x/y",
            "https://bucket.s3.amazonaws.com/key",
            "s3://",
            "s3://bucket",
            "s3://bucket/",
            "s3:///key",
            "s3://bucket//key",
            "s3://bucket/a/../b",
            "s3://bucket/a/",
            "s3://bucket/a\nb",
            "s3://id:secret@bucket/key",
            "file://host/path",
            "file://relative",
            "file://",
            "file:///a%00b",
            "file:///a%ff",
        ] {
            let error = Location::parse(text).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage, "{text}");
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn file_urls_are_paths() {
        for (text, path) in [
            ("file:///tmp/m.onnx", "/tmp/m.onnx"),
            ("FILE://localhost/tmp/a%20b%25", "/tmp/a b%"),
        ] {
            assert_eq!(Location::parse(text).unwrap(), Location::File(path.into()));
        }
    }

    #[cfg(not(feature = "object-store"))]
    #[test]
    fn objects_are_out_of_reach_without_the_feature() {
        use crate::{Identities, OutputOptions, Silent, open, unprotect};

        let (object, none) = (Location::parse("s3://b/m").unwrap(), Identities::default());
        let opened = open(&object, &none, &Silent).map(drop);
        let options = OutputOptions::default();
        let restored = unprotect(&object, Path::new("out"), &none, options, &Silent);
        for result in [opened, restored] {
            assert!(matches!(result, Err(Error::NoObjectStores { .. })));
        }
    }

    #[test]
    fn external_files_lie_beside_the_model() {
        for (model, path, beside) in [
            ("s3://b/dir/m.onnx", "sub/w.bin", "s3://b/dir/sub/w.bin"),
            ("s3://b/m.onnx", "w.bin", "s3://b/w.bin"),
            ("dir/m.onnx", "w.bin", "dir/w.bin"),
        ] {
            let model = Location::parse(model).unwrap();
            assert_eq!(model.beside(path), Location::parse(beside).unwrap());
        }
    }
}
