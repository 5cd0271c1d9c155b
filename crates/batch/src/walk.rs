//! Walks folders, and parses patterns that choose files.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use onnxseal_core::io;
use onnxseal_store::or_here;
use walkdir::{DirEntry, WalkDir};

use crate::error::{Error, Result};

/// A pattern, and the folder to search for matches.
pub(crate) struct Glob {
    /// The part before the first name with a special character.
    pub(crate) folder: PathBuf,
    rest: GlobMatcher,
    /// How many names deep a match can lie below `folder`.
    pub(crate) depth: usize,
}

impl Glob {
    /// Parses a pattern. Returns `None` for a path without special characters. Characters in the
    /// path of `listed_in` are never special.
    pub(crate) fn parse(source: &Path, listed_in: Option<&Path>) -> Result<Option<Glob>> {
        let listed_in = listed_in.unwrap_or(Path::new(""));
        let below = source.strip_prefix(listed_in).unwrap_or(source);
        let mut names = below.components();
        let mut folder = listed_in.to_owned();
        let pattern = loop {
            let rest = names.as_path();
            match names.next() {
                Some(name) if is_special(name) => break rest,
                Some(name) => folder.push(name),
                None => return Ok(None),
            }
        };
        let Some(text) = pattern.to_str() else {
            return Ok(None);
        };
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let glob = glob.map_err(|error| {
            let (given, reason) = (source.display(), error.kind());
            Error::Usage(format!(
                "{given} does not exist, and is no pattern: {reason}"
            ))
        })?;
        // Alternatives may have different numbers of names.
        let any_depth = text.contains("**") || text.contains('{');
        let depth = pattern.components().count();
        Ok(Some(Glob {
            folder,
            rest: glob.compile_matcher(),
            depth: if any_depth { usize::MAX } else { depth },
        }))
    }

    pub(crate) fn matches(&self, path: &Path) -> bool {
        below(path, &self.folder).is_some_and(|rest| self.rest.is_match(rest))
    }
}

/// The characters that make a name a pattern.
pub(crate) const SPECIAL: [char; 4] = ['*', '?', '[', '{'];

fn is_special(name: Component<'_>) -> bool {
    name.as_os_str().to_string_lossy().contains(SPECIAL)
}

/// A walk over everything in a folder, in the order of names, following links.
pub(crate) struct Walk {
    entries: walkdir::IntoIter,
    /// The last folder reached.
    folder: PathBuf,
}

impl Walk {
    pub(crate) fn new(folder: &Path, max_depth: usize) -> Walk {
        let folder = or_here(folder);
        // Links come last: a file is found under its own name first.
        let walk = WalkDir::new(folder)
            .follow_links(true)
            .max_depth(max_depth)
            .sort_by(|a, b| {
                let links = a.path_is_symlink().cmp(&b.path_is_symlink());
                links.then_with(|| a.file_name().cmp(b.file_name()))
            });
        Walk {
            entries: walk.into_iter(),
            folder: folder.to_owned(),
        }
    }

    /// Returns the next entry, or a path that cannot be read with the reason. Skips links to a
    /// folder above, whose contents come anyway.
    pub(crate) fn next(&mut self) -> Option<std::result::Result<DirEntry, (PathBuf, Error)>> {
        loop {
            let error = match self.entries.next()? {
                Err(error) => error,
                Ok(entry) => {
                    if entry.file_type().is_dir() {
                        entry.path().clone_into(&mut self.folder);
                    }
                    return Some(Ok(entry));
                }
            };
            // An error of reading a folder may lack its path, but comes before its entries.
            let path = error.path().unwrap_or(&self.folder).to_owned();
            let was_removed = |error: &std::io::Error| {
                error.kind() == ErrorKind::NotFound && fs::symlink_metadata(&path).is_err()
            };
            if error.loop_ancestor().is_some() || error.io_error().is_some_and(was_removed) {
                continue;
            }
            // The system's error without its path, which ours has already.
            let text = error.to_string();
            let plain = error.into_io_error();
            let plain = plain.unwrap_or_else(|| std::io::Error::other(text));
            let error = io("read", &path)(plain).into();
            return Some(Err((path, error)));
        }
    }

    /// Skips the contents of the last folder.
    pub(crate) fn skip_folder(&mut self) {
        self.entries.skip_current_dir();
    }
}

/// Returns whether `entry`, below a source, is a folder `.git`.
pub(crate) fn is_git(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_name() == ".git"
}

/// Returns the part of `path` below `base`, if it has only plain names.
pub(crate) fn below(path: &Path, base: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(base).ok()?;
    let rest: PathBuf = (rest.components())
        .filter(|name| *name != Component::CurDir)
        .collect();
    let is_plain = (rest.components()).all(|name| matches!(name, Component::Normal(_)));
    (is_plain && !rest.as_os_str().is_empty()).then_some(rest)
}
