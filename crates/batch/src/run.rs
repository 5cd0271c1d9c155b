//! Runs a batch, from its first model to its report.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use onnxseal_store::parallel::{self, lock};
use onnxseal_store::{Flush, Location, sync_all};

use crate::discover::{Discovery, Found, Unreadable};
use crate::error::{Error, Result};
use crate::layout;
use crate::lock::Hold;
use crate::memory;
use crate::report::{ModelReport, Outcome, Report, Totals};
use crate::request::{Operation, Options, no_output_folder, request};
use crate::runs::Run;
use crate::schedule::{Next, Schedule};
use crate::survey::Survey;
use crate::target::Target;
use crate::watch::Watch;
use crate::work::Batch;

/// Does `operation` on all models that [`discover`](crate::discover()) found. Paths that it could
/// not read are in the report, as failed.
///
/// Skips models in the output folder, which are outputs. A model that is changed in place is at any
/// moment as it was or as it shall be. At the end of its turn it is on the disk, unless
/// [`Flush::Later`] says that it need not be.
///
/// # Errors
/// `Usage` if there is no model, two outputs would have one name, an output is an input, the memory
/// is too small for the threads, or another batch writes to the output folder; `Io` if the output
/// folder cannot be written. Then nothing has been done. The report has later failures.
pub fn run(
    found: Discovery,
    operation: &Operation<'_>,
    options: &Options,
    watch: &dyn Watch,
) -> Result<Report> {
    let begun = Instant::now();
    if let Some(out) = &options.out {
        out.check_reachable()?;
    }
    let (models, unreadable) = choose(found, operation, options, watch)?;
    let locations = models.iter().map(|found| &found.location);
    let is_remote = options.out.iter().chain(locations).any(Location::is_object);
    let jobs = options.jobs.unwrap_or_else(|| usual_jobs(is_remote));
    let given = options.memory_bytes.unwrap_or_else(memory::available);
    let memory = memory::spare(given, jobs, is_remote)?;
    let models = survey(models, operation, options, jobs, memory);
    if let Some(out) = &options.out {
        layout::check_files(&models, out, &options.spared)?;
    }
    if let Some(report) = &options.report {
        layout::check_report(&models, options.out.as_ref(), report)?;
    }
    let held = match &options.out {
        Some(Location::File(out)) => Hold::take(out, options.shard, watch)?,
        _ => None,
    };
    let bytes = models.iter().map(|(_, survey)| survey.bytes);
    watch.begin(models.len(), bytes.fold(0, u64::saturating_add));
    for (found, survey) in models.iter().filter(|(_, survey)| survey.need > memory) {
        let (location, need) = (&found.location, survey.need.div_ceil(1 << 20));
        watch.note(&format!(
            "{location} may need {need} MiB of memory by itself: it runs alone"
        ));
    }
    let batch = Batch {
        operation,
        options,
        watch,
        request: request(operation),
        run: Run::new(),
        recorded: Mutex::new(false),
        stopped: Mutex::new(options.fail_fast && !unreadable.is_empty()),
        replaced: Mutex::new(false),
    };
    let mut rows = Vec::new();
    for Unreadable { found, error } in unreadable {
        let report = batch.unreadable(&found, error);
        watch.finished(&found, &report);
        rows.push((found, report));
    }
    let reports = carry_out(&batch, &models, jobs, memory);
    let synced = sync(&batch, &models, &reports);
    drop(held);
    rows.extend((models.into_iter().zip(reports)).map(|((found, _), report)| (found, report)));
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    let models: Vec<ModelReport> = rows.into_iter().map(|(_, report)| report).collect();
    Ok(Report {
        operation: operation.name(),
        shard: options.shard.map(|shard| shard.to_string()),
        stopped: models
            .iter()
            .any(|report| report.outcome == Outcome::Pending),
        synced: synced.as_ref().map(Result::is_ok),
        totals: Totals::of(&models, begun.elapsed().as_secs_f64()),
        models,
        sync_error: synced.and_then(Result::err),
    })
}

/// Does the operation on all models, until it is stopped.
fn carry_out(
    batch: &Batch<'_>,
    models: &[(Found, Survey)],
    jobs: usize,
    memory: u64,
) -> Vec<ModelReport> {
    let needs = models.iter().map(|(_, survey)| survey.need);
    let schedule = Schedule::new(needs, jobs, memory);
    let reports = scheduled(schedule, models.len(), |schedule, index| {
        if batch.watch.stops() || *lock(&batch.stopped) {
            *lock(&batch.stopped) = true;
            lock(schedule).stop();
            return None;
        }
        let (found, survey) = models.get(index)?;
        let report = batch.model(found, survey);
        batch.watch.finished(found, &report);
        if batch.options.fail_fast && report.outcome == Outcome::Failed {
            *lock(&batch.stopped) = true;
        }
        Some(report)
    });
    let pending = |found, survey| batch.unfinished(found, survey, Outcome::Pending);
    (reports.into_iter().zip(models))
        .map(|(report, (found, survey))| report.unwrap_or_else(|| pending(found, survey)))
        .collect()
}

/// Waits until all outputs are on the disk, if that was asked for.
fn sync(
    batch: &Batch<'_>,
    models: &[(Found, Survey)],
    reports: &[ModelReport],
) -> Option<Result<()>> {
    let waits = match batch.options.flush {
        Flush::ToDisk => true,
        Flush::Replacing => *lock(&batch.replaced),
        Flush::Later => false,
    };
    let Some(Location::File(folder)) = batch.options.out.as_ref().filter(|_| waits) else {
        return None;
    };
    let made = outputs(folder, models, reports, batch.options.records);
    if made.is_empty() {
        return Some(Ok(()));
    }
    let synced = sync_all(folder, &made).map_err(Error::from);
    Some(synced.and_then(|()| match *lock(&batch.recorded) {
        true => batch.run.note_synced(folder),
        false => Ok(()),
    }))
}

/// Returns all existing outputs, and their records, in the folder `out`.
fn outputs(
    out: &Path,
    models: &[(Found, Survey)],
    reports: &[ModelReport],
    records: bool,
) -> Vec<PathBuf> {
    let (out, mut paths) = (out.into(), Vec::new());
    for ((found, survey), report) in models.iter().zip(reports) {
        if matches!(report.outcome, Outcome::Done | Outcome::Skipped)
            && let Ok(place) = Target::new(&out, found)
        {
            let external = survey.external.iter();
            paths.extend(external.map(|file| place.output.beside(file).to_name()));
            paths.push(place.output.to_name());
            paths.extend(records.then(|| place.record.to_name()));
        }
    }
    paths
}

/// Chooses the models of this batch's part, and the unreadable paths.
fn choose(
    found: Discovery,
    operation: &Operation<'_>,
    options: &Options,
    watch: &dyn Watch,
) -> Result<(Vec<Found>, Vec<Unreadable>)> {
    let Discovery {
        mut models,
        mut unreadable,
        unfinished: _,
    } = found;
    let n_found = models.len();
    match (&options.out, operation) {
        (_, Operation::Verify { .. }) => (),
        (None, _) if operation.goes_in_place() => models = one_name_each(models, watch),
        (None, _) => return Err(no_output_folder()),
        (Some(out), _) => {
            models.retain(|found| !found.location.lies_in(out));
            unreadable.retain(|row| !row.found.location.lies_in(out));
        }
    }
    match (models.len(), n_found) {
        (0, _) if !unreadable.is_empty() => (),
        (0, 0) => return Err(Error::Usage("no models were found".into())),
        (0, n) => {
            return Err(Error::Usage(format!(
                "all {n} models that were found lie in the output folder"
            )));
        }
        (left, n) if left < n && options.out.is_some() => {
            let n = n - left;
            watch.note(&format!("skipped {n} models in the output folder"));
        }
        _ => (),
    }
    if let Some(out) = &options.out {
        layout::check_models(&models, out)?;
    }
    if let Some(shard) = options.shard {
        models.retain(|found| shard.has(&found.relative));
        unreadable.retain(|row| shard.has(&row.found.relative));
    }
    Ok((models, unreadable))
}

/// Keeps one name of each file that is to be changed, its own rather than a link to it, and tells of
/// the others.
fn one_name_each(mut models: Vec<Found>, watch: &dyn Watch) -> Vec<Found> {
    let is_link = |found: &Found| match &found.location {
        Location::File(path) => path.is_symlink(),
        _ => false,
    };
    models.sort_by_cached_key(|found| (is_link(found), found.clone()));
    let mut names: HashMap<Location, Location> = HashMap::new();
    models.retain(|found| {
        let location = &found.location;
        let Some(file) = location.canonical() else {
            return true;
        };
        let first = names.entry(file).or_insert_with(|| location.clone());
        if first != location {
            watch.note(&format!(
                "{location} leads to the same file as {first}, which is changed once"
            ));
        }
        first == location
    });
    models.sort();
    models
}

/// Returns how many models run at once unless the caller says: one per core, and more of them if
/// they wait for a store.
fn usual_jobs(is_remote: bool) -> usize {
    const WAITING_JOBS: usize = 16;
    match is_remote {
        true => parallel::n_cores().max(WAITING_JOBS),
        false => parallel::n_cores(),
    }
}

fn survey(
    models: Vec<Found>,
    operation: &Operation<'_>,
    options: &Options,
    jobs: usize,
    memory: u64,
) -> Vec<(Found, Survey)> {
    let needs = models.iter().map(Survey::own_need);
    let schedule = Schedule::new(needs, jobs, memory);
    let surveys = scheduled(schedule, models.len(), |_, index| {
        Survey::of(models.get(index)?, operation, options.out.as_ref()).ok()
    });
    let rows = models.into_iter().zip(surveys);
    rows.map(|(found, survey)| (found, survey.unwrap_or_else(Survey::unreadable)))
        .collect()
}

/// Calls `work` for each of `n` models, on separate threads, in the order of `schedule`.
fn scheduled<T: Send>(
    schedule: Schedule,
    n: usize,
    work: impl Fn(&Mutex<Schedule>, usize) -> Option<T> + Sync,
) -> Vec<Option<T>> {
    let threads = schedule.jobs().min(n);
    let (schedule, changed) = (Mutex::new(schedule), Condvar::new());
    let results: Mutex<Vec<Option<T>>> = Mutex::new((0..n).map(|_| None).collect());
    let run = || {
        loop {
            let mut state = lock(&schedule);
            let (index, need) = loop {
                match state.next() {
                    Next::Begin(index, need) => break (index, need),
                    Next::Done => return,
                    Next::Wait => {
                        let woken = changed.wait(state);
                        state = woken.unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(state);
            // Only now, since a waiting thread must not take a core from others.
            let at_work = parallel::at_work();
            let result = work(&schedule, index);
            drop(at_work);
            if let Some(slot) = lock(&results).get_mut(index) {
                *slot = result;
            }
            lock(&schedule).finished(need);
            changed.notify_all();
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // If the system refuses more threads, fewer do the work.
            if parallel::start(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}
