//! Runs the attacks for an attacker's material, as rows of a table.

use onnxseal_store::Location;

use crate::attack::images::ImageSet;
use crate::attack::weights::{Halves, from_checkpoint, from_weights};
use crate::attack::{Guess, from_images, from_pairs};
use crate::error::Result;
use crate::key::Spec;
use crate::rewrite::Files;

/// The most plain images that [`of_images`] learns from.
pub const MOST_PUBLIC: usize = 1000;

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
    let weights = |location| Files::open(location)?.patch(spec);
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
    let (sum, block) = (keyed.sum(spec), spec.block);
    let guess = from_pairs(&plain.pictures(), &keyed.pictures(), block, sum)?;
    let restored = guess.restored(&plain.pictures(), &keyed.pictures(), block, sum)?;
    Ok(Row {
        attack: format!("from {}", counted(keyed.n, "known pair")),
        found: Found::Key(guess),
        restored: Some(restored),
    })
}

/// Attacks a key by keyed images and other, plain images of this kind.
pub fn of_images(keyed: &ImageSet, public: &ImageSet, spec: &Spec) -> Result<Row> {
    let sum = keyed.sum(spec);
    let guess = from_images(&keyed.pictures(), &public.pictures(), spec.block, sum)?;
    Ok(Row {
        attack: format!(
            "from {} alone, and {} of the same kind",
            counted(keyed.n, "keyed image"),
            counted(public.n, "plain one")
        ),
        found: Found::Key(guess),
        restored: None,
    })
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
