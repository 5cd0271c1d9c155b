//! New names for the external data files of a model that is being protected, or encrypted again.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use onnxseal_onnx::edit::rename_external;
use onnxseal_onnx::{Model, external};
use onnxseal_store::{Bytes, InMemory, Input, Location, Progress, zeros};
use zeroize::Zeroizing;

use crate::error::{Error, Result, model as model_error};
use crate::format::manifest::File;
use crate::format::manifest::draft::{Draft, OriginalDraft};
use crate::format::manifest::tensor::{Place, Tensor};
use crate::open::protected::Unlocked;
use crate::pass::outputs::check_names;
use crate::pass::score::Unseen;
use crate::pass::source::Source;

/// Where the model file goes, and the caller's name for its external data.
pub(crate) type Naming<'a> = (&'a Location, Option<&'a str>);

/// Chooses paths for the external files in `files`: the caller's name, or one derived from the
/// output's if the present paths would collide with inputs. Returns `None` if all keep theirs.
///
/// One file gets the name. Several go to a folder of that name, under their present paths.
pub(crate) fn choose_paths<'i>(
    (output, name): Naming<'_>,
    files: &[File],
    inputs: impl Iterator<Item = &'i Input>,
) -> Result<Option<Vec<String>>> {
    let external = files.get(1..).unwrap_or_default();
    if external.is_empty() {
        return match name {
            None => Ok(None),
            Some(_) => Err(Error::Usage(
                "the model has no external data to name".into(),
            )),
        };
    }
    let inputs: HashSet<Location> = inputs.filter_map(Input::location).collect();
    // Follow links: an input may have several paths.
    let is_input = |path: &str| {
        let found = output.beside(path).canonical();
        found.is_some_and(|found| inputs.contains(&found))
    };
    let under = |name: &str| -> Vec<String> {
        match external {
            [_] => vec![name.to_owned()],
            several => (several.iter())
                .map(|file| format!("{name}/{}", file.path))
                .collect(),
        }
    };
    let paths = if let Some(name) = name {
        under(name)
    } else if !external.iter().any(|file| is_input(&file.path)) {
        return Ok(None);
    } else {
        let of_output = output.to_name();
        let of_output = of_output.file_name().and_then(|name| name.to_str());
        let names =
            of_output.map(|name| [".data", ".sealed.data"].map(|end| format!("{name}{end}")));
        // Neither the name itself nor a file in a folder of that name may be an input.
        let is_free =
            |name: &String| !is_input(name) && !under(name).iter().any(|path| is_input(path));
        let name = names.into_iter().flatten().find(is_free);
        under(&name.ok_or_else(|| {
            let fault = "cannot derive a name for external data from";
            Error::Usage(format!("{fault} {output}: give one"))
        })?)
    };
    for path in &paths {
        if external::normalise(path).as_ref() != Ok(path) || external::check_plain(path).is_err() {
            return Err(Error::Usage(format!(
                "external data cannot have the name {path:?}: expected a plain relative path, without parts that begin with a dot"
            )));
        }
    }
    let is_same = paths.iter().eq(external.iter().map(|file| &file.path));
    Ok((!is_same).then_some(paths))
}

/// Gives the external files new `paths`, in `files` and in the model file, `original`. Returns the
/// new model file, and what leads back.
pub(crate) fn rename(
    path: &Path,
    original: Zeroizing<Vec<u8>>,
    files: &mut [File],
    paths: Vec<String>,
) -> Result<(Zeroizing<Vec<u8>>, OriginalDraft)> {
    let old: Vec<String> = files.iter().skip(1).map(|file| file.path.clone()).collect();
    let names: HashMap<String, String> = old.iter().cloned().zip(paths.iter().cloned()).collect();
    let edits = rename_external(&original, &names);
    let edits = edits.map_err(|error| model_error(path, &original, error))?;
    let (edited, undo) = (edits.apply(&original), edits.undo(&original));
    let (Some(edited), Some(undo)) = (edited, undo) else {
        return Err(Error::Internal("edits beyond their file"));
    };
    // A wrong edit could never be restored, so undo it here and compare.
    if undo.apply(&edited).as_ref() != Some(&original) {
        return Err(Error::Internal("a renamed model cannot be restored"));
    }
    let draft = OriginalDraft::new(original.len() as u64, old, &undo);
    for (file, path) in files.iter_mut().skip(1).zip(paths) {
        file.path = path;
    }
    if let Some(model) = files.first_mut() {
        model.bytes = edited.len() as u64;
    }
    Ok((edited, draft))
}

/// Gives the external files of a protected model the names that `naming` chooses for those of the
/// original, in `draft`, its manifest, and in a copy of the model file in memory, which it opens.
/// Returns `None` if they have these names.
///
/// Tensors of the model file then lie elsewhere: see [`follow`].
pub(crate) fn rename_protected(
    unlocked: &Unlocked,
    naming: Naming<'_>,
    draft: &mut Draft,
    progress: &dyn Progress,
) -> Result<Option<Source>> {
    let manifest = unlocked.manifest();
    let mut files = manifest.original_files();
    let original_paths = || files.iter().skip(1).map(|file| file.path.clone());
    let paths = choose_paths(naming, &files, unlocked.files())?;
    let paths = paths.unwrap_or_else(|| original_paths().collect());
    let present = manifest.files().iter().skip(1).map(|file| &file.path);
    if paths.iter().eq(present) {
        return Ok(None);
    }
    // `unprotect` will write the original's names.
    check_names(unlocked.path(), &files)?;
    let is_original = original_paths().eq(paths.iter().cloned());
    let mut bytes = Zeroizing::new(zeros(manifest.model_bytes(), unlocked.path())?);
    // The chunks of the model file come first.
    let places = bytes.chunks_mut(manifest.chunk_bytes() as usize);
    unlocked.read_into(places, 1, &Unseen(progress))?;
    if let Some(original) = &manifest.original {
        let restored = original.apply(&bytes);
        bytes = restored.ok_or(Error::Internal("edits beyond their file"))?;
    }
    draft.original = None;
    if !is_original {
        let (edited, original) = rename(unlocked.path(), bytes, &mut files, paths)?;
        bytes = edited;
        draft.original = Some(original);
    }
    draft.files = files;
    let model = InMemory::new(unlocked.path(), Bytes::from_owner(bytes));
    Ok(Some(Source::open(&Location::Memory(model))?))
}

/// Gives `tensors` of a manifest the places that they have in `model`, whose external files were
/// renamed. Tensors that are not there stay as they are.
pub(crate) fn follow(tensors: &mut [Tensor], model: &Model<'_>) {
    let places: HashMap<&str, Place> = (model.tensors.iter())
        .filter_map(|tensor| Some((&*tensor.path, Place::of(tensor)?)))
        .collect();
    for tensor in tensors {
        if let Some(place) = places.get(&*tensor.at) {
            tensor.offset = place.offset;
        }
    }
}
