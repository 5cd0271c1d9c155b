//! Locations of models: files, objects in stores, and memory.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::change::Change;
use crate::error::{Error, Result, io};
use crate::memory::InMemory;
use crate::object_url::{ObjectUrl, SCHEMES};

/// The place of a model to read or to write.
///
/// Paths and [`InMemory`] become locations through `From`; [`Location::parse`] reads a user's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Location {
    File(PathBuf),
    /// Reachable only with the feature `object-store`.
    Object(ObjectUrl),
    /// Only to read.
    Memory(InMemory),
    /// Only to read.
    Changed(Changed),
}

/// A model that changes as it is read.
#[derive(Clone)]
pub struct Changed {
    pub of: Box<Location>,
    pub by: Arc<dyn Change>,
}

impl Changed {
    /// Two are equal if one change is made to one location.
    fn key(&self) -> (&Location, *const ()) {
        (&self.of, Arc::as_ptr(&self.by).cast())
    }
}

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Changed").field(&self.of).finish()
    }
}

impl PartialEq for Changed {
    fn eq(&self, other: &Changed) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Changed {}

impl PartialOrd for Changed {
    fn partial_cmp(&self, other: &Changed) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Changed {
    fn cmp(&self, other: &Changed) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Changed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Location {
    /// Reads a path or a URL: `s3://`, `gs://`, `az://` name objects and `file://` a file. Anything
    /// else is a path, even `a:b` or `C:\model.onnx`. A URL of another scheme is an error.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Location> {
        Location::read(text.as_ref(), false)
    }

    /// Reads a location as [`Location::parse`] does, which may be a folder. A folder in an object
    /// store is all objects whose keys begin with its key, up to a `/`; the key may end in `/`, or
    /// be absent.
    pub fn parse_folder(text: impl AsRef<OsStr>) -> Result<Location> {
        Location::read(text.as_ref(), true)
    }

    fn read(text: &OsStr, of_folder: bool) -> Result<Location> {
        let is_scheme = |text: &str| {
            let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(of_scheme)
        };
        // Known URLs are all Unicode.
        let url = text.to_str().and_then(|text| text.split_once("://"));
        let Some((scheme, rest)) = url.filter(|(scheme, _)| is_scheme(scheme)) else {
            return Ok(Location::File(PathBuf::from(text)));
        };
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "file" {
            return Ok(Location::File(file_path(rest)?));
        }
        match SCHEMES.iter().find(|(known, _)| *known == scheme) {
            Some(&(_, scheme)) => Ok(Location::Object(ObjectUrl::parse(scheme, rest, of_folder)?)),
            None => Err(Error::Location(format!(
                "{scheme}:// is no kind of location that is known: expected a path, or an s3://, gs://, az:// or file:// URL"
            ))),
        }
    }

    /// Returns the path of a file to change in place, with links resolved, so that a link stays a
    /// link.
    pub fn in_place(self) -> Result<PathBuf> {
        match self {
            Location::File(path) => path.canonicalize().map_err(io("open", &path)),
            Location::Object(_) => Err(Error::InPlaceObject(self.to_name())),
            Location::Memory(_) | Location::Changed(_) => Err(self.not_an_output()),
        }
    }

    /// Returns the location of `relative`, a path of plain names, in this folder.
    pub fn join(&self, relative: &Path) -> Result<Location> {
        match self {
            Location::File(folder) => Ok(Location::File(folder.join(relative))),
            Location::Object(url) => url.join(relative).map(Location::Object),
            Location::Memory(_) | Location::Changed(_) => Err(self.not_an_output()),
        }
    }

    /// Returns the location for writing `model` here: under its own name if this is a folder or
    /// ends in a slash.
    pub fn for_output_of(&self, model: &Location) -> Result<Location> {
        let is_folder = match self {
            Location::File(path) => {
                let last = path.as_os_str().as_encoded_bytes().last();
                let ends_in = |byte: &u8| std::path::is_separator(char::from(*byte));
                last.is_some_and(ends_in) || path.is_dir()
            }
            Location::Object(url) => url.names_folder(),
            Location::Memory(_) | Location::Changed(_) => false,
        };
        if !is_folder {
            return Ok(self.clone());
        }
        match model.to_name().file_name() {
            Some(name) => self.join(Path::new(name)),
            None => Err(Error::Location(format!("{model} has no name to go by"))),
        }
    }

    pub fn not_an_output(&self) -> Error {
        let what = match self {
            Location::Changed(_) => "changes as it is read",
            _ => "is in memory",
        };
        Error::Location(format!("{self} {what}, and no place for an output"))
    }

    /// Returns whether it is `folder` or lies in it. For files, this follows links, even if the
    /// files do not exist yet.
    pub fn lies_in(&self, folder: &Location) -> bool {
        match (self, folder) {
            (Location::File(path), Location::File(folder)) => {
                resolve(path).starts_with(resolve(folder))
            }
            (Location::Object(url), Location::Object(folder)) => {
                let is_same = (url.scheme, &url.bucket) == (folder.scheme, &folder.bucket);
                is_same && url.prefix().starts_with(&folder.prefix())
            }
            _ => false,
        }
    }

    /// Returns one location for all spellings of it, or `None` for a path that leads nowhere.
    pub fn canonical(&self) -> Option<Location> {
        match self {
            Location::File(path) => path.canonicalize().ok().map(Location::File),
            Location::Object(_) => Some(self.clone()),
            Location::Memory(_) | Location::Changed(_) => None,
        }
    }

    pub fn is_object(&self) -> bool {
        match self {
            Location::Changed(changed) => changed.of.is_object(),
            _ => matches!(self, Location::Object(_)),
        }
    }

    /// Returns its name in messages: the path of a file, or the URL of an object as a path.
    pub fn to_name(&self) -> PathBuf {
        match self {
            Location::File(path) => path.clone(),
            Location::Object(url) => PathBuf::from(url.to_string()),
            Location::Memory(model) => model.name.clone(),
            Location::Changed(changed) => changed.of.to_name(),
        }
    }

    /// Returns the location of the file at `path`, relative and separated by `/`, beside this one.
    pub fn beside(&self, path: &str) -> Location {
        match self {
            Location::File(file) => Location::File(folder_of(file).join(path)),
            Location::Object(url) => Location::Object(url.beside(path)),
            Location::Memory(model) => Location::File(folder_of(&model.name).join(path)),
            Location::Changed(changed) => changed.of.beside(path),
        }
    }
}

pub fn folder_of(path: &Path) -> &Path {
    or_here(path.parent().unwrap_or(Path::new("")))
}

/// Returns `folder`, or `.` for the empty path, which is the folder of a bare name.
pub fn or_here(folder: &Path) -> &Path {
    match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    }
}

/// Resolves links in `path`, even if it, or folders above it, do not exist yet.
fn resolve(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for folder in path.ancestors() {
        if let (Ok(mut there), Ok(rest)) = (folder.canonicalize(), path.strip_prefix(folder)) {
            for name in rest.components() {
                match name {
                    // A missing part cannot be a link.
                    Component::ParentDir => drop(there.pop()),
                    name => there.push(name),
                }
            }
            return there;
        }
    }
    path
}

/// Returns the path of a `file://` URL (RFC 8089), given without `file://`.
fn file_path(rest: &str) -> Result<PathBuf> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    match percent_encoding::percent_decode_str(path).decode_utf8() {
        Ok(path) if path.starts_with('/') && !path.contains('\0') => {
            // On Windows the drive comes after the slash.
            let skipped = usize::from(cfg!(windows));
            Ok(PathBuf::from(path.get(skipped..).unwrap_or_default()))
        }
        _ => {
            let text =
                "not a file:///path URL: expected an absolute path on this machine, in UTF-8";
            Err(Error::Location(text.to_owned()))
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_name().display().fmt(f)
    }
}

macro_rules! from {
    ($($of:ty, $from:expr;)+) => {$(
        impl From<$of> for Location {
            fn from(of: $of) -> Location {
                $from(of)
            }
        }
    )+};
}

from! {
    PathBuf, Location::File;
    &PathBuf, |path: &PathBuf| Location::File(path.clone());
    &Path, |path: &Path| Location::File(path.to_owned());
    InMemory, Location::Memory;
    Changed, Location::Changed;
    &ObjectUrl, |url: &ObjectUrl| Location::Object(url.clone());
    &Location, Clone::clone;
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
            "s3://id:secret@bucket",
            "https://id:secret@bucket/key",
            "https://bucket/key?X-Amz-Signature=secret",
            "s3://bucket/key?X-Amz-Algorithm=a&X-Amz-Signature=secret",
            "s3://bucket/key?AWSAccessKeyId=secret",
            "gs://bucket/key?X-Goog-Credential=secret",
            "az://container/key?sv=1&sig=secret",
            "file://host/path",
            "file://relative",
            "file://",
            "file:///a%00b",
            "file:///a%ff",
        ] {
            let error = Location::parse(text).unwrap_err();
            assert!(matches!(error, Error::Location { .. }), "{text}");
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn folders_may_end_in_a_slash_and_be_whole_buckets() {
        let join = |folder: &str, name: &str| {
            let folder = Location::parse_folder(folder).unwrap();
            folder.join(Path::new(name)).unwrap().to_string()
        };
        assert_eq!(join("s3://b", "m"), "s3://b/m");
        assert_eq!(join("s3://b/", "a/m"), "s3://b/a/m");
        assert_eq!(join("s3://b/x/y/", "a/m"), "s3://b/x/y/a/m");
        assert_eq!(join("s3://b/x/y", "a/m"), "s3://b/x/y/a/m");
        assert_eq!(
            join("folder", "a/m"),
            Path::new("folder").join("a/m").display().to_string()
        );
        let parse = |text| Location::parse_folder(text);
        for text in ["s3://", "s3://b//", "s3://b/x//", "s3://b/../", "http://x/"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let bucket = parse("s3://b").unwrap();
        assert!(bucket.join(Path::new("../m")).is_err());
        assert!(bucket.join(Path::new("a\nb")).is_err());

        let lies_in = |url, folder| parse(url).unwrap().lies_in(&parse(folder).unwrap());
        for folder in ["s3://b", "s3://b/", "s3://b/x", "s3://b/x/"] {
            assert!(lies_in("s3://b/x/m", folder), "{folder}");
        }
        for folder in [
            "s3://b/x/m/y",
            "s3://b/x/mm",
            "s3://b/y",
            "s3://c",
            "gs://b",
            "x",
        ] {
            assert!(!lies_in("s3://b/x/m", folder), "{folder}");
        }
        assert!(lies_in("s3://b/x", "s3://b/x/"));
    }
    #[test]
    fn a_folder_takes_a_model_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().to_str().unwrap();
        let in_there = dir.path().join("m.onnx").display().to_string();
        let target = |output: &str, model: &str| {
            let (output, model) = (Location::parse_folder(output), Location::parse(model));
            let target = output.unwrap().for_output_of(&model.unwrap());
            target.map(|target| target.to_string())
        };
        for (output, model, expected) in [
            ("out.onnx", "dir/m.onnx", "out.onnx".to_owned()),
            ("out/", "dir/m.onnx", "out/m.onnx".into()),
            (there, "dir/m.onnx", in_there.clone()),
            (there, "s3://b/dir/m.onnx", in_there),
            ("s3://b/out/", "dir/m.onnx", "s3://b/out/m.onnx".into()),
            ("s3://b", "gs://c/m.onnx", "s3://b/m.onnx".into()),
            ("s3://b/out", "dir/m.onnx", "s3://b/out".into()),
        ] {
            assert_eq!(target(output, model).unwrap(), expected);
        }
        assert!(target("out/", "..").is_err());
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
