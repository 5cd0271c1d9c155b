//! One model on one data set: runs of variants, and what they are measured by.

use std::time::{Duration, Instant};

use onnxseal_data::DataSet;
use onnxseal_engine::Error::Output;
use onnxseal_engine::{
    Batch, Engine, Files, Net, Optimization, OutputSpec, Samples, Table, fit, random,
};

use crate::assessment::{DataRow, EngineRow, Fill, Floor, FloorKind, Head, Measure, MetricKind};
use crate::attack::base::Base;
use crate::attack::normal::{self, Layer};
use crate::attack::probe::{Features, HEADS, Probe, features_of};
use crate::attack::{Instead, variant};
use crate::error::{Attempt, Error, Result, attempt};
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

/// The best of some probes, by cross-validation on the attacker's labels.
#[derive(Clone, Debug)]
pub(crate) struct Probed {
    pub(crate) n_labels: usize,
    /// How many of the labels are right where others predict them.
    n_right: usize,
    pub(crate) fill: Fill,
    /// Whether statistics were estimated anew.
    pub(crate) reestimated: bool,
    pub(crate) layer: String,
    pub(crate) head: Head,
    pub(crate) measure: Measure,
}

impl<'a> Bench<'a> {
    /// Runs the original and gives `work` the bench, on which attackers have `sizes` labels; every
    /// run ends once `progress` is cancelled.
    pub(crate) fn with<T>(
        subject: &Subject,
        data: Option<&DataSet>,
        (options, sizes): (&Options<'a>, &[usize]),
        progress: &'a dyn Progress,
        work: impl FnOnce(&Bench<'a>) -> Result<T>,
    ) -> Result<T> {
        let engine = Engine::load()?;
        engine.unless(&|| progress.is_cancelled(), || {
            work(&Bench::new(
                engine.clone(),
                subject,
                data,
                (options, sizes),
                progress,
            )?)
        })
    }

    fn new(
        mut engine: Engine,
        subject: &Subject,
        data: Option<&DataSet>,
        (options, sizes): (&Options<'a>, &[usize]),
        progress: &'a dyn Progress,
    ) -> Result<Bench<'a>> {
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
        // A decibel, or five points of a rate.
        let margin = options.margin.unwrap_or(match judge.kind {
            MetricKind::Psnr => 1.0,
            _ => 0.05,
        });
        Ok(Bench {
            engine,
            samples,
            n,
            split: split(n, sizes, options.seed),
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
            is_labelled: self.judge.has_labels,
            is_random: false,
            n_classes: self.judge.n_classes,
            dropped_sizes: self.split.dropped.clone(),
        }
    }

    /// A step begins; ends the call if the caller wants no more.
    pub(crate) fn step(&self, what: &str) -> Result<()> {
        self.progress.step(what);
        if self.progress.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
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
        let missing = || Output {
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

    /// Trains probes on the features of a model with this `fill`, with each number of labels; takes
    /// one among the `best` where it gets more of the labels right that others predict.
    ///
    /// With the fewest labels every layer is tried; with more of them the last one, and the one that was best before.
    fn probe(
        &self,
        features: &[(String, Features)],
        (fill, reestimated): (Fill, bool),
        best: &mut Vec<Probed>,
    ) -> Result<()> {
        let Some(labels) = &self.judge.labels else {
            return Ok(());
        };
        let mut before = None;
        for &n_labels in &self.split.sizes {
            let known = &self.split.attacker[..n_labels.min(self.split.attacker.len())];
            let mut chosen: Option<(usize, Probe)> = None;
            for (i, (_, features)) in features.iter().enumerate() {
                if i > 0 && before.is_some_and(|before| before != i) {
                    continue;
                }
                let probe = features.probe(known, labels, &HEADS)?;
                let is_better = |(_, best): &(usize, Probe)| probe.n_right > best.n_right;
                if chosen.as_ref().is_none_or(is_better) {
                    chosen = Some((i, probe));
                }
            }
            let Some((i, probe)) = chosen else { continue };
            before = before.or(Some(i));
            let earlier = best.iter().position(|best| best.n_labels == n_labels);
            let Some((layer, features)) = features.get(i) else {
                continue;
            };
            if earlier.is_some_and(|at| best[at].n_right >= probe.n_right) {
                continue;
            }
            let classes = features.classes(&probe, &self.split.evaluation);
            let probed = Probed {
                n_labels,
                n_right: probe.n_right,
                fill,
                reestimated,
                layer: layer.clone(),
                head: probe.head,
                measure: self.judge.rate(&classes, &self.split.evaluation),
            };
            match earlier {
                Some(at) => best[at] = probed,
                None => best.push(probed),
            }
        }
        Ok(())
    }

    /// Measures a filled model, and the same with statistics of `layers` estimated anew, if there
    /// are any; `probes` on both are added where they are the best for this `fill` and others.
    pub(crate) fn tried(
        &self,
        files: &Files,
        layers: &[Layer],
        fill: Fill,
        mut probes: Option<&mut Vec<Probed>>,
        name: &str,
    ) -> Result<(Attempt<Measure>, Option<Attempt<Measure>>)> {
        let mut tried = |files: &Files, reestimated, rows: &[usize]| {
            let ran = attempt(self.run(files, probes.is_some(), name))?;
            if let (Ok(ran), Some(best)) = (&ran, probes.as_deref_mut()) {
                self.probe(&ran.features, (fill, reestimated), best)?;
            }
            self.judged(ran, rows)
        };
        let plain = tried(files, false, &self.rows)?;
        if layers.is_empty() {
            return Ok((plain, None));
        }
        let known = &self.split.attacker;
        let estimated = normal::estimate(&self.engine, files, layers, &self.samples, known);
        let again = match attempt(estimated)? {
            // The attacker's samples have been used.
            Ok(files) => tried(&files, true, &self.split.evaluation)?,
            Err(reason) => Err(reason),
        };
        Ok((plain, Some(again)))
    }

    /// Measures what a run gave for the samples `rows`.
    pub(crate) fn judged(&self, ran: Attempt<Ran>, rows: &[usize]) -> Result<Attempt<Measure>> {
        let measured = match ran {
            Err(reason) => return Ok(Err(reason)),
            Ok(ran) if rows.len() == self.n => self.judge.measure(&ran.answers, rows),
            Ok(ran) => self.judge.measure(&ran.answers.picked(rows), rows),
        };
        measured.map(Ok)
    }

    /// The scores of an attacker without any model.
    pub(crate) fn floors(&self, has_probes: bool) -> Result<Vec<Floor>> {
        let mut floors = vec![Floor {
            kind: FloorKind::Constant,
            n_labels: None,
            measure: self.judge.constant(&self.rows)?,
        }];
        if has_probes {
            self.step("floor: probe on the inputs")?;
            let raw = [("inputs".to_owned(), Features::of(&self.raw()))];
            let mut probes = Vec::new();
            self.probe(&raw, (Fill::Random, false), &mut probes)?;
            floors.extend(probes.into_iter().map(|probed| Floor {
                kind: FloorKind::RawProbe,
                n_labels: Some(probed.n_labels),
                measure: probed.measure,
            }));
        }
        Ok(floors)
    }

    /// The public model `base`, matched to `subject`.
    ///
    /// # Errors
    /// As [`Base::of`], and as [`Bench::run`].
    pub(crate) fn base(
        &self,
        subject: &Subject,
        everything: &Hidden,
        public: &Subject,
    ) -> Result<Base> {
        let mut base = Base::of(everything, public)?;
        let alone = variant(subject.files(), everything, Instead::Base(&base), 0).files;
        base.is_same = alone == *subject.files();
        let (model, known) = (subject.located()?, &self.split.attacker);
        base.convolutions =
            normal::convolutions(&model, &self.engine, &alone, &self.samples, known)?;
        Ok(base)
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
    let missing = || Output {
        output: String::new(),
        reason: "is missing".into(),
    };
    Ok((index, table.ok_or_else(missing)?))
}
