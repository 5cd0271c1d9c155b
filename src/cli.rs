//! The command line.

#[cfg(feature = "assess")]
pub mod assess;
pub mod batch;
#[cfg(feature = "fingerprint")]
pub mod fingerprint;
#[cfg(feature = "inputs")]
pub mod inputs;
#[cfg(feature = "labels")]
pub mod labels;
pub mod licence;
mod operation;
mod policy;
pub mod run;
mod shared;
#[cfg(feature = "assess")]
pub mod tiers;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use onnxseal_core::Location;

pub use self::operation::{Demands, Protecting, Rotating, Sources, Verifying};
pub use self::policy::{Policy, WHICH_PRESET};
#[cfg(target_os = "linux")]
pub use self::shared::OutFolder;
pub use self::shared::{Out, OutputOptions, SyncOptions, View};
use self::shared::{location, out, out_model};
use crate::exit;
use crate::keys::{NewRecipientArgs, PassphraseArgs};
use crate::signing::{OpeningArgs, ReaderArgs};

/// Protect the weights of ONNX models that you give to others.
#[derive(Debug, Parser)]
#[command(version, about, after_help = exit::CODES, disable_help_subcommand = false)]
pub struct Cli {
    /// Print errors only: no progress, no notes, no reports
    #[arg(short, long, global = true)]
    pub quiet: bool,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an identity: the secret key that opens models protected to its recipient
    ///
    /// With a passphrase, the identity file is encrypted.
    Keygen(Keygen),
    /// Show what `protect` would encrypt, without writing anything
    #[command(after_long_help = WHICH_PRESET)]
    Plan(Plan),
    /// Encrypt chosen weights of a model and authenticate all of it
    ///
    /// Without a recipient or a passphrase, a new identity is written beside the output.
    #[command(after_long_help = WHICH_PRESET)]
    Protect(Protect),
    /// Show what is encrypted in a protected model; needs no key
    Inspect(Inspect),
    #[cfg(feature = "assess")]
    Assess(assess::Assess),
    #[cfg(feature = "assess")]
    Rank(assess::Rank),
    /// Choose the tiers of a model: editions of one file, for different customers
    #[cfg(feature = "assess")]
    #[command(subcommand)]
    Tiers(tiers::Tiers),
    /// Keyed inputs: models that answer only to images that were transformed with a key
    ///
    /// They stop casual use of a stolen model. Images do not stay confidential, and an attacker
    /// with some keyed images may find the key: docs/INPUTS.md begins with the limits.
    #[cfg(feature = "inputs")]
    #[command(subcommand)]
    Inputs(inputs::Inputs),
    /// Names of classes that only key holders can read, and leaks that name the leaker
    ///
    /// You protect a classifier once, and each user gets a key of their own. Whoever has the model
    /// in plain gets the classifier up to the names of its classes, so ship it inside `onnxseal
    /// protect`: docs/LABELS.md begins with the limits.
    #[cfg(feature = "labels")]
    #[command(subcommand)]
    Labels(labels::Labels),
    /// A copy for each customer, with a mark in its weights that tells whose copy leaked
    #[cfg(feature = "fingerprint")]
    #[command(subcommand)]
    Fingerprint(fingerprint::Fingerprint),
    /// Check protected models: their structure, a policy, and with an identity every byte
    ///
    /// Models must meet or exceed --policy and --preset. Without an identity, this checks how much
    /// is encrypted and how it is cut; with one, also which weights.
    Verify(Verify),
    /// Restore the original of a protected model, byte for byte
    Unprotect(Unprotect),
    /// Licences: who opens protected models, and until when; the models stay as they are
    #[command(subcommand)]
    Licence(licence::Licence),
    /// Run a program on opened models, which it alone sees (Linux)
    ///
    /// The models are opened into memory that is never swapped out, and appear at the paths where they are.
    /// Other processes see the protected ones there. The memory is gone with the program, however it ends.
    /// The exit code is the program's; as in shells, 127 says that there is no such program, and 126 that
    /// it cannot be run.
    Run(run::Run),
    /// Protect, unprotect, rekey, rotate or verify many models at once
    #[command(subcommand)]
    Batch(batch::Batch),
    /// Wrap the data key of a protected model to other recipients; the weights stay as they are
    ///
    /// Use it to add readers, or to remove readers from copies that they never had. It takes a
    /// moment, whatever the model's size. A signature stays valid. A reader who opened the model
    /// before may have kept its data key and can still open the result: if that matters, use
    /// `rotate`.
    ///
    /// The recipients you give are all the recipients of the result, unless --add keeps the others.
    Rekey(Rekey),
    /// Encrypt a protected model again, under a new data key
    ///
    /// Use it if a key may have leaked, if a reader must lose access, or to change what is
    /// encrypted (--policy, --preset). It takes about as long as `protect`; plaintext stays in
    /// memory. Older copies still open with older keys. A signature becomes invalid, so a signed
    /// model needs --sign-key or --drop-signature.
    Rotate(Rotate),
    /// Sign a protected model, so that others can tell who made it
    ///
    /// Signs the model as it is stored, except the wrapped data key. Without an identity, `sign`
    /// cannot tell whether the model is authentic: sign models that you made yourself, or run
    /// `verify` first.
    Sign(Sign),
}

#[derive(Debug, Args)]
pub struct Keygen {
    /// File to write the identity to; only you can read it [default: standard output]
    #[arg(short, long, value_name = "FILE", value_parser = out())]
    pub output: Option<Out<PathBuf>>,

    /// Make a post-quantum identity, as `age-keygen -pq` does: age 1.3 and later read it
    #[arg(long)]
    pub pq: bool,

    /// Make nothing: print the recipients of this identity file
    #[arg(
        short = 'y',
        long = "recipients-of",
        value_name = "FILE",
        conflicts_with_all = ["output", "pq", "comment", "passphrase", "passphrase_file"]
    )]
    pub recipients_of: Option<PathBuf>,

    /// Comment beside the public key in the identity file: whose key it is, and for what
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,

    #[command(flatten)]
    pub passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub struct Plan {
    /// The model
    #[arg(value_parser = location())]
    pub model: Location,
    #[command(flatten)]
    pub policy: Policy,
    #[command(flatten)]
    pub view: View,
}

#[derive(Debug, Args)]
pub struct Protect {
    /// The model: a path, or a URL (s3://, gs://, az://, file://). The model names its external
    /// data files
    #[arg(value_parser = location())]
    pub model: Location,

    /// File or object to write; in a folder, the file gets the model's name. External data goes
    /// beside it, under its relative paths, or under a new name (FILE.data) if it would collide
    /// with the original's
    #[arg(short, long, value_name = "FILE", value_parser = out_model(), required_unless_present = "in_place")]
    pub output: Option<Out<Location>>,

    /// Replace the model by the result in one step. External data goes to a new file; the old one
    /// stays, because other models may use it
    #[arg(long, conflicts_with_all = ["output", "no_sync"])]
    pub in_place: bool,

    /// Name of the protected model's external data file, relative to its folder; for several files,
    /// the folder for them. `unprotect` restores the original names
    #[arg(long, value_name = "NAME")]
    pub external_data: Option<String>,

    #[cfg(feature = "fingerprint")]
    #[command(flatten)]
    pub mark: fingerprint::MarkArgs,

    #[command(flatten)]
    pub protecting: Protecting,
    #[command(flatten)]
    pub output_options: OutputOptions,
    #[command(flatten)]
    pub view: View,
}

#[derive(Debug, Args)]
pub struct Rekey {
    /// The protected model
    #[arg(value_parser = location())]
    pub model: Location,

    #[command(flatten)]
    pub opening: OpeningArgs,

    #[command(flatten)]
    pub recipients: NewRecipientArgs,

    /// Keep the present recipients too. If the model does not list their public keys, give the
    /// identities of all of them
    #[arg(long)]
    pub add: bool,

    /// File to write, with external data beside it; in a folder, the file gets the model's name.
    /// Without this option the model is changed in place
    #[arg(short, long, value_name = "FILE", value_parser = out_model())]
    pub output: Option<Out<Location>>,

    #[command(flatten)]
    pub output_options: OutputOptions,
}

#[derive(Debug, Args)]
pub struct Rotate {
    /// The protected model
    #[arg(value_parser = location())]
    pub model: Location,

    #[command(flatten)]
    pub opening: OpeningArgs,

    /// File to write, with external data beside it; in a folder, the file gets the model's name.
    /// Without this option the model is replaced in one step, once the result is on the disk
    #[arg(short, long, value_name = "FILE", value_parser = out_model())]
    pub output: Option<Out<Location>>,

    /// Name of the new external data file, relative to the model's folder; for several files, the
    /// folder for them. To be replaced, a model with external data needs it: the old file stays,
    /// because programs may be reading it
    #[arg(long, value_name = "NAME")]
    pub external_data: Option<String>,

    #[command(flatten)]
    pub rotating: Rotating,
    #[command(flatten)]
    pub output_options: OutputOptions,
    #[command(flatten)]
    pub view: View,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("how").required(true))]
pub struct Sign {
    /// The protected model, which is signed in place
    #[arg(value_parser = location())]
    pub model: Location,

    /// OpenSSH private key to sign with
    #[arg(short, long, value_name = "FILE", group = "how")]
    pub key: Option<PathBuf>,

    /// Signature to put into the model, made by `ssh-keygen -Y sign -n onnxseal` over the output of
    /// --print-message
    #[arg(long, value_name = "FILE", group = "how")]
    pub signature: Option<PathBuf>,

    /// Print the message to sign, for a key in an agent or a hardware token
    #[arg(long, group = "how")]
    pub print_message: bool,

    #[command(flatten)]
    pub sync: SyncOptions,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// The protected model
    #[arg(value_parser = location())]
    pub model: Location,
    #[command(flatten)]
    pub view: View,
}

#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    pub sources: Sources,

    /// Fail (6) if a model is not protected. A policy, an identity, allowed signers or a required
    /// claim imply this; without them, such models are only listed
    #[arg(long)]
    pub require_protected: bool,

    #[command(flatten)]
    pub verifying: Verifying,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    /// Print the result as SARIF 2.1.0, for code scanning services
    #[arg(long, conflicts_with = "json")]
    pub sarif: bool,
}

#[derive(Debug, Args)]
pub struct Unprotect {
    /// The protected model
    #[arg(value_parser = location())]
    pub model: Location,

    #[command(flatten)]
    pub opening: OpeningArgs,

    #[command(flatten)]
    pub reader: ReaderArgs,

    /// File or object to write; in a folder, the file gets the model's name. External data goes
    /// beside it, under the paths of the original
    #[arg(short, long, value_name = "FILE", value_parser = out_model())]
    pub output: Out<Location>,

    #[command(flatten)]
    pub output_options: OutputOptions,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
