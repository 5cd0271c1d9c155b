//! Tells whose mark a leaked model carries.

use std::collections::HashSet;

use onnxseal_onnx::tail;
use onnxseal_rewrite::{Files, Graph};
use onnxseal_store::{Progress, parallel};
use serde::Serialize;

use crate::align::{Found, Leak};
use crate::error::{Error, Result};
use crate::mark::default_strength;
use crate::secret::{Secret, check_customer};
use crate::stream::{MARK, Stream};
use crate::weights::{Original, weights};

/// A customer is accused if the probability that any innocent scores as high is below this.
pub const ACCUSED: f64 = 1e-6;

/// A customer, and how well their mark fits the leak.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suspect {
    pub customer: String,
    /// The correlation of the mark with what differs, in deviations of that of an innocent.
    pub z: f64,
    /// The decimal logarithm of [`Suspect::probability`].
    pub log10_probability: f64,
    pub accused: bool,
}

impl Suspect {
    /// Returns the most that the probability can be that any of the customers scores as high
    /// without having had to do with the leak.
    pub fn probability(&self) -> f64 {
        10f64.powf(self.log10_probability)
    }
}

/// The scores of all customers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Traced {
    /// All customers, by descending z.
    pub suspects: Vec<Suspect>,
    /// The least z of an accusation.
    pub threshold: f64,
    /// The z that the mark of one customer, of the default strength, would have in this leak.
    pub expected_z: f64,
    /// Tensors with marks, their elements, and the elements of those that were found.
    pub tensors: usize,
    pub elements: u64,
    pub elements_found: u64,
    pub found: Vec<Found>,
}

impl Traced {
    pub fn accused(&self) -> impl Iterator<Item = &Suspect> {
        self.suspects.iter().filter(|suspect| suspect.accused)
    }
}

/// Compares what differs between a leaked model and the original with the marks of customers.
///
/// # Errors
/// [`Error::Usage`] without customers or weights, or if a customer is listed twice.
pub fn trace(
    original: &Files,
    leak: &Files,
    secret: &Secret,
    customers: &[String],
    progress: &dyn Progress,
) -> Result<Traced> {
    let mut names = HashSet::new();
    for name in customers {
        check_customer(name)?;
        if !names.insert(name) {
            return Err(Error::Usage(format!("customer {name:?} is listed twice")));
        }
    }
    if names.is_empty() {
        return Err(Error::Usage("no customers to compare with".into()));
    }
    original.with(|original| {
        leak.with(|leak| {
            let (original, leak) = (Graph::new(*original), Graph::new(*leak));
            if tail::is_in(leak.model()) {
                return Err(Error::Protected("the leaked model"));
            }
            scores(&original, &Leak::new(&leak), secret, customers, progress)
        })
    })
}

fn scores(
    graph: &Graph<'_>,
    leak: &Leak<'_, '_>,
    secret: &Secret,
    customers: &[String],
    progress: &dyn Progress,
) -> Result<Traced> {
    let (weights, elements) = weights(graph, "the original")?;
    let strength = default_strength(elements);
    progress.begin(elements);
    let mut traced = Traced {
        suspects: Vec::new(),
        threshold: 0.0,
        expected_z: 0.0,
        tensors: weights.len(),
        elements,
        elements_found: 0,
        found: Vec::new(),
    };
    let (mut products, mut squares) = (vec![0.0; customers.len()], 0.0);
    // As many tensors as cores are in memory.
    for batch in weights.chunks(parallel::n_cores()) {
        let aligned = parallel::map(batch.len(), |i| -> Result<_> {
            let original = Original::load(graph, &batch[i])?;
            let found = leak.find(&batch[i], &original, strength)?;
            Ok(found.map(|(found, r)| (found, r, original.digest, &batch[i].tensor.path)))
        })?;
        let mut marked = Vec::new();
        for (found, r, digest, at) in aligned.into_iter().flatten() {
            traced.elements_found += found.elements;
            traced.expected_z += found.expected_z.powi(2);
            traced.found.push(found);
            squares += r.iter().map(|r| f64::from(*r).powi(2)).sum::<f64>();
            marked.push((r, digest, at));
        }
        let n = marked.len();
        let parts = parallel::map(customers.len() * n, |job| {
            let (r, digest, at) = &marked[job % n];
            let key = secret.0.key(digest, &customers[job / n], at)?;
            match progress.is_cancelled() {
                true => Err(Error::Cancelled),
                false => Ok(Stream::new(&key, MARK, 0).dot(r)),
            }
        })?;
        for (job, part) in parts.iter().enumerate() {
            products[job / n] += part;
        }
        progress.advance(batch.iter().map(|weight| weight.tensor.n_elements).sum());
    }
    traced.expected_z = traced.expected_z.sqrt();
    // n exp(-z² / 2), by Hoeffding's and Bonferroni's inequalities.
    let log_n = (customers.len() as f64).ln();
    traced.threshold = (2.0 * (log_n - ACCUSED.ln())).sqrt();
    for (customer, product) in customers.iter().zip(products) {
        let z = product / f64::sqrt(squares).max(f64::MIN_POSITIVE);
        let log_probability = f64::min(log_n - z.max(0.0).powi(2) / 2.0, 0.0);
        traced.suspects.push(Suspect {
            customer: customer.clone(),
            z,
            log10_probability: log_probability / std::f64::consts::LN_10,
            accused: log_probability < ACCUSED.ln(),
        });
    }
    let suspects = &mut traced.suspects;
    suspects.sort_by(|a, b| b.z.total_cmp(&a.z).then(a.customer.cmp(&b.customer)));
    Ok(traced)
}
