//! A model that was opened.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::PathBuf;

use onnxseal_core::{
    Access, InMemory, Location, OpenedModel, Progress, Requirements, Silent, open_with,
};
use onnxseal_onnx::model::{FileId, Payload};
use onnxseal_onnx::{At, Fault, Limits, external, locate};

use crate::DataType;
use crate::error::{Error, Result};
use crate::nothing::Nothing;
use crate::sharing::{How, decide};

/// A protected model: authentic to the last byte, decrypted, in memory.
#[derive(Debug)]
pub struct Model {
    pub(crate) opened: OpenedModel,
    /// What messages call the model.
    pub(crate) path: PathBuf,
    pub(crate) plaintext_on_disk: PlaintextOnDisk,
    tensors: Vec<Entry>,
    /// Why no session can be made of it, though it can be opened.
    ambiguity: Option<Ambiguity>,
    /// The folder that sessions are told of.
    pub(crate) nothing: Nothing,
}

/// Where programs may not read a model alike, and why.
type Ambiguity = (Box<At>, Fault);

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Claims that it must make.
    pub require: Requirements,
    /// Whether sessions may write it to files.
    pub plaintext_on_disk: PlaintextOnDisk,
}

/// Whether ONNX Runtime may write a decrypted model to files if session options say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaintextOnDisk {
    /// No optimized model is written, and other options that write are refused.
    #[default]
    Refused,
    /// ONNX Runtime does what the options say.
    Allowed,
}

/// A tensor of a model, whose elements lie one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'m> {
    /// Its name in the graph; initializers of different graphs may share one.
    pub name: &'m str,
    /// Its protobuf path, such as `graph.initializer[3]`: no two have the same.
    pub path: &'m str,
    /// Element type.
    pub data_type: DataType,
    /// Shape; empty for a scalar.
    pub dims: &'m [u64],
    /// The elements, little-endian; below 8 bits packed from the low bits up. Not aligned.
    pub bytes: &'m [u8],
}

/// Where a tensor is in the model.
#[derive(Debug)]
pub(crate) struct Entry {
    name: String,
    path: String,
    data_type: DataType,
    dims: Vec<u64>,
    /// Index of the file.
    file: usize,
    start: usize,
    len: usize,
    /// Offset of its message in the model file.
    pub(crate) offset: u64,
    pub(crate) how: How,
}

impl Entry {
    /// Whether its elements lie in another file than the model's.
    pub(crate) fn is_external(&self) -> bool {
        self.file != 0
    }
}

impl Model {
    /// Opens the protected model at `location`: a path, or a [`Location`], such as the URL of an object, or
    /// memory.
    ///
    /// A tier below the highest opens only if [`Access::edition`] accepts it.
    ///
    /// # Errors
    /// [`ErrorKind`](crate::ErrorKind): `Malformed`, `NoMatchingKey`, `Authentication`, `Io`; `Usage`
    /// when the model is not protected.
    pub fn open<'a>(location: impl Into<Location>, access: impl Into<Access<'a>>) -> Result<Model> {
        Model::open_with(location, access, &Options::default(), &Silent)
    }

    /// Like [`Model::open`], with `options`.
    ///
    /// # Errors
    /// As [`Model::open`]; `PolicyNotMet` if the model does not make a required claim.
    pub fn open_with<'a>(
        location: impl Into<Location>,
        access: impl Into<Access<'a>>,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Model> {
        let location = location.into();
        let path = PathBuf::from(location.to_string());
        let Options {
            require,
            plaintext_on_disk,
        } = options;
        let opened = open_with(location, access, require, progress)?;
        let (tensors, ambiguity) = index(&path, &opened)?;
        Ok(Model {
            opened,
            path,
            plaintext_on_disk: *plaintext_on_disk,
            tensors,
            ambiguity,
            nothing: Nothing::default(),
        })
    }

    /// Opens a protected model in one file; `reader` gives all its bytes.
    ///
    /// # Errors
    /// As [`Model::open_with`].
    pub fn from_reader<'a>(
        mut reader: impl Read,
        access: impl Into<Access<'a>>,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Model> {
        let path = PathBuf::from("the model");
        let mut bytes = Vec::new();
        match reader.read_to_end(&mut bytes) {
            Ok(_) => Model::open_with(InMemory::new(path, bytes), access, options, progress),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// The model file, decrypted: the original, except for the names of external data files that `protect`
    /// renamed (`OpenedModel::original_model` has the original names), and except for what the
    /// [tier](Model::tier) lacks.
    pub fn bytes(&self) -> &[u8] {
        self.opened.model()
    }

    /// The external data files, decrypted, with the paths that the model has for them, relative to its
    /// folder.
    pub fn external_files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.opened.external_files()
    }

    /// The publisher's statements, authentic.
    pub fn claims(&self) -> &BTreeMap<String, String> {
        self.opened.claims()
    }

    /// The tier that was opened; `None` if the model has one edition only.
    pub fn tier(&self) -> Option<&str> {
        self.opened.tier()
    }

    /// Whether it is the original, and not the edition of a tier below the highest.
    pub fn is_original(&self) -> bool {
        self.opened.is_original()
    }

    /// Every tensor whose elements lie one after the other, in the order of the model file, including
    /// tensors of subgraphs, functions and attributes.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'_>> {
        self.tensors.iter().map(|entry| self.tensor_at(entry))
    }

    /// The tensor of this name; the first, if there are several.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let entry = self.tensors.iter().find(|entry| entry.name == name)?;
        Some(self.tensor_at(entry))
    }

    /// Whether sessions may write it to files, as it was opened with.
    pub fn plaintext_on_disk(&self) -> PlaintextOnDisk {
        self.plaintext_on_disk
    }

    /// Whether all that was decrypted is kept from being swapped out.
    pub fn is_locked(&self) -> bool {
        self.opened.is_locked()
    }

    /// Fails where ONNX Runtime may take other elements for a value than the plain model would have it.
    pub(crate) fn check_unambiguous(&self) -> Result<()> {
        let Some((at, fault)) = &self.ambiguity else {
            return Ok(());
        };
        Err(Error::Model {
            path: self.path.clone(),
            source: onnxseal_onnx::Error::Malformed {
                at: at.clone(),
                fault: fault.clone(),
            },
        })
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.tensors
    }

    pub(crate) fn tensor_at<'m>(&'m self, entry: &'m Entry) -> Tensor<'m> {
        let file = match entry.file.checked_sub(1) {
            None => Some(self.opened.model()),
            Some(index) => (self.opened.external_files().nth(index)).map(|(_, bytes)| bytes),
        };
        let bytes = file.and_then(|file| file.get(entry.start..entry.start + entry.len));
        Tensor {
            name: &entry.name,
            path: &entry.path,
            data_type: entry.data_type,
            dims: &entry.dims,
            bytes: bytes.unwrap_or_default(),
        }
    }
}

/// Finds the tensors of a model, and what speaks against a session.
fn index(path: &std::path::Path, opened: &OpenedModel) -> Result<(Vec<Entry>, Option<Ambiguity>)> {
    let malformed = |source| Error::Model {
        path: path.to_owned(),
        source,
    };
    let model = locate(opened.model(), &Limits::default()).map_err(malformed)?;
    let files: HashMap<&str, (usize, u64)> = (1..)
        .zip(opened.external_files())
        .map(|(index, (path, bytes))| (path, (index, bytes.len() as u64)))
        .collect();
    let ambiguity = match model.check_unambiguous() {
        Ok(()) => None,
        Err(onnxseal_onnx::Error::Malformed { at, fault }) => Some((at, fault)),
        Err(other) => return Err(malformed(other)),
    };
    let mut entries = Vec::new();
    for (tensor, how) in model.tensors.iter().zip(decide(&model)) {
        let (file, start, len) = match &tensor.payload {
            Payload::Empty => (0, 0, 0),
            Payload::Dense { file, span, .. } if *file == FileId::MODEL => {
                (0, span.start, span.len)
            }
            Payload::Dense { file, span, .. } => {
                let location = model.location(*file).unwrap_or_default();
                let Some(&(file, len)) = files.get(location) else {
                    return Err(Error::ForeignFile {
                        path: path.to_owned(),
                        location: location.to_owned(),
                    });
                };
                external::check_extent(&model, tensor, len).map_err(malformed)?;
                (file, span.start, span.len)
            }
            Payload::Strided { .. } | Payload::Unpatchable(_) => continue,
        };
        entries.push(Entry {
            name: tensor.name.to_owned(),
            path: tensor.path.clone(),
            data_type: tensor.data_type,
            dims: tensor.dims.clone(),
            file,
            // Within a slice in memory.
            start: start as usize,
            len: len as usize,
            offset: tensor.offset,
            how,
        });
    }
    Ok((entries, ambiguity))
}
