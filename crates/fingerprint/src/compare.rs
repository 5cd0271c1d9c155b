//! Compares a copy with the original on ONNX Runtime.

use onnxseal_data::{DataOptions, DataSet};
use onnxseal_engine::{
    Engine, Error as RunError, Files as InMemory, Net, OutputSpec, Table, difference, fit, random,
};
use onnxseal_rewrite::Files;
use onnxseal_store::{ErrorKind, Location};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::mark::{Applied, Marked};

/// The number of random samples.
const N_RANDOM: usize = 16;

/// How many deviations of chance the number of right answers may move by.
const DEVIATIONS: f64 = 2.5;

/// Without labels, the share of samples whose class may change.
const MAX_CHANGED: f64 = 0.01;

/// A copy that was made, and how far it is from the original.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub mark: Applied,
    pub comparison: Option<Compared>,
    /// Why there is no comparison.
    pub not_compared: Option<String>,
}

/// How far the outputs of a copy are from those of the original.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    pub samples: usize,
    /// Whether the samples are random numbers.
    pub is_random: bool,
    /// The largest difference of a number, as a share of the largest number of its output.
    pub difference: f64,
    /// The samples whose class changed; absent if no output has a number for each class.
    pub changed_classes: Option<usize>,
    /// The shares of samples that the original and the copy put in the class of their label.
    pub accuracy: Option<[f64; 2]>,
    /// Whether accuracy moved by more than chance explains or, without labels, more than 1 % of
    /// classes changed.
    pub is_moved: bool,
}

impl Report {
    /// Reports on a copy that is compared with nothing, and why not.
    pub fn without(marked: &Marked, why: impl Into<String>) -> Report {
        Report {
            mark: marked.report.clone(),
            comparison: None,
            not_compared: Some(why.into()),
        }
    }
}

/// Runs the model at `original` and its marked copy on samples of `data`, or on random numbers.
/// `output` names the output with classes; by default it is the first that can have them.
///
/// # Errors
/// [`Error::Engine`] if the data do not fit. That ONNX Runtime is missing, or does not run the model,
/// is no error.
pub fn compare(
    original: &Location,
    marked: &Marked,
    data: Option<(&DataSet, &DataOptions)>,
    output: Option<&str>,
) -> Result<Report> {
    match run(original, &marked.model, data, output) {
        Ok(compared) => Ok(Report {
            mark: marked.report.clone(),
            comparison: Some(compared),
            not_compared: None,
        }),
        Err(Error::Engine(error)) if error.kind() == ErrorKind::Runtime => {
            Ok(Report::without(marked, error.to_string()))
        }
        Err(error) => Err(error),
    }
}

fn run(
    original: &Location,
    copy: &Location,
    data: Option<(&DataSet, &DataOptions)>,
    output: Option<&str>,
) -> Result<Compared> {
    let engine = Engine::load()?;
    let net = |location: &Location, name: &str| -> Result<Net> {
        let (model, external) = Files::open(location)?.read(&[])?;
        Ok(Net::new(
            &engine,
            &InMemory::new(&model, external),
            &[],
            name,
        )?)
    };
    let (mut original, mut copy) = (net(original, "the original")?, net(copy, "the copy")?);
    let samples = match data {
        Some((data, options)) => fit(data, original.inputs(), options)?,
        None => random(original.inputs(), N_RANDOM, 0),
    };
    let n = data.map_or(N_RANDOM, |(data, _)| data.n);
    let is_float = |output: &OutputSpec| output.element.is_some_and(|of| !of.is_whole());
    let outputs = original.outputs().iter().enumerate();
    let wanted = outputs.filter(|(_, output)| is_float(output));
    let (wanted, names): (Vec<usize>, Vec<String>) = wanted
        .map(|(index, output)| (index, output.name.to_string()))
        .unzip();
    let rows: Vec<usize> = (0..n).collect();
    let one = original.run(&samples, &rows, &wanted)?;
    let other = copy.run(&samples, &rows, &wanted)?;
    // NaN is the largest.
    let differences = one.iter().zip(&other).map(|(a, b)| difference(a, b).abs());
    let difference = differences.max_by(f64::total_cmp).unwrap_or(0.0);
    let classes = match output {
        None => one.iter().position(has_classes),
        Some(output) => {
            let place = names.iter().position(|name| name == output);
            Some(place.ok_or_else(|| RunError::Output {
                output: output.to_owned(),
                reason: "is missing".into(),
            })?)
        }
    };
    let mut compared = Compared {
        samples: n,
        is_random: data.is_none(),
        difference,
        changed_classes: None,
        accuracy: None,
        is_moved: difference.is_nan(),
    };
    if let Some(place) = classes {
        let labels = data.and_then(|(data, _)| data.labels.as_deref());
        count(&mut compared, &one[place], &other[place], labels);
    }
    Ok(compared)
}

/// Whether an output has one number for each class.
fn has_classes(table: &Table) -> bool {
    table.width > 1 && table.dims.contains(&table.width)
}

/// Counts classes that changed, and right ones.
fn count(compared: &mut Compared, one: &Table, other: &Table, labels: Option<&[i64]>) {
    let (mut n_changed, mut rights, mut fell, mut rose) = (0, [0, 0], 0_u32, 0_u32);
    for row in 0..compared.samples {
        let (a, b) = (class(one.row(row)), class(other.row(row)));
        n_changed += usize::from(a != b);
        if let Some(label) = labels.and_then(|labels| labels.get(row)) {
            let is_right = |class: Option<usize>| class.is_some_and(|class| class as i64 == *label);
            let (a, b) = (is_right(a), is_right(b));
            rights[0] += usize::from(a);
            rights[1] += usize::from(b);
            fell += u32::from(a && !b);
            rose += u32::from(b && !a);
        }
    }
    compared.changed_classes = Some(n_changed);
    let n = compared.samples.max(1) as f64;
    compared.is_moved |= match labels {
        // If neither is better, each change is as likely to be for the better as for the worse.
        Some(_) => f64::from(fell.abs_diff(rose)) > DEVIATIONS * f64::from(fell + rose).sqrt(),
        None => !compared.is_random && n_changed as f64 > MAX_CHANGED * n,
    };
    compared.accuracy = labels.map(|_| rights.map(|right| right as f64 / n));
}

/// The place of the largest number.
fn class(row: &[f32]) -> Option<usize> {
    let numbered = row.iter().enumerate();
    let largest = numbered.max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    largest.map(|(class, _)| class)
}
