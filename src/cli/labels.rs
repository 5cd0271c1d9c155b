//! The command line of `onnxseal labels`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use onnxseal_core::Location;
use onnxseal_labels::DEFAULT_CODEWORDS;

use super::assess::DataArgs;
use super::{Out, OutputOptions, location, out, out_model};
use crate::keys::{IdentityArgs, RecipientArgs};

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

/// Make a label authority: the secret by which a vendor protects models, makes keys and names leakers
///
/// Its file also has the list of users, and the inputs of traces. With a recipient it is encrypted with age; the
/// recipients are kept in it, so that other commands can write it again.
#[derive(Debug, Args)]
pub struct Setup {
    /// File to write the authority to; only you can read it
    #[arg(short, long, value_name = "FILE", value_parser = out())]
    pub output: Out<PathBuf>,

    /// So many users may pool their keys without learning the authority's secret exponents, 1 to 16. Rows of the table
    /// grow by 32 bytes for each. It does not help tracing
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub collusion: u32,

    #[command(flatten)]
    pub recipients: RecipientArgs,
}

/// The authority's file.
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
/// The key of a user is always the same one: to make it again is to give it again.
#[derive(Debug, Args)]
pub struct Keygen {
    /// The user; may be given several times
    #[arg(long = "user", value_name = "NAME", required_unless_present = "users")]
    pub user: Vec<String>,

    /// File with one user a line
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    pub users: Option<PathBuf>,

    /// File to write the key to, or the folder for keys of several users: NAME.key
    #[arg(short, long, value_name = "PATH", value_parser = out())]
    pub output: Out<PathBuf>,

    /// Encrypt the key to an age recipient (age1...) or an ssh public key; may be given several times
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

/// Revoke users: models that are protected from now on name them, and decoders refuse their keys
///
/// That is the decoder's own check. The key still decrypts the labels for a program that does not check: to shut
/// somebody out, make a new authority.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The user; may be given several times
    #[arg(long = "user", value_name = "NAME", required = true)]
    pub user: Vec<String>,

    #[command(flatten)]
    pub authority: AuthorityArgs,
}

/// Encrypt the labels of a classifier: it answers with shares, and label keys make classes of them
///
/// The last Gemm, MatMul or Conv is rewritten. The nodes behind it move behind decoding. One authority
/// should protect all versions of a model: shares by two authorities of one layer show its classes.
/// Protect the result with `onnxseal protect` too: labels that only key holders read do not hide
/// the features, and whoever has some labelled samples trains a new last layer on these.
#[derive(Debug, Args)]
pub struct Protect {
    /// The model
    #[arg(value_parser = location())]
    pub model: Location,

    /// File to write; external data goes beside it
    #[arg(short, long, value_name = "FILE", value_parser = out_model())]
    pub output: Out<Location>,

    /// Shares of each class. Always give the same number for one layer: two sets of shares show its
    /// classes
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CODEWORDS)]
    pub codewords: u32,

    /// The model was trained with this file, which `onnxseal labels targets` wrote: its rows stay as they are
    #[arg(long, value_name = "FILE", conflicts_with_all = ["traces", "codewords"])]
    pub targets: Option<PathBuf>,

    /// The output that has the classes, if the model has several
    #[arg(long = "output-name", value_name = "NAME")]
    pub output_name: Option<String>,

    /// Add so many traces: secret inputs by whose answers a leaked key is known. 32 for 10 classes; 16 for 1000
    #[arg(long, value_name = "T", requires = "data", default_value_t = 0)]
    pub traces: usize,

    /// Write the result without running it and the original on ONNX Runtime to compare them
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
/// The .npz has `decoding`, [rows, classes]: train with logits = answers @ decoding, and with a last layer that starts with large
/// random weights; docs/LABELS.md says why. Export the model without this product, and give both to `labels protect --targets`.
#[derive(Debug, Args)]
pub struct Targets {
    /// File to write; only you can read it
    #[arg(short, long, value_name = "FILE", value_parser = out())]
    pub output: Out<PathBuf>,

    /// Number of classes
    #[arg(long, value_name = "K")]
    pub classes: u32,

    /// Shares of each class
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CODEWORDS)]
    pub codewords: u32,

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
    /// The model whose answers they are
    #[arg(value_parser = location())]
    pub model: Location,

    /// Answers: .npy, .npz or .csv, a row a sample
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

/// Tell whose key a service uses, by its answers to the inputs of traces
///
/// It names those who decode as the tool does. Whoever drops the traces, or pools two keys, may escape: docs/LABELS.md
/// says how far it goes.
#[derive(Debug, Args)]
pub struct Trace {
    /// The model whose labels are protected
    #[arg(long, value_name = "MODEL", value_parser = location())]
    pub model: Location,

    /// Program to ask: it is given an .npz of inputs, and prints one line for each: the class, or one number for each class
    /// with commas between
    #[arg(long, value_name = "COMMAND", required_unless_present_any = ["answers", "inputs"])]
    pub service: Option<String>,

    /// File with the service's answers: such lines
    #[arg(long, value_name = "FILE", conflicts_with = "service")]
    pub answers: Option<PathBuf>,

    /// Write the inputs to this .npz, to be fed to the service by hand
    #[arg(long, value_name = "FILE", value_parser = out(), conflicts_with_all = ["service", "answers"])]
    pub inputs: Option<Out<PathBuf>>,

    /// Replace the file of --inputs if it exists
    #[arg(short, long, requires = "inputs")]
    pub force: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub authority: AuthorityArgs,
}

/// Show what attackers get of protected labels: without data, from answers, from labelled samples
#[derive(Debug, Args)]
pub struct Attack {
    /// The model whose labels are protected
    #[arg(value_parser = location())]
    pub model: Location,

    /// Label key: to tell how much of what attackers find is right
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,

    #[command(flatten)]
    pub data: DataArgs,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub identities: IdentityArgs,
}
