//! Requests of a batch, and their digest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use onnxseal_core::manifest::FORMAT;
use onnxseal_core::{
    Access, Audience, Checks, Edition, Location, Policy, ProtectOptions, Resign, RotateOptions,
    SignedBy, SigningKey,
};
use onnxseal_store::Flush;

use crate::shard::Shard;

/// The operation on each model.
#[derive(Debug)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// [`protect`](onnxseal_core::protect()), which ignores `external_data` of the options.
    Protect {
        /// The recipients of the results.
        recipients: Audience<'a>,
        /// The options.
        options: &'a ProtectOptions,
    },
    /// [`unprotect`](onnxseal_core::unprotect()).
    Unprotect {
        /// The access to the models.
        access: Access<'a>,
    },
    /// [`rekey`](onnxseal_core::rekey()).
    Rekey {
        /// The access to the models.
        access: Access<'a>,
        /// The recipients of the results.
        recipients: Audience<'a>,
    },
    /// [`rotate`](onnxseal_core::rotate()).
    Rotate {
        /// The access to the models.
        access: Access<'a>,
        /// The recipients of the results.
        recipients: Audience<'a>,
        /// The options.
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
        match self {
            Operation::Rekey { .. } | Operation::Rotate { .. } => true,
            Operation::Protect { .. } | Operation::Unprotect { .. } | Operation::Verify { .. } => {
                false
            }
        }
    }

    /// Returns whether the operation makes protected models.
    pub(crate) fn seals(&self) -> bool {
        match self {
            Operation::Protect { .. } | Operation::Rekey { .. } | Operation::Rotate { .. } => true,
            Operation::Unprotect { .. } | Operation::Verify { .. } => false,
        }
    }
}

/// How to run a batch.
#[derive(Clone, Debug)]
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

impl Default for Options {
    /// Returns options that replace nothing and do not wait for the disk.
    fn default() -> Options {
        Options {
            out: None,
            jobs: None,
            memory_bytes: None,
            resume: false,
            report: None,
            spared: Vec::new(),
            records: true,
            checksum: false,
            replace: false,
            flush: Flush::default(),
            fail_fast: false,
            shard: None,
        }
    }
}

/// The parts of a request that a record must match.
///
/// Each operation is destructured without `..`, so that a new option does not compile until this
/// says what it means to a record.
#[derive(Default)]
struct Demands<'a> {
    /// Policies are compared by their `Debug` text.
    policy: Option<&'a Policy>,
    /// Whether the result has the lock, if the operation itself says so.
    lock: Option<bool>,
    claims: Option<&'a BTreeMap<String, String>>,
    chunk_bytes: Option<u64>,
    repack: bool,
    /// Fingerprint of the signing key; empty if a signature may be lost.
    signing_key: Option<String>,
    /// Public keys, sorted; a passphrase only counts as one.
    recipients: Vec<String>,
    /// The allowed signers, and the demanded one.
    signed_by: Option<(Vec<String>, Option<&'a str>)>,
    /// The edition to restore.
    edition: Edition<'a>,
}

/// Computes the digest of a request. A record with another digest does not count as done.
///
/// The digest leaves out identities, so that records do not reveal them: resuming checks instead
/// that they open the source.
pub(crate) fn request(operation: &Operation<'_>) -> String {
    let demands = match operation {
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
            Demands {
                policy: Some(policy),
                lock: None,
                claims: Some(claims),
                chunk_bytes: Some(*chunk_bytes),
                repack: *repack,
                signing_key: signing_key.as_ref().map(SigningKey::fingerprint),
                recipients: names(recipients),
                signed_by: None,
                edition: Edition::Whole,
            }
        }
        Operation::Unprotect { access } => Demands {
            signed_by: demanded(access),
            edition: access.edition,
            ..Demands::default()
        },
        Operation::Rekey { access, recipients } => Demands {
            signed_by: demanded(access),
            recipients: names(recipients),
            ..Demands::default()
        },
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
                // Ignored too.
                external_data: _,
            } = options;
            let signing_key = match signature {
                Resign::With(key) => Some(key.fingerprint()),
                // Dropping a signature differs from refusing a signed model.
                Resign::Drop => Some(String::new()),
                Resign::Refuse => None,
            };
            Demands {
                policy: policy.as_ref(),
                lock: *lock,
                claims: Some(claims),
                chunk_bytes: None,
                repack: false,
                signing_key,
                recipients: names(recipients),
                signed_by: demanded(access),
                edition: Edition::Whole,
            }
        }
        // Verifying keeps no records.
        Operation::Verify { checks: _ } => Demands::default(),
    };
    let Demands {
        policy,
        lock,
        claims,
        chunk_bytes,
        repack,
        signing_key,
        recipients,
        signed_by,
        edition,
    } = demands;
    let name = operation.name();
    let text = format!(
        "{FORMAT} {name} {policy:?} {lock:?} {claims:?} {chunk_bytes:?} {repack} {signing_key:?} {recipients:?} {signed_by:?} {edition:?}"
    );
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

fn names(recipients: &Audience<'_>) -> Vec<String> {
    let mut names = recipients.names();
    names.sort_unstable();
    names
}

fn demanded<'a>(access: &Access<'a>) -> Option<(Vec<String>, Option<&'a str>)> {
    let Access {
        identities: _,
        signed_by,
        edition: _,
    } = access;
    signed_by.map(|signed_by| {
        let SignedBy { allowed, signer } = signed_by;
        (allowed.lines().collect(), signer.as_deref())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use onnxseal_core::{AllowedSigners, Identities, Preset, Recipients};

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
