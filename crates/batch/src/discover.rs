//! Finds models in folders and object stores, by the contents of files.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use onnxseal_core::{Error as CoreError, io, is_interrupted, is_model as holds_model};
use onnxseal_store::{
    Error as StoreError, Input, Location, ObjectUrl, draft, folder_of, holds_secret,
    open_handed_over, parallel, shown,
};
use walkdir::DirEntry;

use crate::error::{Error, Result};
use crate::walk::{Glob, SPECIAL, Walk, below, is_git};

/// A model that [`discover`] found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub location: Location,
    /// Its path below an output folder: the path under the source that led to it, or under the
    /// list's folder for a source from a list. Always plain names, without `..`; two sources may
    /// give equal paths.
    pub relative: PathBuf,
}

#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Discovery {
    /// The models, sorted by path, files before objects, each once. A link to a model is a model of
    /// its own, because its external data lie beside the link.
    pub models: Vec<Found>,
    /// The paths that a search could not read, sorted likewise. They may contain models.
    pub unreadable: Vec<Unreadable>,
    /// Files that a search passed over because their names mark them as unfinished, by a process
    /// that lives or was killed. The next process that writes to their folder removes abandoned
    /// ones.
    pub unfinished: Vec<PathBuf>,
}

#[derive(Debug)]
#[non_exhaustive]
pub struct Unreadable {
    /// The folder, link, file or object, and its path below an output folder.
    pub found: Found,
    pub error: Error,
}

/// Finds the models of `sources`, and of the sources in the files `lists`; sorted by path, files
/// before objects, each once.
///
/// A source is
/// - a file, which counts as a model whatever its contents;
/// - a folder, which is searched with all its subfolders;
/// - if no such file exists, a glob: `*` and `?` within a name, `**` for folders of any depth,
///   `[...]` and `{a,b}`. Matching folders are searched;
/// - an object, which counts as a model whatever its contents;
/// - if no such object exists, or the URL ends in `/` or with the bucket, a folder of an object
///   store: all objects whose keys begin with it, up to a `/`. Objects have no globs.
///
/// A search takes a file if [`is_model`](onnxseal_core::is_model) recognises its contents, if its
/// name ends in `.onnx`, if a change in place was interrupted, or if it cannot be opened. It finds a
/// malformed model, and one that begins with an unknown field or a text of 16 KiB or more, by its name
/// alone. External data is taken only if it is named or reads like a model. Hidden
/// files and folders count, except folders named `.git`. Files that are not regular do not count.
/// Files named like unfinished ones (`.onnxseal-` and six letters or digits) are passed over.
///
/// The search follows links. It takes a folder with several paths once, by the first in the order
/// of sources and names, links last in their folder: so a link to a folder above leads to nothing
/// new. In a folder, each name is a model of its own, even if it is a link to another one: its
/// external data lie beside the name. The search reports paths that it cannot read, and goes on: an
/// unreadable folder, a link that leads nowhere or in circles, an object that the store does not
/// return. Empty objects do not count. For objects not
/// named `*.onnx`, it fetches the parts that [`is_model`](onnxseal_core::is_model) asks for, 16
/// objects at once: mostly 16 bytes of an object that is not a model.
///
/// A list has one source per line, a path relative to the list's folder or a URL. White space
/// around it is dropped, and empty lines and those that begin with `#` are skipped.
///
/// # Errors
/// `Io` if a source or a list does not exist or cannot be read; `Usage` if a glob or URL is
/// malformed, or a glob matches nothing.
pub fn discover(
    sources: &[impl Into<Location> + Clone],
    lists: &[impl AsRef<Path>],
) -> Result<Discovery> {
    let mut search = Search::default();
    for source in sources {
        search.source(source.clone().into(), None)?;
    }
    for list in lists {
        let list = list.as_ref();
        let text = read_list(list).map_err(io("read", list))?;
        if holds_secret(&text) {
            let list = shown(list);
            let text = format!("{list} holds a secret key, and is no list of models");
            return Err(Error::Usage(text));
        }
        let folder = list.parent().unwrap_or(Path::new(""));
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                search.source(Location::parse_folder(line)?, Some(folder))?;
            }
        }
    }
    let mut found = search.found;
    found.models.sort();
    found.unreadable.sort_by(|a, b| a.found.cmp(&b.found));
    found.unfinished.sort();
    Ok(found)
}

const MAX_LIST_BYTES: u64 = 64 << 20;

/// Reads a list, which may come through a pipe.
fn read_list(list: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = open_handed_over(list)?;
    // One byte beyond the limit shows that the list is too long.
    let n = file.take(MAX_LIST_BYTES + 1).read_to_string(&mut text)? as u64;
    if n > MAX_LIST_BYTES {
        return Err(std::io::Error::other("it is too long for a list of models"));
    }
    Ok(text)
}

#[derive(Default)]
struct Search {
    found: Discovery,
    /// The models of `found`: names in canonical folders, and objects.
    files: HashSet<Location>,
    /// Canonical paths of the folders that were searched.
    folders: HashSet<PathBuf>,
}

impl Search {
    fn source(&mut self, source: Location, listed_in: Option<&Path>) -> Result<()> {
        match (source, listed_in) {
            (Location::File(path), None) => self.path(&path, None),
            (Location::File(path), Some(folder)) => self.path(&folder.join(path), listed_in),
            (Location::Object(url), _) => self.object(&url),
            _ => Err(Error::Usage(
                "a model in memory lies in no folder to be searched".into(),
            )),
        }
    }

    /// Adds the models of the path `source`. `listed_in` is the folder of the list that names it.
    fn path(&mut self, source: &Path, listed_in: Option<&Path>) -> Result<()> {
        let bases = |own| [listed_in.unwrap_or(own), own];
        match fs::metadata(source) {
            Ok(metadata) if metadata.is_dir() => {
                self.folder(source, bases(source));
                Ok(())
            }
            Ok(_) => {
                if let Err(error) = self.add(source, bases(source)) {
                    self.fault(source, error, bases(source));
                }
                Ok(())
            }
            // Windows has no files with these characters in their names.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::InvalidFilename
                ) =>
            {
                match Glob::parse(source, listed_in)? {
                    Some(glob) => self.glob(source, &glob, bases(&glob.folder)),
                    None => Err(io("open", source)(error).into()),
                }
            }
            Err(error) => {
                self.fault(source, io("open", source)(error).into(), bases(source));
                Ok(())
            }
        }
    }

    fn folder(&mut self, folder: &Path, bases: [&Path; 2]) {
        let mut entries = Walk::new(folder, usize::MAX);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err((path, error)) => {
                    self.fault(&path, error, bases);
                    continue;
                }
            };
            if !entry.file_type().is_dir() {
                self.file(&entry, bases);
                continue;
            }
            // This also stops endless walks through links that lead upwards.
            let path = canonical(entry.path());
            let is_new = path.map(|path| !is_git(&entry) && self.folders.insert(path));
            if !matches!(is_new, Ok(true)) {
                entries.skip_folder();
            }
            if let Err(error) = is_new {
                self.fault(entry.path(), error, bases);
            }
        }
    }

    /// Adds the file that a walk reached, if it is a model.
    fn file(&mut self, entry: &DirEntry, bases: [&Path; 2]) {
        let path = entry.path();
        if !entry.file_type().is_file() {
            return;
        }
        if draft::is_unfinished(entry.file_name()) {
            self.found.unfinished.push(path.to_owned());
            return;
        }
        let added = match is_model(path) {
            Ok(true) => self.add(path, bases),
            other => other.map(drop),
        };
        if let Err(error) = added {
            self.fault(path, error, bases);
        }
    }

    fn fault(&mut self, path: &Path, error: Error, bases: [&Path; 2]) {
        let found = found(path, bases);
        self.found.unreadable.push(Unreadable { found, error });
    }

    /// Adds the matches of `glob`, which was given as `source`.
    fn glob(&mut self, source: &Path, glob: &Glob, bases: [&Path; 2]) -> Result<()> {
        let folder = &glob.folder;
        if !folder.as_os_str().is_empty() {
            fs::metadata(folder).map_err(io("read", folder))?;
        }
        let mut matched = false;
        let mut entries = Walk::new(&glob.folder, glob.depth);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err((path, error)) => {
                    // The unreadable part may have matches.
                    matched = true;
                    self.fault(&path, error, bases);
                    continue;
                }
            };
            let is_dir = entry.file_type().is_dir();
            if is_git(&entry) {
                if is_dir {
                    entries.skip_folder();
                }
            } else if glob.matches(entry.path()) {
                matched = true;
                if is_dir {
                    entries.skip_folder();
                    self.folder(entry.path(), bases);
                } else {
                    self.file(&entry, bases)
                }
            }
        }
        let source = source.display();
        let text = format!("{source} does not exist, and as a pattern it matches nothing");
        matched.then_some(()).ok_or(Error::Usage(text))
    }

    /// Adds a file, unless it was added before. Its path below an output folder is its path below
    /// the first of `bases` that contains it.
    fn add(&mut self, path: &Path, bases: [&Path; 2]) -> Result<()> {
        if self.files.insert(Location::File(name_in_folder(path)?)) {
            self.found.models.push(found(path, bases));
        }
        Ok(())
    }

    /// Adds the object at `source`, or the models in that folder.
    fn object(&mut self, source: &ObjectUrl) -> Result<()> {
        if !source.names_folder() && Location::from(source).exists()? {
            let name = source.key().rsplit('/').next();
            return self.add_object(source, name.unwrap_or_default());
        }
        let keys = source.list()?;
        if keys.is_empty() {
            return Err(nothing_at(source));
        }
        let prefix = source.prefix();
        let mut objects = Vec::new();
        for key in &keys {
            let below = key.strip_prefix(&prefix);
            if let Some(below) = below.filter(|below| !is_of_git(below)) {
                objects.push((source.with_key(key)?, below, OnceLock::new()));
            }
        }
        let look = |(): &mut (), (url, _, is_model): &(ObjectUrl, _, OnceLock<_>)| {
            let _ = is_model.set(match is_named_so(Path::new(url.key())) {
                true => Ok(true),
                false => is_model_there(url),
            });
            Ok::<(), Error>(())
        };
        let n_objects = objects.len() as u64;
        parallel::for_each(true, n_objects, objects.iter(), || (), look)?;
        for (url, below, is_model) in objects {
            let error = match is_model.into_inner() {
                Some(Ok(true)) => self.add_object(&url, below).err(),
                Some(Err(error)) => Some(error),
                Some(Ok(false)) | None => None,
            };
            if let Some(error) = error {
                let relative = PathBuf::from(below.rsplit('/').next().unwrap_or_default());
                let location = Location::from(&url);
                let found = Found { location, relative };
                self.found.unreadable.push(Unreadable { found, error });
            }
        }
        Ok(())
    }

    /// Adds an object, unless it was added before.
    fn add_object(&mut self, url: &ObjectUrl, relative: &str) -> Result<()> {
        let location = Location::from(url);
        // A key may become several names here, and lead anywhere.
        let Some(relative) = below(Path::new(relative), Path::new("")) else {
            return Err(Error::Usage(format!(
                "{url} has a key that is no path here"
            )));
        };
        if self.files.insert(location.clone()) {
            self.found.models.push(Found { location, relative });
        }
        Ok(())
    }
}

/// Returns whether a key below a source lies in a folder `.git`.
fn is_of_git(key: &str) -> bool {
    let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
    folder.split('/').any(|name| name == ".git")
}

/// Makes the error for a source that is neither an object nor a folder.
fn nothing_at(source: &ObjectUrl) -> Error {
    if source.key().contains(SPECIAL) {
        return Error::Usage(format!(
            "{source} names nothing, and there are no patterns for objects: name the folder, such as s3://bucket/models/"
        ));
    }
    let path = PathBuf::from(source.to_string());
    let nothing = "there is no such object, and none whose key goes on from there";
    io("open", &path)(std::io::Error::new(ErrorKind::NotFound, nothing)).into()
}

/// Returns whether to take an object, by its contents or because they cannot be read.
fn is_model_there(url: &ObjectUrl) -> Result<bool> {
    let object = Input::open(&url.into()).map_err(CoreError::from);
    match object.and_then(holds_model) {
        Err(CoreError::Store(StoreError::Io { source, .. })) => match source.kind() {
            ErrorKind::NotFound => Ok(false),
            ErrorKind::PermissionDenied => Ok(true),
            _ => Err(StoreError::Io {
                source,
                action: "read",
                path: url.to_string().into(),
            }
            .into()),
        },
        sniffed => Ok(sniffed?),
    }
}

/// Returns whether the name marks a model.
fn is_named_so(path: &Path) -> bool {
    (path.extension()).is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// Returns whether to take a regular file, by its name, its contents, or because they cannot be
/// read.
fn is_model(path: &Path) -> Result<bool> {
    if is_named_so(path) {
        return Ok(true);
    }
    match File::open(path) {
        // Half written, it may read as nothing; the next `rekey` in place completes it.
        Ok(_) if is_interrupted(path) => Ok(true),
        Ok(file) => Ok(holds_model(Input::of(path, file)?)?),
        // It was removed meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(_) => Ok(true),
    }
}

/// Makes the entry of the file at `path`, whose output path is the path below the first of `bases`
/// that contains it.
fn found(path: &Path, bases: [&Path; 2]) -> Found {
    let relative = bases.into_iter().find_map(|base| below(path, base));
    let name = || path.file_name().map(PathBuf::from);
    Found {
        location: path.strip_prefix(".").unwrap_or(path).into(),
        relative: relative.or_else(name).unwrap_or_default(),
    }
}

/// Returns one path for all spellings of a name: the name in its canonical folder, even if it is a
/// link.
fn name_in_folder(path: &Path) -> Result<PathBuf> {
    match path.file_name() {
        Some(name) => Ok(canonical(folder_of(path))?.join(name)),
        None => canonical(path),
    }
}

fn canonical(path: &Path) -> Result<PathBuf> {
    Ok(fs::canonicalize(path).map_err(io("read", path))?)
}
