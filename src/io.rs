//! Writes new files and reads policies for the commands.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result};
use onnxseal_core::{Error, Policy, Ranking, Readers, There, folder_of, read_named, write_whole};

use crate::exit::usage;
use crate::{keys, named};

/// The longest list of names, in bytes.
#[cfg(feature = "assess")]
const MAX_LIST_BYTES: usize = 64 << 20;

/// An output of a command, other than a model or a key.
#[derive(Debug)]
pub struct Written<'a> {
    pub path: &'a Path,
    /// The kind of file in messages, such as `report`.
    pub what: &'static str,
    /// Whether to replace any existing file.
    pub force: bool,
    /// Tells from a file's first bytes whether it is an earlier output, which may be replaced
    /// without `force`. If absent, only `force` replaces files.
    pub is_earlier: Option<fn(&[u8]) -> bool>,
}

impl<'a> Written<'a> {
    #[cfg(feature = "assess")]
    pub fn new(path: &'a Path, what: &'static str, force: bool) -> Written<'a> {
        Written {
            path,
            what,
            force,
            is_earlier: None,
        }
    }

    /// Fails if the file may not be written. Returns whether it replaces one.
    pub fn check(&self) -> Result<bool> {
        let path = self.path;
        named::check(path)?;
        if There::at(path).map_err(Error::Store)? != There::File {
            return Ok(false);
        }
        let shown = path.display();
        let mut start = Vec::new();
        let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start));
        let is_earlier = |is_earlier: &fn(&[u8]) -> bool| start.is_empty() || is_earlier(&start);
        if self.force || (read.is_ok() && self.is_earlier.as_ref().is_some_and(is_earlier)) {
            return Ok(true);
        }
        let but = match self.is_earlier {
            Some(_) => format!(", and is not an earlier {}", self.what),
            None => String::new(),
        };
        Err(usage(format!(
            "{shown} exists already{but}: choose another name, or replace it with --force"
        )))
    }

    /// Checks again, and writes `bytes` for `readers`, whole or not at all.
    pub fn write(&self, bytes: &[u8], readers: Readers) -> Result<()> {
        let replace = self.check()?;
        let write = || {
            fs::create_dir_all(folder_of(self.path))?;
            write_whole(self.path, bytes, replace || self.force, readers)
        };
        write().with_context(|| format!("cannot write the {} {}", self.what, self.path.display()))
    }
}

pub fn claims(pairs: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    let mut claims = BTreeMap::new();
    for (key, value) in pairs {
        if claims.insert(key.clone(), value.clone()).is_some() {
            return Err(usage(format!("claim {key} is given twice")));
        }
    }
    Ok(claims)
}

/// Reads a policy file, and returns its text too.
pub fn read_policy(path: &Path) -> Result<(Policy, String)> {
    let (file, name) = keys::open(path, "--policy")?;
    onnxseal_core::read_policy(file, &name).with_context(|| format!("in {name}"))
}

pub fn read_ranking(path: &Path) -> Result<Ranking> {
    let (file, name) = keys::open(path, "--ranking")?;
    onnxseal_core::read_ranking(file, &name).with_context(|| format!("in {name}"))
}

/// Reads the text file `path`, given for `what`, and fails if it has more than `max_bytes`.
pub fn read_text(path: &Path, what: &str, max_bytes: usize) -> Result<String> {
    let (file, name) = keys::open(path, what)?;
    let text = String::from_utf8(read_named(file, &name, what, max_bytes)?);
    text.map_err(|_| usage(format!("{name} is not text in UTF-8")))
}

/// Reads the names in a file of users or customers, one per line, and skips empty lines and those that
/// begin with #.
#[cfg(feature = "assess")]
pub fn listed(path: &Path, of: &str) -> Result<Vec<String>> {
    let text = read_text(path, &format!("--{of}s"), MAX_LIST_BYTES)?;
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut names: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for line in lines {
        if !seen.insert(line) {
            let path = path.display();
            return Err(usage(format!("{path} has the {of} {line:?} twice")));
        }
        names.push(line.to_owned());
    }
    if names.is_empty() {
        Err(usage(format!("{} has no {of}s", path.display())))
    } else {
        Ok(names)
    }
}
