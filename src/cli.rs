//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::exit;
use crate::keys::{IdentityArgs, PassphraseArgs, RecipientArgs};

/// Protect the weights of ONNX models that leave the house.
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
    /// Make an identity: the secret key that opens what is protected to its recipient
    ///
    /// With a passphrase, the identity file is encrypted.
    Keygen(Keygen),
    /// Show what `protect` would encrypt, without writing anything
    Plan(Plan),
    /// Encrypt chosen weights of a model and authenticate all of it
    ///
    /// Without a recipient or a passphrase, a new identity is written beside the output.
    Protect(Protect),
    /// Show what is encrypted in a protected model; needs no key
    Inspect(Inspect),
    /// Check a protected model: its structure, a policy, and with an identity every byte
    Verify(Verify),
    /// Restore the original of a protected model, byte for byte
    Unprotect(Unprotect),
}

#[derive(Debug, Args)]
pub struct Keygen {
    /// File to write the identity to, readable by you alone; standard output when absent
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    #[command(flatten)]
    pub passphrase: PassphraseArgs,
}

#[derive(Debug, Args)]
pub struct Plan {
    /// The model
    pub model: PathBuf,
    #[command(flatten)]
    pub policy: Policy,
    #[command(flatten)]
    pub view: View,
}

#[derive(Debug, Args)]
pub struct Protect {
    /// The model; its external data files are found through it
    pub model: PathBuf,

    /// File to write; external data goes beside it, under its relative paths
    #[arg(short, long, value_name = "FILE", required_unless_present = "in_place")]
    pub output: Option<PathBuf>,

    /// Replace the model by its protected form, in one step
    #[arg(long, conflicts_with = "output")]
    pub in_place: bool,

    #[command(flatten)]
    pub recipients: RecipientArgs,

    /// A statement to authenticate along with the model, such as customer=acme
    #[arg(long = "claim", value_name = "KEY=VALUE", value_parser = pair)]
    pub claims: Vec<(String, String)>,

    #[command(flatten)]
    pub output_options: OutputOptions,

    #[command(flatten)]
    pub policy: Policy,
    #[command(flatten)]
    pub view: View,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// The protected model
    pub model: PathBuf,
    #[command(flatten)]
    pub view: View,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The protected model
    pub model: PathBuf,

    #[command(flatten)]
    pub identities: IdentityArgs,

    /// Policy file that the model must be protected by, at least
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub policy: Option<PathBuf>,

    /// Preset that the model must be protected by, at least
    #[arg(long, value_name = "NAME")]
    pub preset: Option<onnxseal_core::Preset>,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Unprotect {
    /// The protected model
    pub model: PathBuf,

    #[command(flatten)]
    pub identities: IdentityArgs,

    /// File to write; external data goes beside it, under its relative paths
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    #[command(flatten)]
    pub output_options: OutputOptions,
}

/// Which weights, how much of each.
#[derive(Debug, Args)]
pub struct Policy {
    /// Policy file (TOML)
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub policy: Option<PathBuf>,

    /// One of the built-in policies: light, balanced, strong, full [default: balanced]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<onnxseal_core::Preset>,

    /// Share of an operator type's weights to encrypt, 0 to 1, such as Conv=0.3
    #[arg(long = "coefficient", value_name = "OP_TYPE=SHARE", value_parser = coefficient)]
    pub coefficients: Vec<(String, f64)>,
}

/// How outputs come to be.
#[derive(Debug, Args)]
pub struct OutputOptions {
    /// Replace outputs that exist
    #[arg(short, long)]
    pub force: bool,

    /// Do not wait until the output is on the disk: faster, but a power loss may leave a part of it,
    /// and with --force nothing of what it replaced
    #[arg(long, conflicts_with = "in_place")]
    pub no_sync: bool,
}

impl OutputOptions {
    /// The same for the library.
    pub fn core(&self) -> onnxseal_core::OutputOptions {
        let mut options = onnxseal_core::OutputOptions::default();
        options.replace = self.force;
        options.sync = !self.no_sync;
        options
    }
}

/// How to show a report.
#[derive(Debug, Args)]
pub struct View {
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,

    /// Print all positions instead of the first few
    #[arg(long)]
    pub positions: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

fn coefficient(text: &str) -> Result<(String, f64), String> {
    let (op_type, share) = pair(text).map_err(|_| "expected OP_TYPE=SHARE")?;
    match share.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok((op_type, share)),
        _ => Err(format!("{share:?} is not a share from 0 to 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn coefficients_are_shares() {
        assert_eq!(coefficient("Conv=0.5"), Ok(("Conv".into(), 0.5)));
        for bad in [
            "Conv",
            "=0.5",
            "Conv=",
            "Conv=1.1",
            "Conv=-0.1",
            "Conv=NaN",
            "Conv=inf",
        ] {
            assert!(coefficient(bad).is_err(), "{bad}");
        }
    }
}
