//! Whether a model that was changed still computes what the original does, if its inputs are changed too.

use onnxseal_data::Values;
use onnxseal_data::random::rng;
use rand::RngExt as _;

use crate::error::{Error, Result};
use crate::files::Files;
use crate::fit::random;
use crate::library::{Engine, Optimization};
use crate::net::{InputSpec, Net};
use crate::values::{Batch, Element, Samples, Table};

/// A model and its changed form, on ONNX Runtime.
#[derive(Debug)]
pub struct Pair {
    original: Net,
    /// The original, computed as its graph says.
    unoptimized: Net,
    changed: Net,
}

/// How far outputs differ: the largest difference, divided by the largest output. The output with the largest such number
/// counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// Between the changed model and the original.
    pub changed: f64,
    /// Between the original with and without optimizations of its graph.
    pub own: f64,
    /// The output.
    pub output: String,
    /// Whether the same number is the largest in each sample's output, wherever an output has several.
    pub same_largest: bool,
}

/// What both models are fed at an input: of each, all samples.
#[derive(Clone, Debug)]
pub struct Fed {
    /// The input.
    pub input: String,
    /// The shape of a sample, with every axis that the input has but the first.
    pub dims: Vec<usize>,
    /// What the original is fed.
    pub original: Values,
    /// What the changed model is fed.
    pub changed: Values,
}

impl Pair {
    /// Makes the sessions.
    ///
    /// # Errors
    /// [`Error::NoLibrary`], [`Error::Library`], [`Error::Run`].
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

    /// The inputs of the original.
    pub fn inputs(&self) -> &[InputSpec] {
        self.original.inputs()
    }

    /// Runs both on `n` samples: as `fed` at one input, and on random numbers at the others.
    ///
    /// # Errors
    /// [`Error::Run`], [`Error::Output`]; [`Error::MissingInput`] where `fed` is for no input.
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
                    // A whole sample has the first axis too.
                    if sample.batch == Batch::None {
                        sample.dims.insert(0, 1);
                    }
                }
            }
            samples
        };
        let rows: Vec<usize> = (0..n).collect();
        let outputs = self.original.outputs().iter().enumerate();
        let floats: Vec<usize> = outputs
            .filter(|(_, output)| {
                output
                    .element
                    .is_some_and(|element: Element| !element.is_whole())
            })
            .map(|(index, _)| index)
            .collect();
        let wanted = if floats.is_empty() {
            (0..self.original.outputs().len()).collect()
        } else {
            floats
        };
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
            // NaN is a difference too.
            if worst.output.is_empty() || difference.is_nan() || difference > worst.changed {
                worst.changed = difference;
                let output = self.original.outputs().get(*index);
                worst.output = output.map_or_else(String::new, |output| output.name.clone());
            }
        }
        Ok(worst)
    }
}

/// `n` random numbers between the ends of a range.
pub fn pixels(n: usize, (low, high): (f64, f64), seed: u64) -> impl Iterator<Item = f64> {
    let mut random = rng(seed, "pixels");
    (0..n).map(move |_| low + (high - low) * random.random::<f64>())
}

/// The largest difference, divided by the largest number of `one`; NaN where only one has a number.
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

/// Whether the same number of each row is the largest. Ties count as the same where they are within rounding.
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
