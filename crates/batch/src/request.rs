//! Requests of a batch, and their digest.

use std::path::PathBuf;

use onnxseal_core::manifest::FORMAT;
use onnxseal_core::{
    Access, Audience, Checks, Location, ProtectOptions, Resign, RotateOptions, SignedBy, SigningKey,
};
use onnxseal_store::Flush;

use crate::error::Error;
use crate::shard::Shard;

#[derive(Debug)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// [`protect`](onnxseal_core::protect()), which ignores `external_data` of the options.
    Protect {
        recipients: Audience<'a>,
        options: &'a ProtectOptions,
    },
    /// [`unprotect`](onnxseal_core::unprotect()).
    Unprotect { access: Access<'a> },
    /// [`rekey`](onnxseal_core::rekey()).
    Rekey {
        access: Access<'a>,
        recipients: Audience<'a>,
    },
    /// [`rotate`](onnxseal_core::rotate()).
    Rotate {
        access: Access<'a>,
        recipients: Audience<'a>,
        options: &'a RotateOptions,
    },
    /// [`verify`](onnxseal_core::verify()); there are no outputs.
    Verify {
        /// The checks. [`Options::checksum`] says whether to compute digests.
        checks: Checks<'a>,
    },
}

impl Operation<'_> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Operation::Protect { .. } => "protect",
            Operation::Unprotect { .. } => "unprotect",
            Operation::Rekey { .. } => "rekey",
            Operation::Rotate { .. } => "rotate",
            Operation::Verify { .. } => "verify",
        }
    }

    /// Returns whether the operation can change a model where it lies.
    pub(crate) fn goes_in_place(&self) -> bool {
        matches!(self, Operation::Rekey { .. } | Operation::Rotate { .. })
    }

    /// Returns whether the operation makes protected models.
    pub(crate) fn seals(&self) -> bool {
        matches!(self, Operation::Protect { .. }) || self.goes_in_place()
    }
}

/// The error of an operation that writes, and was given no output folder.
pub(crate) fn no_output_folder() -> Error {
    Error::Usage("no output folder was given".into())
}

#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// The folder for outputs, on a disk or in an object store. `Verify` has none. Without one,
    /// `Rekey` and `Rotate` change each model in place: then there are no records, nothing to
    /// resume by, and no digests. `Protect` and `Unprotect` need one.
    pub out: Option<Location>,
    /// How many models at once. The default is one per core, and 16 with object stores, if that is
    /// more.
    pub jobs: Option<usize>,
    /// The most memory to use, in bytes, as far as foreseeable. The default is half of what the
    /// system and the control group have available.
    pub memory_bytes: Option<u64>,
    /// Whether to skip models that an earlier run did, and to replace its outputs that differ from
    /// the request.
    pub resume: bool,
    /// A file that the caller will write. An output or input at its path is an error.
    pub report: Option<PathBuf>,
    /// Files that outputs must not replace, such as keys that the caller reads. Such an output is
    /// an error, as for an input.
    pub spared: Vec<PathBuf>,
    /// Whether to keep records of files read and written, without which later runs cannot resume.
    pub records: bool,
    /// Whether records and the report get digests of all files, and resuming compares these instead
    /// of lengths, times and entity tags. Makes a batch about 50 % slower.
    pub checksum: bool,
    /// Whether existing files may be replaced, whoever made them.
    pub replace: bool,
    /// Whether to sync all outputs at the end; object stores ignore it. With [`Flush::Replacing`],
    /// the batch syncs all if one has replaced a file.
    pub flush: Flush,
    /// Whether to stop beginning models once one has failed.
    pub fail_fast: bool,
    /// The part of the models to do; all if absent.
    pub shard: Option<Shard>,
}

/// Computes the digest of a request. A record with another digest does not count as done.
///
/// The digest leaves out identities, so that records do not reveal them: resuming checks instead
/// that they open the source. Options are destructured without `..`, so that a new one does not
/// compile until this says what it means to a record. Policies are compared by their `Debug` text.
pub(crate) fn request(operation: &Operation<'_>) -> String {
    let asked = match operation {
        Operation::Protect {
            recipients,
            options,
        } => {
            let ProtectOptions {
                policy,
                claims,
                signing_key,
                chunk_bytes,
                repack,
                // Ignored: external files keep their paths in the output folder.
                external_data: _,
            } = options;
            let (recipients, key) = (names(recipients), signing_key.as_ref());
            let key = key.map(SigningKey::fingerprint);
            format!("{policy:?} {claims:?} {key:?} {chunk_bytes} {repack} {recipients:?}")
        }
        Operation::Unprotect { access } => format!("{:?} {:?}", demanded(access), access.edition),
        Operation::Rekey { access, recipients } => {
            format!("{:?} {:?}", demanded(access), names(recipients))
        }
        Operation::Rotate {
            access,
            recipients,
            options,
        } => {
            let RotateOptions {
                policy,
                lock,
                claims,
                signature,
                external_data: _,
            } = options;
            let key = match signature {
                Resign::With(key) => Some(key.fingerprint()),
                // Dropping a signature differs from refusing a signed model.
                Resign::Drop => Some(String::new()),
                Resign::Refuse => None,
            };
            let (recipients, demanded) = (names(recipients), demanded(access));
            format!("{policy:?} {lock:?} {claims:?} {key:?} {recipients:?} {demanded:?}")
        }
        // Verifying keeps no records.
        Operation::Verify { checks: _ } => String::new(),
    };
    let text = format!("{FORMAT} {} {asked}", operation.name());
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Returns the recipients' public keys, sorted; a passphrase only counts as one.
fn names(recipients: &Audience<'_>) -> Vec<String> {
    let mut names = recipients.names();
    names.sort_unstable();
    names
}

/// Returns the allowed signers, and the demanded one.
fn demanded<'a>(access: &Access<'a>) -> Option<(Vec<String>, Option<&'a str>)> {
    let SignedBy { allowed, signer } = access.signed_by?;
    Some((allowed.lines().collect(), signer.as_deref()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use onnxseal_core::{AllowedSigners, Edition, Identities, Policy, Preset, Recipients};

    use super::*;

    const KEYS: [&str; 2] = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINcrtIeakTYPdqsIvDiaROxjAiEcugeVRcdZxwoWa9Q+",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC6KD4AIJc7p7gTYm/NQgWmoRKKKVewY4w0e3IfA8Mn1",
    ];

    fn allowed(text: &str) -> AllowedSigners {
        AllowedSigners::read(text.as_bytes(), "allowed").unwrap()
    }

    #[test]
    fn every_demand_for_a_signature_is_another_request() {
        let identities = Identities::default();
        let of = |signed_by: Option<&SignedBy>| {
            let identities = &identities;
            let access = Access {
                identities,
                edition: Edition::Whole,
                licence: None,
                signed_by,
            };
            request(&Operation::Unprotect { access })
        };
        let by = |text: &str, signer: Option<&str>| {
            let (allowed, signer) = (allowed(text), signer.map(str::to_owned));
            of(Some(&SignedBy { allowed, signer }))
        };
        let [one, other] = KEYS.map(|key| format!("a@b {key}\n"));
        let requests = [
            of(None),
            by(&one, None),
            by(&one, Some("a@b")),
            by(&other, None),
            by(&format!("{one}{other}"), None),
            by(&format!("c@d {}", KEYS[0]), None),
            by(&format!("a@b valid-before=\"20300101Z\" {}", KEYS[0]), None),
        ];
        let different: BTreeSet<&String> = requests.iter().collect();
        assert_eq!(different.len(), requests.len());
        // Comments and blanks do not change a request.
        assert_eq!(
            requests[1],
            by(&format!("# ours\n  a@b {} x\n", KEYS[0]), None)
        );
    }

    #[test]
    fn what_is_made_is_part_of_the_request() {
        let of = |change: fn(&mut ProtectOptions)| {
            let key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
            let recipients = Recipients::parse(&[key]).unwrap();
            let mut options = ProtectOptions::new(Policy::default());
            change(&mut options);
            request(&Operation::Protect {
                recipients: (&recipients).into(),
                options: &options,
            })
        };
        let requests = [
            of(|_| ()),
            of(|options| options.policy = Policy::preset(Preset::Strong)),
            of(|options| drop(options.claims.insert("a".into(), "b".into()))),
            of(|options| options.chunk_bytes *= 2),
        ];
        let different: BTreeSet<&String> = requests.iter().collect();
        assert_eq!(different.len(), requests.len());
        assert_eq!(
            requests[0],
            of(|options| options.external_data = Some("w.data".into()))
        );
    }
}
