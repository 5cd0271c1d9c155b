//! Records: what was made of what, and how it was asked for.
//!
//! A record is a hint, for anybody may have written it. What it names is looked for below the output
//! folder, not through links; it counts as ours if it has the digest, and where outputs are protected
//! models, only if it is one.

use std::fs;
use std::path::{Component, Path, PathBuf};

use onnxseal_core::{
    Digests, Error as CoreError, FileDigest, Made, Manifest, Progress, Volume, digest_files,
    read_manifest,
};
use onnxseal_store::{
    Error as StoreError, Flush, Input, Location, Output, OutputOptions, Version, beneath, draft,
    folder_of,
};
use serde::{Deserialize, Serialize};

use crate::RECORDS;
use crate::discover::Found;
use crate::error::{Error, Result};
use crate::request::Operation;
use crate::shard::key;

/// Version of the records' shape.
const VERSION: u32 = 1;

/// Room for the digests of some 65,000 files.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// What became of a model, written before its outputs get their names.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    record: u32,
    /// Where the model file goes below the output folder; for people.
    model: String,
    /// Digest of what was asked for.
    request: String,
    #[serde(flatten)]
    pub(crate) digests: Digests,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weights: Option<Volume>,
    /// Outputs of other runs that stood there when this was written, or that may come to stand there:
    /// whoever finds one of them knows whose it is.
    replaced: Vec<FileDigest>,
}

/// Where a model and its record go.
#[derive(Debug)]
pub(crate) struct Target {
    out: Location,
    /// The model below `out`.
    relative: PathBuf,
    pub(crate) output: Location,
    pub(crate) record: Location,
}

/// What is asked for a model.
pub(crate) struct Asked<'a> {
    pub(crate) found: &'a Found,
    pub(crate) operation: &'a Operation<'a>,
    /// Its external files, as far as they are known.
    pub(crate) external: &'a [String],
    /// The digest of what is asked for.
    pub(crate) request: &'a str,
    /// Whether protected models count as outputs of earlier runs though no record says so.
    pub(crate) repair: bool,
    pub(crate) progress: &'a dyn Progress,
}

/// A record as it was read, if there was one to be read.
#[derive(Default)]
pub(crate) struct Noted {
    record: Option<Record>,
    version: Option<Version>,
}

/// What an earlier run left of a model.
pub(crate) enum Standing {
    /// All outputs, as they would be made again.
    Done(Record),
    /// These files, made by earlier runs.
    Old(Vec<FileDigest>),
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

    /// Where the output for a file of the model goes.
    pub(crate) fn location(&self, path: &str) -> Location {
        beside(&self.output, path)
    }

    /// The same below the output folder.
    fn relative(&self, path: &str) -> PathBuf {
        match path {
            "" => self.relative.clone(),
            path => self.relative.with_file_name(path),
        }
    }

    /// Fails where a link leads from the output folder to where the outputs for the model and its
    /// `external` files go.
    pub(crate) fn check_folders(&self, external: &[String]) -> Result<()> {
        let Location::File(out) = &self.out else {
            return Ok(());
        };
        let external = external.iter().map(String::as_str);
        for path in std::iter::once("").chain(external) {
            let name = self.location(path).to_name();
            let checked = beneath::check_folders(out, &self.relative(path));
            checked.map_err(onnxseal_core::io("reach", &name))?;
        }
        Ok(())
    }

    /// Removes what killed processes left where the outputs, and the record, go.
    pub(crate) fn sweep(&self, external: &[String]) {
        let external = external.iter().map(|path| self.location(path));
        let outputs = [self.output.clone(), self.record.clone()].into_iter();
        for location in outputs.chain(external) {
            if let Location::File(path) = location {
                draft::sweep(folder_of(&path));
            }
        }
    }

    /// What is there of the outputs, if it is what is `asked` for now.
    ///
    /// # Errors
    /// [`Error::OutputForeign`] for a file that the record does not tell of, unless it is empty; `Io` where
    /// a store does not answer.
    pub(crate) fn standing(&self, noted: &mut Noted, asked: &Asked<'_>) -> Result<Standing> {
        Ok(match self.recorded(noted, asked)? {
            Standing::Done(record) => Standing::Done(record),
            Standing::Old(mut old) => {
                self.add_empty(&mut old, asked)?;
                Standing::Old(old)
            }
        })
    }

    /// Adds to the `old` outputs those that are empty: a power loss leaves such files where outputs, or
    /// their records too, were not on the disk yet. Nothing is lost with them.
    fn add_empty(&self, old: &mut Vec<FileDigest>, asked: &Asked<'_>) -> Result<()> {
        if self.out.is_object() {
            return Ok(());
        }
        let external = asked.external.iter().map(String::as_str);
        for path in std::iter::once("").chain(external) {
            if old.iter().any(|file| file.path == path) {
                continue;
            }
            // What cannot be opened is in the way, and whoever makes the outputs says so.
            if let Ok(Some(there)) = self.open(path)
                && there.len == 0
            {
                old.push(digest(there, path, asked.progress)?);
            }
        }
        Ok(())
    }

    /// The same as far as the record tells.
    fn recorded(&self, noted: &mut Noted, asked: &Asked<'_>) -> Result<Standing> {
        let record = noted.record.as_ref();
        let candidates = candidates(record, asked);
        let mut old: Vec<FileDigest> = Vec::new();
        for path in &candidates {
            let Some(there) = self.open(path)? else {
                continue;
            };
            let name = there.path.clone();
            let is_empty = there.len == 0;
            let is_there = digest(there, path, asked.progress)?;
            let knows = |record: &Record| record.knows(&is_there);
            let is_known = record.is_some_and(knows)
                || (asked.repair && self.may_be_ours(&is_there, record, asked)?);
            // A model that is not protected is none that was protected, whatever a record says. What is
            // empty a power loss has left.
            let is_ours = is_empty || is_known && (!path.is_empty() || self.is_as_made(asked)?);
            match is_ours {
                true => old.push(is_there),
                // Without a record it is whoever makes the outputs that finds them in the way.
                false if record.is_none() => (),
                false => return Err(Error::OutputForeign { path: name }),
            }
        }
        let Some(record) = noted.record.take_if(|record| {
            let current = &record.digests.output;
            old.len() == current.len() && current.iter().all(|file| old.contains(file))
        }) else {
            return Ok(Standing::Old(old));
        };
        // All that stands there is known: nothing else need be remembered.
        let is_same = || {
            record.digests.input.iter().all(|file| {
                let input = beside(&asked.found.location, &file.path);
                input.len_bytes() == Some(file.bytes)
                    && (Input::open(&input).map_err(Error::from))
                        .and_then(|input| digest(input, &file.path, asked.progress))
                        .is_ok_and(|is| is == *file)
            })
        };
        let is_done = record.request == asked.request
            && self.is_whole(&record, asked.operation)?
            && is_same();
        match is_done {
            true => Ok(Standing::Done(record)),
            false => Ok(Standing::Old(old)),
        }
    }

    /// Opens the output of that path, if it is there; not through links.
    fn open(&self, path: &str) -> Result<Option<Input>> {
        let location = self.location(path);
        match (&self.out, &location) {
            (Location::File(out), Location::File(name)) => {
                let foreign = |_| Error::OutputForeign { path: name.clone() };
                let file = beneath::open(out, &self.relative(path)).map_err(foreign)?;
                Ok(file.map(|file| Input::of(name, file)).transpose()?)
            }
            _ => match location.exists()? {
                true => Ok(Some(Input::open(&location)?)),
                false => Ok(None),
            },
        }
    }

    /// Whether the model file that is there is of the kind that the operation makes.
    fn is_as_made(&self, asked: &Asked<'_>) -> Result<bool> {
        Ok(!asked.operation.seals() || self.protected()?.is_some())
    }

    /// Whether the outputs of `record` are all the files of the protected model there, where the
    /// operation makes protected models.
    fn is_whole(&self, record: &Record, operation: &Operation<'_>) -> Result<bool> {
        if !operation.seals() {
            return Ok(true);
        }
        let Some(protected) = self.protected()? else {
            return Ok(false);
        };
        let made = record.digests.output.iter().skip(1);
        let files = protected.files().iter().skip(1);
        Ok(files
            .map(|file| (&file.path, file.bytes))
            .eq(made.map(|file| (&file.path, file.bytes))))
    }

    /// The protected model there, if it is one.
    fn protected(&self) -> Result<Option<Manifest>> {
        let Some(model) = self.open("")? else {
            return Ok(None);
        };
        match read_manifest(model) {
            Ok(protected) => Ok(Some(protected)),
            Err(error) if error.kind() == onnxseal_core::ErrorKind::Io => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// Whether what is there may be an output of an earlier run that lost its record to another: a
    /// protected model, or external data that is as long as that of the model is.
    fn may_be_ours(
        &self,
        is_there: &FileDigest,
        record: Option<&Record>,
        asked: &Asked<'_>,
    ) -> Result<bool> {
        if !asked.operation.seals() {
            return Ok(false);
        }
        if is_there.path.is_empty() {
            return Ok(self.protected()?.is_some());
        }
        let recorded = record.into_iter().flat_map(Record::outputs);
        let is_so_long =
            |file: &FileDigest| file.path == is_there.path && file.bytes == is_there.bytes;
        if recorded.into_iter().any(is_so_long) {
            return Ok(true);
        }
        // Without a record, only what the protected model that stands there calls its own.
        let protected = self.protected()?;
        let named = protected.is_some_and(|protected| {
            let mut files = protected.files().iter();
            files.any(|file| file.path == is_there.path && file.bytes == is_there.bytes)
        });
        Ok(named)
    }

    /// The record, if there is one that was written to its end.
    ///
    /// # Errors
    /// `Io` where a store does not answer.
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
                let file = beneath::open(out, relative).map_err(onnxseal_core::io("open", name))?;
                Ok(file.map(|file| Input::of(name, file)).transpose()?)
            }
            _ => match self.record.exists()? {
                true => Ok(Some(Input::open(&self.record)?)),
                false => Ok(None),
            },
        }
    }

    /// Writes the record of what is about to get its name, then removes the `old` outputs, if
    /// it `makes_room`; both only if those are still what they were found to be, and the record is
    /// that which was `noted`.
    ///
    /// # Errors
    /// [`StoreError::OutputExists`], [`Error::OutputForeign`]; [`Error::InUse`] where another process has
    /// written a record meanwhile; `Io`.
    pub(crate) fn publish(
        &self,
        asked: &Asked<'_>,
        noted: &Noted,
        made: &Made,
        old: &[FileDigest],
        options: OutputOptions,
        makes_room: bool,
    ) -> Result<()> {
        let Made {
            digests, weights, ..
        } = made;
        if !options.replace {
            // The record of what stands there is not to be lost.
            let is_old = |file: &FileDigest| old.iter().any(|old| old.path == file.path);
            for file in digests.output.iter().filter(|file| !is_old(file)) {
                let output = self.location(&file.path);
                if output.exists()? {
                    let path = output.to_name();
                    return Err(StoreError::OutputExists { path }.into());
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
            digests: digests.clone(),
            weights: *weights,
            replaced,
        };
        self.write(asked.found, &record, noted)?;
        if makes_room {
            self.check_old(old, asked.progress)?;
            // The model file first: without its external files it is none.
            for file in old {
                self.remove(&file.path)?;
            }
        }
        Ok(())
    }

    /// Fails where one of the `old` outputs is another by now.
    fn check_old(&self, old: &[FileDigest], progress: &dyn Progress) -> Result<()> {
        for file in old {
            if let Some(there) = self.open(&file.path)?
                && digest(there, &file.path, progress)? != *file
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
                let removed = beneath::remove(out, &self.relative(path));
                Ok(removed.map_err(onnxseal_core::io("remove", &name))?)
            }
            (_, location) => Ok(location.remove()?),
        }
    }

    fn write(&self, found: &Found, record: &Record, noted: &Noted) -> Result<()> {
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
        let draft = Output::create(&self.record, true, text.len() as u64)?;
        draft.write_all_at(&text, 0)?;
        // Whoever may read the model may read what is known of it.
        let like = match &found.location {
            Location::File(path) => {
                Some(fs::metadata(path).map_err(onnxseal_core::io("read", path))?)
            }
            _ => None,
        };
        draft.publish(like.as_ref(), options)?;
        Ok(())
    }
}

impl Record {
    fn parse(text: &[u8]) -> Option<Record> {
        let record: Record = serde_json::from_slice(text).ok()?;
        let Digests { input, output } = &record.digests;
        let files = [input, output, &record.replaced];
        let are_plain = files.iter().all(|files| files.iter().all(is_plain));
        let begin = [input, output]
            .iter()
            .all(|files| files.first().is_some_and(|file| file.path.is_empty()));
        // No operation leaves a model file as it was.
        let is_other = input.first() != output.first();
        (record.record == VERSION && are_plain && begin && is_other).then_some(record)
    }

    /// The outputs of this run and of others.
    fn outputs(&self) -> impl Iterator<Item = &FileDigest> {
        self.digests.output.iter().chain(&self.replaced)
    }

    fn knows(&self, file: &FileDigest) -> bool {
        self.outputs().any(|known| known == file)
    }
}

/// The paths of what may stand there, the model file's first, each once.
fn candidates(record: Option<&Record>, asked: &Asked<'_>) -> Vec<String> {
    let recorded = record.into_iter().flat_map(Record::outputs);
    let mut paths: Vec<String> = recorded.map(|file| file.path.clone()).collect();
    if asked.repair {
        paths.push(String::new());
        paths.extend(asked.external.iter().cloned());
    }
    paths.sort();
    paths.dedup();
    paths
}

/// The digest of an open file, called `name`.
fn digest(input: Input, name: &str, progress: &dyn Progress) -> Result<FileDigest> {
    let mut digests = digest_files(&[("", input)], progress)?;
    let digest = digests.pop();
    let mut digest = digest.ok_or(CoreError::Internal("a file without a digest"))?;
    digest.path = name.to_owned();
    Ok(digest)
}

/// Where a file of the model at `model` is.
fn beside(model: &Location, file: &str) -> Location {
    match file {
        "" => model.clone(),
        file => model.beside(file),
    }
}

/// Whether a recorded path stays below the model's folder, and out of that of the records.
fn is_plain(file: &FileDigest) -> bool {
    let mut names = Path::new(&file.path).components();
    names.all(|name| matches!(name, Component::Normal(name) if name != RECORDS))
}
