//! What attackers without a key get of rows and answers.
//!
//! All of these attack the group alone: which rows belong together. [`purity`] says how much of that is right, and [`chance`] what
//! random groups get.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use nalgebra::{DMatrix, DVector};

use crate::decode::Decoder;

/// Times that clustering begins anew; the best result counts, as if the attacker knew which one that is.
const STARTS: u64 = 8;

/// Rounds of clustering, at most.
const ROUNDS: usize = 50;

/// Groups of rows by their directions, whatever their signs: `k` of them. `rows` is `[n, d]`, a row's weights or its answers to n
/// samples. Spherical k-means with absolute cosines; one result for each start.
pub fn cluster(rows: &DMatrix<f64>, k: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut rows = rows.clone();
    // What all rows have in common says nothing.
    for mut column in rows.column_iter_mut() {
        let mean = column.mean();
        column.add_scalar_mut(-mean);
        let deviation = (column.norm_squared() / column.len().max(1) as f64).sqrt();
        column.scale_mut(1.0 / (deviation + 1e-12));
    }
    for mut row in rows.row_iter_mut() {
        let norm = row.norm();
        row.scale_mut(1.0 / (norm + 1e-12));
    }
    (0..STARTS)
        .map(|start| once(&rows, k, seed.wrapping_add(start)))
        .collect()
}

fn once(rows: &DMatrix<f64>, k: usize, seed: u64) -> Vec<usize> {
    let n = rows.nrows();
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha20Rng::from_seed(key);
    let mut centres = DMatrix::zeros(k, rows.ncols());
    for mut centre in centres.row_iter_mut() {
        centre.copy_from(&rows.row(rng.next_u64() as usize % n.max(1)));
    }
    let mut groups = vec![usize::MAX; n];
    for _ in 0..ROUNDS {
        let cosines = rows * centres.transpose();
        let nearest = |i: usize| {
            let row = cosines.row(i);
            let best = (0..k).max_by(|a, b| row[*a].abs().total_cmp(&row[*b].abs()));
            best.unwrap_or_default()
        };
        let found: Vec<usize> = (0..n).map(nearest).collect();
        if found == groups {
            break;
        }
        groups = found;
        for group in 0..k {
            let mut sum = DVector::zeros(rows.ncols());
            for (i, _) in groups.iter().enumerate().filter(|(_, of)| **of == group) {
                let sign = cosines[(i, group)].signum();
                sum += sign * rows.row(i).transpose();
            }
            let norm = sum.norm();
            if norm > 0.0 {
                centres.row_mut(group).copy_from(&(sum / norm).transpose());
            } else {
                centres
                    .row_mut(group)
                    .copy_from(&rows.row(rng.next_u64() as usize % n.max(1)));
            }
        }
    }
    groups
}

/// The share of rows that belong to the class that most of their group belong to.
pub fn purity(groups: &[usize], classes: &[usize]) -> f64 {
    let mut counts = std::collections::HashMap::new();
    for pair in groups.iter().zip(classes) {
        *counts.entry(pair).or_insert(0usize) += 1;
    }
    let mut most = std::collections::HashMap::new();
    for ((group, _), n) in counts {
        let largest = most.entry(group).or_insert(0);
        *largest = n.max(*largest);
    }
    most.values().sum::<usize>() as f64 / classes.len().max(1) as f64
}

/// The mean purity of random groups.
pub fn chance(classes: &[usize], k: usize) -> f64 {
    const DRAWS: u64 = 20;
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let mut one = || {
        let groups: Vec<usize> = classes
            .iter()
            .map(|_| rng.next_u64() as usize % k.max(1))
            .collect();
        purity(&groups, classes)
    };
    (0..DRAWS).map(|_| one()).sum::<f64>() / DRAWS as f64
}

impl Decoder {
    /// The class of each row that is a share, with its place: what attacks are measured against.
    pub fn shares(&self) -> Vec<(usize, usize)> {
        let of_class = self.of_classes().enumerate();
        let mut shares: Vec<(usize, usize)> = of_class
            .flat_map(|(class, rows)| rows.iter().map(move |(row, _)| (*row as usize, class)))
            .collect();
        shares.sort_unstable();
        shares
    }
}
