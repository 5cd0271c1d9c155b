//! One model on one data set: runs variants and measures them.

use std::time::{Duration, Instant};

use onnxseal_data::DataSet;
use onnxseal_engine::Error::Output;
use onnxseal_engine::{
    Element, Engine, Files, Net, Optimization, OutputSpec, Samples, Table, fit, random,
};

use crate::assessment::{DataRow, Doubt, EngineRow, Measure, MetricKind};
use crate::attack::probe::{Features, features_of};
use crate::error::{Error, Result};
use crate::judge::Judge;
use crate::options::{Options, Progress};
use crate::stats::{Split, split};
use crate::subject::Subject;

/// The number of random samples, if there are no data.
const N_RANDOM: usize = 256;

/// If the original takes longer, the graphs of all variants are optimized.
const SHORT: Duration = Duration::from_secs(2);

/// One model on one data set.
pub(crate) struct Bench<'a> {
    pub(crate) subject: &'a Subject,
    data: Option<&'a DataSet>,
    pub(crate) options: &'a Options<'a>,
    pub(crate) engine: Engine,
    pub(crate) samples: Vec<Samples>,
    pub(crate) n: usize,
    pub(crate) rows: Vec<usize>,
    pub(crate) split: Split,
    answer: OutputSpec,
    /// The values that probes use, the last layer first; empty if there are no probes.
    layers: Vec<String>,
    pub(crate) judge: Judge<'a>,
    pub(crate) original: Measure,
    pub(crate) margin: f64,
    progress: &'a dyn Progress,
}

/// The result of running a variant.
pub(crate) struct Ran {
    pub(crate) answers: Table,
    /// The features of each layer for probes, by the value's name.
    pub(crate) features: Vec<(String, Features)>,
}

impl<'a> Bench<'a> {
    /// Runs the original and calls `work` with the bench. Every run ends once `progress` is
    /// cancelled. The attacker has as many samples as the largest of `sizes`.
    pub(crate) fn with<T>(
        subject: &'a Subject,
        data: Option<&'a DataSet>,
        options: &'a Options<'a>,
        sizes: &[usize],
        progress: &'a dyn Progress,
        work: impl FnOnce(&Bench<'a>) -> Result<T>,
    ) -> Result<T> {
        let engine = Engine::load()?;
        engine.unless(&|| progress.is_cancelled(), || {
            let mut engine = engine.clone();
            let mut net = Net::new(&engine, subject.files(), &[], "the original")?;
            let (samples, n) = samples(&net, data, options)?;
            check_batches(&samples)?;
            let rows: Vec<usize> = (0..n).collect();
            let began = Instant::now();
            let (answer, original) = answer(&mut net, &samples, &rows, options.output.as_deref())?;
            if began.elapsed() > SHORT {
                engine.optimization = Optimization::All;
            }
            drop(net);
            let labels = data.and_then(|data| data.labels.as_deref());
            let is_class = answer.element.is_some_and(Element::is_whole) && original.width == 1;
            let judge = Judge::new(options.metric, original, labels, is_class)?;
            work(&Bench {
                subject,
                data,
                options,
                engine,
                samples,
                n,
                split: split(n, sizes, options.seed),
                layers: features_of(&subject.located()?, &answer.name),
                answer,
                original: judge.measure(&judge.original, &rows)?,
                rows,
                // 1 dB, or five points of a rate.
                margin: match judge.kind {
                    MetricKind::Psnr => 1.0,
                    _ => 0.05,
                },
                judge,
                progress,
            })
        })
    }

    /// Describes the ONNX Runtime that runs the model.
    pub(crate) fn engine_row(&self) -> EngineRow {
        EngineRow {
            version: self.engine.version.clone(),
            library: self.engine.library.display().to_string(),
            n_threads: self.engine.n_threads,
        }
    }

    /// Describes the data and its split.
    pub(crate) fn data_row(&self) -> DataRow {
        let source = self.data.map_or("random inputs", |data| &data.source);
        DataRow {
            source: source.to_owned(),
            n_samples: self.n,
            n_attacker: self.split.attacker.len(),
            n_evaluation: self.split.evaluation.len(),
            is_labelled: self.judge.has_labels,
            is_random: self.is_random(),
            n_classes: self.judge.n_classes,
            dropped_sizes: self.split.dropped.clone(),
        }
    }

    /// Begins a step, or fails if the caller cancelled the call.
    pub(crate) fn step(&self, what: &str) -> Result<()> {
        self.progress.step(what);
        if self.progress.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Runs a variant on all samples. With `with_features`, also returns the features of its
    /// layers.
    pub(crate) fn run(&self, files: &Files, with_features: bool, name: &str) -> Result<Ran> {
        // Inputs cannot be outputs, and existing outputs are not added again.
        let is_input = |layer: &str| self.samples.iter().any(|of| of.name == layer);
        let is_more = |layer: &&str| !is_input(layer) && *layer != self.answer.name;
        let layers = self.layers.iter().filter(|_| with_features);
        let more: Vec<&str> = layers.map(String::as_str).filter(is_more).collect();
        let net = |n: usize| Net::new(&self.engine, files, &more[..n.min(more.len())], name);
        // A layer may be an output of the model already.
        let mut net = match net(more.len()) {
            Err(_) if !more.is_empty() => net(1).or_else(|_| net(0))?,
            net => net?,
        };
        let missing = || missing(&self.answer.name);
        let place = |name: &str| net.outputs().iter().position(|output| output.name == name);
        let mut wanted = vec![place(&self.answer.name).ok_or_else(missing)?];
        let found = more
            .iter()
            .filter_map(|layer| Some((*layer, place(layer)?)));
        let found: Vec<(&str, usize)> = found.collect();
        wanted.extend(found.iter().map(|(_, place)| *place));
        let mut tables = net.run(&self.samples, &self.rows, &wanted)?.into_iter();
        let answers = tables.next().ok_or_else(missing)?;
        let mut features: Vec<_> = (found.iter().zip(tables))
            .map(|((layer, _), table)| ((*layer).to_owned(), Features::of(table)))
            .collect();
        // The first layer's features are the inputs, which have a floor of their own.
        if with_features && features.is_empty() {
            let (layer, table) = match self.layers.first() {
                Some(layer) if is_input(layer) => (layer, self.raw()),
                _ => (&self.answer.name, answers.clone()),
            };
            features.push((layer.clone(), Features::of(table)));
        }
        Ok(Ran { answers, features })
    }

    /// Returns the inputs as one table.
    pub(crate) fn raw(&self) -> Table {
        let of_row = |row: usize| {
            self.samples.iter().flat_map(move |samples| {
                let width = samples.dims.iter().product::<usize>();
                let of_row = row * width..(row + 1) * width;
                of_row.map(|i| samples.values.at(i) as f32)
            })
        };
        let values: Vec<f32> = (0..self.n).flat_map(of_row).collect();
        let width = values.len() / self.n.max(1);
        Table {
            dims: vec![width],
            width,
            values,
        }
    }

    pub(crate) fn is_random(&self) -> bool {
        self.data.is_none()
    }

    /// Returns why nothing can be said to hold on these samples, whatever attacks get.
    pub(crate) fn doubt(&self) -> Option<Doubt> {
        fn values(of: &Samples) -> impl Iterator<Item = f64> {
            (0..of.values.len()).map(|i| of.values.at(i))
        }
        if self.samples.iter().any(|of| values(of).any(f64::is_nan)) {
            return Some(Doubt::NanInputs);
        }
        if self.is_random() {
            return Some(Doubt::RandomInputs);
        }
        // Pixels, as files have them.
        let is_unscaled = |of: &Samples| {
            !of.element.is_whole()
                && values(of).all(|value| value >= 0.0 && value.fract() == 0.0)
                && values(of).any(|value| value > 1.0)
        };
        if !self.options.is_scaled && self.samples.iter().any(is_unscaled) {
            return Some(Doubt::Unscaled);
        }
        let most = self.split.sizes.last().copied().unwrap_or(0);
        let is_probed = self.has_probes() && self.judge.n_classes.is_some_and(|n| n <= most);
        (self.judge.is_rate() && !is_probed).then_some(Doubt::NoProbe)
    }

    /// Returns whether to train probes: if samples have classes and the caller has no metric of
    /// their own.
    pub(crate) fn has_probes(&self) -> bool {
        self.judge.is_rate() && !self.split.sizes.is_empty() && !self.is_random()
    }
}

/// Returns the inputs of `net` and the number of samples: the data, or random numbers.
pub(crate) fn samples(
    net: &Net,
    data: Option<&DataSet>,
    options: &Options<'_>,
) -> Result<(Vec<Samples>, usize)> {
    Ok(match data {
        Some(data) => (fit(data, net.inputs(), &options.data)?, data.n),
        None => (random(net.inputs(), N_RANDOM, options.seed), N_RANDOM),
    })
}

/// Fails if inputs need different numbers of samples per run.
fn check_batches(samples: &[Samples]) -> Result<()> {
    let mut fixed = samples
        .iter()
        .filter_map(|of| Some((of.batch.n()?, &of.name)));
    let first = fixed.next().map(|(n, _)| n);
    match fixed.find(|(n, _)| first != Some(*n)) {
        Some((n, name)) => Err(Error::Usage(format!(
            "input {name:?} takes {n} samples at a time, but another input takes a different number"
        ))),
        None => Ok(()),
    }
}

/// Returns the output with the answer, and the original's answers. It is the named output; or else
/// the first with classes, or the first of numbers.
fn answer(
    net: &mut Net,
    samples: &[Samples],
    rows: &[usize],
    named: Option<&str>,
) -> Result<(OutputSpec, Table)> {
    let outputs = net.outputs().to_vec();
    let chosen = if let Some(named) = named {
        let index = outputs.iter().position(|output| output.name == named);
        index.ok_or_else(|| {
            let names: Vec<&str> = outputs.iter().map(|output| &*output.name).collect();
            let names = names.join(", ");
            Error::Usage(format!("the model has no output {named:?}; it has {names}"))
        })?
    } else {
        // A few samples show the shapes. If no output is usable, the run below reports why for the
        // first.
        let few = &rows[..rows.len().min(2)];
        let rank = |index: &usize| {
            let element = outputs[*index].element?;
            let tables = net.run(samples, few, &[*index]).ok()?;
            let dims = &tables.first()?.dims;
            let long = dims.iter().filter(|dim| **dim > 1).count();
            let has_classes = long == 1 && !element.is_whole();
            // `[N, classes]` before `[N, 1, classes]` and the like.
            Some((has_classes, has_classes && dims.len() == 1))
        };
        // The first among equals.
        (0..outputs.len()).rev().max_by_key(rank).unwrap_or(0)
    };
    let table = net.run(samples, rows, &[chosen])?.pop();
    let output = outputs.into_iter().nth(chosen);
    output.zip(table).ok_or_else(|| missing(""))
}

fn missing(output: &str) -> Error {
    let (output, reason) = (output.to_owned(), "is missing".to_owned());
    Error::Engine(Output { output, reason })
}
