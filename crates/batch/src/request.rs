//! What is asked of a batch, in few bytes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use onnxseal_core::manifest::FORMAT;
use onnxseal_core::{
    Access, Audience, Checks, Edition, Location, Policy, ProtectOptions, Resign, RotateOptions,
    SignedBy, SigningKey,
};
use onnxseal_store::{Flush, parallel};

use crate::shard::Shard;

/// What is done to each model.
#[derive(Debug)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// [`protect`](onnxseal_core::protect()); of the options' `external_data` nothing is heeded.
    Protect {
        /// Who can open them.
        recipients: Audience<'a>,
        /// How.
        options: &'a ProtectOptions,
    },
    /// [`unprotect`](onnxseal_core::unprotect()).
    Unprotect {
        /// What opens them.
        access: Access<'a>,
    },
    /// [`rekey`](onnxseal_core::rekey()).
    Rekey {
        /// What opens them.
        access: Access<'a>,
        /// Who can open them then.
        recipients: Audience<'a>,
    },
    /// [`rotate`](onnxseal_core::rotate()).
    Rotate {
        /// What opens them.
        access: Access<'a>,
        /// Who can open them then.
        recipients: Audience<'a>,
        /// How.
        options: &'a RotateOptions,
    },
    /// [`verify`](onnxseal_core::verify()); there are no outputs.
    Verify {
        /// What is checked. [`Options::checksum`] says whether digests are taken.
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

    /// Whether what it makes are protected models.
    pub(crate) fn seals(&self) -> bool {
        match self {
            Operation::Protect { .. } | Operation::Rekey { .. } | Operation::Rotate { .. } => true,
            Operation::Unprotect { .. } | Operation::Verify { .. } => false,
        }
    }
}

/// How a batch is carried out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The folder that outputs go to, on a disk or in an object store; needed by all operations but
    /// `Verify`.
    pub out: Option<Location>,
    /// How many models at once.
    pub jobs: usize,
    /// The most memory to use, in bytes, as far as it can be foreseen.
    pub memory_bytes: u64,
    /// Whether to pass over what an earlier run has done, and to replace what it did otherwise.
    pub resume: bool,
    /// A file that the caller is going to write: an output, or an input, in its place is an error.
    pub report: Option<PathBuf>,
    /// Files that are no output's place, such as keys that the caller reads: that is an error as for an
    /// input.
    pub spared: Vec<PathBuf>,
    /// Whether to keep records of what was read and written. Without, no later run can tell what this one
    /// has done.
    pub records: bool,
    /// Whether records and the report get digests of all files, and resuming compares those, rather than
    /// lengths, times and entity tags. A batch then takes about half as long again.
    pub checksum: bool,
    /// Whether existing files may be replaced, whoever made them.
    pub replace: bool,
    /// Whether to wait, once all are done, until they are on the disk; of no meaning to object stores.
    /// With [`Flush::Replacing`] it waits for all of them if one has taken the place of a file.
    pub flush: Flush,
    /// Whether to begin no more models once one has failed.
    pub fail_fast: bool,
    /// Which part of the models.
    pub shard: Option<Shard>,
}

impl Default for Options {
    /// One model for each core, in 1 GiB; replaces nothing, and does not wait for the disk.
    fn default() -> Options {
        Options {
            out: None,
            jobs: parallel::n_cores(),
            memory_bytes: 1 << 30,
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

/// All that is asked for and that a record can be held against.
///
/// Each operation is taken apart without `..`: whoever adds an option must say here what it is to a
/// record, or the code does not compile.
#[derive(Default)]
struct Demands<'a> {
    /// Policies differ where what `Debug` says of them does.
    policy: Option<&'a Policy>,
    /// Whether the lock is there, where the operation says so itself.
    lock: Option<bool>,
    claims: Option<&'a BTreeMap<String, String>>,
    chunk_bytes: Option<u64>,
    /// Fingerprint of the key that signs; empty where a signature may get lost.
    signing_key: Option<String>,
    /// Public keys, sorted; of a passphrase, that it is one.
    recipients: Vec<String>,
    /// What the file of allowed signers says, and which of them must have signed.
    signed_by: Option<(Vec<String>, Option<&'a str>)>,
    /// Which edition is restored.
    edition: Edition<'a>,
}

/// The digest of what is asked for: with another, nothing is taken for done.
///
/// Identities are no part of it, so nothing in a record tells of them: before a source is taken for
/// done, it is asked whether they open it.
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
                // Outputs go to another folder, where external files keep their paths.
                external_data: _,
            } = options;
            Demands {
                policy: Some(policy),
                lock: None,
                claims: Some(claims),
                chunk_bytes: Some(*chunk_bytes),
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
            } = options;
            let signing_key = match signature {
                Resign::With(key) => Some(key.fingerprint()),
                // To drop a signature is not what was asked for where one was to be refused.
                Resign::Drop => Some(String::new()),
                Resign::Refuse => None,
            };
            Demands {
                policy: policy.as_ref(),
                lock: *lock,
                claims: Some(claims),
                chunk_bytes: None,
                signing_key,
                recipients: names(recipients),
                signed_by: demanded(access),
                edition: Edition::Whole,
            }
        }
        // It keeps no records.
        Operation::Verify { checks: _ } => Demands::default(),
    };
    let Demands {
        policy,
        lock,
        claims,
        chunk_bytes,
        signing_key,
        recipients,
        signed_by,
        edition,
    } = demands;
    let name = operation.name();
    let text = format!(
        "{FORMAT} {name} {policy:?} {lock:?} {claims:?} {chunk_bytes:?} {signing_key:?} {recipients:?} {signed_by:?} {edition:?}"
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
        // Comments and blanks are not what is asked for.
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
