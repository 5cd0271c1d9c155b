//! Recovers the key from weights: of the rewritten model alone, or with those of a public one.

use nalgebra::DMatrix;

use super::assignment::assign;
use super::{Guess, check_size, share, signed};
use crate::error::{Error, Result};
use crate::key::InputKey;

/// Returns the correct share of the key's mask in a split of a block into halves, with the better half
/// as the negated one: 0.5 or more.
pub fn score_of_halves(second: &[bool], key: &InputKey) -> Result<f64> {
    let (_, negated) = signed(key, second.len())?;
    let right = share(second, negated);
    Ok(right.max(1.0 - right))
}

/// Recovers from the weights of a rewritten model, `[D, n]`, which positions are in one half of a block
/// and which in the other; one of the halves is negated. To find out which, the attacker runs the model
/// on images with either half negated, and checks which answers make sense.
///
/// Columns of neighbouring pixels are alike, and rewriting flips the sign of some. So this joins
/// columns in a maximum spanning tree, those with the cosine furthest from 0 first, and each join
/// tells whether two positions are in the same half. Shuffling does not matter, so for one model it
/// fails or succeeds with all keys.
pub fn from_weights(rewritten: &DMatrix<f64>) -> Result<Vec<bool>> {
    check_size(rewritten.ncols())?;
    let columns = unit(rewritten);
    let cosines = columns.tr_mul(&columns);
    let mut nodes = vec![Node::default(); cosines.ncols()];
    let mut joined = (!nodes.is_empty()).then_some(0);
    while let Some(last) = joined {
        joined = join(&mut nodes, &cosines, last);
    }
    Ok(nodes.iter().map(|node| node.is_second).collect())
}

/// A position while the tree grows.
#[derive(Clone, Copy, Default)]
struct Node {
    is_joined: bool,
    /// The largest absolute cosine with a position of the tree.
    nearest: f64,
    /// The half that this cosine puts it in.
    is_second: bool,
}

/// Adds a position to the tree, and returns the one to add next.
fn join(nodes: &mut [Node], cosines: &DMatrix<f64>, last: usize) -> Option<usize> {
    let half = nodes.get_mut(last).map(|node| {
        node.is_joined = true;
        node.is_second
    })?;
    let open = nodes.iter_mut().enumerate();
    let open = open.filter(|(_, node)| !node.is_joined);
    let nearer = |(t, node): (usize, &mut Node)| {
        let cosine = cosines[(t, last)];
        if cosine.abs() > node.nearest {
            node.nearest = cosine.abs();
            node.is_second = half ^ (cosine < 0.0);
        }
        (t, node.nearest)
    };
    let next = open.map(nearer).max_by(|a, b| a.1.total_cmp(&b.1));
    next.map(|(t, _)| t)
}

/// Recovers the key from weights before and after rewriting, `[D, n]` each: for each column, the
/// one in the same or the opposite direction.
///
/// It recovers the whole key even if the attacker's weights differ by noise of 0.2 of their
/// deviation.
pub fn from_checkpoint(public: &DMatrix<f64>, rewritten: &DMatrix<f64>) -> Result<Guess> {
    if public.shape() != rewritten.shape() {
        return Err(Error::Usage(format!(
            "weights of shape {:?} are not those of a model with {:?}",
            rewritten.shape(),
            public.shape()
        )));
    }
    check_size(public.ncols())?;
    let cosines = unit(rewritten).tr_mul(&unit(public));
    let places = assign(&cosines.map(|cosine| -cosine.abs()));
    let negated = places
        .iter()
        .enumerate()
        .map(|(t, u)| cosines[(t, *u as usize)] < 0.0)
        .collect();
    Ok(Guess { places, negated })
}

fn unit(weights: &DMatrix<f64>) -> DMatrix<f64> {
    let mut weights = weights.clone();
    for mut column in weights.column_iter_mut() {
        let norm = column.norm();
        column.scale_mut(1.0 / (norm + 1e-12));
    }
    weights
}
