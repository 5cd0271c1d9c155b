//! Finds the files to transform, and their outputs.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use onnxseal_data::Format;
use onnxseal_store::Location;
use walkdir::{DirEntry, WalkDir};

use crate::data::run::{Run, Task};
use crate::error::{Error, Result};

pub(super) struct Sources {
    files: Vec<Task>,
    /// Folders of images, and their outputs.
    folders: Vec<(PathBuf, PathBuf)>,
    pub(super) is_folder: bool,
}

impl Sources {
    pub(super) fn new(sources: &[PathBuf], output: &Path) -> Result<Sources> {
        let usage = |reason: String| Err(Error::Usage(reason));
        let is_one_folder = match sources {
            [] => return usage("there is nothing to transform".into()),
            [one] => one.is_dir(),
            _ => false,
        };
        let is_folder = is_one_folder || sources.len() > 1 || output.is_dir();
        check_output(sources, output)?;
        let mut found = Sources {
            files: Vec::new(),
            folders: Vec::new(),
            is_folder,
        };
        let mut targets = HashSet::new();
        for path in sources {
            let metadata = fs::metadata(path).map_err(|source| Error::Io {
                path: path.clone(),
                source,
            })?;
            let target = match path.file_name() {
                _ if is_one_folder || !is_folder => output.to_owned(),
                Some(name) if metadata.is_dir() => output.join(name),
                Some(name) => as_png(output.join(name)),
                None => return usage(format!("{} has no name", path.display())),
            };
            if !targets.insert(target.clone()) {
                let target = target.display();
                return usage(format!("two sources would both become {target}"));
            }
            if !metadata.is_dir() {
                found.files.push(Task {
                    source: path.clone(),
                    target,
                    bytes: metadata.len(),
                });
            } else if Location::from(output).lies_in(&Location::from(path)) {
                return usage(format!(
                    "the output {} lies in {}, which is to be transformed",
                    output.display(),
                    path.display()
                ));
            } else {
                found.folders.push((path.clone(), target));
            }
        }
        Ok(found)
    }

    pub(super) fn bytes(&self) -> u64 {
        let in_folders = self.folders.iter().flat_map(|(folder, _)| walk(folder));
        let in_folders = in_folders.flatten().filter(|entry| is_image(entry.path()));
        let in_folders = in_folders.map(|entry| entry.metadata().map_or(0, |of| of.len()));
        let files = self.files.iter().map(|task| task.bytes);
        files.chain(in_folders).fold(0, u64::saturating_add)
    }

    /// Returns the images, including those in folders, as they are found, since a folder may have
    /// any number. Other things in folders go into the report of `run`.
    pub(super) fn images<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = Task> + Send + 'a {
        let in_folders = self.folders.iter().flat_map(|(folder, target)| {
            walk(folder).filter_map(|entry| task_of(run, (folder, target), entry))
        });
        let alone = self.files.iter().filter(|task| is_image(&task.source));
        alone.cloned().chain(in_folders)
    }

    pub(super) fn others(&self) -> impl Iterator<Item = &Task> {
        self.files.iter().filter(|task| !is_image(&task.source))
    }
}

fn walk(folder: &Path) -> walkdir::IntoIter {
    WalkDir::new(folder).follow_links(true).into_iter()
}

/// Returns the task for an entry of a folder, if it is an image.
fn task_of(
    run: &Run,
    (folder, target): (&Path, &Path),
    entry: walkdir::Result<DirEntry>,
) -> Option<Task> {
    let entry = match entry {
        Ok(entry) => entry,
        Err(error) => {
            let path = error.path().unwrap_or(folder);
            run.failed(path, error.to_string(), false);
            return None;
        }
    };
    let path = entry.path();
    if entry.file_type().is_dir() {
        return None;
    }
    if !is_image(path) {
        run.left_out(matches!(Format::of(path), Some(Format::Npy | Format::Npz)));
        return None;
    }
    if let Some(other) = rival(path) {
        let other = other.display();
        let reason = format!("it would become the same file as {other}: rename one");
        run.failed(path, reason, false);
        return None;
    }
    Some(Task {
        source: path.to_owned(),
        target: as_png(target.join(path.strip_prefix(folder).ok()?)),
        bytes: entry.metadata().map_or(0, |metadata| metadata.len()),
    })
}

/// Fails if the output must be a folder but cannot be one, or its name belongs to another format.
fn check_output(sources: &[PathBuf], output: &Path) -> Result<()> {
    let (shown, found) = (output.display(), Format::of(output));
    let usage = |reason: String| Err(Error::Usage(reason));
    match sources {
        _ if output.is_dir() => Ok(()),
        [one] if !one.is_dir() => match (Format::of(&as_png(one.clone())), found) {
            (Some(wanted), Some(found)) if wanted != found => usage(format!(
                "{} becomes a file of the format .{wanted}, and {shown} ends in .{found}: let it end in .{wanted}",
                one.display(),
                wanted = wanted.end(),
                found = found.end()
            )),
            _ => Ok(()),
        },
        _ if found.is_some() || output.exists() => usage(format!(
            "the output has to be a folder for {}, and {shown} is none",
            match sources {
                [_] => "a folder",
                _ => "several sources",
            }
        )),
        _ => Ok(()),
    }
}

/// Returns the name of an image's output, always PNG, because JPEG would lose the transform.
fn as_png(path: PathBuf) -> PathBuf {
    match Format::of(&path) {
        Some(Format::Jpeg) => path.with_extension("png"),
        _ => path,
    }
}

/// Returns another image beside a JPEG that would get the same output name.
fn rival(path: &Path) -> Option<PathBuf> {
    if Format::of(path) != Some(Format::Jpeg) {
        return None;
    }
    // Names that differ only in case may be one file.
    let is_same = |other: &Path| {
        let (other, path) = (other.canonicalize(), path.canonicalize());
        matches!((other, path), (Ok(other), Ok(path)) if other == path)
    };
    let others = ["png", "PNG", "jpg", "JPG", "jpeg", "JPEG"];
    let mut others = others.into_iter().map(|end| path.with_extension(end));
    others.find(|other| other != path && other.exists() && !is_same(other))
}

fn is_image(path: &Path) -> bool {
    Format::of(path).is_some_and(Format::is_image)
}
