//! Decides what an earlier run has done for a model already.
//!
//! A record is only a hint, because anyone may have written it. The files that it names are looked
//! up below the output folder, without following links. Such a file counts as ours if it has the
//! recorded length and times, or digest, and if it is a protected model where outputs are.

use onnxseal_core::{FileState, FileStates};
use onnxseal_store::Input;

use crate::error::{Error, Result};
use crate::existing::Existing;
use crate::record::{Asked, Noted, Record};
use crate::target::{Target, beside, with_model};

/// The outputs that earlier runs left for a model.
pub(crate) enum Standing {
    /// All outputs, equal to those that this run would make.
    Done(Record),
    /// These files, made by earlier runs.
    Old(Vec<FileState>),
}

impl Standing {
    /// Returns which outputs exist, and whether they are `asked` for now.
    pub(crate) fn of(
        target: &Target<'_>,
        noted: &mut Noted,
        asked: &Asked<'_>,
    ) -> Result<Standing> {
        let mut old = Vec::new();
        if let Some(record) = recorded(target, noted, asked, &mut old)? {
            return Ok(Standing::Done(record));
        }
        // A power loss leaves empty files if outputs, or also their records, were not synced;
        // replacing them loses nothing.
        let paths = with_model(asked.external).filter(|_| !target.out.is_object());
        for path in paths {
            // A file that cannot be opened is in the way: making the outputs will report it.
            if !old.iter().any(|file: &FileState| file.path == path)
                && let Ok(Some(there)) = target.open(path)
                && there.len == 0
            {
                old.push(Existing::new(path, there, asked.progress).state()?);
            }
        }
        Ok(Standing::Old(old))
    }
}

/// Finds the `old` outputs, as far as the record tells. Returns the record if they are all that is
/// asked for.
fn recorded(
    target: &Target<'_>,
    noted: &mut Noted,
    asked: &Asked<'_>,
    old: &mut Vec<FileState>,
) -> Result<Option<Record>> {
    let Some(record) = &noted.record else {
        return Ok(None);
    };
    let seals = asked.operation.seals();
    let by_stamp = !asked.checksum && asked.run.is_kept(&record.run, target.out);
    // How many of the record's outputs exist, and whether the record proves that they are whole.
    let (made, mut n_standing) = (&record.files.output, 0);
    let mut are_whole = record.request == asked.request;
    let mut paths: Vec<&str> = record.outputs().map(|file| &*file.path).collect();
    // The model file first, each path once.
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        let Some(there) = target.open(path)? else {
            continue;
        };
        let there = Existing::new(path, there, asked.progress);
        let known = there.find(made)?;
        if let Some(known) = known {
            n_standing += 1;
            are_whole = are_whole && there.is_unchanged(known, by_stamp)?;
        }
        let is_known = known.is_some() || there.find(&record.replaced)?.is_some();
        // An unprotected model cannot be our output, whatever a record says. A power loss leaves
        // empty files.
        let is_ours = there.input.len == 0
            || is_known && (!path.is_empty() || !seals || target.protected()?.is_some());
        if !is_ours {
            let path = there.input.path;
            return Err(Error::OutputForeign { path });
        }
        old.push(there.state()?);
    }
    let n_made = made.len();
    if n_standing != n_made || old.len() != n_made {
        return Ok(None);
    }
    // The record lists all existing files, so no other need be remembered.
    let Some(record) = noted.record.take() else {
        return Ok(None);
    };
    let FileStates { input, output } = &record.files;
    let is_done = are_whole
        && (!seals || target.is_whole(output)?)
        && input.iter().all(|file| is_same(file, target, asked));
    Ok(is_done.then_some(record))
}

/// Returns whether a source still has its `known` state.
fn is_same(known: &FileState, target: &Target<'_>, asked: &Asked<'_>) -> bool {
    let location = beside(&target.found.location, &known.path);
    location.len_bytes() == Some(known.bytes)
        && Input::open(&location).is_ok_and(|input| {
            let there = Existing::new(&known.path, input, asked.progress);
            there.is_unchanged(known, !asked.checksum).unwrap_or(false)
        })
}
