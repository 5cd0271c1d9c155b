//! Protects the weights of ONNX models, and opens what it protected.
//!
//! A protected model is the original file with chosen weight bytes encrypted in place and the rest
//! authenticated, plus metadata: still a valid ONNX file of the same shape. [`protect`] makes one,
//! [`open`] gives the original back in memory and [`unprotect`] in files, byte for byte;
//! [`inspect`] and [`verify`] look at one. `docs/FORMAT.md` is the format.
//!
//! ```
//! # #[cfg(feature = "protect")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//!
//! use onnxseal_core::{
//!     Identities, Policy, ProtectOptions, Recipients, Silent, generate_identity, open, protect,
//! };
//!
//! let identity = generate_identity();
//! let recipients = Recipients::parse(&[identity.recipient()])?;
//! let model = Path::new("../../fixtures/models/digits_cnn.onnx");
//! let folder = tempfile::tempdir()?;
//! let sealed = folder.path().join("sealed.onnx");
//!
//! let options = ProtectOptions::new(Policy::default());
//! let report = protect(model, &sealed, &recipients, &options, &Silent)?;
//! assert!(report.weights.encrypted_bytes > 0);
//!
//! let opened = open(&sealed, &Identities::from(identity), &Silent)?;
//! assert_eq!(opened.model(), std::fs::read(model)?);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "protect"))]
//! # fn main() {}
//! ```
//!
//! Nothing that was decrypted leaves a call before every chunk of every file has been
//! authenticated, and files appear whole or not at all.
//!
//! Features: `protect` adds planning and protecting (a device that only opens models does without);
//! `aws-lc` chooses the faster of two AEAD back ends that give the same bytes; `object-store`
//! reaches models in object stores (`docs/STORAGE.md`).

// What only planning and protecting need is dead code without them, in the rooms that opening
// shares.
#![cfg_attr(not(feature = "protect"), allow(dead_code))]

#[cfg(feature = "protect")]
mod check;
mod error;
mod format;
#[cfg(feature = "protect")]
mod make;
mod open;
mod pass;

pub use error::{Error, Result, Usage, io};
pub use format::claims::Requirements;
pub use format::manifest::{self, File, Manifest, Operator};
pub use format::tiers::{Edition, OpenedEdition};
pub use onnxseal_crypto::signature::{AllowedSigners, ClaimedSigner, Signer, SigningKey};
pub use onnxseal_crypto::wrap::{
    Identities, Identity, NoPrompt, PLUGIN_PATIENCE, Passphrase, Prompt, Recipients,
    generate_identity,
};
pub use onnxseal_crypto::{
    BlobKey, Error as KeyError, NotAllowed, has_aes_instructions, opens_with,
};
pub use onnxseal_onnx::{Error as ModelError, Fault as ModelFault};
pub use onnxseal_store::{
    Bytes, Error as StoreError, ErrorKind, FileFault, Flush, InMemory, Location, ObjectUrl,
    OutputFault, OutputOptions, Permitted, Progress, Readers, Replaced, STANDARD_OUTPUT, Silent,
    There, folder_of, holds_secret, is_deceptive, is_same_file, is_standard_output,
    open_handed_over, raise_file_limit, redact, replace_whole, shown, sync_folder, write_whole,
};
pub use open::model::{OpenedModel, open, open_with, unprotect};
pub use pass::digest::digest_files;
pub use pass::publish::{Destination, Made, Publication, PublishHook};
pub use pass::signature::{Access, SignedBy};
pub use pass::states::{FileState, FileStates, Volume};
#[cfg(feature = "protect")]
pub use {
    check::inspect::{inspect, is_protected},
    check::outline::{BYTES_FOR_STRUCTURE, Outline, check_identities, is_model, read_manifest},
    check::reads::Reads,
    check::report::{
        ClearRow, OperatorRow, PassedOverRow, PlainConstantsRow, RecipientRow, Report,
        SignatureRow, TensorRow, TypeRow,
    },
    check::smaller::{SmallerRow, smaller_presets},
    check::verify::{Checks, SignedByRow, Verification, verify},
    make::audience::{Audience, OwnedAudience, TierRecipients},
    make::protect::{ProtectOptions, plan, protect},
    make::rekey::{Rekeyed, Rewrap, rekey},
    make::rotate::{Resign, RotateOptions, rotate},
    make::sign::{attach_signature, sign, signed_message},
    onnxseal_plan::{
        Demand, Error as PolicyError, MAX_RANKING_BYTES, Mode, Policy, Preset, Ranking, Tier,
    },
    onnxseal_store::splice::is_interrupted,
};
