//! Exit codes and hints, for scripts and people.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use onnxseal_batch::Error as BatchError;
use onnxseal_core::{Error, ErrorKind, FileFault, KeyError, OutputFault, StoreError, redact};

use crate::text::{note, one_line, printable};

/// The table in `onnxseal help` and `docs/COMMAND.md`.
pub const CODES: &str = "\
Exit codes:
  0  done
  1  another failure, or failures of several classes in a batch
  2  usage: the command cannot be carried out as asked
  3  malformed: the input is not a well-formed ONNX model, or exceeds a limit
  4  authentication failed: something was changed since it was protected
  5  no matching key: none of the identities opens the model
  6  policy not met
  7  I/O: the system could not read or write
  9  not in force: the model or licence opens from a later date, or opened until an earlier one
  130, 143  stopped by Ctrl-C or SIGTERM; the report of a batch says how far it got";

pub fn code(error: &anyhow::Error) -> u8 {
    if let Some(failures) = error.downcast_ref::<Failures>() {
        return failures.code;
    }
    match error.chain().find_map(kind) {
        Some(kind) => kind_code(kind),
        None if cause::<std::io::Error>(error).is_some() => 7,
        None if cause::<Usage>(error).is_some() => 2,
        None => 1,
    }
}

fn kind(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    macro_rules! kind_of {
        ($($(#[$when:meta])* $of:path,)*) => {
            $($(#[$when])* if let Some(error) = error.downcast_ref::<$of>() {
                return Some(error.kind());
            })*
        };
    }
    kind_of! {
        BatchError,
        Error,
        #[cfg(feature = "assess")] onnxseal_assess::Error,
        #[cfg(feature = "assess")] onnxseal_engine::Error,
        #[cfg(feature = "assess")] onnxseal_data::Error,
        #[cfg(feature = "inputs")] onnxseal_inputs::Error,
        #[cfg(feature = "labels")] onnxseal_labels::Error,
        #[cfg(feature = "fingerprint")] onnxseal_fingerprint::Error,
        #[cfg(any(feature = "fingerprint", feature = "inputs", feature = "labels"))] onnxseal_rewrite::Error,
    }
    None
}

fn cause<E: std::error::Error + 'static>(error: &anyhow::Error) -> Option<&E> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

fn of_core(error: &anyhow::Error) -> Option<&Error> {
    match cause(error) {
        Some(BatchError::Core(error)) => Some(error),
        _ => cause(error),
    }
}

pub fn kind_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => 2,
        ErrorKind::Malformed => 3,
        ErrorKind::Authentication => 4,
        ErrorKind::NoMatchingKey => 5,
        ErrorKind::PolicyNotMet => 6,
        ErrorKind::Io => 7,
        ErrorKind::NotInForce => 9,
        _ => 1,
    }
}

/// An error with its own exit code.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Failures {
    code: u8,
    text: String,
}

/// Makes the error that ends the command with `code`.
pub fn failed(code: u8, text: impl Into<String>) -> anyhow::Error {
    let text = text.into();
    Failures { code, text }.into()
}

/// Makes the error for models that are not as demanded.
pub fn not_met(text: impl Into<String>) -> anyhow::Error {
    failed(kind_code(ErrorKind::PolicyNotMet), text)
}

pub fn stopped(signal: i32, what: &str) -> anyhow::Error {
    failed(128 + signal as u8, format!("stopped: {what}"))
}

/// A mistake in the command line that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

pub fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// Prints clap's message on the command line `args`, help or a mistake, and returns the exit code.
/// It hides keys, passphrases and passwords in URLs.
pub fn misread(mut error: clap::Error, args: &[OsString]) -> u8 {
    let about = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    let of_passphrase = |about: &String| about.contains("-passphrase");
    if about.as_ref().is_some_and(of_passphrase) && error.get(ContextKind::InvalidValue).is_some() {
        let hidden = ContextValue::String("[not shown]".to_owned());
        error.insert(ContextKind::InvalidValue, hidden);
    }
    // `--passphrase hunter2`: the second word is an unexpected argument, and a secret.
    let asks = |argument: &OsString| argument.to_string_lossy().ends_with("-passphrase");
    if error.kind() == clap::error::ErrorKind::UnknownArgument && args.iter().any(asks) {
        let hidden = ContextValue::String("[not shown]".to_owned());
        error.insert(ContextKind::InvalidArg, hidden);
    }
    // It looks like rekey, which takes nothing from a reader who kept the data key.
    let unknown = error.get(ContextKind::InvalidSubcommand);
    if matches!(unknown, Some(ContextValue::String(name)) if name == "revoke") {
        let tip = "`onnxseal rotate` makes the next file for other readers: docs/KEYS.md, Revoke a customer";
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(
            ContextKind::Suggested,
            ContextValue::StyledStrs(vec![tip.into()]),
        );
    }
    let text = error.to_string();
    if !error.use_stderr() || redact(&text) == text {
        // Where that fails there is nobody left to tell.
        let _ = error.print();
    } else {
        note(text.trim_end());
    }
    error.exit_code() as u8
}

/// Prints `error` with its causes and a hint, and returns its exit code.
pub fn report(error: &anyhow::Error) -> u8 {
    // A reader such as `head` closed the pipe: not an error.
    let broken = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(broken) {
        return 0;
    }
    // Show several lines only for a policy, which is the user's own text.
    let shown = match of_core(error) {
        Some(Error::Policy(_)) => printable,
        _ => one_line,
    };
    note(&format!("error: {}", shown(&error.to_string())));
    for cause in error.chain().skip(1) {
        note(&format!("  cause: {}", shown(&cause.to_string())));
    }
    let hint = match cause(error) {
        Some(error) => batch_hint(error),
        None => of_core(error).and_then(hint).or_else(|| vendor_hint(error)),
    };
    if let Some(hint) = hint {
        note(&format!("  hint: {hint}"));
    }
    code(error)
}

/// Returns what to do about an error of a batch, if that is not obvious.
pub fn batch_hint(error: &BatchError) -> Option<&'static str> {
    Some(match error {
        BatchError::Core(Error::InPlaceExternal { .. }) => {
            "write them to a folder with --out, then swap the folders; or rotate them one by one, with --external-data NAME"
        }
        BatchError::Core(Error::Store(StoreError::InPlaceObject { .. })) => {
            "write them to a folder with --out; then swap the folders"
        }
        BatchError::Core(error) => return hint(error),
        BatchError::OutputForeign { .. } => {
            "move it away, or replace it with --force; it may be an output that was copied or touched, or that another run replaced"
        }
        BatchError::SourceInOutput { .. } => "choose another --out",
        BatchError::InUse { .. } => {
            "wait until it has ended, then go on with --resume; parts of one batch may run at once with --shard"
        }
        _ => return None,
    })
}

#[cfg(any(feature = "fingerprint", feature = "inputs", feature = "labels"))]
const FREE_OUTPUT: &str = "choose another output, or replace it with --force; external data of a model are never replaced: write it to another folder";

fn vendor_hint(error: &anyhow::Error) -> Option<&'static str> {
    #[cfg(any(feature = "fingerprint", feature = "inputs", feature = "labels"))]
    match rewriting(error) {
        Some(onnxseal_rewrite::Error::Refused(refusal)) => return refusal.advice,
        Some(onnxseal_rewrite::Error::Store(StoreError::OutputExists { .. })) => {
            return Some(FREE_OUTPUT);
        }
        _ => {}
    }
    #[cfg(feature = "inputs")]
    if let Some(onnxseal_inputs::Error::Store(StoreError::OutputExists { .. })) = cause(error) {
        return Some(FREE_OUTPUT);
    }
    #[cfg(feature = "labels")]
    if let Some(onnxseal_labels::Error::NoTable) = cause(error) {
        return Some(
            "run `onnxseal labels protect` first, or `onnxseal unprotect` if the whole model is protected",
        );
    }
    let _ = error;
    None
}

/// The error of rewriting a model that is the cause of `error`.
#[cfg(any(feature = "fingerprint", feature = "inputs", feature = "labels"))]
fn rewriting(error: &anyhow::Error) -> Option<&onnxseal_rewrite::Error> {
    #[cfg(feature = "inputs")]
    if let Some(onnxseal_inputs::Error::Rewrite(error)) = cause(error) {
        return Some(error);
    }
    #[cfg(feature = "labels")]
    if let Some(onnxseal_labels::Error::Rewrite(error)) = cause(error) {
        return Some(error);
    }
    #[cfg(feature = "fingerprint")]
    if let Some(onnxseal_fingerprint::Error::Rewrite(error)) = cause(error) {
        return Some(error);
    }
    cause(error)
}

fn hint(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::Interrupted { .. } => INTERRUPTED,
        Error::Model { path, .. }
        | Error::Metadata { path, .. }
        | Error::Manifest(path)
        | Error::NoMatchingKey { path, .. }
            if onnxseal_core::is_interrupted(path) =>
        {
            INTERRUPTED
        }
        Error::Model { .. } | Error::ExternalForeign { .. } | Error::Unprotectable { .. } => {
            return error.advice();
        }
        Error::External {
            source:
                StoreError::External {
                    fault: FileFault::Outside(_),
                    ..
                },
            ..
        } => "copy the file to where the link is, such as by `cp -L`",
        Error::AlreadyProtected { .. } => {
            "`onnxseal inspect` shows how; `onnxseal rekey` gives it other recipients, `onnxseal rotate` encrypts it again"
        }
        Error::Stripped { .. } => {
            "fetch the file again as its publisher made it: programs that save a protected model anew destroy it"
        }
        Error::NotProtected { .. } => "run `onnxseal protect` to protect it",
        Error::ReplaceSeveral { .. } => "write to a new folder, then swap the folders",
        Error::TooLong { .. } => {
            "save the model with external data, such as by onnx.save(..., save_as_external_data=True), and protect that"
        }
        Error::OutputIsInput { .. } => {
            "write to another folder: external data keeps its relative path, unless --external-data NAME of `protect` and `rotate` gives it another. To change the model in place: `protect --in-place`, or `rekey` and `rotate` without --output"
        }
        Error::ExternalName { .. } => {
            "rename the file, and change its `location` in the model: docs/COMMAND.md, External data, has the lines of Python; a protected model opens in memory as it is, as a session does it"
        }
        Error::SignatureLost { .. } => "sign the result with --sign-key, or give --drop-signature",
        Error::NotSigned { .. } => {
            "the publisher can sign it: a model with `onnxseal sign`, a licence with `onnxseal licence issue --sign-key`"
        }
        Error::InPlaceExternal { .. } => {
            "give --external-data NAME: the new external data goes there, beside the old, and the model is replaced last; or write to another folder with --output, then swap the folders"
        }
        Error::NoMatchingKey { recipients, .. } if recipients == "1 passphrase" => {
            "it opens with a passphrase: give --passphrase or --passphrase-file"
        }
        Error::LowerTier { .. } => {
            "ask the publisher for a key of that tier, or accept the tier that you have with --tier"
        }
        Error::NotLicensed { .. } => {
            "ask for a licence for this file: one that was encrypted again is another"
        }
        Error::Licence { .. } | Error::LicenceChanged { .. } => {
            "get the licence again as it was issued; mail and editors may change lines"
        }
        Error::NotInForce { contact: None, .. } => "ask whoever issued it for a later date",
        Error::NoSuchTier { .. } => "`onnxseal inspect` shows the tiers",
        Error::NoMatchingKey { .. } => "name the matching identity file with --identity",
        Error::PolicyNotMet { violations, .. } => return policy_hint(violations),
        Error::Key(error) => return key_hint(error),
        Error::Store(error) => return store_hint(error),
        Error::Chunk { .. } | Error::Length { .. } | Error::Manifest { .. } => {
            "the files were changed since they were protected; get them again from their source"
        }
        _ => return None,
    })
}

/// Returns what to do about a plan that falls short of its policy.
fn policy_hint(violations: &[String]) -> Option<&'static str> {
    let any = |words: &[&str]| {
        let mut violations = violations.iter();
        violations.any(|text| words.iter().any(|word| text.contains(word)))
    };
    if any(&[".ints) cannot be encrypted", ".floats) cannot be encrypted"]) {
        Some("--allow-clear NAME accepts that an attribute's numbers stay in clear, by its path")
    } else if any(&["varints", "scattered", "belong to no tensor"]) {
        Some(
            "`protect --repack` rewrites such elements as raw_data and such bytes as zeros; --allow-clear NAME accepts what stays in clear",
        )
    } else if any(&["stays in clear"]) {
        Some("--allow-clear NAME accepts it, by its name or path")
    } else {
        None
    }
}

const INTERRUPTED: &str = "run `onnxseal rekey` on it with an identity of its old or its new recipients; after an interrupted `onnxseal sign`, run `onnxseal sign` again";

fn store_hint(error: &StoreError) -> Option<&'static str> {
    Some(match error {
        StoreError::OutputExists { .. } => {
            "choose another output, or replace it with --force; --external-data NAME of `protect` and `rotate` gives external data another name"
        }
        StoreError::NoOutput { fault, .. } => match fault {
            OutputFault::Link => "name the file that it leads to, or remove the link",
            OutputFault::Terminal => {
                "send it to a file or a program, such as by `-o - | PROGRAM`, or give --force"
            }
            OutputFault::Several => "write to a file",
            _ => "choose another output",
        },
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::IsADirectory => {
            "name a file; for all models of a folder use `onnxseal batch`, such as `onnxseal batch protect FOLDER --out DIR`"
        }
        StoreError::OpenFiles { .. } => {
            "raise the hard limit, such as by `ulimit -Hn 1048576` as root, or save the model with all weights in one external file"
        }
        StoreError::Busy { .. } => "wait until that process is done, then try again",
        StoreError::InPlaceObject { .. } => "write to another URL with --output",
        StoreError::NoObjectStores { .. } => {
            "build onnxseal with object stores: `cargo install --path . --features object-store`, in a checkout"
        }
        _ => return None,
    })
}

fn key_hint(error: &KeyError) -> Option<&'static str> {
    Some(match error {
        KeyError::WrongPassphrase { .. } => {
            "try again, and make sure that it is the passphrase of this file"
        }
        KeyError::PassphraseNeeded { .. } => {
            "run the command on a terminal: it asks for the passphrase there"
        }
        KeyError::InvalidRecipient { .. } => {
            "recipients are age1..., age1pq1..., \"ssh-ed25519 ...\" and \"ssh-rsa ...\"; `onnxseal keygen` makes one"
        }
        KeyError::UnknownRecipients { .. } => {
            "name all recipients with -r and -R, without --add, or give the identities of the others too; --list-recipients writes them into the model"
        }
        KeyError::IncompatibleRecipients { .. } => "protect a copy for each of them",
        KeyError::PluginMissing { .. } => "install the plugin, or use other keys",
        _ => return None,
    })
}
