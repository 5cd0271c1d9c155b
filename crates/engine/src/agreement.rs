//! Tells whether a changed model, on changed inputs, computes what the original does.

use onnxseal_data::Values;
use onnxseal_data::random::rng;
use rand::RngExt as _;

use crate::error::{Error, Result};
use crate::files::Files;
use crate::fit::random;
use crate::library::{Engine, Optimization};
use crate::net::{InputSpec, Net, OutputSpec};
use crate::values::{Batch, Element, Samples, Table};

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
    /// The output.
    pub output: String,
    /// Whether the largest number of each sample's output is at the same position, for all outputs
    /// with several numbers.
    pub same_largest: bool,
}

/// The values for both models at one input, for all samples.
#[derive(Clone, Debug)]
pub struct Fed {
    /// The input.
    pub input: String,
    /// The shape of a sample, which has all axes of the input except the first.
    pub dims: Vec<usize>,
    /// The values for the original.
    pub original: Values,
    /// The values for the changed model.
    pub changed: Values,
}

impl Pair {
    /// Makes the sessions.
    pub fn new(original: &Files, changed: &Files) -> Result<Pair> {
        let mut engine = Engine::load()?;
        let net = |engine: &Engine, files, name| Net::new(engine, files, &[], name);
        engine.optimization = Optimization::Off;
        let unoptimized = net(&engine, original, "the original")?;
        engine.optimization = Optimization::All;
        Ok(Pair {
            original: net(&engine, original, "the original")?,
            unoptimized,
            changed: net(&engine, changed, "the changed model")?,
        })
    }

    /// Returns the inputs of the original.
    pub fn inputs(&self) -> &[InputSpec] {
        self.original.inputs()
    }

    /// Runs both on `n` samples: with `fed` at one input, and random numbers at the others.
    ///
    /// # Errors
    /// [`Error::Run`], [`Error::Output`]; [`Error::MissingInput`] if the model lacks the input of
    /// `fed`.
    pub fn compare(&mut self, fed: &Fed, n: usize, seed: u64) -> Result<Agreement> {
        let inputs = self.original.inputs();
        let is_fed = |input: &InputSpec| input.name == fed.input;
        if !inputs.iter().any(is_fed) {
            return Err(Error::MissingInput {
                input: fed.input.clone(),
                given: "other inputs".into(),
            });
        }
        let mut samples = random(inputs, n, seed);
        let of = |values: &Values, mut samples: Vec<Samples>| {
            for sample in &mut samples {
                if sample.name == fed.input {
                    sample.dims.clone_from(&fed.dims);
                    sample.values = values.clone();
                    // A whole sample includes the first axis.
                    if sample.batch == Batch::None {
                        sample.dims.insert(0, 1);
                    }
                }
            }
            samples
        };
        let rows: Vec<usize> = (0..n).collect();
        let outputs = self.original.outputs();
        let is_whole = |output: &OutputSpec| output.element.is_none_or(Element::is_whole);
        let all_are_whole = outputs.iter().all(is_whole);
        let is_wanted = |index: &usize| all_are_whole || !is_whole(&outputs[*index]);
        let wanted: Vec<usize> = (0..outputs.len()).filter(is_wanted).collect();
        let plain = of(&fed.original, samples.clone());
        samples = of(&fed.changed, samples);
        let original = self.original.run(&plain, &rows, &wanted)?;
        let unoptimized = self.unoptimized.run(&plain, &rows, &wanted)?;
        let changed = self.changed.run(&samples, &rows, &wanted)?;
        let mut worst = Agreement {
            changed: 0.0,
            own: 0.0,
            output: String::new(),
            same_largest: true,
        };
        for (((index, original), unoptimized), changed) in
            wanted.iter().zip(&original).zip(&unoptimized).zip(&changed)
        {
            let difference = difference(original, changed);
            worst.own = worst.own.max(self::difference(original, unoptimized));
            worst.same_largest &= has_same_largest(original, changed);
            // NaN counts as a difference.
            if worst.output.is_empty() || difference.is_nan() || difference > worst.changed {
                worst.changed = difference;
                let output = self.original.outputs().get(*index);
                worst.output = output.map_or_else(String::new, |output| output.name.clone());
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

/// Returns whether the largest number of each row is at the same position. Ties within rounding
/// count as equal.
fn has_same_largest(one: &Table, other: &Table) -> bool {
    let largest = |row: &[f32]| {
        let by_value = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1);
        row.iter().enumerate().max_by(by_value).map(|(i, _)| i)
    };
    let width = one.width.max(1);
    let rows = one.values.chunks(width).zip(other.values.chunks(width));
    rows.into_iter().all(|(one, other)| {
        let (Some(a), Some(b)) = (largest(one), largest(other)) else {
            return true;
        };
        a == b || one.get(a) == one.get(b)
    })
}
