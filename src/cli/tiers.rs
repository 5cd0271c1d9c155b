//! The command line of `onnxseal tiers`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use onnxseal_assess::tune::Target;
use onnxseal_core::Location;

use super::assess::{DataArgs, MetricArgs};
use super::shared::{Out, location, out, pair};
use crate::signing::OpeningArgs;

#[derive(Debug, Subcommand)]
pub enum Tiers {
    Tune(Tune),
}

/// Find the shares that give tiers your wanted accuracies, and write a policy with them
///
/// Half of the samples serve to choose the shares, the other half to measure the figures. The
/// highest tier opens everything, and needs no target. The command needs ONNX Runtime's library.
/// docs/TIERS.md says what an edition is worth, and how far it can be repaired.
#[derive(Debug, Args)]
pub struct Tune {
    /// The model. A protected one needs an identity
    #[arg(value_parser = location())]
    pub model: Location,

    #[command(flatten)]
    pub opening: OpeningArgs,

    /// A tier and the accuracy (or other metric) of its edition, such as trial=0.80; the least tier
    /// first
    #[arg(long = "target", value_name = "TIER=VALUE", value_parser = target, required = true)]
    pub targets: Vec<Target>,

    /// File to write the policy to
    #[arg(short, long, value_name = "FILE", value_parser = out())]
    pub output: Out<PathBuf>,

    #[command(flatten)]
    pub data: DataArgs,

    /// Policy file (TOML) that says how much is encrypted; the result is this policy with tiers
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub policy: Option<PathBuf>,

    /// Built-in policy: full, strong, balanced [default: full]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<onnxseal_core::Preset>,

    /// Ranking file of this model, which `onnxseal rank` wrote: tiers restore the weights with the
    /// highest scores first. Give it to `protect` too
    #[arg(long, value_name = "FILE")]
    pub ranking: Option<PathBuf>,

    #[command(flatten)]
    pub metric: MetricArgs,

    /// Replace files that exist
    #[arg(short, long)]
    pub force: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

fn target(text: &str) -> Result<Target, String> {
    let (name, value) = pair(text).map_err(|_| "expected TIER=VALUE")?;
    match value.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Target { name, value }),
        _ => Err(format!("{value:?} is not a number such as 0.8")),
    }
}
