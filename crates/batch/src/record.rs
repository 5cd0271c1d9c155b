//! Records: what was made of what, and how it was asked for.
//!
//! A record is a hint, for anybody may have written it. What it names is looked for below the output
//! folder, not through links; it counts as ours if it has the recorded length and times, or digest, and
//! where outputs are protected models, only if it is one.

use std::cell::OnceCell;
use std::fs;
use std::path::{Component, Path, PathBuf};

use onnxseal_core::{
    Error as CoreError, FileState, FileStates, Made, Manifest, Progress, Volume, digest_files,
    read_manifest,
};
use onnxseal_store::{
    Error as StoreError, Flush, Input, Location, Output, OutputOptions, Permitted, Stamp, Version,
    beneath, draft, folder_of,
};
use serde::{Deserialize, Serialize};

use crate::RECORDS;
use crate::discover::Found;
use crate::error::{Error, Result};
use crate::request::Operation;
use crate::runs::Run;
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
    pub(crate) files: FileStates,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weights: Option<Volume>,
    /// Outputs of other runs that stood there when this was written, or that may come to stand there:
    /// whoever finds one of them knows whose it is.
    replaced: Vec<FileState>,
    /// Whose record it is.
    run: Run,
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
    /// Whether only digests tell that a file is unchanged.
    pub(crate) checksum: bool,
    /// This run.
    pub(crate) run: &'a Run,
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
    fn add_empty(&self, old: &mut Vec<FileState>, asked: &Asked<'_>) -> Result<()> {
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
                old.push(There::new(path, there, asked.progress).state()?);
            }
        }
        Ok(())
    }

    /// The same as far as the record tells.
    fn recorded(&self, noted: &mut Noted, asked: &Asked<'_>) -> Result<Standing> {
        let record = noted.record.as_ref();
        let mut old: Vec<FileState> = Vec::new();
        // How many of the record's outputs stand there, and whether it tells that they are whole.
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
        // The model file's first, each once.
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
            // A model that is not protected is none that was protected, whatever a record says. What is
            // empty a power loss has left.
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
        // All that stands there is known: nothing else need be remembered.
        let is_done = are_whole
            && self.is_whole(&record, asked.operation)?
            && record.files.input.iter().all(|file| is_same(file, asked));
        if is_done {
            Ok(Standing::Done(record))
        } else {
            Ok(Standing::Old(old))
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
            _ if !location.exists()? => Ok(None),
            _ => Ok(Some(Input::open(&location)?)),
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
        let made = record.files.output.iter().skip(1);
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
            _ if !self.record.exists()? => Ok(None),
            _ => Ok(Some(Input::open(&self.record)?)),
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
        old: &[FileState],
        options: OutputOptions,
        makes_room: bool,
    ) -> Result<Noted> {
        let Made { files, weights, .. } = made;
        if !options.replace {
            // The record of what stands there is not to be lost.
            let is_old = |file: &FileState| old.iter().any(|old| old.path == file.path);
            for file in files.output.iter().filter(|file| !is_old(file)) {
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
            files: files.clone(),
            weights: *weights,
            replaced,
            run: asked.run.clone(),
        };
        let version = self.write(asked.found, &record, noted)?;
        if makes_room {
            self.check_old(old, asked.progress)?;
            // The model file first: without its external files it is none.
            for file in old {
                self.remove(&file.path)?;
            }
        }
        Ok(Noted {
            record: Some(record),
            version,
        })
    }

    /// Adds entity tags to the record that was `noted` when it was written: objects get them with their names.
    /// Where that fails, digests still tell what the record is of.
    pub(crate) fn add_tags(&self, found: &Found, mut noted: Noted) {
        // Without a version, nothing would keep the record of another run from being lost.
        let (Some(mut record), Some(_)) = (noted.record.take(), &noted.version) else {
            return;
        };
        for file in &mut record.files.output {
            match Input::open(&self.location(&file.path)) {
                Ok(there) if there.len == file.bytes => file.stamp = there.stamp(),
                // It is another's by now.
                _ => return,
            }
        }
        let _ = self.write(found, &record, &noted);
    }

    /// Fails where one of the `old` outputs is another by now.
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
                let removed = beneath::remove(out, &self.relative(path));
                Ok(removed.map_err(onnxseal_core::io("remove", &name))?)
            }
            (_, location) => Ok(location.remove()?),
        }
    }

    /// Takes the outputs of an earlier run for this `run`'s, which will put them on the disk, unless that one
    /// did. Returns whether it did so.
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

    /// Writes the record. Returns which object it is, where the store keeps one from overwriting another's.
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
        let draft = Output::create(&self.record, true, text.len() as u64)?;
        draft.write_all_at(&text, 0)?;
        // Whoever may read the model may read what is known of it.
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
        // No operation leaves a model file as it was.
        let digest = |files: &[FileState]| files.first().and_then(|file| file.blake3.clone());
        let is_other = digest(input).is_none() || digest(input) != digest(output);
        (record.record == VERSION && are_plain && begin && is_other).then_some(record)
    }

    /// The outputs of this run and of others.
    fn outputs(&self) -> impl Iterator<Item = &FileState> {
        self.files.output.iter().chain(&self.replaced)
    }
}

/// A file that is there, open.
struct There<'a> {
    path: &'a str,
    input: Input,
    progress: &'a dyn Progress,
    /// Taken once it is asked for.
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

    /// That of the `known` files that it is, whether or not all of its bytes are there.
    fn find<'k>(&self, known: &'k [FileState]) -> Result<Option<&'k FileState>> {
        for file in known {
            if self.is_unchanged(file, true)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Whether it is as it is `known` to be, by its digest or, if `by_stamp`, by that.
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

    /// What is known of it by now, and enough to know it again.
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
        let digests = digest_files(&[("", &self.input)], self.progress)?;
        let digest = digests.into_iter().next().and_then(|file| file.blake3);
        let digest = digest.ok_or(CoreError::Internal("a file without a digest"))?;
        Ok(self.digest.get_or_init(|| digest))
    }
}

/// Whether a source is still what it was when it was `known`.
fn is_same(known: &FileState, asked: &Asked<'_>) -> bool {
    let location = beside(&asked.found.location, &known.path);
    location.len_bytes() == Some(known.bytes)
        && Input::open(&location).is_ok_and(|input| {
            let there = There::new(&known.path, input, asked.progress);
            there.is_unchanged(known, !asked.checksum).unwrap_or(false)
        })
}

/// Where a file of the model at `model` is.
pub(crate) fn beside(model: &Location, file: &str) -> Location {
    match file {
        "" => model.clone(),
        file => model.beside(file),
    }
}

/// Whether a recorded path stays below the model's folder, and out of that of the records.
fn is_plain(file: &FileState) -> bool {
    let mut names = Path::new(&file.path).components();
    names.all(|name| matches!(name, Component::Normal(name) if name != RECORDS))
}
