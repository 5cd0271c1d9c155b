//! Policies as callers ask for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use onnxseal_core::{self as core, Error, Policy, PolicyChoice, Ranking, open_named};

use crate::errors::{Result, usage};
use crate::keywords::{Keywords, Later};

/// Takes the arguments that say which weights to encrypt, and how much of each.
pub fn policy(keywords: &Keywords<'_>) -> Result<Later<PolicyChoice>> {
    let file: Option<PathBuf> = keywords.read("policy")?;
    let preset: Option<String> = keywords.get("preset")?;
    let ranking: Option<PathBuf> = keywords.read("ranking")?;
    let coefficients: Option<BTreeMap<String, f64>> = keywords.get("coefficients")?;
    let allow_clear: Option<Vec<String>> = keywords.get("allow_clear")?;
    Ok(Box::new(move |_| {
        let named = match (file, preset) {
            (Some(_), Some(_)) => return Err(usage("give either a policy or a preset")),
            (Some(path), None) => Some(policy_in(&path)?.0),
            (None, Some(name)) => Some(Policy::preset(name.parse().map_err(Error::Policy)?)),
            (None, None) => None,
        };
        Ok(PolicyChoice {
            named,
            ranking: ranking.as_deref().map(ranking_in).transpose()?,
            coefficients: coefficients.into_iter().flatten().collect(),
            allow_clear: allow_clear.unwrap_or_default(),
            allow_unmatched: false,
        })
    }))
}

/// Reads a policy file, and gives its text too.
pub fn policy_in(path: &Path) -> Result<(Policy, String)> {
    let (file, name) = open_named(path, "policy")?;
    Ok(core::read_policy(file, &name)?)
}

/// Reads a ranking file.
pub fn ranking_in(path: &Path) -> Result<Ranking> {
    let (file, name) = open_named(path, "ranking")?;
    Ok(core::read_ranking(file, &name)?)
}
