//! Errors, in classes that are never mixed: see [`ErrorKind`].

use std::io;
use std::path::{Path, PathBuf};

use onnxseal_crypto::{Error as KeyError, opens_with};
use onnxseal_onnx::{Error as ModelError, Fault, Foreign, excerpt, foreign};
use onnxseal_store::{Error as StoreError, ErrorKind, shown};

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of protecting or opening a model. A `path` without a doc line is that of the file that
/// the variant is about. Lengths are in bytes, and tiers are listed from the least.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // of fields that say no more than their variant
pub enum Error {
    /// A file or object cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model is not well-formed ONNX, or exceeds a limit.
    #[error("cannot use {} as an ONNX model", shown(path))]
    Model { path: PathBuf, source: ModelError },
    /// The model is protected, but its metadata breaks the rules of the format.
    #[error("{} has malformed protection metadata: {reason}", shown(path))]
    Metadata { path: PathBuf, reason: String },
    /// A file of the model does not have the length that the manifest states.
    #[error(
        "authentication failed: {} has {found} bytes, {expected} were protected",
        shown(path)
    )]
    Length {
        path: PathBuf,
        expected: u64,
        found: u64,
    },
    /// The manifest, the tags and the data key do not belong together.
    #[error(
        "authentication failed: {} has a changed manifest, tags or key",
        shown(.0)
    )]
    Manifest(PathBuf),
    /// Bytes of a file were changed since they were protected.
    #[error(
        "authentication failed: {} was changed in bytes {start} to {end}, which hold {holds}",
        shown(path)
    )]
    Chunk {
        path: PathBuf,
        start: u64,
        end: u64,
        holds: String,
    },
    /// A signature is demanded, and the model has none.
    #[error("authentication failed: {} is not signed", shown(.0))]
    NotSigned(PathBuf),
    /// The model is signed, and the result would lose the signature.
    #[error(
        "{} is signed, and encrypting it again makes the signature invalid",
        shown(.0)
    )]
    SignatureLost(PathBuf),
    /// The publisher's signature does not hold, or its signer is not allowed.
    #[error(
        "authentication failed: the signature of {} is not accepted",
        shown(path)
    )]
    Signature { path: PathBuf, source: KeyError },
    /// None of the identities opens the data key.
    #[error(
        "no identity opens {}: it opens with {recipients}{}",
        shown(path),
        licence.as_ref().map_or_else(String::new, |licence| format!("; {licence}"))
    )]
    NoMatchingKey {
        path: PathBuf,
        /// The number and kinds of its recipients, as far as age tells.
        recipients: String,
        /// Why a licence that was there did not help.
        licence: Option<String>,
    },
    /// The identities open a lower tier than the caller asks for.
    #[error(
        "no identity opens tier {wanted:?} of {}: they open tier {found:?}, which is not the original",
        shown(path)
    )]
    LowerTier {
        path: PathBuf,
        wanted: String,
        found: String,
    },
    /// The caller asks for a tier that the model lacks.
    #[error("{} has no tier {wanted:?}: {}", shown(path), list_tiers(tiers))]
    NoSuchTier {
        path: PathBuf,
        wanted: String,
        tiers: Vec<String>,
    },
    /// A licence breaks a rule of the format, or does not fit the model.
    #[error("{} cannot be used as a licence: {reason}", shown(path))]
    Licence { path: PathBuf, reason: String },
    /// A licence was changed after it was issued.
    #[error("authentication failed: {} was changed since it was issued", shown(.0))]
    LicenceChanged(PathBuf),
    /// A licence does not open the model.
    #[error("{} has no key for {}", shown(path), shown(model))]
    NotLicensed { path: PathBuf, model: PathBuf },
    /// The model or licence does not open yet, or no longer.
    #[error(
        "{} {} {date}, and the clock of this machine says {now}{}",
        shown(path),
        if *key == "not-before" { "opens from" } else { "opened until" },
        contact.as_ref().map_or_else(String::new, |contact| format!(": ask {contact:?}"))
    )]
    NotInForce {
        path: PathBuf,
        /// The claim that says so: `not-before` or `not-after`.
        key: &'static str,
        /// The date in it.
        date: String,
        /// The present time.
        now: String,
        /// The claim `contact`, or else `issuer`: whom to ask.
        contact: Option<String>,
    },
    /// A recipient or an identity cannot be used, or no key can be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The model is protected already.
    #[error("{} is protected already", shown(.0))]
    AlreadyProtected(PathBuf),
    /// The model was protected, and a program has dropped its metadata since. Its weights are
    /// ciphertext that no key opens any more.
    #[error("{} {}", shown(.0), onnxseal_onnx::tail::STRIPPED)]
    Stripped(PathBuf),
    /// The model is not protected.
    #[error("{} is not protected", shown(.0))]
    NotProtected(PathBuf),
    /// The file is in one of ONNX Runtime's own formats.
    #[error("{} is {}, which cannot be protected", shown(path), kind.what)]
    Unprotectable {
        path: PathBuf,
        kind: &'static Foreign,
    },
    /// One of several outputs exists already; several files cannot be replaced in one step.
    #[error(
        "{} exists already, and a model in several files cannot replace another in one step",
        shown(.0)
    )]
    ReplaceSeveral(PathBuf),
    /// The protected model file would be longer than ONNX Runtime can read.
    #[error(
        "{} would have {len_bytes} bytes with its protection, more than the 2 GiB of an ONNX model file",
        shown(path)
    )]
    TooLong { path: PathBuf, len_bytes: u64 },
    /// An output would overwrite an input.
    #[error("{} is an input of this model and would be overwritten", shown(.0))]
    OutputIsInput(PathBuf),
    /// An external file has a name that onnxseal does not write: hidden, or with control
    /// characters.
    #[error(
        "{} keeps weights in a file with a name that onnxseal does not write",
        shown(path)
    )]
    ExternalName { path: PathBuf, source: Fault },
    /// Several files cannot be replaced in one step.
    #[error(
        "{} keeps weights in {external} external file(s), which cannot be replaced together in place",
        shown(path)
    )]
    InPlaceExternal { path: PathBuf, external: usize },
    /// An external data file of the model cannot be used.
    #[error("cannot use {} as an ONNX model", shown(path))]
    External { path: PathBuf, source: StoreError },
    /// A file of another kind lies where external data should be.
    #[error("{} is {}, not external data of a model", shown(path), kind.what)]
    ExternalForeign {
        path: PathBuf,
        kind: &'static Foreign,
    },
    /// A call that replaces the model's end was interrupted. Completing it needs an identity that
    /// opens the model.
    #[error(
        "an interrupted rekey or signing left {} incomplete, and no identity given here completes it",
        shown(.0)
    )]
    Interrupted(PathBuf),
    /// A [`PublishHook`](crate::PublishHook) returned an error.
    #[error("the publish hook returned an error")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// [`Progress::is_cancelled`](crate::Progress::is_cancelled) ended the call.
    #[error("cancelled")]
    Cancelled,
    /// The policy cannot be read or applied.
    #[cfg(feature = "protect")]
    #[error("the policy cannot be used")]
    Policy(#[from] onnxseal_plan::Error),
    /// The model, or its protection, does not meet the policy.
    #[error(
        "{} is not protected as the policy demands: {}",
        shown(path),
        first(3, violations.iter(), |n| format!("{n} more")).join("; ")
    )]
    PolicyNotMet {
        path: PathBuf,
        violations: Vec<String>,
    },
    /// The model does not make a required claim.
    #[error(
        "{} does not make the claim {key:?} as required: {reason}",
        shown(path)
    )]
    Claim {
        path: PathBuf,
        key: String,
        reason: String,
    },
    /// An internal fault; nothing was written.
    #[error("internal error: {0}")]
    Internal(&'static str),
    /// An argument of the call cannot be used, or the manifest of the result would break a rule of the
    /// format.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// The class the error belongs to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Store(error) | Error::External { source: error, .. } => error.kind(),
            Error::Refused(_) => ErrorKind::Io,
            Error::Model {
                source: ModelError::Memory { .. },
                ..
            } => ErrorKind::Internal,
            Error::Model { .. }
            | Error::Metadata { .. }
            | Error::ExternalForeign { .. }
            | Error::Licence { .. }
            | Error::Stripped { .. } => ErrorKind::Malformed,
            Error::Length { .. }
            | Error::Manifest { .. }
            | Error::Chunk { .. }
            | Error::NotSigned { .. }
            | Error::LicenceChanged { .. }
            | Error::Signature { .. } => ErrorKind::Authentication,
            Error::NoMatchingKey { .. }
            | Error::LowerTier { .. }
            | Error::NotLicensed { .. }
            | Error::Key(KeyError::WrongPassphrase { .. }) => ErrorKind::NoMatchingKey,
            Error::Key(KeyError::Io { .. }) => ErrorKind::Io,
            Error::NotInForce { .. } => ErrorKind::NotInForce,
            Error::Internal(_)
            | Error::Key(
                KeyError::Backend
                | KeyError::Memory { .. }
                | KeyError::Randomness(_)
                | KeyError::Plugin { .. },
            ) => ErrorKind::Internal,
            Error::PolicyNotMet { .. } | Error::Claim { .. } | Error::NoSuchTier { .. } => {
                ErrorKind::PolicyNotMet
            }
            _ => ErrorKind::Usage,
        }
    }

    /// Returns what to do about a file of a known kind that is not an ONNX model, or about a location
    /// of external data that no program should follow.
    pub fn advice(&self) -> Option<&'static str> {
        const MEND: &str = "put the file below the model's folder, and its path from there, with /, into the model: docs/COMMAND.md, External data, has the lines of Python";
        match self {
            Error::Model { source, .. } => match source {
                ModelError::Foreign { kind } => kind.advice,
                ModelError::Malformed {
                    fault: Fault::Location { .. },
                    ..
                } => Some(MEND),
                _ => None,
            },
            Error::ExternalForeign { kind, .. } | Error::Unprotectable { kind, .. } => kind.advice,
            _ => None,
        }
    }
}

pub(crate) fn list_tiers(tiers: &[String]) -> String {
    match tiers {
        [] => "it has no tiers".into(),
        tiers => {
            let names: Vec<_> = tiers.iter().map(|name| format!("{name:?}")).collect();
            format!("its tiers are {}", names.join(", "))
        }
    }
}

/// The first `n` texts, and what `more` says of the number of the others: there may be a million.
pub(crate) fn first(
    n: usize,
    mut texts: impl Iterator<Item = impl ToString>,
    more: impl FnOnce(usize) -> String,
) -> Vec<String> {
    let first = texts.by_ref().take(n).map(|text| text.to_string());
    let mut first: Vec<String> = first.collect();
    let rest = texts.count();
    first.extend((rest > 0).then(|| more(rest)));
    first
}

/// Makes the error for metadata that break a rule: `.map_err(metadata(path))`.
pub(crate) fn metadata(path: &Path) -> impl Fn(String) -> Error + Copy {
    move |reason| Error::Metadata {
        path: path.to_owned(),
        reason,
    }
}

/// Makes the error for a model file that begins with `bytes`. A malformed one may be a file of
/// another kind.
pub(crate) fn model(path: &Path, bytes: &[u8], source: ModelError) -> Error {
    let source = match (source, foreign(bytes)) {
        (ModelError::Malformed { .. }, Some(kind)) => ModelError::Foreign { kind },
        (source, _) => source,
    };
    let path = path.to_owned();
    Error::Model { path, source }
}

/// Makes the error for identities that do not open the file at `path`.
pub(crate) fn no_key(path: &Path, error: KeyError) -> Error {
    let path = path.to_owned();
    match error {
        KeyError::NoMatchingKey { recipients } => Error::NoMatchingKey {
            path,
            recipients: excerpt(&opens_with(&recipients)),
            licence: None,
        },
        KeyError::WrongPassphrase { .. } => {
            Error::Key(KeyError::WrongPassphrase(path.display().to_string()))
        }
        error => Error::Key(error),
    }
}

/// Adds the path of the model to the error of an external data file: `.map_err(external(path))`.
pub(crate) fn external(path: &Path) -> impl FnOnce(StoreError) -> Error {
    move |source| match source {
        StoreError::External { .. } => {
            let path = path.to_owned();
            Error::External { path, source }
        }
        error => Error::Store(error),
    }
}

/// Turns the system's errors into ours: `.map_err(io("read", path))`.
pub fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Store(onnxseal_store::io(action, path)(source))
}
