//! Protects the weights of ONNX models, and opens protected models.
//!
//! A protected model is a valid ONNX file of the same shape, with chosen weight bytes encrypted in
//! place, all other bytes authenticated, and metadata at the end. This program protects a model,
//! verifies the result, and opens it:
//!
//! ```
//! # #[cfg(feature = "protect")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//!
//! use onnxseal_core::{
//!     Checks, Identities, Policy, ProtectOptions, Recipients, Silent, generate_identity, open,
//!     protect, verify,
//! };
//!
//! // The recipient encrypts, the identity opens: publish the one, keep the other secret.
//! let identity = generate_identity();
//! let recipients = Recipients::parse(&[identity.recipient()])?;
//! let identities = Identities::from(identity);
//!
//! // Encrypt what the default policy chooses, into a new file.
//! let model = Path::new("../../fixtures/models/digits_cnn.onnx");
//! let folder = tempfile::tempdir()?;
//! let sealed = folder.path().join("sealed.onnx");
//! let options = ProtectOptions::new(Policy::default());
//! let report = protect(model, &sealed, &recipients, &options, &Silent)?;
//! assert!(report.weights.encrypted_bytes > 0);
//!
//! // Authenticate every byte, without keeping plaintext.
//! let checks = Checks { identities: Some(&identities), ..Checks::default() };
//! assert!(verify(&sealed, &checks, &Silent)?.authenticated);
//!
//! // Decrypt into memory: the original, byte for byte.
//! let opened = open(&sealed, &identities, &Silent)?;
//! assert_eq!(opened.model(), std::fs::read(model)?);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "protect"))]
//! # fn main() {}
//! ```
//!
//! Plaintext leaves a call only once every chunk of every file is authenticated, and files appear
//! whole or not at all: a call that fails leaves its destination as it was. [`Error::kind`] gives the
//! class of what went wrong.
//!
//! # Features
//!
//! - `protect` (default): `make` and `check`. A device that only opens models does without.
//! - `aws-lc` (default): the faster of two AEAD back ends, which write the same bytes.
//! - `object-store`: models in object stores (`docs/STORAGE.md`).

// Opening shares modules with planning and protecting, and some of their code is dead without
// these.
#![cfg_attr(not(feature = "protect"), allow(dead_code))]

#[cfg(feature = "protect")]
mod check;
mod error;
mod format;
#[cfg(feature = "protect")]
mod make;
mod named;
mod open;
mod pass;

pub use error::{Error, Result, io};
pub use format::claims::Requirements;
pub use format::licence::{Licence, LicensedModel, MAX_LICENCE_BYTES};
pub use format::manifest::{self, File, Manifest, Operator};
pub use format::tiers::{Edition, OpenedEdition};
pub use named::keys::{
    IDENTITY_VARIABLE, LICENCE_VARIABLE, check_key, identity_of_environment,
    licence_of_environment, open_named, path_of_descriptor, read_licence, read_named, write_key,
    write_key_unsynced,
};
pub use onnxseal_crypto::signature::{AllowedSigners, ClaimedSigner, Signer, SigningKey};
pub use onnxseal_crypto::wrap::{
    COMMAND_PATIENCE, Identities, Identity, IdentityCommand, NoPrompt, PLUGIN_PATIENCE, Passphrase,
    Prompt, Recipients, generate_identity, generate_pq_identity,
};
pub use onnxseal_crypto::{BlobKey, Error as KeyError, NotAllowed, opens_with};
pub use onnxseal_onnx::{Error as ModelError, Fault as ModelFault};
pub use onnxseal_store::on_demand::{OnLoss, try_on_demand};
pub use onnxseal_store::parallel::start as start_thread;
pub use onnxseal_store::{
    Bytes, Error as StoreError, ErrorKind, FileFault, Flush, InMemory, Location, ObjectUrl,
    OutputFault, OutputOptions, Permitted, Progress, Readers, Replaced, STANDARD_OUTPUT, Silent,
    There, folder_of, holds_secret, is_deceptive, is_same_file, is_standard_output,
    open_handed_over, raise_file_limit, redact, replace_whole, restore_file_limit, shown,
    sync_folder, write_whole,
};
pub use open::model::{OpenedModel, open, open_on_demand, unprotect};
pub use open::on_demand::Passage;
pub use pass::digest::digest_file;
pub use pass::publish::{Destination, Made, Publication, PublishHook};
pub use pass::signature::{Access, SignedBy};
pub use pass::states::{FileState, FileStates, Volume};
#[cfg(feature = "protect")]
pub use {
    check::inspect::{inspect, is_marked, is_protected},
    check::outline::{BYTES_FOR_STRUCTURE, Outline, check_access, check_identities, is_model},
    check::report::Report,
    check::rows::{
        ClearRow, GapRow, LongSettingRow, OperatorRow, PassedOverRow, RecipientRow, RepackedRow,
        SettingsRow, TensorRow, TypeRow,
    },
    check::verify::{Checks, Verification, verify},
    make::audience::{Audience, RecipientNotes, TierRecipients, join_recipients},
    make::issue::{Issuer, Terms},
    make::protect::{ProtectOptions, plan, protect},
    make::rekey::{Rewrap, rekey},
    make::rotate::{Resign, RotateOptions, rotate},
    make::sign::{attach_signature, sign, signed_message},
    named::policy::{PolicyChoice, read_policy, read_ranking},
    named::reads::NamedInputs,
    onnxseal_plan::{
        Demand, Error as PolicyError, MAX_RANKING_BYTES, Mode, Policy, Preset, Ranking, Tier,
    },
    onnxseal_store::splice::is_interrupted,
};
