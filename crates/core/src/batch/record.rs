//! Records: what was made of what, and how it was asked for.

use std::fs;
use std::io;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::shard::key;
use super::{Found, RECORDS};
use crate::digest::{Digests, FileDigest, of_files};
use crate::error::{Error, Result};
use crate::input::Input;
use crate::location::Location;
use crate::outputs::{self, OutputOptions};
use crate::progress::Progress;
use crate::report::Volume;

/// Version of the records' shape.
const VERSION: u32 = 1;

/// Room for the digests of some 65,000 files.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// What became of a model, written before its outputs get their names.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    record: u32,
    /// Where the model file goes below the output folder; for people.
    model: String,
    /// Digest of what was asked for.
    request: String,
    #[serde(flatten)]
    pub(super) digests: Digests,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) weights: Option<Volume>,
    /// Outputs of earlier runs that stood there when this was written, and may still.
    replaced: Vec<FileDigest>,
}

/// Where a model and its record go.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) output: Location,
    pub(super) record: Location,
}

/// What an earlier run left of a model.
pub(super) enum Standing {
    /// All outputs, as they would be made again.
    Done(Record),
    /// These files, made by earlier runs.
    Old(Vec<FileDigest>),
}

impl Place {
    pub(super) fn new(out: &Location, found: &Found) -> Result<Place> {
        let name = blake3::hash(&key(&found.relative)).to_hex();
        let name = name.get(..32).unwrap_or_default();
        let record = Path::new(RECORDS).join(format!("{name}.json"));
        Ok(Place {
            output: out.join(&found.relative)?,
            record: out.join(&record)?,
        })
    }

    /// Where the output for a file of the model goes.
    pub(super) fn location(&self, file: &FileDigest) -> Location {
        beside(&self.output, &file.path)
    }

    /// What is there of the outputs for `found`, if `request` is what is asked for now.
    ///
    /// # Errors
    /// [`Error::OutputForeign`] for a file that no record tells of; `Io` where a store does not answer.
    pub(super) fn standing(
        &self,
        found: &Found,
        request: &str,
        progress: &dyn Progress,
    ) -> Result<Standing> {
        let Some(record) = self.read()? else {
            return Ok(Standing::Old(Vec::new()));
        };
        let mut old: Vec<FileDigest> = Vec::new();
        let mut n_current = 0;
        let current = record.digests.output.iter();
        for file in current.chain(&record.replaced) {
            let output = self.location(file);
            let seen = old.iter().any(|old| old.path == file.path);
            if seen || !output.exists()? {
                continue;
            }
            let is_there = match digest(&output, &file.path, progress) {
                // Of what a store does not give nobody knows what it is.
                Err(error) if output.is_object() => return Err(error),
                digest => digest.ok(),
            };
            let known = (record.digests.output.iter())
                .chain(&record.replaced)
                .find(|known| is_there.as_ref() == Some(*known));
            let Some(known) = known else {
                let path = output.to_name();
                return Err(Error::OutputForeign { path });
            };
            n_current += usize::from(record.digests.output.contains(known));
            old.push(known.clone());
        }
        let is_whole = n_current == record.digests.output.len() && n_current == old.len();
        let is_same = || {
            record.digests.input.iter().all(|file| {
                let input = beside(&found.location, &file.path);
                input.len() == Some(file.bytes)
                    && digest(&input, &file.path, progress).is_ok_and(|is| is == *file)
            })
        };
        match is_whole && record.request == request && is_same() {
            true => Ok(Standing::Done(record)),
            false => Ok(Standing::Old(old)),
        }
    }

    /// The record, if there is one that was written to its end.
    fn read(&self) -> Result<Option<Record>> {
        let read = || {
            let input = Input::open(&self.record)?;
            let mut text = vec![0; input.len.min(MAX_RECORD_BYTES) as usize];
            input.read_exact_at(&mut text, 0)?;
            Ok(text)
        };
        match read() {
            Ok(text) => Ok(Place::parse(&text)),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if self.record.is_object() => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn parse(text: &[u8]) -> Option<Record> {
        let record: Record = serde_json::from_slice(text).ok()?;
        let files = [
            &record.digests.input,
            &record.digests.output,
            &record.replaced,
        ];
        let are_plain = files.iter().all(|files| files.iter().all(is_plain));
        let begin = [&record.digests.input, &record.digests.output]
            .iter()
            .all(|files| files.first().is_some_and(|file| file.path.is_empty()));
        (record.record == VERSION && are_plain && begin).then_some(record)
    }

    /// Writes the record of what is about to get its name, then removes the `old` outputs, if
    /// `clears`.
    pub(super) fn ready(
        &self,
        found: &Found,
        request: &str,
        digests: &Digests,
        weights: Option<Volume>,
        old: &[FileDigest],
        options: OutputOptions,
    ) -> io::Result<()> {
        if !options.replace {
            // The record of what stands there is not to be lost.
            let is_old = |file: &FileDigest| old.iter().any(|old| old.path == file.path);
            for file in digests.output.iter().filter(|file| !is_old(file)) {
                let output = self.location(file);
                if output.exists().map_err(io::Error::other)? {
                    let exists = format!("{output} exists already");
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, exists));
                }
            }
        }
        let record = Record {
            record: VERSION,
            model: found.relative.to_string_lossy().into_owned(),
            request: request.to_owned(),
            digests: digests.clone(),
            weights,
            replaced: old.to_vec(),
        };
        self.write(found, &record).map_err(io::Error::other)?;
        if options.cleared {
            // The model file first: without its external files it is none.
            for file in old {
                self.location(file).remove().map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    fn write(&self, found: &Found, record: &Record) -> Result<()> {
        let name = self.record.to_name();
        let text = serde_json::to_vec(record);
        let text = text.map_err(|error| crate::error::io("write", &name)(error.into()))?;
        let mut options = OutputOptions::default();
        (options.replace, options.sync) = (true, false);
        let draft = outputs::begin(&self.record, true, text.len() as u64)?;
        draft.write_all_at(&text, 0)?;
        // Whoever may read the model may read what is known of it.
        let like = match &found.location {
            Location::File(path) => {
                Some(fs::metadata(path).map_err(crate::error::io("read", path))?)
            }
            Location::Object(_) | Location::Memory(_) => None,
        };
        draft.publish(like.as_ref(), options).map(drop)
    }
}

/// The digest of the file there, called `name`.
fn digest(location: &Location, name: &str, progress: &dyn Progress) -> Result<FileDigest> {
    let input = Input::open(location)?;
    let mut digests = of_files(&[("", input)], progress)?;
    let digest = digests.pop();
    let mut digest = digest.ok_or(Error::Internal("a file without a digest"))?;
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

/// Whether a recorded path stays below the model's folder.
fn is_plain(file: &FileDigest) -> bool {
    let mut names = Path::new(&file.path).components();
    names.all(|name| matches!(name, Component::Normal(_)))
}
