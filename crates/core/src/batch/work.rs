//! One model of a batch: what is done to it, and what becomes known of it.

use std::sync::Mutex;
use std::time::Instant;

use onnxseal_crypto::signature::SigningKey;

use super::record::{Place, Standing};
use super::survey::Survey;
use super::{ModelReport, Operation, Options, Outcome, Watch, lock};
use crate::digest::{Digests, FileDigest};
use crate::discover::Found;
use crate::error::{Error, Result};
use crate::location::Location;
use crate::manifest::FORMAT;
use crate::open::unprotect;
use crate::outputs::OutputOptions;
use crate::progress::Progress;
use crate::protect::{ProtectOptions, protect_with};
use crate::rekey::rekey;
use crate::report::Volume;
use crate::rotate::{Resign, RotateOptions, rotate_with};
use crate::verify::verify;

/// What is asked for, in few bytes: with another request, nothing is taken for done.
pub(super) fn request(operation: &Operation<'_>) -> String {
    // What Debug says of a policy is all of it.
    let how = match operation {
        Operation::Protect { options, .. } => {
            let ProtectOptions {
                policy,
                claims,
                signing_key,
                // Outputs go to another folder, where external files keep their paths.
                external_data: _,
                chunk_bytes,
                output: _,
            } = options;
            let signer = signing_key.as_ref().map(SigningKey::fingerprint);
            format!("{policy:?} {claims:?} {signer:?} {chunk_bytes}")
        }
        Operation::Rotate { options, .. } => {
            let RotateOptions {
                policy,
                claims,
                signature,
                output: _,
            } = options;
            // Whether a signature may get lost makes no other output.
            let signer = match signature {
                Resign::With(key) => Some(key.fingerprint()),
                Resign::Refuse | Resign::Drop => None,
            };
            format!("{policy:?} {claims:?} {signer:?}")
        }
        _ => String::new(),
    };
    // Of a passphrase it says that it is one.
    let mut recipients: Vec<&str> = match operation {
        Operation::Protect { recipients, .. }
        | Operation::Rekey { recipients, .. }
        | Operation::Rotate { recipients, .. } => recipients.names().collect(),
        Operation::Unprotect { .. } | Operation::Verify { .. } => Vec::new(),
    };
    recipients.sort_unstable();
    let text = format!("{FORMAT} {} {how} {recipients:?}", operation.name());
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// What the models of a batch have in common.
pub(super) struct Batch<'a> {
    pub(super) operation: &'a Operation<'a>,
    pub(super) options: &'a Options,
    pub(super) watch: &'a dyn Watch,
    pub(super) request: String,
    pub(super) stopped: Mutex<bool>,
}

impl Batch<'_> {
    pub(super) fn model(&self, found: &Found, survey: &Survey) -> ModelReport {
        let begun = Instant::now();
        let progress = self.watch.model(found, survey.bytes);
        let place = self.place(found);
        let notes = Notes {
            batch: self,
            found,
            place: place.as_ref(),
            progress: &*progress,
            known: Mutex::default(),
        };
        let outcome = notes.carry_out(survey);
        let known = std::mem::take(&mut *lock(&notes.known));
        let mut report = match outcome {
            Ok(outcome) => self.unfinished(found, survey, outcome),
            Err(error) => ModelReport {
                error: Some(error.into()),
                ..self.unfinished(found, survey, Outcome::Failed)
            },
        };
        if report.error.is_none() {
            report.weights = known.weights;
            report.input_files = known.digests.input;
            report.output_files = known.digests.output;
            if !report.input_files.is_empty() {
                report.bytes = report.input_files.iter().map(|file| file.bytes).sum();
            }
        }
        report.seconds = begun.elapsed().as_secs_f64();
        report
    }

    /// The report of a model of which nothing is known yet.
    pub(super) fn unfinished(
        &self,
        found: &Found,
        survey: &Survey,
        outcome: Outcome,
    ) -> ModelReport {
        let output = self.place(found).map(|place| place.output);
        ModelReport {
            source: found.location.to_string(),
            output: output.map(|location| location.to_string()),
            outcome,
            bytes: survey.bytes,
            weights: None,
            seconds: 0.0,
            input_files: Vec::new(),
            output_files: Vec::new(),
            error: None,
        }
    }

    fn place(&self, found: &Found) -> Option<Place> {
        let out = self.options.out.as_ref()?;
        // Where there is none, nothing would have begun.
        Place::new(out, found).ok()
    }
}

/// One model, and what becomes known of it.
struct Notes<'a> {
    batch: &'a Batch<'a>,
    found: &'a Found,
    place: Option<&'a Place>,
    progress: &'a dyn Progress,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    weights: Option<Volume>,
    digests: Digests,
    /// What earlier runs have made.
    old: Vec<FileDigest>,
    creation: OutputOptions,
}

impl Notes<'_> {
    fn carry_out(&self, survey: &Survey) -> Result<Outcome> {
        let Some(place) = self.place else {
            return self.verify().map(|()| Outcome::Done);
        };
        let options = self.batch.options;
        let mut creation = OutputOptions::default();
        (creation.replace, creation.sync) = (options.replace, false);
        if options.resume {
            match place.standing(self.found, &self.batch.request, self.progress) {
                Ok(Standing::Done(record)) => {
                    let mut known = lock(&self.known);
                    (known.digests, known.weights) = (record.digests, record.weights);
                    return Ok(Outcome::Skipped);
                }
                Ok(Standing::Old(old)) if old.is_empty() => (),
                Ok(Standing::Old(old)) => {
                    let several = old.len() > 1 || !survey.external.is_empty();
                    // One file replaces another in one step; several cannot.
                    (creation.replace, creation.cleared) = (!several, several);
                    lock(&self.known).old = old;
                }
                Err(Error::OutputForeign { .. }) if options.replace => (),
                Err(error) => return Err(error),
            }
        }
        lock(&self.known).creation = creation;
        self.make(&self.found.location, &place.output, creation)?;
        Ok(Outcome::Done)
    }

    fn make(&self, model: &Location, output: &Location, creation: OutputOptions) -> Result<()> {
        match *self.batch.operation {
            Operation::Protect {
                recipients,
                options,
            } => protect_with(model, output, recipients, options, creation, self).map(drop),
            Operation::Unprotect { access } => unprotect(model, output, access, creation, self),
            Operation::Rekey { access, recipients } => {
                rekey(model, output, access, recipients, creation, self).map(drop)
            }
            Operation::Rotate {
                access,
                recipients,
                options,
            } => rotate_with(model, output, access, recipients, options, creation, self).map(drop),
            Operation::Verify { .. } => self.verify(),
        }
    }

    fn verify(&self) -> Result<()> {
        let Operation::Verify { checks } = self.batch.operation else {
            return Err(Error::Internal("an operation without an output folder"));
        };
        let verified = verify(&self.found.location, checks, self)?;
        lock(&self.known).weights = Some(verified.weights);
        Ok(())
    }
}

impl Progress for Notes<'_> {
    fn begin(&self, bytes: u64) {
        self.progress.begin(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.progress.advance(bytes);
    }

    fn is_cancelled(&self) -> bool {
        self.progress.is_cancelled()
    }

    fn planned(&self, weights: &Volume) {
        lock(&self.known).weights = Some(*weights);
    }

    fn wants_digests(&self) -> bool {
        self.batch.options.records
    }

    fn ready(&self, digests: &Digests) -> std::io::Result<()> {
        let mut known = lock(&self.known);
        known.digests = digests.clone();
        let Some(place) = self.place else {
            return Ok(());
        };
        let (found, request) = (self.found, &self.batch.request);
        let Known { old, creation, .. } = &*known;
        place.ready(found, request, digests, known.weights, old, *creation)
    }
}
