//! Prepares what ONNX Runtime loads instead of the model: a skeleton, and weights.

use onnxseal_core::{OnLoss, Passage};
use onnxseal_onnx::edit::{Elements, move_elements};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::model::{Model, Tensor};
use crate::nothing::NOTHING;
use crate::sharing::{How, Sharing, WEIGHTS_ENTRY};

/// A skeleton and weights, for ONNX Runtime to load instead of the model.
///
/// Make a session from the bytes of the [`skeleton`](Prepared::skeleton), with options that have
/// the [entries](Prepared::config), the weights to [share](Prepared::shared)
/// (`OrtApi::AddInitializer`) and the weights to [inject](Prepared::injected)
/// (`OrtApi::AddExternalInitializers`). The memory of shared weights must outlive the session. The
/// memory of injected weights must live until the session is made. If weights are shared and ONNX
/// Runtime refuses the session, prepare again with [`Sharing::Never`].
#[derive(Debug)]
pub struct Prepared<'m> {
    skeleton: Zeroizing<Vec<u8>>,
    /// The folder of the external file that the skeleton names.
    folder: String,
    shared: Vec<Tensor<'m>>,
    injected: Vec<Tensor<'m>>,
}

/// The entry for the folder of external files.
const FOLDER_ENTRY: &str = "session.model_external_initializers_file_folder_path";

/// The longest message that protobuf accepts.
const MAX_SKELETON_BYTES: usize = i32::MAX as usize;

/// Placeholder: `/dev/null` is no directory, so nothing can be in it. It serves skeletons without
/// shared weights: ONNX Runtime looks for the file of a shared weight, but not of an injected one.
#[cfg(unix)]
const NO_FOLDER: &str = "/dev/null";

impl<'m> Prepared<'m> {
    /// Returns the model file without the weights to share or inject. It places these in an
    /// external file that cannot be read, so an optimization that reads a shared weight fails
    /// instead of using other bytes.
    ///
    /// The skeleton contains the other weights, decrypted.
    pub fn skeleton(&self) -> &[u8] {
        &self.skeleton
    }

    /// Returns the skeleton alone. With [`Sharing::Inline`] this is the whole model in one file, its
    /// external data too.
    pub fn into_skeleton(self) -> Zeroizing<Vec<u8>> {
        self.skeleton
    }

    /// Returns the entries to set in the session's options (`OrtApi::AddSessionConfigEntry`).
    ///
    /// If there are weights to share or inject, [`WEIGHTS_ENTRY`] is among the entries. Options
    /// that already have this entry hold the weights of another model: do not use them for this
    /// one.
    pub fn config(&self) -> impl Iterator<Item = (&str, &str)> {
        let has_weights = !(self.shared.is_empty() && self.injected.is_empty());
        let folder = (FOLDER_ENTRY, self.folder.as_str());
        std::iter::once(folder).chain(has_weights.then_some(WEIGHTS_ENTRY))
    }

    /// Returns the weights that ONNX Runtime uses in place.
    pub fn shared(&self) -> &[Tensor<'m>] {
        &self.shared
    }

    /// Returns the weights that ONNX Runtime copies.
    pub fn injected(&self) -> &[Tensor<'m>] {
        &self.injected
    }
}

impl Model {
    /// Returns the folder of the external file that the skeleton names.
    fn folder(&self, sharing: Sharing) -> std::io::Result<String> {
        match sharing {
            // A constant, so that options used for several models have one value.
            #[cfg(unix)]
            Sharing::Inline => Ok(NO_FOLDER.to_owned()),
            _ => self.nothing.folder(),
        }
    }

    /// Prepares the model for ONNX Runtime. The model must live until the session is made.
    ///
    /// # Errors
    /// Those of [`contents`](Model::contents); [`Error::TooLarge`]; `Malformed` if the graph cannot
    /// be rewritten, or programs may read the elements of a value differently: the message says
    /// where.
    pub fn prepare(&self, sharing: Sharing) -> Result<Prepared<'_>> {
        self.contents()?;
        Ok(self.prepare_as(sharing)?.0)
    }

    /// Prepares the model for ONNX Runtime as [`Sharing::WherePossible`] says, with weights that are
    /// opened when ONNX Runtime touches them. Make the session, and then call
    /// [`finish`](Model::finish), whether ONNX Runtime made it or not.
    ///
    /// # Errors
    /// As [`prepare`](Model::prepare), except that changed weights are found later.
    pub fn begin(&self) -> Result<Prepared<'_>> {
        let (prepared, passages) = self.prepare_as(Sharing::WherePossible)?;
        self.opened.check()?;
        self.opened.begin(&passages);
        Ok(prepared)
    }

    /// Ends what [`begin`](Model::begin) began: authenticates all weights that ONNX Runtime did not
    /// touch. Release the session if this fails: what it computes is worth nothing.
    ///
    /// `on_loss` says what happens if the session later needs weights again that were given back,
    /// and their file was overwritten.
    ///
    /// # Errors
    /// `Authentication` if the model was changed, `Io`. The error explains why ONNX Runtime did not
    /// make the session, if it did not.
    pub fn finish(&self, on_loss: OnLoss) -> Result<()> {
        Ok(self.opened.finish(on_loss)?)
    }

    /// Fails if weights that a session touched could not be decrypted, with [`OnLoss::Tell`]: what
    /// it has computed since is worth nothing.
    ///
    /// # Errors
    /// `Authentication`, `Io`.
    pub fn check(&self) -> Result<()> {
        Ok(self.opened.check()?)
    }

    /// Returns the skeleton and weights, and the order in which ONNX Runtime goes through these.
    fn prepare_as(&self, sharing: Sharing) -> Result<(Prepared<'_>, Vec<Passage>)> {
        self.check_unambiguous()?;
        let (folder, sharing) = match self.folder(sharing) {
            Ok(folder) => (folder, sharing),
            #[cfg(unix)]
            Err(_) => (NO_FOLDER.to_owned(), Sharing::Never),
            #[cfg(not(unix))]
            Err(error) => {
                let folder = std::env::temp_dir();
                return Err(onnxseal_core::io("use", &folder)(error).into());
            }
        };
        let mut moved = Vec::new();
        let (mut shared, mut injected) = (Vec::new(), Vec::new());
        // Injected weights are copied before kernels pack shared ones, node by node.
        let mut order = Vec::new();
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
                    // Count before copying: many tensors may use the same bytes of a file.
                    len_inline += tensor.bytes.len();
                    if len_inline > MAX_SKELETON_BYTES {
                        return Err(too_large(len_inline));
                    }
                    Elements::Inline(tensor.bytes)
                }
                How::Inline => continue,
                How::Shared(_) | How::Injected | How::Unused => Elements::External {
                    location: NOTHING,
                    len: tensor.bytes.len() as u64,
                },
            };
            moved.push((entry.message, elements));
            match (how, sharing) {
                (How::Inline | How::Unused, _) => {}
                (How::Shared(node), Sharing::WherePossible) => {
                    shared.push(tensor);
                    order.push((Some(node), entry.passage(true)));
                }
                (How::Shared(_) | How::Injected, _) => {
                    injected.push(tensor);
                    order.push((None, entry.passage(false)));
                }
            }
        }
        let skeleton =
            move_elements(self.opened.model(), &moved).map_err(|source| Error::Model {
                path: self.path.clone(),
                source,
            })?;
        if skeleton.len() > MAX_SKELETON_BYTES {
            return Err(too_large(skeleton.len()));
        }
        order.sort_by_key(|(node, _)| *node);
        let prepared = Prepared {
            skeleton,
            folder,
            shared,
            injected,
        };
        let passages = order.into_iter().map(|(_, passage)| passage);
        Ok((prepared, passages.collect()))
    }
}
