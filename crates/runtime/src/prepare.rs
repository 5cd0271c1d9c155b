//! The data that ONNX Runtime gets instead of the model: a skeleton, and weights.

use onnxseal_onnx::edit::{Elements, move_elements};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::model::{Model, Tensor};
use crate::nothing::NOTHING;
use crate::sharing::{How, Sharing, WEIGHTS_ENTRY};

/// The data that ONNX Runtime gets instead of the model.
///
/// Make a session from the bytes of the [`skeleton`](Prepared::skeleton), with options that have the
/// [entries](Prepared::config), the weights to [share](Prepared::shared) (`OrtApi::AddInitializer`)
/// and the weights to [inject](Prepared::injected) (`OrtApi::AddExternalInitializers`). The memory of
/// shared weights must outlive the session. The memory of injected weights must last until the session
/// is made. If weights are shared and the session cannot be made, prepare again with
/// [`Sharing::Never`].
#[derive(Debug)]
pub struct Prepared<'m> {
    skeleton: Zeroizing<Vec<u8>>,
    config: [(&'static str, String); 1],
    shared: Vec<Tensor<'m>>,
    injected: Vec<Tensor<'m>>,
}

/// What protobuf takes in one piece.
const MAX_SKELETON_BYTES: usize = i32::MAX as usize;

/// A folder for where none is needed or none can be made: nothing can be in it, since it is none. ONNX
/// Runtime wants to see the file of a weight that is shared, but none of weights that are injected.
#[cfg(unix)]
const NO_FOLDER: &str = "/dev/null";

impl<'m> Prepared<'m> {
    /// The model file without the weights that are shared or injected. It says that these lie in an
    /// external file, which cannot be read. So an optimization that reads a shared weight fails, and takes
    /// no other bytes for it.
    ///
    /// It holds the other weights, decrypted.
    pub fn skeleton(&self) -> &[u8] {
        &self.skeleton
    }

    /// The skeleton alone: with [`Sharing::Inline`] the whole model, its external data too, in one file.
    pub fn into_skeleton(self) -> Zeroizing<Vec<u8>> {
        self.skeleton
    }

    /// Entries to set in the session's options (`OrtApi::AddSessionConfigEntry`).
    ///
    /// If there are weights for the options, [`WEIGHTS_ENTRY`] is among the entries. Options that have this
    /// entry already hold the weights of another model. Do not use them for this one.
    pub fn config(&self) -> impl Iterator<Item = (&str, &str)> {
        let has_weights = !(self.shared.is_empty() && self.injected.is_empty());
        self.config
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .chain(has_weights.then_some(WEIGHTS_ENTRY))
    }

    /// Weights for ONNX Runtime to use where they lie.
    pub fn shared(&self) -> &[Tensor<'m>] {
        &self.shared
    }

    /// Weights for ONNX Runtime to copy.
    pub fn injected(&self) -> &[Tensor<'m>] {
        &self.injected
    }
}

impl Model {
    /// Where the skeleton says that weights are.
    fn folder(&self, sharing: Sharing) -> std::io::Result<String> {
        match sharing {
            // The same for all models, so that options that serve for several have it once.
            #[cfg(unix)]
            Sharing::Inline => Ok(NO_FOLDER.to_owned()),
            _ => self.nothing.folder(),
        }
    }

    /// Prepares the model for ONNX Runtime. The model must outlive the making of the session.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; `Malformed` where the graph cannot be rewritten, or it is not clear which
    /// elements a value has: the message says where. Earlier versions protected such models.
    pub fn prepare(&self, sharing: Sharing) -> Result<Prepared<'_>> {
        self.check_unambiguous()?;
        let (folder, sharing) = match self.folder(sharing) {
            Ok(folder) => (folder, sharing),
            #[cfg(unix)]
            Err(_) => (NO_FOLDER.to_owned(), Sharing::Never),
            #[cfg(not(unix))]
            Err(source) => {
                return Err(Error::Read {
                    path: std::env::temp_dir(),
                    source,
                });
            }
        };
        let mut moved = Vec::new();
        let (mut shared, mut injected) = (Vec::new(), Vec::new());
        let too_large = |len_bytes| Error::TooLarge {
            path: self.path.clone(),
            len_bytes,
        };
        let mut len_inline = 0;
        for entry in self.entries() {
            let tensor = self.tensor_at(entry);
            let how = match sharing {
                Sharing::Inline => How::Inline,
                _ => entry.how,
            };
            let elements = match how {
                How::Inline if entry.is_external() => {
                    // Before any is copied: many tensors may have the same bytes of a file.
                    len_inline += tensor.bytes.len();
                    if len_inline > MAX_SKELETON_BYTES {
                        return Err(too_large(len_inline));
                    }
                    Elements::Inline(tensor.bytes)
                }
                How::Inline => continue,
                How::Shared | How::Injected | How::Unused => Elements::External {
                    location: NOTHING,
                    len: tensor.bytes.len() as u64,
                },
            };
            moved.push((entry.offset, elements));
            match (how, sharing) {
                (How::Inline | How::Unused, _) => {}
                (How::Shared, Sharing::WherePossible) => shared.push(tensor),
                (How::Shared | How::Injected, _) => injected.push(tensor),
            }
        }
        let skeleton = move_elements(self.bytes(), &moved).map_err(|source| Error::Model {
            path: self.path.clone(),
            source,
        })?;
        if skeleton.len() > MAX_SKELETON_BYTES {
            return Err(too_large(skeleton.len()));
        }
        Ok(Prepared {
            skeleton,
            config: [(
                "session.model_external_initializers_file_folder_path",
                folder,
            )],
            shared,
            injected,
        })
    }
}
