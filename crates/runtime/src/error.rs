//! The errors between a protected model and a session.

#[cfg(feature = "ort")]
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::PathBuf;

use onnxseal_core::ErrorKind;

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// The errors between a protected model and a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model cannot be opened.
    #[error(transparent)]
    Core(#[from] onnxseal_core::Error),
    /// The graph is authentic but not a usable ONNX model.
    #[error("cannot use {} as an ONNX model", path.display())]
    Model {
        /// The model file.
        path: PathBuf,
        /// What is wrong, and at which offset.
        source: onnxseal_onnx::Error,
    },
    /// A file is authentic but no part of a usable model, or too large. Says which, and why.
    #[error("{0}")]
    Malformed(String),
    /// The skeleton, which ONNX Runtime loads in one piece, is larger than protobuf allows.
    #[error(
        "{}: {len_bytes} bytes of the model are not initializers of its main graph; ONNX Runtime takes 2 GiB at most", path.display()
    )]
    TooLarge {
        /// The model file.
        path: PathBuf,
        /// The size of the skeleton, in bytes.
        len_bytes: usize,
    },
    /// ONNX Runtime's library cannot be loaded, or is too old.
    #[cfg(feature = "ort")]
    #[error(
        "cannot load ONNX Runtime: install version 1.23 or newer, and set ORT_DYLIB_PATH to its library ({})",
        library_name()
    )]
    Library(#[source] ort::LoadDynamicError),
    /// ONNX Runtime refuses the model or the options.
    #[cfg(feature = "ort")]
    #[error("ONNX Runtime refuses {}", path.display())]
    Session {
        /// The model file.
        path: PathBuf,
        /// ONNX Runtime's error.
        source: ort::Error,
    },
    /// A key does not fit the images or the model, or a name no compiled cache.
    #[error("{0}")]
    Usage(String),
    /// Keyed images cannot be made.
    #[cfg(feature = "inputs")]
    #[error(transparent)]
    Inputs(#[from] onnxseal_inputs::Error),
    /// A label key, or the labels of a model, cannot be used.
    #[cfg(feature = "labels")]
    #[error(transparent)]
    Labels(#[from] onnxseal_labels::Error),
    /// ONNX Runtime refuses the part of the model after the layer that answers.
    #[cfg(feature = "labels")]
    #[error("ONNX Runtime refuses the part of the model that is stored in its table of labels")]
    Tail(#[source] ort::Error),
    /// ONNX Runtime refuses the inputs, or fails to run the model.
    #[cfg(any(feature = "inputs", feature = "labels"))]
    #[error("ONNX Runtime cannot run the model")]
    Run(#[source] ort::Error),
    /// The session options already have the weights of a model.
    #[error(
        "these session options have the weights of another protected model: make new ones for each model"
    )]
    UsedOptions,
    /// The session options tell ONNX Runtime to write the decrypted model to a file.
    #[error(
        "the session options have {key}, which writes the decrypted model to a file: leave it out, or allow plaintext on the disk"
    )]
    WritesPlaintext {
        /// The entry or option.
        key: &'static str,
    },
    /// A compiled cache cannot be opened or sealed.
    #[cfg(feature = "ep-context")]
    #[error("cannot use the compiled cache {}", path.display())]
    Blob {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: onnxseal_core::KeyError,
    },
    /// ONNX Runtime has no callbacks for compiled caches, or refuses these. Says which.
    #[cfg(feature = "ep-context")]
    #[error("{0}")]
    Callbacks(String),
}

/// The library's file name on this system.
#[cfg(feature = "ort")]
pub(crate) fn library_name() -> String {
    format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}")
}

impl Error {
    /// The class the error belongs to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Core(error) => error.kind(),
            Error::Model {
                source: onnxseal_onnx::Error::Memory { .. },
                ..
            } => ErrorKind::Internal,
            Error::Model { .. } | Error::Malformed(_) | Error::TooLarge { .. } => {
                ErrorKind::Malformed
            }
            Error::Usage(_) | Error::UsedOptions | Error::WritesPlaintext { .. } => {
                ErrorKind::Usage
            }
            #[cfg(feature = "ort")]
            Error::Library(_) | Error::Session { .. } => ErrorKind::Runtime,
            #[cfg(feature = "inputs")]
            Error::Inputs(error) => error.kind(),
            #[cfg(feature = "labels")]
            Error::Labels(error) => error.kind(),
            #[cfg(feature = "labels")]
            Error::Tail(_) => ErrorKind::Runtime,
            #[cfg(any(feature = "inputs", feature = "labels"))]
            Error::Run(_) => ErrorKind::Runtime,
            #[cfg(feature = "ep-context")]
            Error::Blob { source, .. } => match source {
                onnxseal_core::KeyError::Unauthentic => ErrorKind::Authentication,
                onnxseal_core::KeyError::MalformedBlob { .. } => ErrorKind::Malformed,
                _ => ErrorKind::Internal,
            },
            #[cfg(feature = "ep-context")]
            Error::Callbacks(_) => ErrorKind::Runtime,
        }
    }
}
