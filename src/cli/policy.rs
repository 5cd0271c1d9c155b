//! Arguments that choose which weights to encrypt, and how much of each.

use std::path::PathBuf;

use clap::Args;

use super::pair;

/// The end of the long help of commands that choose weights.
pub const WHICH_PRESET: &str = "\
Which preset:
  full      everything but what the graph's shapes are computed from; the default. Costs nothing
            with AES instructions
  strong    half of the bytes     for devices without AES instructions, which open these two
  balanced  about a sixth         in less time, and for tiers
  light     a twentieth; stops no determined attacker

Weights that are not encrypted stay in clear. If your model was fine-tuned from a public one, an
attacker with that one and 50 labels gets much of yours back from `balanced` (docs/STRENGTH.md).";

/// Which weights to encrypt, and how much of each.
#[derive(Debug, Args)]
pub struct Policy {
    /// Policy file (TOML)
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub policy: Option<PathBuf>,

    /// Built-in policy: full (everything), strong, balanced, light (stops no determined attacker)
    /// [default: full; for rotate: the present protection]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<onnxseal_core::Preset>,

    /// Ranking file of this model, which `onnxseal rank` wrote: encrypt the weights with the
    /// highest scores, as much as the policy says
    #[arg(long, value_name = "FILE")]
    pub ranking: Option<PathBuf>,

    /// Share of an operator type's weights to encrypt, 0 to 1, such as Conv=0.3
    #[arg(long = "coefficient", value_name = "OP_TYPE=SHARE", value_parser = coefficient)]
    pub coefficients: Vec<(String, f64)>,

    /// Go on even if an operator type or an override of the policy matches nothing in the model;
    /// otherwise that is an error
    #[arg(long)]
    pub allow_unmatched: bool,

    #[command(flatten)]
    pub allow: AllowClear,

    /// Leave out the lock: programs then run the protected model without a key, and get wrong
    /// answers instead of an error
    #[arg(long)]
    pub runnable: bool,
}

impl Policy {
    /// Returns whether the result has the lock, if the command line says so.
    pub fn lock(&self) -> Option<bool> {
        self.runnable.then_some(false)
    }
}

/// What may stay in clear.
#[derive(Debug, Args)]
pub struct AllowClear {
    /// Accept that this stays in clear if it cannot be encrypted where it lies: a tensor or an
    /// attribute by its name or protobuf path, a data file by its location. A glob, repeatable
    #[arg(long = "allow-clear", value_name = "NAME")]
    pub names: Vec<String>,
}

/// The least protection of a model.
#[derive(Debug, Args)]
pub struct LeastPolicy {
    /// Policy file that a model must meet or exceed
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub policy: Option<PathBuf>,

    /// Preset that a model must meet or exceed: light, balanced, strong, full. Without a key, this
    /// checks how much is encrypted and how it is cut; with a key, also which weights
    #[arg(long, value_name = "NAME")]
    pub preset: Option<onnxseal_core::Preset>,

    /// Ranking file with which the model was protected
    #[arg(long, value_name = "FILE")]
    pub ranking: Option<PathBuf>,

    #[command(flatten)]
    pub allow: AllowClear,

    /// Go on even if an operator type or an override of the policy matches nothing in the model;
    /// otherwise that is an error
    #[arg(long)]
    pub allow_unmatched: bool,
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
