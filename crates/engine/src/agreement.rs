//! Tells whether a changed model, on changed inputs, computes what the original does.

use onnxseal_data::Values;
use onnxseal_data::random::rng;
use ort::session::builder::GraphOptimizationLevel as Optimization;
use rand::RngExt as _;

use crate::error::{Error, Result};
use crate::files::Files;
use crate::fit::random;
use crate::library::Engine;
use crate::net::{Net, OutputSpec};
use crate::values::{Batch, Element, Table};

/// A model and its changed form, on ONNX Runtime.
#[derive(Debug)]
pub struct Pair {
    original: Net,
    /// The original, without optimizations.
    unoptimized: Net,
    changed: Net,
}

/// How far outputs differ: the largest difference, divided by the largest output, for the output
/// where this is largest.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// Between the changed model and the original.
    pub changed: f64,
    /// Between the original with and without optimizations of its graph.
    pub own: f64,
    pub output: String,
}

/// The values for both models at one input, for all samples.
#[derive(Clone, Debug)]
pub struct Fed {
    pub input: String,
    /// The shape of a sample, which has all axes of the input except the first.
    pub dims: Vec<usize>,
    pub original: Values,
    pub changed: Values,
}

impl Pair {
    pub fn new(original: &Files, changed: &Files) -> Result<Pair> {
        let mut engine = Engine::load()?;
        let net = |engine: &Engine, files, name| Net::new(engine, files, &[], name);
        engine.optimization = Optimization::Disable;
        let unoptimized = net(&engine, original, "the original")?;
        engine.optimization = Optimization::All;
        Ok(Pair {
            original: net(&engine, original, "the original")?,
            unoptimized,
            changed: net(&engine, changed, "the changed model")?,
        })
    }

    /// Runs both on `n` samples: with `fed` at one input, and random numbers at the others.
    pub fn compare(&mut self, fed: &Fed, n: usize, seed: u64) -> Result<Agreement> {
        let mut samples = random(self.original.inputs(), n, seed);
        let place = samples.iter().position(|of| of.name == fed.input);
        let place = place.ok_or_else(|| Error::MissingInput {
            input: fed.input.clone(),
            given: "other inputs".into(),
        })?;
        samples[place].dims.clone_from(&fed.dims);
        // A whole sample includes the first axis.
        if samples[place].batch == Batch::None {
            samples[place].dims.insert(0, 1);
        }
        let rows: Vec<usize> = (0..n).collect();
        let outputs = self.original.outputs();
        let is_whole = |output: &OutputSpec| output.element.is_none_or(Element::is_whole);
        let all_are_whole = outputs.iter().all(is_whole);
        let is_wanted = |index: &usize| all_are_whole || !is_whole(&outputs[*index]);
        let wanted: Vec<usize> = (0..outputs.len()).filter(is_wanted).collect();
        samples[place].values.clone_from(&fed.original);
        let original = self.original.run(&samples, &rows, &wanted)?;
        let unoptimized = self.unoptimized.run(&samples, &rows, &wanted)?;
        samples[place].values.clone_from(&fed.changed);
        let changed = self.changed.run(&samples, &rows, &wanted)?;
        let mut worst = Agreement {
            changed: 0.0,
            own: 0.0,
            output: String::new(),
        };
        for (((index, original), unoptimized), changed) in
            wanted.iter().zip(&original).zip(&unoptimized).zip(&changed)
        {
            let difference = difference(original, changed);
            worst.own = worst.own.max(self::difference(original, unoptimized));
            // NaN counts as a difference.
            if worst.output.is_empty() || difference.is_nan() || difference > worst.changed {
                worst.changed = difference;
                worst
                    .output
                    .clone_from(&self.original.outputs()[*index].name);
            }
        }
        Ok(worst)
    }
}

/// Draws `n` random numbers from a range.
pub fn pixels(n: usize, (low, high): (f64, f64), seed: u64) -> impl Iterator<Item = f64> {
    let mut random = rng(seed, "pixels");
    (0..n).map(move |_| low + (high - low) * random.random::<f64>())
}

/// Returns the largest difference, divided by the largest number of `one`; NaN if only one of them
/// has a number somewhere.
pub fn difference(one: &Table, other: &Table) -> f64 {
    if one.dims != other.dims || one.values.len() != other.values.len() {
        return f64::NAN;
    }
    let (mut largest, mut difference) = (0_f64, 0_f64);
    for (one, other) in one.values.iter().zip(&other.values) {
        if one.is_nan() != other.is_nan() || one.is_infinite() != other.is_infinite() {
            return f64::NAN;
        }
        if one.is_finite() {
            largest = largest.max(f64::from(one.abs()));
            difference = difference.max((f64::from(*one) - f64::from(*other)).abs());
        }
    }
    if difference == 0.0 {
        0.0
    } else {
        difference / largest
    }
}
