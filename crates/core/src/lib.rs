//! Protects the weights of ONNX models, and opens what it protected.
//!
//! A protected model is the original file with chosen weight bytes encrypted in place and the rest
//! authenticated, plus metadata: still a valid ONNX file of the same shape. [`protect`] makes one,
//! [`open`] gives the original back in memory and [`unprotect`] in files, byte for byte;
//! [`inspect`] and [`verify`] look at one; [`discover`] finds models in folders. `docs/FORMAT.md` is
//! the format.
//!
//! Nothing that was decrypted leaves a call before every byte of every file has been authenticated,
//! and files appear whole or not at all.
//!
//! Features: `protect` adds planning and protecting (a device that only opens models does without);
//! `aws-lc` chooses the faster of two AEAD back ends that give the same bytes; `object-store` reaches
//! models in object stores (`docs/STORAGE.md`).

mod artifact;
#[cfg(feature = "protect")]
pub mod batch;
#[cfg(feature = "protect")]
mod beneath;
mod chunks;
mod claims;
mod digest;
#[cfg(feature = "protect")]
mod discover;
mod draft;
mod error;
mod folder;
mod in_memory;
mod input;
#[cfg(feature = "protect")]
mod inspect;
mod lease;
mod location;
pub mod manifest;
mod map;
mod open;
mod output;
mod outputs;
mod parallel;
mod plaintext;
#[cfg(feature = "protect")]
mod presence;
mod progress;
#[cfg(feature = "protect")]
mod protect;
mod protected;
#[cfg(feature = "protect")]
mod reflink;
#[cfg(feature = "protect")]
mod rekey;
#[cfg(feature = "object-store")]
mod remote;
#[cfg(feature = "protect")]
mod rename;
#[cfg(feature = "protect")]
mod report;
#[cfg(feature = "protect")]
mod rotate;
#[cfg(feature = "protect")]
mod seal;
#[cfg(feature = "protect")]
mod sign;
mod signature;
mod source;
mod spans;
#[cfg(feature = "protect")]
mod splice;
#[cfg(feature = "protect")]
mod structure;
mod transfer;
#[cfg(feature = "object-store")]
mod upload;
#[cfg(feature = "protect")]
mod verify;

pub use claims::Requirements;
pub use draft::{Readers, write_whole};
pub use error::{Error, ErrorKind, Result};
pub use in_memory::{Bytes, InMemory};
pub use location::{Location, ObjectUrl, redact};
pub use manifest::{File, Manifest, Operator};
pub use onnxseal_crypto::signature::{AllowedSigners, ClaimedSigner, Signer, SigningKey};
pub use onnxseal_crypto::wrap::{
    Identities, Identity, NoPrompt, PLUGIN_PATIENCE, Passphrase, Prompt, Recipients,
    generate_identity,
};
pub use onnxseal_crypto::{BlobKey, Error as KeyError, holds_secret, opens_with, shown};
pub use open::{OpenedModel, open, open_with, unprotect};
pub use output::OutputOptions;
pub use plaintext::Memory;
pub use progress::{Digests, FileDigest, Progress, Silent};
pub use signature::{Access, SignedBy};

#[cfg(feature = "protect")]
pub use {
    discover::{Discovery, Found, Unreadable, discover},
    inspect::{inspect, is_protected},
    onnxseal_plan::{Demand, Policy, Preset},
    progress::Volume,
    protect::{ProtectOptions, plan, protect, protect_in_place},
    rekey::{Rekeyed, Rewrap, rekey, rekey_in_place},
    report::{
        ClearRow, OperatorRow, PassedOverRow, PlainConstantsRow, RecipientRow, Report,
        SignatureRow, TensorRow, TypeRow,
    },
    rotate::{Resign, RotateOptions, rotate, rotate_in_place},
    sign::{attach_signature, sign, signed_message},
    splice::is_interrupted,
    verify::{Checks, SignedByRow, Verification, verify},
};
