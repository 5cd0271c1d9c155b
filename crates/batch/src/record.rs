//! Records: which outputs were made from which sources, by which request.
//!
//! A record is only a hint, because anyone may have written it. The files that it names are looked
//! up below the output folder, without following links. Such a file counts as ours if it has the
//! recorded length and times, or digest, and if it is a protected model where outputs are.

use std::cell::OnceCell;
use std::fs;
use std::path::{Component, Path, PathBuf};

use onnxseal_core::{
    FileState, FileStates, Made, Manifest, Outline, Progress, Volume, digest_file,
};
use onnxseal_store::{
    Error as StoreError, Flush, Input, Location, OutputOptions, Permitted, Stamp, Version, draft,
    folder_of, no_links,
};
use serde::{Deserialize, Serialize};

use crate::RECORDS;
use crate::discover::Found;
use crate::error::{Error, Result};
use crate::request::Operation;
use crate::runs::Run;
use crate::shard::key;

/// Version of the records' format.
const VERSION: u32 = 1;

/// Room for the digests of some 65,000 files.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// The record of a model, written before its outputs get their names.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    record: u32,
    /// The path of the model file below the output folder, for people.
    model: String,
    /// Digest of the request.
    request: String,
    #[serde(flatten)]
    pub(crate) files: FileStates,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weights: Option<Volume>,
    /// Outputs of other runs that existed when this was written, or may appear: they identify files
    /// that this run did not write.
    replaced: Vec<FileState>,
    /// The run that wrote the record.
    run: Run,
}

/// The place of a model's outputs and its record.
#[derive(Debug)]
pub(crate) struct Target {
    out: Location,
    /// The path of the model below `out`.
    relative: PathBuf,
    pub(crate) output: Location,
    pub(crate) record: Location,
}

/// The request for a model.
pub(crate) struct Asked<'a> {
    pub(crate) found: &'a Found,
    pub(crate) operation: &'a Operation<'a>,
    /// Its external files, as far as known.
    pub(crate) external: &'a [String],
    /// The digest of the request.
    pub(crate) request: &'a str,
    /// Whether only digests prove that a file is unchanged.
    pub(crate) checksum: bool,
    /// This run.
    pub(crate) run: &'a Run,
    pub(crate) progress: &'a dyn Progress,
}

/// The record that was read, if any.
#[derive(Default)]
pub(crate) struct Noted {
    record: Option<Record>,
    version: Option<Version>,
}

/// The outputs that earlier runs left for a model.
pub(crate) enum Standing {
    /// All outputs, equal to those that this run would make.
    Done(Record),
    /// These files, made by earlier runs.
    Old(Vec<FileState>),
}

impl Target {
    pub(crate) fn new(out: &Location, found: &Found) -> Result<Target> {
        let name = blake3::hash(&key(&found.relative)).to_hex();
        let name = name.get(..32).unwrap_or_default();
        let record = Path::new(RECORDS).join(format!("{name}.json"));
        Ok(Target {
            out: out.clone(),
            relative: found.relative.clone(),
            output: out.join(&found.relative)?,
            record: out.join(&record)?,
        })
    }

    /// Returns the location of the output for a file of the model.
    pub(crate) fn location(&self, path: &str) -> Location {
        beside(&self.output, path)
    }

    /// Returns the path of the output for a file, below the output folder.
    fn relative(&self, path: &str) -> PathBuf {
        match path {
            "" => self.relative.clone(),
            path => self.relative.with_file_name(path),
        }
    }

    /// Fails if a folder between the output folder and the outputs of the model and its `external`
    /// files is a link.
    pub(crate) fn check_folders(&self, external: &[String]) -> Result<()> {
        let Location::File(out) = &self.out else {
            return Ok(());
        };
        let external = external.iter().map(String::as_str);
        for path in std::iter::once("").chain(external) {
            let name = self.location(path).to_name();
            let checked = no_links::check_folders(out, &self.relative(path));
            checked.map_err(onnxseal_core::io("reach", &name))?;
        }
        Ok(())
    }

    /// Removes the files that killed processes left in the folders of the outputs and the record.
    pub(crate) fn sweep(&self, external: &[String]) {
        let external = external.iter().map(|path| self.location(path));
        let outputs = [self.output.clone(), self.record.clone()].into_iter();
        for location in outputs.chain(external) {
            if let Location::File(path) = location {
                draft::sweep(folder_of(&path));
            }
        }
    }

    /// Returns which outputs exist, and whether they are `asked` for now.
    pub(crate) fn standing(&self, noted: &mut Noted, asked: &Asked<'_>) -> Result<Standing> {
        Ok(match self.recorded(noted, asked)? {
            Standing::Done(record) => Standing::Done(record),
            Standing::Old(mut old) => {
                self.add_empty(&mut old, asked)?;
                Standing::Old(old)
            }
        })
    }

    /// Adds empty outputs to the `old` ones. A power loss leaves empty files if outputs, or also
    /// their records, were not synced; replacing them loses nothing.
    fn add_empty(&self, old: &mut Vec<FileState>, asked: &Asked<'_>) -> Result<()> {
        if self.out.is_object() {
            return Ok(());
        }
        let external = asked.external.iter().map(String::as_str);
        for path in std::iter::once("").chain(external) {
            if old.iter().any(|file| file.path == path) {
                continue;
            }
            // A file that cannot be opened is in the way: making the outputs will report it.
            if let Ok(Some(there)) = self.open(path)
                && there.len == 0
            {
                old.push(There::new(path, there, asked.progress).state()?);
            }
        }
        Ok(())
    }

    /// Returns which outputs exist, as far as the record tells.
    fn recorded(&self, noted: &mut Noted, asked: &Asked<'_>) -> Result<Standing> {
        let record = noted.record.as_ref();
        let mut old: Vec<FileState> = Vec::new();
        // How many of the record's outputs exist, and whether the record proves that they are
        // whole.
        let mut standing = 0;
        let mut are_whole = record.is_some_and(|record| record.request == asked.request);
        let by_stamp = !asked.checksum
            && record.is_some_and(|record| asked.run.is_kept(&record.run, &self.out));
        let (made, replaced) = record.map_or((&[][..], &[][..]), |record| {
            (&record.files.output, &record.replaced)
        });
        let mut paths: Vec<&str> = record
            .into_iter()
            .flat_map(Record::outputs)
            .map(|file| &*file.path)
            .collect();
        // The model file first, each path once.
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            let Some(there) = self.open(path)? else {
                continue;
            };
            let there = There::new(path, there, asked.progress);
            let known = there.find(made)?;
            if let Some(known) = known {
                standing += 1;
                are_whole = are_whole && there.is_unchanged(known, by_stamp)?;
            }
            let is_known = known.is_some() || there.find(replaced)?.is_some();
            // An unprotected model cannot be our output, whatever a record says. A power loss
            // leaves empty files.
            let is_ours =
                there.input.len == 0 || is_known && (!path.is_empty() || self.is_as_made(asked)?);
            if !is_ours {
                let path = there.input.path;
                return Err(Error::OutputForeign { path });
            }
            old.push(there.state()?);
        }
        let Some(record) = noted.record.take_if(|record| {
            let made = record.files.output.len();
            standing == made && old.len() == made
        }) else {
            return Ok(Standing::Old(old));
        };
        // The record lists all existing files, so no other need be remembered.
        let is_done = are_whole
            && self.is_whole(&record, asked.operation)?
            && record.files.input.iter().all(|file| is_same(file, asked));
        if is_done {
            Ok(Standing::Done(record))
        } else {
            Ok(Standing::Old(old))
        }
    }

    /// Opens the output at `path`, if it exists, without following links.
    fn open(&self, path: &str) -> Result<Option<Input>> {
        let location = self.location(path);
        match (&self.out, &location) {
            (Location::File(out), Location::File(name)) => {
                let foreign = |_| Error::OutputForeign { path: name.clone() };
                let file = no_links::open(out, &self.relative(path)).map_err(foreign)?;
                Ok(file.map(|file| Input::of(name, file)).transpose()?)
            }
            _ if !location.exists()? => Ok(None),
            _ => Ok(Some(Input::open(&location)?)),
        }
    }

    /// Returns whether the existing model file is of the kind that the operation makes.
    fn is_as_made(&self, asked: &Asked<'_>) -> Result<bool> {
        Ok(!asked.operation.seals() || self.protected()?.is_some())
    }

    /// Returns whether the outputs of `record` are all files of the existing protected model, if
    /// the operation makes protected models.
    fn is_whole(&self, record: &Record, operation: &Operation<'_>) -> Result<bool> {
        if !operation.seals() {
            return Ok(true);
        }
        let Some(protected) = self.protected()? else {
            return Ok(false);
        };
        let made = record.files.output.iter().skip(1);
        let files = protected.files().iter().skip(1);
        Ok(files
            .map(|file| (&file.path, file.bytes))
            .eq(made.map(|file| (&file.path, file.bytes))))
    }

    /// Reads the manifest of the existing model, if it is protected.
    fn protected(&self) -> Result<Option<Manifest>> {
        let Some(model) = self.open("")? else {
            return Ok(None);
        };
        match Outline::of(model).manifest() {
            Ok(protected) => Ok(protected),
            Err(error) if error.kind() == onnxseal_core::ErrorKind::Io => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// Reads the record, if a complete one exists.
    pub(crate) fn noted(&self) -> Result<Noted> {
        let input = match self.open_record() {
            Ok(Some(input)) => input,
            Ok(None) => return Ok(Noted::default()),
            Err(error) if self.record.is_object() => return Err(error),
            Err(_) => return Ok(Noted::default()),
        };
        let mut text = vec![0; input.len.min(MAX_RECORD_BYTES) as usize];
        let read = input.read_exact_at(&mut text, 0);
        if self.record.is_object() {
            read?;
        }
        Ok(Noted {
            record: Record::parse(&text),
            version: input.version(),
        })
    }

    fn open_record(&self) -> Result<Option<Input>> {
        match (&self.out, &self.record) {
            (Location::File(out), Location::File(name)) => {
                let relative = name.strip_prefix(out).unwrap_or(name);
                let file =
                    no_links::open(out, relative).map_err(onnxseal_core::io("open", name))?;
                Ok(file.map(|file| Input::of(name, file)).transpose()?)
            }
            _ if !self.record.exists()? => Ok(None),
            _ => Ok(Some(Input::open(&self.record)?)),
        }
    }

    /// Writes the record of the outputs about to get their names, then removes the `old` outputs if
    /// it `makes_room`. It does both only if the old outputs and the `noted` record are unchanged.
    pub(crate) fn publish(
        &self,
        asked: &Asked<'_>,
        noted: &Noted,
        made: &Made,
        old: &[FileState],
        options: OutputOptions,
        makes_room: bool,
    ) -> Result<Noted> {
        let Made { files, weights, .. } = made;
        if !options.replace {
            // Keep the record of existing outputs.
            let is_old = |file: &FileState| old.iter().any(|old| old.path == file.path);
            for file in files.output.iter().filter(|file| !is_old(file)) {
                let output = self.location(&file.path);
                if output.exists()? {
                    let path = output.to_name();
                    return Err(StoreError::OutputExists(path).into());
                }
            }
        }
        self.check_old(old, asked.progress)?;
        let mut replaced = old.to_vec();
        for file in noted.record.iter().flat_map(Record::outputs) {
            if !replaced.contains(file) {
                replaced.push(file.clone());
            }
        }
        let record = Record {
            record: VERSION,
            model: asked.found.relative.to_string_lossy().into_owned(),
            request: asked.request.to_owned(),
            files: files.clone(),
            weights: *weights,
            replaced,
            run: asked.run.clone(),
        };
        let version = self.write(asked.found, &record, noted)?;
        if makes_room {
            self.check_old(old, asked.progress)?;
            // The model file first, since it is useless without its external files.
            for file in old {
                self.remove(&file.path)?;
            }
        }
        Ok(Noted {
            record: Some(record),
            version,
        })
    }

    /// Adds entity tags, which objects get with their names, to the record that was `noted` when it
    /// was written. On failure, digests still identify the outputs.
    pub(crate) fn add_tags(&self, found: &Found, mut noted: Noted) {
        // Without a version, this could overwrite the record of another run.
        let (Some(mut record), Some(_)) = (noted.record.take(), &noted.version) else {
            return;
        };
        for file in &mut record.files.output {
            match Input::open(&self.location(&file.path)) {
                Ok(there) if there.len == file.bytes => file.stamp = there.stamp(),
                // The record is another run's by now.
                _ => return,
            }
        }
        let _ = self.write(found, &record, &noted);
    }

    /// Fails if one of the `old` outputs has changed.
    fn check_old(&self, old: &[FileState], progress: &dyn Progress) -> Result<()> {
        for file in old {
            if let Some(there) = self.open(&file.path)?
                && !There::new(&file.path, there, progress).is_unchanged(file, true)?
            {
                let path = self.location(&file.path).to_name();
                return Err(Error::OutputForeign { path });
            }
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<()> {
        match (&self.out, self.location(path)) {
            (Location::File(out), Location::File(name)) => {
                let removed = no_links::remove(out, &self.relative(path));
                Ok(removed.map_err(onnxseal_core::io("remove", &name))?)
            }
            (_, location) => Ok(location.remove()?),
        }
    }

    /// Adopts the outputs of an earlier run for this `run`, which will sync them, unless the
    /// earlier run did. Returns whether it adopted them.
    pub(crate) fn keep(
        &self,
        found: &Found,
        record: &mut Record,
        noted: &Noted,
        run: &Run,
    ) -> Result<bool> {
        let Location::File(out) = &self.out else {
            return Ok(false);
        };
        if record.run.is_synced(out) {
            return Ok(false);
        }
        record.run = run.clone();
        self.write(found, record, noted)?;
        Ok(true)
    }

    /// Writes the record. Returns its version, if the store can refuse to overwrite another's.
    fn write(&self, found: &Found, record: &Record, noted: &Noted) -> Result<Option<Version>> {
        let name = self.record.to_name();
        let text = serde_json::to_vec(record);
        let text = text.map_err(|error| onnxseal_core::io("write", &name)(error.into()))?;
        if let Location::Object(url) = &self.record {
            let written = url.put_after(text, noted.version.as_ref());
            return written.map_err(|error| match error {
                StoreError::Replaced { path, by } => Error::InUse { path, by },
                error => error.into(),
            });
        }
        let mut options = OutputOptions::default();
        (options.replace, options.flush) = (true, Flush::Later);
        let draft = onnxseal_store::create(&self.record, 0, true, text.len() as u64)?;
        draft.write_all_at(&text, 0)?;
        // The record gets the permissions of the model.
        let like = match &found.location {
            Location::File(path) => {
                Permitted::like(&fs::metadata(path).map_err(onnxseal_core::io("read", path))?)
            }
            _ => Permitted::OWNER,
        };
        draft.publish(like, options)?;
        Ok(None)
    }
}

impl Record {
    fn parse(text: &[u8]) -> Option<Record> {
        let record: Record = serde_json::from_slice(text).ok()?;
        let FileStates { input, output } = &record.files;
        let files = [input, output, &record.replaced];
        let are_plain = files.iter().all(|files| files.iter().all(is_plain));
        let begin = [input, output]
            .iter()
            .all(|files| files.first().is_some_and(|file| file.path.is_empty()));
        // Every operation changes the model file.
        let digest = |files: &[FileState]| files.first().and_then(|file| file.blake3.clone());
        let is_other = digest(input).is_none() || digest(input) != digest(output);
        (record.record == VERSION && are_plain && begin && is_other).then_some(record)
    }

    /// Returns the outputs of this run and of others.
    fn outputs(&self) -> impl Iterator<Item = &FileState> {
        self.files.output.iter().chain(&self.replaced)
    }
}

/// An existing file, open.
struct There<'a> {
    path: &'a str,
    input: Input,
    progress: &'a dyn Progress,
    /// Computed on first use.
    digest: OnceCell<String>,
}

impl<'a> There<'a> {
    fn new(path: &'a str, input: Input, progress: &'a dyn Progress) -> There<'a> {
        There {
            path,
            input,
            progress,
            digest: OnceCell::new(),
        }
    }

    fn is_named(&self, path: &str, bytes: u64) -> bool {
        self.path == path && self.input.len == bytes
    }

    /// Returns which of the `known` files it is, even if it is incomplete.
    fn find<'k>(&self, known: &'k [FileState]) -> Result<Option<&'k FileState>> {
        for file in known {
            if self.is_unchanged(file, true)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Returns whether it equals the `known` state, by its digest or, if `by_stamp`, by its stamp.
    fn is_unchanged(&self, known: &FileState, by_stamp: bool) -> Result<bool> {
        if !self.is_named(&known.path, known.bytes) {
            return Ok(false);
        }
        let fits = |known: &Stamp| self.input.stamp().is_some_and(|there| known.fits(&there));
        if by_stamp && known.stamp.as_ref().is_some_and(fits) {
            return Ok(true);
        }
        Ok(match &known.blake3 {
            Some(known) => self.digest()? == known,
            None => false,
        })
    }

    /// Returns its state, with enough to recognise it again.
    fn state(&self) -> Result<FileState> {
        let stamp = self.input.stamp();
        if stamp.is_none() {
            self.digest()?;
        }
        Ok(FileState {
            path: self.path.to_owned(),
            bytes: self.input.len,
            blake3: self.digest.get().cloned(),
            stamp,
        })
    }

    fn digest(&self) -> Result<&String> {
        if let Some(digest) = self.digest.get() {
            return Ok(digest);
        }
        let digest = digest_file(&self.input, self.progress)?;
        Ok(self.digest.get_or_init(|| digest))
    }
}

/// Returns whether a source still has its `known` state.
fn is_same(known: &FileState, asked: &Asked<'_>) -> bool {
    let location = beside(&asked.found.location, &known.path);
    location.len_bytes() == Some(known.bytes)
        && Input::open(&location).is_ok_and(|input| {
            let there = There::new(&known.path, input, asked.progress);
            there.is_unchanged(known, !asked.checksum).unwrap_or(false)
        })
}

/// Returns the location of a file of the model at `model`.
pub(crate) fn beside(model: &Location, file: &str) -> Location {
    match file {
        "" => model.clone(),
        file => model.beside(file),
    }
}

/// Returns whether a recorded path stays below the model's folder, and outside the folder of the
/// records.
fn is_plain(file: &FileState) -> bool {
    let mut names = Path::new(&file.path).components();
    names.all(|name| matches!(name, Component::Normal(name) if name != RECORDS))
}
