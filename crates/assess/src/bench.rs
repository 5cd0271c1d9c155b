//! One model on one data set: runs of variants, and what they are measured by.

use std::time::{Duration, Instant};

use onnxseal_plan::{Policy, Preset};

use crate::assessment::{DataRow, EngineRow, Fill, Floor, FloorKind, Measure};
use crate::attack::probe::{Features, features_of};
use crate::attack::{Instead, variant};
use crate::data::{DataSet, fit, random};
use crate::engine::{Batch, Engine, Files, Net, Optimization, OutputSpec, Samples, Table};
use crate::error::{Error, Result};
use crate::hidden::Hidden;
use crate::judge::Judge;
use crate::options::{Options, Progress};
use crate::stats::{Split, split};
use crate::subject::Subject;

/// Seeds of what is random; the worst counts.
pub(crate) const N_SEEDS: u64 = 3;

/// Where the original takes longer, the graphs of all variants are optimized.
const SHORT: Duration = Duration::from_secs(2);

/// One model on one data set.
pub(crate) struct Bench<'a> {
    pub(crate) engine: Engine,
    pub(crate) samples: Vec<Samples>,
    pub(crate) n: usize,
    /// All samples.
    pub(crate) rows: Vec<usize>,
    pub(crate) split: Split,
    /// The output that is the answer.
    answer: OutputSpec,
    /// What probes look at, the last layer first; none where that is the answer.
    layers: Vec<String>,
    pub(crate) judge: Judge<'a>,
    pub(crate) original: Measure,
    pub(crate) margin: f64,
    progress: &'a dyn Progress,
}

/// What a run of a variant gives.
pub(crate) struct Ran {
    pub(crate) answers: Table,
    /// What each layer is fed that a probe looks at, by its name.
    pub(crate) features: Vec<(String, Features)>,
}

/// The best of some probes.
#[derive(Clone, Debug)]
pub(crate) struct Probed {
    pub(crate) n_labels: usize,
    pub(crate) layer: String,
    pub(crate) measure: Measure,
}

impl<'a> Bench<'a> {
    /// Runs the original.
    pub(crate) fn new(
        subject: &Subject,
        data: Option<&DataSet>,
        options: &Options<'a>,
        progress: &'a dyn Progress,
    ) -> Result<Bench<'a>> {
        let mut engine = Engine::load()?;
        let mut net = Net::new(&engine, subject.files(), &[], "the original")?;
        let (samples, n) = match data {
            Some(data) => (fit(data, net.inputs(), &options.data)?, data.n),
            None => (
                random(net.inputs(), options.n_random.max(2), options.seed),
                options.n_random.max(2),
            ),
        };
        check_batches(&samples)?;
        let rows: Vec<usize> = (0..n).collect();
        let began = Instant::now();
        let (index, original) = answer(&mut net, &samples, &rows, options.output.as_deref())?;
        if began.elapsed() > SHORT {
            engine.optimization = Optimization::All;
        }
        let answer = net.outputs().get(index).cloned().ok_or(Error::Cancelled)?;
        drop(net);
        let labels = data.and_then(|data| data.labels.as_deref());
        let is_class =
            answer.element.is_some_and(|element| element.is_whole()) && original.width == 1;
        let copy = original.clone();
        let judge = Judge::new(options.metric, original, labels, is_class)?;
        let measured = judge.measure(&copy, &rows)?;
        let model = subject.located()?;
        let layers = features_of(&model, &answer.name);
        let margin = options.margin.unwrap_or(match judge.row().unit.as_str() {
            "dB" => 1.0,
            _ => 0.05,
        });
        Ok(Bench {
            engine,
            samples,
            n,
            split: split(n, &options.attacker_samples, options.seed),
            rows,
            answer,
            layers,
            judge,
            original: measured,
            margin,
            progress,
        })
    }

    /// The ONNX Runtime that runs the model.
    pub(crate) fn engine_row(&self) -> EngineRow {
        EngineRow {
            version: self.engine.version.clone(),
            library: self.engine.library.display().to_string(),
            n_threads: self.engine.n_threads,
        }
    }

    /// The data, which the caller calls `source`, and who has which part of it.
    pub(crate) fn data_row(&self, source: &str) -> DataRow {
        DataRow {
            source: source.to_owned(),
            n_samples: self.n,
            n_attacker: self.split.attacker.len(),
            n_evaluation: self.split.evaluation.len(),
            is_labelled: self.judge.has_labels(),
            is_random: false,
            n_classes: self.judge.n_classes,
            dropped_sizes: self.split.dropped.clone(),
        }
    }

    /// A step begins; ends the call if the caller wants no more.
    pub(crate) fn step(&self, what: &str) -> Result<()> {
        self.progress.step(what);
        match self.progress.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    /// Runs a variant on all samples.
    pub(crate) fn run(&self, files: &Files, with_features: bool, name: &str) -> Result<Ran> {
        let layers: &[String] = if with_features { &self.layers } else { &[] };
        // An input is no output; what is an output already is not made one again.
        let is_input = |layer: &&String| self.samples.iter().any(|s| s.name == **layer);
        let more = layers.iter().filter(|layer| !is_input(layer));
        let more: Vec<&str> = more
            .map(String::as_str)
            .filter(|layer| *layer != self.answer.name)
            .collect();
        let mut net = match Net::new(&self.engine, files, &more, name) {
            // One may be an output of the model already.
            Err(_) if !more.is_empty() => match Net::new(&self.engine, files, &more[..1], name) {
                Err(_) => Net::new(&self.engine, files, &[], name)?,
                Ok(net) => net,
            },
            net => net?,
        };
        let place = |name: &str| net.outputs().iter().position(|output| output.name == name);
        let missing = || Error::Output {
            output: self.answer.name.clone(),
            reason: "is missing".into(),
        };
        let mut wanted = vec![place(&self.answer.name).ok_or_else(missing)?];
        let found: Vec<(&str, usize)> = more
            .iter()
            .filter_map(|layer| Some((*layer, place(layer)?)))
            .collect();
        wanted.extend(found.iter().map(|(_, index)| index));
        let mut tables = net.run(&self.samples, &self.rows, &wanted)?.into_iter();
        let answers = tables.next().ok_or_else(missing)?;
        let layers_of = found.iter().zip(tables);
        let mut features: Vec<(String, Features)> = layers_of
            .map(|((layer, _), table)| ((*layer).to_owned(), Features::of(&table)))
            .collect();
        // What the first layer is fed is the input, which has a floor of its own.
        if with_features && features.is_empty() {
            let (layer, table) = match self.layers.first() {
                Some(layer) if is_input(&layer) => (layer, &self.raw()),
                _ => (&self.answer.name, &answers),
            };
            features.push((layer.clone(), Features::of(table)));
        }
        Ok(Ran { answers, features })
    }

    /// The inputs themselves, as one table.
    pub(crate) fn raw(&self) -> Table {
        let widths: Vec<usize> = self
            .samples
            .iter()
            .map(|s| s.dims.iter().product())
            .collect();
        let width = widths.iter().sum();
        let mut values = Vec::with_capacity(width * self.n);
        for row in 0..self.n {
            for (samples, width) in self.samples.iter().zip(&widths) {
                values
                    .extend((row * width..(row + 1) * width).map(|i| samples.values.at(i) as f32));
            }
        }
        Table {
            dims: vec![width],
            width,
            values,
        }
    }

    /// Whether probes can be trained: there are classes, and nobody measures otherwise.
    pub(crate) fn has_probes(&self) -> bool {
        self.judge.is_rate() && self.judge.n_classes.is_some() && !self.split.sizes.is_empty()
    }

    /// What a probe with `n_labels` labels gets from features.
    pub(crate) fn probe(&self, features: &Features, n_labels: usize) -> Result<Measure> {
        let (labels, n_classes) = match (&self.judge.labels, self.judge.n_classes) {
            (Some(labels), Some(n_classes)) => (labels, n_classes),
            _ => return Err(Error::Usage("without classes there is no probe".into())),
        };
        let known = &self.split.attacker[..n_labels.min(self.split.attacker.len())];
        let found = features.probe(known, labels, n_classes, &self.split.evaluation)?;
        Ok(self.judge.rate(&found, &self.split.evaluation))
    }

    /// What probes get from the features of a run, for each number of labels: from the best layer.
    ///
    /// With the fewest labels every layer is tried; with more of them the last one, and the one that was best before.
    pub(crate) fn probes(&self, ran: &Ran) -> Result<Vec<Probed>> {
        let mut best: Vec<Probed> = Vec::new();
        for n_labels in &self.split.sizes {
            let before = best.first().map(|probed| probed.layer.clone());
            let mut best_of_size: Option<Probed> = None;
            for (i, (layer, features)) in ran.features.iter().enumerate() {
                if i > 0 && before.as_ref().is_some_and(|before| before != layer) {
                    continue;
                }
                let measure = self.probe(features, *n_labels)?;
                let is_better = |best: &Probed| measure.value > best.measure.value;
                if best_of_size.as_ref().is_none_or(is_better) {
                    best_of_size = Some(Probed {
                        n_labels: *n_labels,
                        layer: layer.clone(),
                        measure,
                    });
                }
            }
            best.extend(best_of_size);
        }
        Ok(best)
    }

    /// What an attacker gets without any weight that is encrypted.
    pub(crate) fn floors(
        &self,
        subject: &Subject,
        is_random: bool,
        seed: u64,
    ) -> Result<Vec<Floor>> {
        let mut floors = Vec::new();
        let mut add = |kind, n_labels, measure| {
            floors.push(Floor {
                kind,
                n_labels,
                measure,
            })
        };
        add(FloorKind::Constant, None, self.judge.constant(&self.rows)?);
        let has_probes = self.has_probes() && !is_random;
        if has_probes {
            let raw = Features::of(&self.raw());
            for size in &self.split.sizes {
                self.step("floor: probe on the inputs")?;
                add(FloorKind::RawProbe, Some(*size), self.probe(&raw, *size)?);
            }
        }
        let full = Hidden::of_policy(subject, &Policy::preset(Preset::Full))?;
        let mut best: Option<Measure> = None;
        let mut probes: Vec<Option<Measure>> = vec![None; self.split.sizes.len()];
        for i in 0..N_SEEDS {
            self.step("floor: random weights")?;
            let random = variant(
                subject.files(),
                &full,
                Instead::Fill(Fill::Random),
                seed.wrapping_add(i),
            );
            let ran = self.run(&random.files, has_probes, "the model with random weights")?;
            keep(&mut best, self.judge.measure(&ran.answers, &self.rows)?);
            if has_probes {
                for (probed, best) in self.probes(&ran)?.into_iter().zip(&mut probes) {
                    keep(best, probed.measure);
                }
            }
        }
        if let Some(best) = best {
            add(FloorKind::FullRandom, None, best);
        }
        for (size, best) in self.split.sizes.iter().zip(probes) {
            if let Some(best) = best {
                add(FloorKind::FullProbe, Some(*size), best);
            }
        }
        Ok(floors)
    }
}

/// Keeps the larger.
pub(crate) fn keep(best: &mut Option<Measure>, measure: Measure) {
    if best.as_ref().is_none_or(|best| measure.value > best.value) {
        *best = Some(measure);
    }
}

/// Inputs that want numbers of samples that do not go together.
fn check_batches(samples: &[Samples]) -> Result<()> {
    let mut fixed = samples.iter().filter_map(|s| match s.batch {
        Batch::Just(n) => Some((n, &s.name)),
        Batch::None => Some((1, &s.name)),
        Batch::Any => None,
    });
    let first = fixed.next();
    match fixed.find(|(n, _)| first.is_some_and(|(first, _)| first != *n)) {
        Some((n, name)) => Err(Error::Usage(format!(
            "input {name:?} takes {n} samples at a time, another takes another number"
        ))),
        None => Ok(()),
    }
}

/// The output that is the answer, and the original's: the one that is named; or the first that has classes, or the first
/// of numbers.
fn answer(
    net: &mut Net,
    samples: &[Samples],
    rows: &[usize],
    named: Option<&str>,
) -> Result<(usize, Table)> {
    let of_numbers: Vec<usize> = (0..net.outputs().len())
        .filter(|i| net.outputs()[*i].element.is_some())
        .collect();
    if let Some(named) = named {
        let index = net.outputs().iter().position(|output| output.name == named);
        let names = || {
            net.outputs()
                .iter()
                .map(|output| output.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let index = index.ok_or_else(|| {
            Error::Usage(format!(
                "the model has no output {named:?}; it has {}",
                names()
            ))
        })?;
        let table = net.run(samples, rows, &[index])?.into_iter().next();
        return table.map(|table| (index, table)).ok_or(Error::Cancelled);
    }
    // A few samples tell what shapes there are.
    let few = &rows[..rows.len().min(2)];
    let mut with_classes = None;
    let mut first = None;
    let mut has_plain = false;
    for index in of_numbers {
        let Ok(tables) = net.run(samples, few, &[index]) else {
            continue;
        };
        let Some(table) = tables.into_iter().next() else {
            continue;
        };
        first = first.or(Some(index));
        let is_whole = net
            .outputs()
            .get(index)
            .and_then(|output| output.element)
            .is_some_and(|element| element.is_whole());
        let long = table.dims.iter().filter(|dim| **dim > 1).count();
        // `[N, classes]` before `[N, 1, classes]` and the like.
        let is_plain = table.dims.len() == 1;
        if long == 1 && !is_whole && (with_classes.is_none() || (is_plain && !has_plain)) {
            has_plain |= is_plain;
            with_classes = Some(index);
        }
    }
    // Where none can be used, the first says why.
    let index = with_classes.or(first).unwrap_or_default();
    let table = net.run(samples, rows, &[index])?.into_iter().next();
    table
        .map(|table| (index, table))
        .ok_or_else(|| Error::Output {
            output: String::new(),
            reason: "is missing".into(),
        })
}
