//! The command line of `onnxseal fingerprint`, and of `protect --fingerprint`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use onnxseal_core::Location;

use super::assess::DataArgs;
use super::shared::{Out, OutputOptions, location, out, out_model};
use crate::keys::{IdentityArgs, RecipientArgs};

#[derive(Debug, Subcommand)]
pub enum Fingerprint {
    Keygen(Keygen),
    Apply(Apply),
    Trace(Trace),
}

/// Make a fingerprint secret, from which the marks of all models and customers derive
///
/// Only with it are leaks traced, and whoever has it can make any customer's mark. With a recipient
/// it is encrypted with age.
#[derive(Debug, Args)]
pub struct Keygen {
    /// File to write the secret to; only you can read it
    #[arg(short, long, value_name = "FILE", value_parser = out())]
    pub output: Out<PathBuf>,

    #[command(flatten)]
    pub recipients: RecipientArgs,
}

#[derive(Debug, Args)]
pub struct SecretArgs {
    /// Fingerprint secret, which `onnxseal fingerprint keygen` made
    #[arg(long, value_name = "FILE")]
    pub secret: PathBuf,

    #[command(flatten)]
    pub identities: IdentityArgs,
}

/// Make a customer's copy of a model: the mark is noise in the weights that only the secret shows
///
/// The copy is in plain: `onnxseal protect --fingerprint` marks and protects in one step.
#[derive(Debug, Args)]
pub struct Apply {
    /// The model
    #[arg(value_parser = location())]
    pub model: Location,

    /// The customer. Copies of one name are the same
    #[arg(long, value_name = "NAME")]
    pub customer: String,

    #[command(flatten)]
    pub secret: SecretArgs,

    /// The deviation of the mark, as a share of that of the weights [default: 0.0035; 0.01 for models
    /// with fewer than 100,000 weights]
    #[arg(long, value_name = "SHARE")]
    pub strength: Option<f64>,

    /// File to write; external data goes beside it
    #[arg(short, long, value_name = "FILE", value_parser = out_model())]
    pub output: Out<Location>,

    /// Write the copy without comparing it with the original on ONNX Runtime
    #[arg(long)]
    pub no_check: bool,

    #[command(flatten)]
    pub data: DataArgs,

    #[command(flatten)]
    pub output_options: OutputOptions,

    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Find out whose mark a leaked model has
///
/// It may have been renamed, converted, quantised, pruned or trained further. Nobody accused does not
/// mean that no customer leaked it: a mark may have been removed.
#[derive(Debug, Args)]
pub struct Trace {
    /// The leaked model
    #[arg(value_parser = location())]
    pub leak: Location,

    /// The model that the copies were made of
    #[arg(long, value_name = "MODEL", value_parser = location())]
    pub original: Location,

    #[command(flatten)]
    pub secret: SecretArgs,

    /// File with one customer per line; empty lines and those that begin with # are skipped
    #[arg(long, value_name = "FILE", required_unless_present = "customer")]
    pub customers: Option<PathBuf>,

    /// A customer; may be given several times
    #[arg(long, value_name = "NAME")]
    pub customer: Vec<String>,

    /// Draw the z of all customers and the line of accusation, as SVG
    #[arg(long, value_name = "FILE", value_parser = out())]
    pub picture: Option<Out<PathBuf>>,

    /// Replace the picture if it exists
    #[arg(short, long, requires = "picture")]
    pub force: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// The mark in a model that is protected.
#[derive(Debug, Args)]
pub struct MarkArgs {
    /// Mark the copy for this customer first, so that a leak tells whose it was: `onnxseal
    /// fingerprint trace`. No file has the marked model in plain
    #[arg(long, value_name = "NAME", requires = "fingerprint_secret")]
    pub fingerprint: Option<String>,

    /// Fingerprint secret, which `onnxseal fingerprint keygen` made
    #[arg(long, value_name = "FILE", requires = "fingerprint")]
    pub fingerprint_secret: Option<PathBuf>,

    /// Identity that opens the secret [default: the one that ONNXSEAL_IDENTITY names]
    #[arg(long, value_name = "FILE", requires = "fingerprint")]
    pub fingerprint_identity: Vec<PathBuf>,
}
