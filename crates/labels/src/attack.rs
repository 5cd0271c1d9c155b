//! Attacks on rows and answers, without a key.
//!
//! These attacks find which rows belong together. [`purity`] tells how much of that is right, and
//! [`chance`] the purity of random groups.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use nalgebra::{DMatrix, DVector};
#[cfg(feature = "engine")]
use {
    crate::authority::Authority,
    crate::decode::classes,
    crate::error::{Error, Result},
    crate::head::{Found as Layer, layer_of, table_of},
    crate::key::UserKey,
    crate::layer_run::{LayerRun, Ran},
    crate::table::Table,
    crate::unlabelled::{Matched, accuracy, centres, nearest, standardised},
    onnxseal_data::{DataOptions, DataSet},
    onnxseal_rewrite::Files,
    onnxseal_store::Location,
};

use crate::decode::Decoder;
use crate::draw::numbered;

/// The number of starts of clustering; the best result counts, as if the attacker knew which one
/// that is.
const STARTS: u64 = 8;

/// The most rounds of clustering.
const ROUNDS: usize = 50;

/// Finds `k` groups of rows by their directions, ignoring signs. `rows` is `[n, d]`, with a row's
/// weights or its answers to d samples. It uses spherical k-means with absolute cosines, and
/// returns one result for each start.
pub fn cluster(rows: &DMatrix<f64>, k: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut rows = rows.clone();
    // The common part of all rows tells nothing.
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
    let mut rng = numbered(seed);
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

/// Returns the share of rows in the majority class of their group.
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

/// Returns the mean purity of random groups.
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
    /// Returns the place and the class of each share, by which to measure attacks.
    pub fn shares(&self) -> Vec<(usize, usize)> {
        let of_class = self.of_classes().enumerate();
        let mut shares: Vec<(usize, usize)> = of_class
            .flat_map(|(class, rows)| rows.iter().map(move |(row, _)| (*row as usize, class)))
            .collect();
        shares.sort_unstable();
        shares
    }
}

/// The most unlabelled samples to cluster.
#[cfg(feature = "engine")]
const MAX_ANSWERED: usize = 300;

/// The number of wrong keys to try.
#[cfg(feature = "engine")]
const WRONG_KEYS: usize = 200;

/// The most rows of a model for trying wrong keys.
#[cfg(feature = "engine")]
const MAX_ROWS: u32 = 2000;

/// The result of one attack, and its floor.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The attack, named by the attacker's material.
    pub attack: String,
    /// Its result: a share from 0 to 1.
    pub got: f64,
    /// The share that an attacker reaches without the model's answers or rows.
    pub floor: f64,
    /// The meaning of both numbers, for people.
    pub what: &'static str,
}

/// Attacks on one model, measured with a right key.
#[cfg(feature = "engine")]
#[derive(Debug)]
pub struct Attacks {
    files: Files,
    name: String,
    table: Table,
    layer: Layer,
    n_classes: usize,
    /// The rows that are shares, and the class of each.
    places: Vec<usize>,
    of_class: Vec<usize>,
    seed: u64,
}

#[cfg(feature = "engine")]
impl Attacks {
    /// Opens the model.
    ///
    /// # Errors
    /// The errors of reading it, and of [`Decoder::new`].
    pub fn new(model: &Location, key: &UserKey, seed: u64) -> Result<Attacks> {
        let files = Files::open(model)?;
        let table = files.with(table_of)?;
        let decoder = Decoder::new(&table, key)?;
        let (places, of_class) = decoder.shares().into_iter().unzip();
        Ok(Attacks {
            name: model.to_name().display().to_string(),
            layer: files.with(|source| layer_of(source, table.answers()))?,
            n_classes: decoder.classes(),
            files,
            table,
            places,
            of_class,
            seed,
        })
    }

    /// Attacks only the rows, without data.
    pub fn rows(&self) -> Found {
        let Layer {
            rows,
            columns,
            weights,
            ..
        } = &self.layer;
        let matrix = DMatrix::from_row_slice(*rows, *columns, weights);
        let matrix = matrix.select_rows(&self.places);
        self.group("rows alone, without data".into(), &matrix)
    }

    /// Runs the model on data.
    ///
    /// # Errors
    /// [`Error::Usage`] if the layer answers for several positions of a sample;
    /// [`Error::Engine`].
    pub fn run(&self, data: &DataSet, options: &DataOptions) -> Result<Ran> {
        let input = &self.layer.input;
        let mut run = LayerRun::new(&self.files, &self.name, input, self.table.answers())?;
        let samples = run.samples(data, options)?;
        let ran = run.run(&samples, data.n)?;
        if ran.answers.width != self.table.n_rows() as usize {
            let text = "the layer answers for several positions of a sample: attacks from answers are for one";
            return Err(Error::Usage(text.into()));
        }
        Ok(ran)
    }

    /// Attacks with samples without labels: finds groups of rows and, if `labels` can measure it,
    /// classifies by groups of rows and of answers. Then the attacker has at most the first half of
    /// the samples, and classifies the others.
    pub fn answers(&self, ran: &Ran, labels: Option<&[i64]>) -> Vec<Found> {
        let n = ran.answers.n_rows() / if labels.is_some() { 2 } else { 1 };
        let n = n.min(MAX_ANSWERED);
        let answers = matrix(&ran.answers).select_columns(&self.places);
        let by_row = answers.rows(0, n).transpose();
        let mut found = vec![self.group(format!("answers to {n} samples without labels"), &by_row)];
        let k = self.n_classes;
        // With fewer samples, most groups would be single samples.
        if n < 3 * k {
            return found;
        }
        let answers = standardised(&answers, n);
        let features = matrix(&ran.features);
        let clustered = |values: &DMatrix<f64>| nearest(values, &centres(values, n, k, self.seed));
        let of_features = [clustered(&features), clustered(&standardised(&features, n))];
        let of_answers = clustered(&answers);
        let all = of_features.iter().chain([&of_answers]);
        let matched: Vec<Matched> = all.map(|g| Matched::new(&answers, &g[..n], k)).collect();
        let purities = matched.iter().map(|m| purity(&m.groups, &self.of_class));
        if let Some(first) = found.first_mut() {
            first.got = purities.fold(first.got, f64::max);
        }
        if let Some(labels) = labels {
            let right = |groups: &Vec<usize>| accuracy(groups, labels, n, k);
            let floor = of_features.iter().map(right).fold(0.0, f64::max);
            let decoded = matched.iter().map(|m| right(&m.decode(&answers, k)));
            let of = |attack: &str, got| Found {
                attack: format!("{attack}, by {n} samples without labels"),
                got,
                floor,
                what: "accuracy; beside it, from groups of features",
            };
            found.push(of("groups of rows", decoded.fold(0.0, f64::max)));
            found.push(of("groups of answers", right(&of_answers)));
        }
        found
    }

    /// Measures how much keys of other authorities read, or returns `None` for models with very
    /// many rows.
    ///
    /// # Errors
    /// [`Error::Key`] if the system gives no randomness.
    pub fn wrong_keys(&self, ran: &Ran, labels: &[i64]) -> Result<Option<Found>> {
        if self.table.n_rows() > MAX_ROWS {
            return Ok(None);
        }
        let mut right = 0;
        let shape = [ran.answers.n_rows(), ran.answers.width];
        for _ in 0..WRONG_KEYS {
            let mut authority = Authority::generate(self.table.collusion(), None)?;
            authority.add_user("nobody")?;
            let decoder = Decoder::unchecked(&self.table, &authority.user_key("nobody")?)?;
            let logits = decoder.decode(&ran.answers.values, &shape)?;
            let found = classes(&logits, decoder.classes());
            let pairs = found.iter().zip(labels);
            right += pairs
                .filter(|(class, label)| **class as i64 == **label)
                .count();
        }
        Ok(Some(Found {
            attack: format!("{WRONG_KEYS} wrong keys, without their check"),
            got: right as f64 / (WRONG_KEYS * ran.answers.n_rows()).max(1) as f64,
            floor: 1.0 / self.n_classes as f64,
            what: "accuracy; beside it, chance",
        }))
    }

    fn group(&self, attack: String, rows: &DMatrix<f64>) -> Found {
        let groups = cluster(rows, self.n_classes, self.seed);
        let purities = groups.iter().map(|groups| purity(groups, &self.of_class));
        Found {
            attack,
            got: purities.fold(0.0, f64::max),
            floor: chance(&self.of_class, self.n_classes),
            what: "purity of rows",
        }
    }
}

/// Makes the matrix `[samples, numbers]`.
#[cfg(feature = "engine")]
fn matrix(table: &onnxseal_engine::Table) -> DMatrix<f64> {
    let values = table.values.iter().copied().map(f64::from);
    DMatrix::from_row_iterator(table.n_rows(), table.width, values)
}
