//! What ONNX Runtime is given instead of the model: a skeleton, and weights.

use onnxseal_onnx::{Elements, rewrite};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::model::{Model, Tensor};
use crate::sharing::{How, Sharing, WEIGHTS_ENTRY};

/// What ONNX Runtime is given instead of the model.
///
/// A session is made from the bytes of the [`skeleton`](Prepared::skeleton), with options that have
/// the [entries](Prepared::config), the weights to be [shared](Prepared::shared)
/// (`OrtApi::AddInitializer`) and those to be [injected](Prepared::injected)
/// (`OrtApi::AddExternalInitializers`). The memory of the former must outlive the session, that of
/// the latter its making. Where anything is shared and the session cannot be made, it is to be made
/// of what [`Sharing::Never`] prepares.
#[derive(Debug)]
pub struct Prepared<'m> {
    skeleton: Zeroizing<Vec<u8>>,
    config: [(&'static str, String); 1],
    shared: Vec<Tensor<'m>>,
    injected: Vec<Tensor<'m>>,
    /// Where the skeleton says that weights are: a file that is there, and has nothing to read.
    #[cfg(not(unix))]
    _nothing: tempfile::TempDir,
}

/// What protobuf takes in one piece.
const MAX_SKELETON_BYTES: usize = i32::MAX as usize;

/// Where a skeleton with all weights says that they are not: it is no folder, so nothing can be in it.
#[cfg(unix)]
const NO_FOLDER: &str = "/dev/null";

/// The name of that file.
const NOTHING: &str = "null";

impl<'m> Prepared<'m> {
    /// The model file without the weights that are shared or injected: it says of them that they lie
    /// in an external file which cannot be read. So an optimization that is to see a weight that is
    /// shared fails, and takes no other bytes for it.
    ///
    /// It holds the other weights, decrypted.
    pub fn skeleton(&self) -> &[u8] {
        &self.skeleton
    }

    /// Entries to be set in the session's options (`OrtApi::AddSessionConfigEntry`).
    ///
    /// Where there are weights for the options, [`WEIGHTS_ENTRY`] is among them. Options that have it
    /// already hold those of another model, and are not to be used for this one.
    pub fn config(&self) -> impl Iterator<Item = (&str, &str)> {
        let has_weights = !(self.shared.is_empty() && self.injected.is_empty());
        self.config
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .chain(has_weights.then_some(WEIGHTS_ENTRY))
    }

    /// Weights that ONNX Runtime is to use where they lie.
    pub fn shared(&self) -> &[Tensor<'m>] {
        &self.shared
    }

    /// Weights that it is to copy.
    pub fn injected(&self) -> &[Tensor<'m>] {
        &self.injected
    }
}

impl Model {
    /// Prepares the model for ONNX Runtime.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; `Malformed` where the graph cannot be rewritten, or it is not clear which
    /// elements a value has: the message says where. Earlier versions protected such models.
    pub fn prepare(&self, sharing: Sharing) -> Result<Prepared<'_>> {
        self.check_unambiguous()?;
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
        let skeleton = rewrite(self.bytes(), &moved).map_err(|source| Error::Model {
            path: self.path.clone(),
            source,
        })?;
        if skeleton.len() > MAX_SKELETON_BYTES {
            return Err(too_large(skeleton.len()));
        }
        #[cfg(unix)]
        let folder = match sharing {
            // The same for all models, so that options that serve for several have it once.
            Sharing::Inline => NO_FOLDER.to_owned(),
            _ => "/dev".to_owned(),
        };
        #[cfg(not(unix))]
        let nothing = nothing().map_err(|source| Error::Read {
            path: std::env::temp_dir(),
            source,
        })?;
        #[cfg(not(unix))]
        let folder = nothing.path().to_string_lossy().into_owned();
        Ok(Prepared {
            skeleton,
            config: [(
                "session.model_external_initializers_file_folder_path",
                folder,
            )],
            shared,
            injected,
            #[cfg(not(unix))]
            _nothing: nothing,
        })
    }
}

/// A folder with an empty file.
#[cfg(not(unix))]
fn nothing() -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::File::create(folder.path().join(NOTHING))?;
    Ok(folder)
}
