//! The policy that a caller asks for, by a file or a preset, and by what comes with it.

use std::io::Read;

use onnxseal_plan::{MAX_RANKING_BYTES, Policy, Ranking};
use onnxseal_store::holds_secret;

use super::keys::read_named;
use crate::error::{Error, Result};

/// The longest policy file, in bytes.
const MAX_POLICY_BYTES: usize = 16 << 20;

/// A caller's choice of a policy, and the options that change it.
#[derive(Debug, Default)]
pub struct PolicyChoice {
    /// That of a file or a preset.
    pub named: Option<Policy>,
    /// Which weights come first.
    pub ranking: Option<Ranking>,
    /// Shares by operator type.
    pub coefficients: Vec<(String, f64)>,
    /// Globs of what may stay in clear.
    pub allow_clear: Vec<String>,
    /// Whether entries of the policy may match nothing, as with models of many kinds.
    pub allow_unmatched: bool,
}

impl PolicyChoice {
    /// Makes the policy, if the caller asks for one.
    pub fn policy(self) -> Result<Option<Policy>> {
        if !self.is_made() && !self.allow_clear.is_empty() {
            let fault = "what may stay in clear is part of a policy: give a policy or a preset too";
            return Err(Error::Usage(fault.into()));
        }
        if !self.is_made() && self.ranking.is_none() {
            return Ok(None);
        }
        self.or_full().map(Some)
    }

    /// Makes the policy; that of the preset `full` if the caller names none.
    pub fn or_full(self) -> Result<Policy> {
        if self.ranking.is_some() && !self.is_made() {
            let fault = "a ranking says which weights come first, not how many: give a policy or a preset too";
            return Err(Error::Usage(fault.into()));
        }
        let mut policy = self.named.unwrap_or_default();
        if let Some(ranking) = self.ranking {
            policy.set_ranking(ranking);
        }
        for (op_type, share) in &self.coefficients {
            policy.set_coefficient(op_type, *share)?;
        }
        for pattern in &self.allow_clear {
            policy.allow_clear(pattern)?;
        }
        if self.allow_unmatched {
            policy.allow_unmatched();
        }
        Ok(policy)
    }

    fn is_made(&self) -> bool {
        self.named.is_some() || !self.coefficients.is_empty()
    }
}

/// Reads a policy file that is called `name`. Returns its text too.
pub fn read_policy(file: impl Read, name: &str) -> Result<(Policy, String)> {
    let bytes = read_named(file, name, "a policy", MAX_POLICY_BYTES)?;
    let no_policy = |why: &str| Error::Usage(format!("{name} {why}"));
    let text = String::from_utf8(bytes).map_err(|_| no_policy("is not text in UTF-8"))?;
    if holds_secret(&text) {
        return Err(no_policy("holds a secret key, not a policy"));
    }
    Ok((Policy::parse(&text)?, text))
}

/// Reads a ranking file that is called `name`.
pub fn read_ranking(file: impl Read, name: &str) -> Result<Ranking> {
    let json = read_named(file, name, "a ranking", MAX_RANKING_BYTES)?;
    Ok(Ranking::parse(&json)?)
}
