//! Runs the attacks for an attacker's material, as rows of a table.

use onnxseal_store::Location;

use crate::attack::images::ImageSet;
use crate::attack::weights::{from_checkpoint, from_weights, score_of_halves};
use crate::attack::{Guess, from_pairs};
use crate::error::Result;
use crate::key::InputKey;
use crate::rewrite::{Files, patch};

/// The result of one attack: what it found, as shares from 0 to 1.
#[derive(Clone, Debug)]
pub struct Row {
    /// The attack, named by the attacker's material.
    pub attack: String,
    /// Correct positions, unless the attack finds none.
    pub places: Option<f64>,
    /// Positions correct to within one pixel.
    pub near: Option<f64>,
    /// Positions with the correct sign.
    pub negated: f64,
    /// Correctly restored values of the keyed images, if the plain ones are known.
    pub restored: Option<f64>,
}

/// Attacks a rewritten model by its weights; with the public model that it was made from, by both.
pub fn of_model(model: &Location, public: Option<&Location>, key: &InputKey) -> Result<Vec<Row>> {
    let weights = |location| Files::open(location)?.with(|source| patch(source, key.spec()));
    let rewritten = weights(model)?;
    let mut rows = vec![Row {
        attack: "from the rewritten model alone".into(),
        places: None,
        near: None,
        negated: score_of_halves(&from_weights(&rewritten)?, key)?,
        restored: None,
    }];
    if let Some(public) = public {
        let guess = from_checkpoint(&weights(public)?, &rewritten)?;
        rows.push(row("from a public model".into(), &guess, key)?);
    }
    Ok(rows)
}

/// Attacks a key by images in both forms, keyed and plain.
pub fn of_pairs(keyed: &ImageSet, plain: &ImageSet, key: &InputKey) -> Result<Row> {
    let guess = from_pairs(plain, keyed, key.spec())?;
    let plural = if keyed.n == 1 { "" } else { "s" };
    Ok(Row {
        restored: Some(guess.restored(plain, keyed, key.spec())?),
        ..row(format!("from {} known pair{plural}", keyed.n), &guess, key)?
    })
}

fn row(attack: String, guess: &Guess, key: &InputKey) -> Result<Row> {
    let score = guess.score(key)?;
    Ok(Row {
        attack,
        places: Some(score.places),
        near: Some(score.near),
        negated: score.negated,
        restored: None,
    })
}
