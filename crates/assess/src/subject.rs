//! The model to assess, in memory.

use std::collections::HashMap;
use std::sync::Arc;

use onnxseal_core::{Access, Edition, Location, Silent};
use onnxseal_engine::Files;
use onnxseal_onnx::external::check_extent;
use onnxseal_onnx::model::Payload;
use onnxseal_onnx::{Limits, Model, locate, tail};
use onnxseal_store::Input;

use crate::error::{Error, Result};

/// The model to assess: all its bytes in clear, and its encrypted parts if it is a protected model.
#[derive(Debug)]
pub struct Subject {
    /// Its name in reports.
    pub name: String,
    pub(crate) files: Files,
    /// The encrypted parts, if it is a protected model.
    pub(crate) protected: Option<Protected>,
}

/// Ranges `(first, end)` of elements in ascending order, each with its tier, or 1 without tiers.
type TieredElements = Vec<((u64, u64), u8)>;

/// The encrypted parts of a protected model.
#[derive(Debug)]
pub(crate) struct Protected {
    /// The encrypted elements of each tensor, by its protobuf path.
    pub(crate) elements: HashMap<String, TieredElements>,
    /// The tiers below the highest, the least first, each with its edition's files.
    pub(crate) editions: Vec<(String, Files)>,
    /// The files as they are stored, only for a model with tiers, whose ciphertext may show more
    /// than random bytes.
    pub(crate) stored: Option<Files>,
}

impl Subject {
    /// Reads a model that is not protected, with its external data.
    pub fn plain(location: impl Into<Location>) -> Result<Subject> {
        let location = location.into();
        let name = location.to_name().display().to_string();
        let files = read(&location)?;
        let located = located(&name, &files.model)?;
        if tail::is_in(&located) {
            return Err(Error::Usage(format!(
                "{name} is protected: opening it needs an identity"
            )));
        }
        if tail::has_lock(&located) {
            return Err(Error::Usage(format!(
                "{name} {}: fetch it again",
                tail::STRIPPED
            )));
        }
        drop(located);
        Subject::from_files(name, files)
    }

    /// Takes a model from memory, with external data under the paths by which it names them.
    pub fn from_files(name: String, files: Files) -> Result<Subject> {
        let located = located(&name, &files.model)?;
        located.check_unambiguous().map_err(broken(&name))?;
        if !located.prepacked.is_empty() {
            return Err(Error::Usage(format!(
                "{name} has packed copies of weights in its external data, which attacks would not change: save it without them, or take what `protect --repack` and `unprotect` give"
            )));
        }
        for tensor in &located.tensors {
            if let Payload::Dense { file, .. } = tensor.payload
                && file.0 > 0
            {
                let len = files.bytes(file.0 as usize).len() as u64;
                check_extent(&located, tensor, len).map_err(broken(&name))?;
            }
        }
        drop(located);
        Ok(Subject {
            name,
            files,
            protected: None,
        })
    }

    /// Opens a protected model, to assess what an attacker sees of it.
    pub fn protected<'a>(
        location: impl Into<Location>,
        access: impl Into<Access<'a>>,
    ) -> Result<Subject> {
        let location = location.into();
        let (files, protected) = opened(&location, access.into())?;
        Ok(Subject {
            protected: Some(protected),
            ..Subject::from_files(location.to_name().display().to_string(), files)?
        })
    }

    /// Returns the files, in clear.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Returns the model's structure.
    pub(crate) fn located(&self) -> Result<Model<'_>> {
        located(&self.name, &self.files.model)
    }
}

/// Opens a protected model: its files in clear, and its encrypted parts.
fn opened(location: &Location, access: Access<'_>) -> Result<(Files, Protected)> {
    let opened = onnxseal_core::open(location.clone(), access, &Silent)?;
    if !opened.is_original() {
        return Err(Error::Usage(format!(
            "{} is assessed with the key of its highest tier: leave the tier out",
            location.to_name().display()
        )));
    }
    let elements = opened.manifest().tensors().iter().map(|tensor| {
        let mut elements = Vec::new();
        tensor.tier_elements(|range, tier| elements.push((range, tier)));
        (tensor.at.clone(), elements)
    });
    let names = opened.manifest().tier_names();
    let lower = names.split_last().map_or(&[][..], |(_, lower)| lower);
    let editions = lower.iter().map(|name| {
        let access = Access {
            edition: Edition::Tier(name),
            ..access
        };
        let opened = onnxseal_core::open(location.clone(), access, &Silent)?;
        Ok((name.clone(), files_of(&opened)))
    });
    let stored = match lower {
        [] => None,
        _ => Some(stored(location)?),
    };
    let protected = Protected {
        elements: elements.collect(),
        editions: editions.collect::<Result<_>>()?,
        stored,
    };
    Ok((files_of(&opened), protected))
}

/// Reads the files of a protected model as they are stored, without the tail, as an attacker can
/// remove the lock.
fn stored(location: &Location) -> Result<Files> {
    let files = read(location)?;
    let name = location.to_name().display().to_string();
    let tail = tail::split(&files.model).map_err(broken(&name))?;
    let end = tail.and_then(|tail| usize::try_from(tail.start).ok());
    let model = end.and_then(|end| files.model.get(..end)).map(Arc::from);
    Ok(Files {
        model: model.unwrap_or(files.model),
        external: files.external,
    })
}

/// Reads a model with its external data.
fn read(location: &Location) -> Result<Files> {
    let input = Input::open(location)?;
    let model: Arc<[u8]> = input.read_all()?.into();
    let paths = located(&input.path.display().to_string(), &model)?.external_files;
    let external = paths.into_iter().map(|path| {
        let bytes = input.open_beside(&path)?.read_all()?;
        Ok((path, bytes.into()))
    });
    let external = external.collect::<Result<_>>()?;
    Ok(Files { model, external })
}

pub(crate) fn located<'b>(name: &str, bytes: &'b [u8]) -> Result<Model<'b>> {
    locate(bytes, &Limits::default()).map_err(broken(name))
}

/// Makes the error for the file of the model `name`.
pub(crate) fn broken(name: &str) -> impl FnOnce(onnxseal_onnx::Error) -> Error {
    let path = name.into();
    |source| onnxseal_core::Error::Model { path, source }.into()
}

/// Returns the files of an opened model.
pub(crate) fn files_of(opened: &onnxseal_core::OpenedModel) -> Files {
    let external = opened.external_files();
    let external = external.map(|(path, bytes)| (path.to_owned(), bytes.into()));
    Files {
        model: opened.model().into(),
        external: external.collect(),
    }
}
