//! Runs the attacks for an attacker's material, as rows of a table.

use onnxseal_store::Location;

use crate::attack::images::ImageSet;
use crate::attack::weights::{Halves, from_checkpoint, from_weights};
use crate::attack::{Guess, from_pairs};
use crate::error::Result;
use crate::key::Spec;
use crate::rewrite::{Files, patch};

/// The result of one attack.
#[derive(Clone, Debug)]
pub struct Row {
    /// The attack, named by the attacker's material.
    pub attack: String,
    /// The attacker's guess.
    pub found: Found,
    /// The share of correctly restored values of the keyed images, if the plain ones are known.
    pub restored: Option<f64>,
}

/// An attacker's guess at the key, or at a part of it.
#[derive(Clone, Debug)]
pub enum Found {
    /// The whole key.
    Key(Guess),
    /// Which positions are negated.
    Mask(Halves),
}

/// Attacks a rewritten model by its weights; with the public model that it was made from, by both.
pub fn of_model(model: &Location, public: Option<&Location>, spec: &Spec) -> Result<Vec<Row>> {
    let weights = |location| Files::open(location)?.with(|source| patch(source, spec));
    let row = |attack: &str, found| Row {
        attack: attack.to_owned(),
        found,
        restored: None,
    };
    let rewritten = weights(model)?;
    let mut rows = vec![row(
        "from the rewritten model alone",
        Found::Mask(from_weights(&rewritten)?),
    )];
    if let Some(public) = public {
        let guess = from_checkpoint(&weights(public)?, &rewritten)?;
        rows.push(row("from a public model", Found::Key(guess)));
    }
    Ok(rows)
}

/// Attacks a key by images in both forms, keyed and plain.
pub fn of_pairs(keyed: &ImageSet, plain: &ImageSet, spec: &Spec) -> Result<Row> {
    let guess = from_pairs(plain, keyed, spec)?;
    let restored = guess.restored(plain, keyed, spec)?;
    let plural = if keyed.n == 1 { "" } else { "s" };
    Ok(Row {
        attack: format!("from {} known pair{plural}", keyed.n),
        found: Found::Key(guess),
        restored: Some(restored),
    })
}
