//! Finds the files to transform, and their outputs.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use onnxseal_data::Format;
use walkdir::WalkDir;

use crate::data::report::Failed;
use crate::error::{Error, Result};

/// A file, and its output.
pub(super) struct Task {
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
    /// Length of the source.
    pub(super) bytes: u64,
}

/// An entry of a folder.
pub(super) enum Found {
    Image(Task),
    /// A file other than an image; by its name perhaps one of arrays.
    Other {
        is_array: bool,
    },
    Failed(Failed),
}

/// All tasks of a call.
pub(super) struct Tasks {
    sources: Vec<Source>,
    /// Whether the output is a folder.
    pub(super) is_folder: bool,
}

struct Source {
    path: PathBuf,
    target: PathBuf,
    is_folder: bool,
}

impl Tasks {
    pub(super) fn new(sources: &[PathBuf], output: &Path) -> Result<Tasks> {
        let usage = |reason: String| Err(Error::Usage(reason));
        let is_folder = match sources {
            [] => return usage("there is nothing to transform".into()),
            [one] => one.is_dir() || output.is_dir(),
            _ => true,
        };
        check_output(sources, output)?;
        let mut names = HashSet::new();
        let mut listed = Vec::new();
        for path in sources {
            let metadata = fs::metadata(path).map_err(|source| Error::Io {
                path: path.clone(),
                source,
            })?;
            let is_source_folder = metadata.is_dir();
            let target = match sources {
                [_] if is_source_folder || !is_folder => output.to_owned(),
                _ => {
                    let name = path.file_name().map(ToOwned::to_owned);
                    let name = name.or_else(|| {
                        let whole = path.canonicalize().ok()?;
                        whole.file_name().map(ToOwned::to_owned)
                    });
                    let Some(name) = name else {
                        return usage(format!("{} has no name", path.display()));
                    };
                    let target = output.join(&name);
                    // An image gets the extension of PNG.
                    if is_source_folder {
                        target
                    } else {
                        as_png(target)
                    }
                }
            };
            if !names.insert(target.clone()) {
                return usage(format!(
                    "two sources would both become {}",
                    target.display()
                ));
            }
            if is_source_folder && is_within(output, path) {
                return usage(format!(
                    "the output {} lies in {}, which is to be transformed",
                    output.display(),
                    path.display()
                ));
            }
            listed.push(Source {
                path: path.clone(),
                target,
                is_folder: is_source_folder,
            });
        }
        Ok(Tasks {
            sources: listed,
            is_folder,
        })
    }

    /// Returns the bytes of all sources.
    pub(super) fn bytes(&self) -> u64 {
        let images = self.images().map(|found| match found {
            Found::Image(task) => task.bytes,
            _ => 0,
        });
        let files = self.files().map(|task| task.bytes);
        images.chain(files).fold(0, u64::saturating_add)
    }

    /// Returns the images, including those in folders, as they are found, since a folder may have
    /// any number.
    pub(super) fn images(&self) -> impl Iterator<Item = Found> + Send + '_ {
        let in_folders = self.sources.iter().filter(|source| source.is_folder);
        let in_folders = in_folders.flat_map(|source| {
            let entries = WalkDir::new(&source.path).follow_links(true).into_iter();
            entries.filter_map(|entry| source.found(entry))
        });
        let alone = self.sources.iter().filter(|source| !source.is_folder);
        let alone = alone.filter(|source| is_image(&source.path));
        alone
            .map(|source| Found::Image(source.task()))
            .chain(in_folders)
    }

    /// Returns all other files.
    pub(super) fn files(&self) -> impl Iterator<Item = Task> + '_ {
        let files = self.sources.iter().filter(|source| !source.is_folder);
        let files = files.filter(|source| !is_image(&source.path));
        files.map(Source::task)
    }
}

impl Source {
    fn task(&self) -> Task {
        Task {
            source: self.path.clone(),
            target: self.target.clone(),
            bytes: fs::metadata(&self.path).map_or(0, |metadata| metadata.len()),
        }
    }

    fn found(&self, entry: walkdir::Result<walkdir::DirEntry>) -> Option<Found> {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(&self.path).to_owned();
                let reason = match (error.io_error(), error.loop_ancestor()) {
                    (Some(error), _) => format!("cannot read it: {error}"),
                    (None, Some(folder)) => format!("it links back to {}", folder.display()),
                    (None, None) => "cannot read it".to_owned(),
                };
                return Some(Found::Failed(Failed {
                    path,
                    reason,
                    is_misfit: false,
                }));
            }
        };
        if entry.file_type().is_dir() {
            return None;
        }
        if !is_image(entry.path()) {
            let is_array = is_array(entry.path());
            return Some(Found::Other { is_array });
        }
        let below = entry.path().strip_prefix(&self.path).ok()?;
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        if let Some(other) = rival(entry.path()) {
            return Some(Found::Failed(Failed {
                path: entry.path().to_owned(),
                reason: format!(
                    "it would become the same file as {}: rename one",
                    other.display()
                ),
                is_misfit: false,
            }));
        }
        Some(Found::Image(Task {
            source: entry.path().to_owned(),
            target: as_png(self.target.join(below)),
            bytes,
        }))
    }
}

/// Returns the format of a file by its name, if it can be transformed. IDX has no such name.
fn format(path: &Path) -> Option<Format> {
    Format::of(path).filter(|format| *format != Format::Csv)
}

/// Returns whether a file has arrays, by its name.
fn is_array(path: &Path) -> bool {
    let is_idx = |name: &std::ffi::OsStr| name.to_string_lossy().contains("ubyte");
    matches!(
        Format::of(path),
        Some(Format::Npy | Format::Npz | Format::Cifar)
    ) || path.file_name().is_some_and(is_idx)
}

/// Fails if the output must be a folder but cannot be one, or its name belongs to another format.
fn check_output(sources: &[PathBuf], output: &Path) -> Result<()> {
    if output.is_dir() {
        return Ok(());
    }
    let known = format(output);
    let must_be_folder = match sources {
        [one] if one.is_dir() => Some("a folder"),
        [_, _, ..] => Some("several sources"),
        _ => None,
    };
    let shown = output.display();
    if let Some(what) = must_be_folder {
        return if known.is_some() || output.exists() {
            Err(Error::Usage(format!(
                "the output has to be a folder for {what}, and {shown} is none"
            )))
        } else {
            Ok(())
        };
    }
    let (Some(source), Some(found)) = (sources.first(), known) else {
        return Ok(());
    };
    let wanted = match format(source) {
        Some(image) if image.is_image() => Some(Format::Png),
        other => other,
    };
    let found_end = output.extension().unwrap_or_default().to_string_lossy();
    match wanted {
        Some(wanted) if wanted == found => Ok(()),
        Some(wanted) => Err(Error::Usage(format!(
            "{} becomes a file of the format .{end}, and {shown} ends in .{found_end}: let it end in .{end}",
            source.display(),
            end = wanted.end()
        ))),
        None => Err(Error::Usage(format!(
            "{} keeps its format, and {shown} ends in .{found_end}: leave that out",
            source.display()
        ))),
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
    let others = ["png", "PNG", "jpg", "JPG", "jpeg", "JPEG"];
    let mut others = others
        .map(|extension| path.with_extension(extension))
        .into_iter();
    others.find(|other| other != path && other.exists() && !is_same(other, path))
}

fn is_same(a: &Path, b: &Path) -> bool {
    // Names that differ only in case may be one file.
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Returns whether a path, parts of which may not exist yet, is a folder or lies in it.
fn is_within(path: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else {
        return false;
    };
    let Ok(whole) = std::path::absolute(path) else {
        return false;
    };
    let there = whole.ancestors().find_map(|part| {
        let rest = whole.strip_prefix(part).ok()?;
        let mut path = part.canonicalize().ok()?;
        for part in rest.components() {
            match part {
                // The folder does not exist yet, so it cannot be a link.
                Component::ParentDir => drop(path.pop()),
                other => path.push(other),
            }
        }
        Some(path)
    });
    there.is_some_and(|path| path.starts_with(folder))
}

fn is_image(path: &Path) -> bool {
    Format::of(path).is_some_and(Format::is_image)
}
