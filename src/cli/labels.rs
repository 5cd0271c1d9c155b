//! The command line of `onnxseal labels`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use onnxseal_core::Location;

use super::assess::DataArgs;
use super::shared::{Out, OutputOptions, location, out, out_model};
use crate::keys::{IdentityArgs, RecipientArgs};

// One value lives for the whole program.
#[expect(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
pub enum Labels {
    Setup(Setup),
    Keygen(Keygen),
    Users(Users),
    Revoke(Revoke),
    Protect(Protect),
    Targets(Targets),
    Inspect(Inspect),
    Decode(Decode),
    Trace(Trace),
    Attack(Attack),
}

/// Make a label authority: the secret with which a vendor protects models, makes keys and names
/// leakers
///
/// Its file also has the list of users, and the inputs of traces. With a recipient, the file is
/// encrypted with age, and contains the recipients so that other commands can write it again.
#[derive(Debug, Args)]
pub struct Setup {
    /// File to write the authority to; only you can read it
    #[arg(short, long, value_name = "FILE", value_parser = out())]
    pub output: Out<PathBuf>,

    /// How many users may pool their keys without learning the authority's secret exponents, 1 to
    /// 16. Each adds 32 bytes to every row of the table. It does not help tracing
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub collusion: u32,

    #[command(flatten)]
    pub recipients: RecipientArgs,
}

#[derive(Debug, Args)]
pub struct AuthorityArgs {
    /// Label authority, which `onnxseal labels setup` made
    #[arg(long, value_name = "FILE")]
    pub authority: PathBuf,

    #[command(flatten)]
    pub identities: IdentityArgs,
}

/// Make keys of users, and note the users in the authority's file
///
/// A user always gets the same key, however often you make it.
#[derive(Debug, Args)]
pub struct Keygen {
    /// The user; may be given several times
    #[arg(long = "user", value_name = "NAME", required_unless_present = "users")]
    pub user: Vec<String>,

    /// File with one user per line
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    pub users: Option<PathBuf>,

    /// File to write the key to, or the folder for keys of several users: NAME.key
    #[arg(short, long, value_name = "PATH", value_parser = out())]
    pub output: Out<PathBuf>,

    /// Encrypt the key to an age recipient (age1...) or an ssh public key; may be given several
    /// times
    #[arg(short, long = "recipient", value_name = "RECIPIENT")]
    pub recipients: Vec<String>,

    #[command(flatten)]
    pub authority: AuthorityArgs,
}

/// List the users of an authority
#[derive(Debug, Args)]
pub struct Users {
    #[command(flatten)]
    pub authority: AuthorityArgs,

    /// Print the list as JSON
    #[arg(long)]
    pub json: bool,
}

/// Revoke users: models protected from now on name them, and decoders refuse their keys
///
/// Only the decoder checks this. The key still decrypts the labels for a program that does not
/// check: to shut a user out, make a new authority.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The user; may be given several times
    #[arg(long = "user", value_name = "NAME", required = true)]
    pub user: Vec<String>,

    #[command(flatten)]
    pub authority: AuthorityArgs,
}

/// Encrypt the labels of a classifier: it answers with shares, which label keys turn into classes
///
/// The command rewrites the last Gemm, MatMul or Conv, and moves the nodes after it behind
/// decoding. Protect the result with `onnxseal protect` too: whoever has it in plain gets the
/// classifier up to the names of its classes, and one labelled sample of each class names them.
#[derive(Debug, Args)]
pub struct Protect {
    /// The model
    #[arg(value_parser = location())]
    pub model: Location,

    /// File to write; external data goes beside it
    #[arg(short, long, value_name = "FILE", value_parser = out_model())]
    pub output: Out<Location>,

    /// File that the model was trained with, which `onnxseal labels targets` wrote: its rows stay
    /// as they are
    #[arg(long, value_name = "FILE", conflicts_with = "traces")]
    pub targets: Option<PathBuf>,

    /// Number of traces to add: secret inputs whose answers identify a leaked key. 32 for 10
    /// classes; 16 for 1000
    #[arg(long, value_name = "T", requires = "data", default_value_t = 0)]
    pub traces: usize,

    /// Write the result without comparing it with the original on ONNX Runtime
    #[arg(long)]
    pub no_check: bool,

    #[command(flatten)]
    pub data: DataArgs,

    #[command(flatten)]
    pub authority: AuthorityArgs,

    #[command(flatten)]
    pub output_options: OutputOptions,
}

/// Make a decoding matrix, for a model that is trained to answer with shares
///
/// The .npz has `decoding`, [rows, classes]: train with logits = answers @ decoding. Export the
/// model without this product, and give model and .npz to `labels protect --targets`.
#[derive(Debug, Args)]
pub struct Targets {
    /// File to write; only you can read it
    #[arg(short, long, value_name = "FILE", value_parser = out())]
    pub output: Out<PathBuf>,

    /// Number of classes
    #[arg(long, value_name = "K")]
    pub classes: u32,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub force: bool,
}

/// Show how a model's labels are protected; needs no key
#[derive(Debug, Args)]
pub struct Inspect {
    /// The model
    #[arg(value_parser = location())]
    pub model: Location,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Turn a model's answers into classes and probabilities
#[derive(Debug, Args)]
pub struct Decode {
    /// The model that gave the answers
    #[arg(value_parser = location())]
    pub model: Location,

    /// Answers: .npy, .npz or .csv, one row per sample
    #[arg(value_name = "ANSWERS")]
    pub answers: PathBuf,

    /// Label key, which `onnxseal labels keygen` made
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,

    /// Print all probabilities, as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub identities: IdentityArgs,
}

/// Find whose key a service uses, by its answers to the inputs of traces
///
/// It names users who decode as the tool does. A user who drops the traces, or pools two keys, may
/// escape: docs/LABELS.md has the limits.
#[derive(Debug, Args)]
pub struct Trace {
    /// The model whose labels are protected
    #[arg(long, value_name = "MODEL", value_parser = location())]
    pub model: Location,

    /// Write the inputs to this .npz, to feed them to the service
    #[arg(long, value_name = "FILE", value_parser = out(), required_unless_present = "answers")]
    pub inputs: Option<Out<PathBuf>>,

    /// File with a line for each of the service's answers: the class, or one number per class,
    /// separated by commas
    #[arg(long, value_name = "FILE", conflicts_with = "inputs")]
    pub answers: Option<PathBuf>,

    /// Replace the file of --inputs if it exists
    #[arg(short, long, requires = "inputs")]
    pub force: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub authority: AuthorityArgs,
}

/// Show what attackers learn who run a protected model, without a key, on samples of their own
///
/// They group answers to samples without labels, and train on answers to samples with labels. The
/// floor is what they learn of the features before the last layer. The labels of --data count how
/// often they are right.
#[derive(Debug, Args)]
pub struct Attack {
    /// The model whose labels are protected
    #[arg(value_parser = location())]
    pub model: Location,

    #[command(flatten)]
    pub data: DataArgs,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}
