//! Does the work on one model of a batch, and reports it.

use std::sync::Mutex;
use std::time::Instant;

use onnxseal_core::{
    Checks, Destination, Edition, Error as CoreError, FileState, FileStates, Made, Progress,
    Publication, PublishHook, Volume, check_access, check_identities, protect, rekey, rotate,
    unprotect, verify,
};
use onnxseal_store::parallel::lock;
use onnxseal_store::{Flush, Location, OutputOptions, Stamp};

use crate::discover::Found;
use crate::error::{Error, Result};
use crate::record::{Asked, Noted};
use crate::report::{ModelReport, Outcome};
use crate::request::{Operation, Options, no_output_folder};
use crate::runs::Run;
use crate::standing::Standing;
use crate::survey::Survey;
use crate::target::{Target, beside};
use crate::watch::Watch;

/// The state that the models of a batch share.
pub(crate) struct Batch<'a> {
    pub(crate) operation: &'a Operation<'a>,
    pub(crate) options: &'a Options,
    pub(crate) watch: &'a dyn Watch,
    pub(crate) request: String,
    pub(crate) run: Run,
    /// Whether a record already names this run.
    pub(crate) recorded: Mutex<bool>,
    pub(crate) stopped: Mutex<bool>,
    /// Whether an output may have replaced a file.
    pub(crate) replaced: Mutex<bool>,
}

impl Batch<'_> {
    pub(crate) fn model(&self, found: &Found, survey: &Survey) -> ModelReport {
        let begun = Instant::now();
        let progress = self.watch.model(found, survey.bytes);
        let run = ModelRun {
            batch: self,
            found,
            survey,
            place: self.place(found),
            progress: &*progress,
            known: Mutex::default(),
        };
        let outcome = run.carry_out();
        let Known {
            files,
            weights,
            not_in_force,
            ..
        } = std::mem::take(&mut *lock(&run.known));
        let mut report = match outcome {
            Ok(outcome) => {
                let bytes = match files.input.is_empty() {
                    true => survey.bytes,
                    false => files.input.iter().map(|file| file.bytes).sum(),
                };
                ModelReport {
                    weights,
                    not_in_force,
                    bytes,
                    input_files: self.told(files.input),
                    output_files: self.told(files.output),
                    ..self.unfinished(found, survey, outcome)
                }
            }
            Err(error) => ModelReport {
                error: Some(error.into()),
                ..self.unfinished(found, survey, Outcome::Failed)
            },
        };
        report.seconds = begun.elapsed().as_secs_f64();
        report
    }

    fn told(&self, mut files: Vec<FileState>) -> Vec<FileState> {
        for file in &mut files {
            file.stamp = None;
            file.blake3.take_if(|_| !self.options.checksum);
        }
        files
    }

    /// Makes the report of a model before any work.
    pub(crate) fn unfinished(
        &self,
        found: &Found,
        survey: &Survey,
        outcome: Outcome,
    ) -> ModelReport {
        let output = match self.place(found) {
            Some(place) => Some(place.output.to_string()),
            None if self.operation.goes_in_place() => Some(found.location.to_string()),
            None => None,
        };
        ModelReport {
            source: found.location.to_string(),
            output,
            outcome,
            bytes: survey.bytes,
            weights: None,
            not_in_force: None,
            seconds: 0.0,
            input_files: Vec::new(),
            output_files: Vec::new(),
            error: None,
        }
    }

    /// Makes the report of a path that could not be read.
    pub(crate) fn unreadable(&self, found: &Found, error: Error) -> ModelReport {
        ModelReport {
            output: None,
            error: Some(error.into()),
            ..self.unfinished(found, &Survey::unreadable(), Outcome::Failed)
        }
    }

    fn place<'f>(&'f self, found: &'f Found) -> Option<Target<'f>> {
        // Without an output folder, the batch would not have begun.
        Target::new(self.options.out.as_ref()?, found).ok()
    }
}

struct ModelRun<'a> {
    batch: &'a Batch<'a>,
    found: &'a Found,
    survey: &'a Survey,
    place: Option<Target<'a>>,
    progress: &'a dyn Progress,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    weights: Option<Volume>,
    not_in_force: Option<&'static str>,
    files: FileStates,
    noted: Noted,
    old: Vec<FileState>,
    creation: OutputOptions,
    /// Whether to remove the old outputs before the new ones get their names.
    makes_room: bool,
}

impl ModelRun<'_> {
    fn carry_out(&self) -> Result<Outcome> {
        let options = self.batch.options;
        let Some(place) = &self.place else {
            let made = self.make(Destination::InPlace(options.flush));
            return made.map(|()| Outcome::Done);
        };
        let Some(creation) = self.look_back(place)? else {
            return Ok(Outcome::Skipped);
        };
        let publication = Publication {
            location: place.output.clone(),
            options: creation,
            keep_paths: !matches!(self.batch.operation, Operation::Unprotect { .. }),
            hook: options.records.then_some(self as &dyn PublishHook),
        };
        self.make(publication.into()).map_err(|error| match error {
            // Our own error, from the hook.
            Error::Core(CoreError::Refused(error)) => match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(error) => CoreError::Refused(error).into(),
            },
            error => error,
        })?;
        if options.records && place.output.is_object() {
            place.add_tags(std::mem::take(&mut lock(&self.known).noted));
        }
        Ok(Outcome::Done)
    }

    /// Looks at what earlier runs left, and returns how to create the outputs, or `None` if all are
    /// there.
    fn look_back(&self, place: &Target<'_>) -> Result<Option<OutputOptions>> {
        let options = self.batch.options;
        let mut known = Known::default();
        // The batch syncs all outputs at the end, if any.
        (known.creation.replace, known.creation.flush) = (options.replace, Flush::Later);
        place.check_folders(&self.survey.external)?;
        place.sweep(&self.survey.external);
        if options.records {
            known.noted = place.noted()?;
        }
        if options.resume {
            match Standing::of(place, &mut known.noted, &self.asked()) {
                Ok(Standing::Done(mut record)) => {
                    self.check_opens()?;
                    if options.flush == Flush::ToDisk
                        && place.keep(&mut record, &known.noted, &self.batch.run)?
                    {
                        *lock(&self.batch.recorded) = true;
                    }
                    (known.files, known.weights) = (record.files, record.weights);
                    *lock(&self.known) = known;
                    return Ok(None);
                }
                Ok(Standing::Old(old)) if old.is_empty() => (),
                Ok(Standing::Old(old)) => {
                    // Only a single file can replace another in one step.
                    known.makes_room = old.len() > 1 || !self.survey.external.is_empty();
                    known.creation.replace = !known.makes_room;
                    known.old = old;
                }
                Err(Error::OutputForeign { .. }) if options.replace => (),
                Err(error) => return Err(error),
            }
        }
        let replaces = || options.replace && place.output.exists().unwrap_or(true);
        if !known.old.is_empty() || replaces() {
            *lock(&self.batch.replaced) = true;
        }
        let creation = known.creation;
        *lock(&self.known) = known;
        Ok(Some(creation))
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            operation: self.batch.operation,
            external: &self.survey.external,
            request: &self.batch.request,
            checksum: self.batch.options.checksum,
            run: &self.batch.run,
            progress: self.progress,
        }
    }

    /// Fails as the operation would if the model does not open as far as the operation needs.
    /// Records do not tell which identities opened the source in the earlier run.
    fn check_opens(&self) -> Result<()> {
        let (access, edition) = match self.batch.operation {
            Operation::Unprotect { access } => {
                return Ok(check_access(&self.found.location, access)?);
            }
            Operation::Rekey { access, .. } => (access, Edition::Any),
            Operation::Rotate { access, .. } => (access, Edition::Whole),
            Operation::Protect { .. } | Operation::Verify { .. } => return Ok(()),
        };
        let model = &self.found.location;
        Ok(check_identities(model, access.identities, edition)?)
    }

    fn make(&self, destination: Destination<'_>) -> Result<()> {
        let (model, progress) = (&self.found.location, self.progress);
        let weights = match *self.batch.operation {
            Operation::Protect {
                recipients,
                options,
            } => Some(protect(model, destination, recipients, options, progress)?.weights),
            Operation::Unprotect { access } => {
                let Destination::New(publication) = destination else {
                    return Err(no_output_folder());
                };
                unprotect(model, publication, access, progress)?;
                None
            }
            Operation::Rekey { access, recipients } => {
                rekey(model, destination, access, recipients, progress)?;
                None
            }
            Operation::Rotate {
                access,
                recipients,
                options,
            } => Some(rotate(model, destination, access, recipients, options, progress)?.weights),
            Operation::Verify { checks } => {
                let digests = self.batch.options.checksum;
                let verified = verify(model, &Checks { digests, ..checks }, progress)?;
                let mut known = lock(&self.known);
                known.files.input = verified.digests;
                known.not_in_force = verified.not_in_force;
                Some(verified.weights)
            }
        };
        lock(&self.known).weights = weights;
        Ok(())
    }
}

impl PublishHook for ModelRun<'_> {
    fn wants_digests(&self) -> bool {
        // The times of a source that was just written do not show a further write.
        let is_new = |path: &str| match beside(&self.found.location, path) {
            Location::File(path) => Stamp::at(&path).is_none_or(|stamp| !stamp.is_settled()),
            _ => false,
        };
        self.batch.options.checksum
            || !self.batch.run.knows_boot()
            || (self.place.as_ref()).is_some_and(|place| place.output.is_object())
            || is_new("")
            || self.survey.read.iter().any(|path| is_new(path))
    }

    fn makes_room(&self) -> bool {
        lock(&self.known).makes_room
    }

    fn publish(
        &self,
        made: &Made,
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut known = lock(&self.known);
        known.files = made.files.clone();
        let Some(place) = &self.place else {
            return Ok(());
        };
        let (asked, room) = (self.asked(), known.makes_room);
        known.noted =
            place.publish(&asked, &known.noted, made, &known.old, known.creation, room)?;
        *lock(&self.batch.recorded) = true;
        Ok(())
    }
}
