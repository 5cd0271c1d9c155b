//! An opened model.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;

use onnxseal_core::{
    Access, Location, OpenedModel, Passage, Progress, Requirements, Silent, open_on_demand,
};
use onnxseal_onnx::model::{FileId, Payload, Span};
use onnxseal_onnx::{At, Fault, Limits, external, locate};

use crate::DataType;
use crate::error::{Error, Result};
use crate::nothing::Nothing;
use crate::sharing::{How, decide};

/// A protected model, opened.
///
/// Its graph, claims and keys are authenticated. Weights are authenticated and decrypted when they
/// are needed: by [`into_session`](Model::into_session), while ONNX Runtime goes through them, or all
/// at once by [`contents`](Model::contents). Both fail if a byte was changed.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::fs::File;
/// use std::path::Path;
///
/// use onnxseal_runtime::{Identities, Model};
///
/// let fixtures = Path::new("../../fixtures/sealed");
/// let identities = Identities::read(File::open(fixtures.join("keys/id.txt"))?, "id.txt")?;
/// let model = Model::open(fixtures.join("valid/digits_cnn.onnx"), &identities)?;
/// assert!(model.contents()?.tensors().len() > 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Model {
    pub(crate) opened: OpenedModel,
    /// The model's name in messages.
    pub(crate) path: PathBuf,
    pub(crate) plaintext_on_disk: PlaintextOnDisk,
    tensors: Vec<Entry>,
    /// Why sessions of this model are refused, though it can be opened.
    ambiguity: Option<Ambiguity>,
    /// The folder that skeletons refer to.
    pub(crate) nothing: Nothing,
}

/// Where programs may read a model differently, and why.
type Ambiguity = (Box<At>, Fault);

/// The bytes of a model, all authenticated and decrypted.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'m>(&'m Model);

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Claims that the model must make.
    pub require: Requirements,
    /// Whether sessions may write the model to files.
    pub plaintext_on_disk: PlaintextOnDisk,
    /// When weights are decrypted.
    pub opening: Opening,
}

/// The least length of a model whose weights are decrypted on demand, in bytes.
const MIN_BYTES: u64 = 16 << 20;

/// When the weights of a model are authenticated and decrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opening {
    /// On demand if the model has 16 MiB or more. For smaller ones it would cost more than it saves.
    #[default]
    Auto,
    /// When they are needed, if the system allows that ([`Model::obstacle`]). A session then takes
    /// the memory of a plain model's. The model's files stay open, and must not be overwritten while
    /// sessions run.
    OnDemand,
    /// Before the call returns. All weights then stay in memory, whatever happens to the files.
    AtOnce,
}

/// Whether ONNX Runtime may write a decrypted model to files if session options say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaintextOnDisk {
    /// Turns off writing of the optimized model, and refuses other options that write.
    #[default]
    Refused,
    /// ONNX Runtime follows the options.
    Allowed,
}

/// A tensor of a model whose elements are contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'m> {
    /// Its name in the graph; initializers of different graphs may share one.
    pub name: &'m str,
    /// Its protobuf path, such as `graph.initializer[3]`, unique in the model.
    pub path: &'m str,
    /// Element type.
    pub data_type: DataType,
    /// Shape; empty for a scalar.
    pub dims: &'m [u64],
    /// The elements, little-endian, possibly unaligned; below 8 bits packed from the low bits up.
    pub bytes: &'m [u8],
}

/// The place of a tensor in the model.
#[derive(Debug)]
pub(crate) struct Entry {
    name: String,
    path: String,
    data_type: DataType,
    dims: Vec<u64>,
    /// Index of the file.
    file: usize,
    bytes: Range<usize>,
    /// Its message in the model file.
    pub(crate) message: Span,
    pub(crate) how: How,
}

impl Entry {
    /// Returns whether its elements lie outside the model file.
    pub(crate) fn is_external(&self) -> bool {
        self.file != 0
    }

    /// Returns where its elements lie.
    pub(crate) fn passage(&self, is_kept: bool) -> Passage {
        Passage {
            file: self.file,
            bytes: self.bytes.clone(),
            is_kept,
        }
    }
}

impl Model {
    /// Opens the protected model at `location`: a path, or a [`Location`] such as an object's URL
    /// or memory. This call finds changed weights only if it decrypts all of them: see
    /// [`Opening`].
    ///
    /// A tier below the highest opens only if [`Access::edition`] accepts it.
    ///
    /// # Errors
    /// [`ErrorKind`](crate::ErrorKind): `Malformed`, `NoMatchingKey`, `Authentication`, `Io`;
    /// `Usage` when the model is not protected.
    pub fn open<'a>(location: impl Into<Location>, access: impl Into<Access<'a>>) -> Result<Model> {
        Model::open_with(location, access, &Options::default(), &Silent)
    }

    /// Opens the protected model as [`Model::open`] does, with `options`.
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
        let min_bytes = match options.opening {
            Opening::Auto => MIN_BYTES,
            Opening::OnDemand => 0,
            Opening::AtOnce => u64::MAX,
        };
        let opened = open_on_demand(location, access, &options.require, min_bytes, progress)?;
        let indexed = index(&path, &opened);
        // Chunks that cannot be opened are zeros, which are no model.
        opened.check()?;
        let (tensors, ambiguity) = indexed?;
        Ok(Model {
            opened,
            path,
            plaintext_on_disk: options.plaintext_on_disk,
            tensors,
            ambiguity,
            nothing: Nothing::default(),
        })
    }

    /// Authenticates and decrypts all of the model that was not needed yet.
    ///
    /// # Errors
    /// `Authentication` if a byte was changed, `Io`.
    pub fn contents(&self) -> Result<Contents<'_>> {
        self.opened.open_rest()?;
        Ok(Contents(self))
    }

    /// Returns why all weights were decrypted when the model was opened, or `None` if they are
    /// decrypted when they are needed.
    pub fn obstacle(&self) -> Option<&str> {
        self.opened.obstacle()
    }

    /// Returns whether `bytes` lie in the memory of the model.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        let external = self.opened.external_files().map(|(_, file)| file);
        let mut files = std::iter::once(self.opened.model()).chain(external);
        let range = bytes.as_ptr_range();
        files.any(|file| {
            let file = file.as_ptr_range();
            file.start <= range.start && range.end <= file.end
        })
    }

    /// Returns how many tensors the model has, of those that [`Contents::tensors`] returns.
    pub fn n_tensors(&self) -> usize {
        self.tensors.len()
    }

    /// Returns the publisher's statements, authenticated.
    pub fn claims(&self) -> &BTreeMap<String, String> {
        self.opened.manifest().claims()
    }

    /// Returns the tier that was opened, or `None` if the model has one edition only.
    pub fn tier(&self) -> Option<&str> {
        self.opened.tier()
    }

    /// Returns whether the opened edition is the original, rather than a lower tier's.
    pub fn is_original(&self) -> bool {
        self.opened.is_original()
    }

    /// Returns whether sessions may write the model to files, as set when it was opened.
    pub fn plaintext_on_disk(&self) -> PlaintextOnDisk {
        self.plaintext_on_disk
    }

    /// Returns whether all decrypted bytes are locked in memory, out of swap space.
    pub fn is_locked(&self) -> bool {
        self.opened.is_locked()
    }

    /// Fails if ONNX Runtime may read other elements for a value from the skeleton than from the
    /// plain model.
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
        let bytes = file.and_then(|file| file.get(entry.bytes.clone()));
        Tensor {
            name: &entry.name,
            path: &entry.path,
            data_type: entry.data_type,
            dims: &entry.dims,
            bytes: bytes.unwrap_or_default(),
        }
    }
}

impl<'m> Contents<'m> {
    /// Returns the decrypted model file. It is the original, except for weights that the
    /// [tier](Model::tier) lacks and the names of external data files that `protect` renamed
    /// (`OpenedModel::original_model` has the original names).
    pub fn bytes(&self) -> &'m [u8] {
        self.0.opened.model()
    }

    /// Returns the external data files, decrypted, with the paths by which the model names them,
    /// relative to its folder.
    pub fn external_files(&self) -> impl Iterator<Item = (&'m str, &'m [u8])> {
        self.0.opened.external_files()
    }

    /// Returns every tensor whose elements are contiguous, in the order of the model file,
    /// including tensors of subgraphs, functions and attributes.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'m>> {
        let Contents(model) = *self;
        model.tensors.iter().map(|entry| model.tensor_at(entry))
    }
}

/// Finds the tensors of a model, and an ambiguity that forbids sessions.
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
                    let path = path.display();
                    return Err(Error::Malformed(format!(
                        "{path} keeps weights in {location}, which is not one of its files"
                    )));
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
            // `usize` fits: the span lies in a slice in memory.
            bytes: start as usize..(start + len) as usize,
            message: tensor.message,
            how,
        });
    }
    Ok((entries, ambiguity))
}
