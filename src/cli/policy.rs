//! Arguments that choose which weights to encrypt, and how much of each.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use onnxseal_core::PolicyChoice;

use super::shared::pair;
use crate::io;

/// The end of the long help of commands that choose weights.
pub const WHICH_PRESET: &str = "\
Which preset:
  full      everything but what the graph's shapes are computed from; the default. Costs nothing
            with AES instructions
  strong    half of the bytes     for devices without AES instructions, which open these two
  balanced  about a sixth         in less time, and for tiers

Weights that are not encrypted stay in clear. If your model was fine-tuned from a public one, an
attacker with that one and 50 labels gets much of yours back from `balanced` (docs/STRENGTH.md).";

/// Which weights to encrypt, or at least.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// Policy file (TOML)
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub policy: Option<PathBuf>,

    /// Built-in policy: full (everything), strong, balanced
    #[arg(long, value_name = "NAME")]
    pub preset: Option<onnxseal_core::Preset>,

    /// Ranking file of this model, which `onnxseal rank` wrote: the weights with the highest scores
    /// are encrypted, as much as the policy says
    #[arg(long, value_name = "FILE")]
    pub ranking: Option<PathBuf>,

    /// Accept that this stays in clear if it cannot be encrypted where it lies: a tensor or an
    /// attribute by its name or protobuf path, a data file by its location. A glob, repeatable
    #[arg(long, value_name = "NAME")]
    pub allow_clear: Vec<String>,

    /// Go on even if an operator type or an override of the policy matches nothing in the model;
    /// otherwise that is an error
    #[arg(long)]
    pub allow_unmatched: bool,
}

#[derive(Debug, Args)]
pub struct Policy {
    #[command(flatten)]
    pub args: PolicyArgs,

    /// Share of an operator type's weights to encrypt, 0 to 1, such as Conv=0.3
    #[arg(long = "coefficient", value_name = "OP_TYPE=SHARE", value_parser = coefficient)]
    pub coefficients: Vec<(String, f64)>,

    /// Leave out the lock: programs then run the protected model without a key, and get wrong
    /// answers instead of an error
    #[arg(long)]
    pub runnable: bool,
}

impl PolicyArgs {
    /// Returns what the command line says of a policy, for one model or for `many`, in which entries
    /// may match nothing.
    pub fn read(&self, many: bool) -> Result<PolicyChoice> {
        let named = match &self.policy {
            Some(path) => Some(io::read_policy(path)?.0),
            None => self.preset.map(onnxseal_core::Policy::preset),
        };
        Ok(PolicyChoice {
            named,
            ranking: self.ranking.as_deref().map(io::read_ranking).transpose()?,
            coefficients: Vec::new(),
            allow_clear: self.allow_clear.clone(),
            allow_unmatched: self.allow_unmatched || many,
        })
    }
}

impl Policy {
    pub fn read(&self, many: bool) -> Result<PolicyChoice> {
        Ok(PolicyChoice {
            coefficients: self.coefficients.clone(),
            ..self.args.read(many)?
        })
    }

    pub fn or_full(&self, many: bool) -> Result<onnxseal_core::Policy> {
        let mut policy = self.read(many)?.or_full()?;
        if self.runnable {
            policy.set_lock(false);
        }
        Ok(policy)
    }
}

fn coefficient(text: &str) -> std::result::Result<(String, f64), String> {
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
