//! The model that is assessed, in memory.

use std::sync::Arc;
use std::time::Instant;

use onnxseal_core::{Access, Location, Silent};
use onnxseal_onnx::{Limits, Model, locate, tail};
use onnxseal_store::Input;

use crate::engine::Files;
use crate::error::{Error, Result};

/// The model that is assessed: all its bytes in clear, and what of them is encrypted, if that is decided.
#[derive(Debug)]
pub struct Subject {
    /// What it is called.
    pub name: String,
    pub(crate) files: Files,
    /// Of a protected model, for each tensor of which a part is encrypted.
    pub(crate) protected: Option<Protected>,
}

/// What is encrypted in a protected model.
#[derive(Debug)]
pub(crate) struct Protected {
    /// Protobuf path, elements in a subsequence, `[skip, take, ...]`.
    pub(crate) targets: Vec<(String, u64, Vec<u64>)>,
    pub(crate) opening_seconds: f64,
    pub(crate) bytes: u64,
}

impl Subject {
    /// Reads a model that is not protected, with its external data.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Model`]; [`Error::Usage`] where it is protected.
    pub fn plain(location: impl Into<Location>) -> Result<Subject> {
        let location = location.into();
        let input = Input::open(&location)?;
        let name = input.path.display().to_string();
        let model: Arc<[u8]> = input.read_all()?.into();
        let located = located(&name, &model)?;
        let external = located.external_files.iter();
        let external = external.map(|path| {
            let bytes = input.open_beside(path)?.read_all()?;
            Ok((path.clone(), bytes.into()))
        });
        let external = external.collect::<Result<_>>()?;
        let is_protected =
            (located.metadata_props.iter()).any(|prop| prop.key.starts_with(tail::PREFIX));
        if is_protected {
            return Err(Error::Usage(format!(
                "{name} is protected: without an identity it cannot be opened"
            )));
        }
        drop(located);
        Subject::from_files(name, Files { model, external })
    }

    /// Takes a model from memory, with its external data under the paths that it has for them.
    ///
    /// # Errors
    /// [`Error::Model`].
    pub fn from_files(name: String, files: Files) -> Result<Subject> {
        let located = located(&name, &files.model)?;
        let unambiguous = located.check_unambiguous();
        unambiguous.map_err(|source| Error::Model {
            model: name.clone(),
            source,
        })?;
        for tensor in &located.tensors {
            if let onnxseal_onnx::model::Payload::Dense { file, .. } = tensor.payload
                && file.0 > 0
            {
                let len = files.bytes(file.0 as usize).len() as u64;
                let extent = onnxseal_onnx::external::check_extent(&located, tensor, len);
                extent.map_err(|source| Error::Model {
                    model: name.clone(),
                    source,
                })?;
            }
        }
        drop(located);
        Ok(Subject {
            name,
            files,
            protected: None,
        })
    }

    /// Opens a protected model: the attacker's view of it is what is assessed.
    ///
    /// # Errors
    /// [`Error::Core`].
    pub fn protected<'a>(
        location: impl Into<Location>,
        access: impl Into<Access<'a>>,
    ) -> Result<Subject> {
        let location = location.into();
        let name = location.to_name().display().to_string();
        let began = Instant::now();
        let opened = onnxseal_core::open(location, access, &Silent)?;
        let opening_seconds = began.elapsed().as_secs_f64();
        let files = Files::of_opened(&opened);
        let targets = opened.manifest().tensors().iter();
        let targets =
            targets.map(|tensor| (tensor.at.clone(), tensor.unit, tensor.targets.to_vec()));
        let protected = Protected {
            targets: targets.collect(),
            opening_seconds,
            bytes: files.total_bytes(),
        };
        let subject = Subject::from_files(name, files)?;
        Ok(Subject {
            protected: Some(protected),
            ..subject
        })
    }

    /// The files, in clear.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Its structure.
    pub(crate) fn located(&self) -> Result<Model<'_>> {
        located(&self.name, &self.files.model)
    }
}

fn located<'b>(name: &str, bytes: &'b [u8]) -> Result<Model<'b>> {
    locate(bytes, &Limits::default()).map_err(|source| Error::Model {
        model: name.to_owned(),
        source,
    })
}
