//! Records: which outputs were made from which sources, by which request.

use std::fs;
use std::path::{Component, Path};

use onnxseal_core::{FileState, FileStates, Made, Progress, Volume, io};
use onnxseal_store::{
    Error as StoreError, Flush, Input, Location, OutputOptions, Permitted, Version,
};
use serde::{Deserialize, Serialize};

use crate::RECORDS;
use crate::error::{Error, Result};
use crate::existing::Existing;
use crate::request::Operation;
use crate::runs::Run;
use crate::target::Target;

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
    pub(crate) request: String,
    #[serde(flatten)]
    pub(crate) files: FileStates,
    /// For the report of a run that skips the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weights: Option<Volume>,
    /// Outputs of other runs that existed when this was written, or may appear: they identify files
    /// that this run did not write.
    pub(crate) replaced: Vec<FileState>,
    pub(crate) run: Run,
}

/// The request for a model.
pub(crate) struct Asked<'a> {
    pub(crate) operation: &'a Operation<'a>,
    /// Its external files, as far as known.
    pub(crate) external: &'a [String],
    pub(crate) request: &'a str,
    /// Whether only digests prove that a file is unchanged.
    pub(crate) checksum: bool,
    pub(crate) run: &'a Run,
    pub(crate) progress: &'a dyn Progress,
}

/// The record that was read, if any.
#[derive(Default)]
pub(crate) struct Noted {
    pub(crate) record: Option<Record>,
    version: Option<Version>,
}

impl Record {
    fn parse(text: &[u8]) -> Option<Record> {
        let record: Record = serde_json::from_slice(text).ok()?;
        let FileStates { input, output } = &record.files;
        let begins = |files: &[FileState]| files.first().is_some_and(|file| file.path.is_empty());
        let mut files = input.iter().chain(output).chain(&record.replaced);
        let is_legal =
            record.record == VERSION && begins(input) && begins(output) && files.all(is_plain);
        is_legal.then_some(record)
    }

    /// Returns the outputs of this run and of others.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = &FileState> {
        self.files.output.iter().chain(&self.replaced)
    }
}

/// Returns whether a recorded path stays below the model's folder, and outside the folder of the
/// records.
fn is_plain(file: &FileState) -> bool {
    let mut names = Path::new(&file.path).components();
    names.all(|name| matches!(name, Component::Normal(name) if name != RECORDS))
}

impl Target<'_> {
    /// Reads the record, if a complete one exists.
    pub(crate) fn noted(&self) -> Result<Noted> {
        let read = || -> Result<Noted> {
            let Some(input) = self.open_record()? else {
                return Ok(Noted::default());
            };
            let mut text = vec![0; input.len.min(MAX_RECORD_BYTES) as usize];
            input.read_exact_at(&mut text, 0)?;
            Ok(Noted {
                record: Record::parse(&text),
                version: input.version(),
            })
        };
        match read() {
            Err(_) if !self.record.is_object() => Ok(Noted::default()),
            noted => noted,
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
                    return Err(StoreError::OutputExists(output.to_name()).into());
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
            model: self.found.relative.to_string_lossy().into_owned(),
            request: asked.request.to_owned(),
            files: files.clone(),
            weights: *weights,
            replaced,
            run: asked.run.clone(),
        };
        let version = self.write(&record, noted)?;
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

    /// Fails if one of the `old` outputs has changed.
    fn check_old(&self, old: &[FileState], progress: &dyn Progress) -> Result<()> {
        for file in old {
            if let Some(there) = self.open(&file.path)?
                && !Existing::new(&file.path, there, progress).is_unchanged(file, true)?
            {
                let path = self.location(&file.path).to_name();
                return Err(Error::OutputForeign { path });
            }
        }
        Ok(())
    }

    /// Adds entity tags, which objects get with their names, to the record that was `noted` when it
    /// was written. A later run then need not read the outputs. On failure, digests still identify
    /// them.
    pub(crate) fn add_tags(&self, mut noted: Noted) {
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
        let _ = self.write(&record, &noted);
    }

    /// Adopts the outputs of an earlier run for this `run`, which will sync them, unless the
    /// earlier run did. Returns whether it adopted them.
    pub(crate) fn keep(&self, record: &mut Record, noted: &Noted, run: &Run) -> Result<bool> {
        match self.out {
            Location::File(out) if !record.run.is_synced(out) => {
                record.run = run.clone();
                self.write(record, noted)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Writes the record. Returns its version, if the store can refuse to overwrite another's.
    fn write(&self, record: &Record, noted: &Noted) -> Result<Option<Version>> {
        let name = self.record.to_name();
        let text = serde_json::to_vec(record).map_err(|error| io("write", &name)(error.into()))?;
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
        let like = match &self.found.location {
            Location::File(path) => Permitted::like(&fs::metadata(path).map_err(io("read", path))?),
            _ => Permitted::OWNER,
        };
        draft.publish(like, options)?;
        Ok(None)
    }
}
