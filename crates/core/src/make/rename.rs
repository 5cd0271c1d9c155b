//! New names for the external data files of a model that is being protected.

use std::collections::{HashMap, HashSet};

use onnxseal_onnx::edit::rename_external;
use onnxseal_onnx::external;
use onnxseal_store::{Bytes, Input, Location};

use crate::error::{Error, Result, Usage};
use crate::format::manifest::File;
use crate::format::manifest::draft::OriginalDraft;
use crate::pass::source::Source;

/// The names of external data files.
pub(crate) enum Naming<'a> {
    /// The names stay.
    Keep,
    /// The caller's name, or one derived from the output's if the present names would collide with
    /// inputs.
    After {
        output: &'a Location,
        name: Option<&'a str>,
    },
}

/// A model whose external data files were renamed.
pub(crate) struct Renamed {
    pub(crate) source: Source,
    pub(crate) original: OriginalDraft,
}

impl<'a> Naming<'a> {
    /// Chooses `name`, or one derived from the output's.
    pub(crate) fn after(output: &'a Location, name: Option<&'a str>) -> Naming<'a> {
        Naming::After { output, name }
    }

    /// Returns new paths for the external files in `files`, or `None` if all keep theirs.
    ///
    /// One file gets the name. Several go to a folder of that name, under their present paths.
    pub(crate) fn choose<'i>(
        &self,
        files: &[File],
        inputs: impl Iterator<Item = &'i Input>,
    ) -> Result<Option<Vec<String>>> {
        let Naming::After { output, name } = *self else {
            return Ok(None);
        };
        let external = files.get(1..).unwrap_or_default();
        if external.is_empty() {
            return match name {
                None => Ok(None),
                Some(_) => Err(Usage::NoExternalData.into()),
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
            under(&name.ok_or_else(|| Usage::ExternalNameless {
                output: output.clone(),
            })?)
        };
        for path in &paths {
            if external::normalise(path).as_ref() != Ok(path)
                || external::check_plain(path).is_err()
            {
                let name = path.clone();
                return Err(Usage::ExternalName { name }.into());
            }
        }
        let is_same = paths.iter().eq(external.iter().map(|file| &file.path));
        Ok((!is_same).then_some(paths))
    }
}

/// Gives the external files new `paths`, in `files` and in a copy of the model in memory.
pub(crate) fn rename(source: Source, files: &mut [File], paths: Vec<String>) -> Result<Renamed> {
    let malformed = |source: &Source, error| Error::Model {
        path: source.input.path.clone(),
        source: error,
    };
    // Read all bytes: the map of an object holds only the structure.
    let original = source.input.read_all()?;
    let old: Vec<String> = files.iter().skip(1).map(|file| file.path.clone()).collect();
    let names: HashMap<String, String> = old.iter().cloned().zip(paths.iter().cloned()).collect();
    let edits = rename_external(&original, &names).map_err(|error| malformed(&source, error))?;
    let (edited, undo) = (edits.apply(&original), edits.undo(&original));
    let (Some(mut edited), Some(undo)) = (edited, undo) else {
        return Err(Error::Internal("edits beyond their file"));
    };
    // A wrong edit could never be restored, so undo it here and compare.
    if undo
        .apply(&edited)
        .is_none_or(|restored| *restored != original)
    {
        return Err(Error::Internal("a renamed model cannot be restored"));
    }
    let draft = OriginalDraft::new(original.len() as u64, old, &undo);
    drop(original);
    let input = source
        .input
        .edited(Bytes::from(std::mem::take(&mut *edited)));
    for (file, path) in files.iter_mut().skip(1).zip(paths) {
        file.path = path;
    }
    if let Some(model) = files.first_mut() {
        model.bytes = input.len;
    }
    let source = Source::of(input)?;
    Ok(Renamed {
        source,
        original: draft,
    })
}
