//! Runs the attacks on one attacker's view: variants of the model, each run once.

use crate::assessment::{Attack, AttackRow, Fill, Floor, FloorKind, Measure, Verdict};
use crate::attack::base::Base;
use crate::attack::normal::{self, Layer};
use crate::attack::probe::{Features, HEADS, Probe};
use crate::attack::{Instead, variant};
use crate::bench::{Bench, Ran};
use crate::error::{Attempt, Result};
use crate::subject::located;
use crate::views::AttackerView;

/// The seeds of random fills; the worst result counts.
const N_SEEDS: u64 = 3;

/// Fills for tensors that are encrypted in part.
const FILLS: [Fill; 4] = [
    Fill::Zero,
    Fill::ChannelMean,
    Fill::RowMean,
    Fill::ChannelGaussian,
];

/// Fills if all tensors are encrypted whole, since no visible element tells anything about them.
const FILLS_OF_WHOLE: [Fill; 2] = [Fill::Zero, Fill::Random];

/// Fills whose features a probe is trained on: one of each kind, as training takes longer than
/// runs.
const OF_PROBES: [Fill; 5] = [
    Fill::Zero,
    Fill::ChannelMean,
    Fill::ChannelGaussian,
    Fill::Random,
    Fill::PublicBase,
];

/// The attacker's resources besides a candidate.
pub(crate) struct Attacker<'t> {
    pub(crate) bench: &'t Bench<'t>,
    /// The public base, if there is one.
    pub(crate) base: Option<&'t Base>,
}

/// The result of each attack, not judged yet.
#[derive(Clone)]
pub(crate) struct Tried {
    pub(crate) attacks: Vec<AttackRow>,
    pub(crate) notes: Vec<String>,
}

/// The best probe with `n_labels` labels, and how many of these cross-validation gets right.
struct Probed {
    n_labels: usize,
    n_right: usize,
    row: AttackRow,
}

/// One variant of the model to run.
struct Trial<'t> {
    fill: Fill,
    /// Added to the seed of the assessment.
    seed: u64,
    instead: Instead<'t>,
    /// Convolutions of the base, whose statistics can be matched.
    convolutions: &'t [Layer],
    /// Whether its answers count, and not only its features.
    is_attack: bool,
    is_probed: bool,
}

impl Tried {
    /// Turns these attacks into floors, if everything is hidden.
    pub(crate) fn floors(&self) -> Vec<Floor> {
        let mut floors: Vec<Floor> = Vec::new();
        for row in &self.attacks {
            let (kind, n_labels) = match (row.attack, row.attack.has_base()) {
                (Attack::AsItIs, _) => continue,
                (Attack::Fill { .. }, false) => (FloorKind::FullRandom, None),
                (Attack::Fill { .. }, true) => (FloorKind::Base, None),
                (Attack::Probe { n_labels, .. }, false) => (FloorKind::FullProbe, Some(n_labels)),
                (Attack::Probe { n_labels, .. }, true) => (FloorKind::BaseProbe, Some(n_labels)),
            };
            let Some(measure) = row.measure.clone() else {
                continue;
            };
            let is_same = |floor: &&mut Floor| floor.kind == kind && floor.n_labels == n_labels;
            match floors.iter_mut().find(is_same) {
                Some(floor) if floor.measure.value >= measure.value => {}
                Some(floor) => floor.measure = measure,
                None => floors.push(Floor {
                    kind,
                    n_labels,
                    measure,
                }),
            }
        }
        floors
    }
}

impl Attacker<'_> {
    /// Computes what an attacker gets without any model.
    pub(crate) fn floors(&self) -> Result<Vec<Floor>> {
        let bench = self.bench;
        let mut floors = vec![Floor {
            kind: FloorKind::Constant,
            n_labels: None,
            measure: bench.judge.constant(&bench.rows)?,
        }];
        if bench.has_probes() {
            bench.step("floor: probe on the inputs")?;
            let raw = [("inputs".to_owned(), Features::of(bench.raw()))];
            let mut probes = Vec::new();
            self.probe(&raw, (Fill::Random, false), &mut probes)?;
            floors.extend(probes.into_iter().filter_map(|probed| {
                Some(Floor {
                    kind: FloorKind::RawProbe,
                    n_labels: Some(probed.n_labels),
                    measure: probed.row.measure?,
                })
            }));
        }
        Ok(floors)
    }

    /// Tries every attack on `view`.
    pub(crate) fn tries(&self, view: &AttackerView) -> Result<Tried> {
        let (name, hidden) = (&view.name, &view.hidden);
        let (bench, model) = (self.bench, located(name, &view.clear.model)?);
        let (mut attacks, mut notes, mut probes) = (Vec::new(), Vec::new(), Vec::new());
        if hidden.encrypted_bytes() == 0 {
            notes.push("nothing is encrypted".to_owned());
        }
        bench.step(&format!("{name}: as it is"))?;
        let ciphertext =
            || variant(&view.clear, hidden, Instead::Ciphertext, bench.options.seed).files;
        let as_it_is = view.files.clone().unwrap_or_else(ciphertext);
        let ran = bench.run(&as_it_is, false, name)?;
        self.add(&mut attacks, Attack::AsItIs, ran, &bench.rows)?;
        for trial in self.trials(view) {
            bench.step(&format!("{name}: {}", name_of(trial.fill)))?;
            let layers = normal::layers(&model, hidden, trial.convolutions);
            notes.extend(self.try_one(view, &trial, &layers, &mut attacks, &mut probes)?);
        }
        // Probes without the public base first.
        probes.sort_by_key(|probed| probed.row.attack.has_base());
        attacks.extend(probes.into_iter().map(|probed| probed.row));
        // One seed makes no range.
        let alone = attacks.iter_mut().filter(|row| row.seeds.len() < 2);
        alone.for_each(|row| row.seeds.clear());
        notes.sort();
        notes.dedup();
        Ok(Tried { attacks, notes })
    }

    /// Lists the fills of `view`, with each seed.
    fn trials(&self, view: &AttackerView) -> Vec<Trial<'_>> {
        let has_probes = self.bench.has_probes();
        let is_partial =
            (view.hidden.tensors.iter()).any(|tensor| tensor.n_hidden() > 0 && !tensor.is_whole());
        let fills = if is_partial {
            &FILLS[..]
        } else {
            &FILLS_OF_WHOLE
        };
        let of_base = self.base.map(|_| Fill::PublicBase);
        // With visible weights, random ones are no attack of their own, but probes use their
        // features.
        let only_probed = (has_probes && is_partial).then_some(Fill::Random);
        let fills = fills.iter().copied().chain(of_base).chain(only_probed);
        let trials = fills.flat_map(|fill| {
            let is_attack = only_probed != Some(fill);
            let n_seeds = match fill {
                Fill::ChannelGaussian | Fill::Random if is_attack => N_SEEDS,
                _ => 1,
            };
            let (instead, convolutions) = match self.base.filter(|_| fill == Fill::PublicBase) {
                // With nothing in clear, the convolutions come from the base.
                Some(base) if view.is_everything => (Instead::Base(base), &[][..]),
                Some(base) => (Instead::Base(base), &base.convolutions[..]),
                None => (Instead::Fill(fill), &[][..]),
            };
            (0..n_seeds).map(move |seed| Trial {
                fill,
                seed,
                instead,
                convolutions,
                is_attack,
                is_probed: has_probes && seed == 0 && OF_PROBES.contains(&fill),
            })
        });
        trials.collect()
    }

    /// Runs the model of one trial, then with statistics estimated anew if it stores some. Among
    /// equally good probes the first counts, the one without estimates. Returns notes.
    fn try_one(
        &self,
        view: &AttackerView,
        trial: &Trial<'_>,
        layers: &[Layer],
        attacks: &mut Vec<AttackRow>,
        probes: &mut Vec<Probed>,
    ) -> Result<Vec<String>> {
        let (bench, fill) = (self.bench, trial.fill);
        let seed = bench.options.seed.wrapping_add(trial.seed);
        let filled = variant(&view.clear, &view.hidden, trial.instead, seed);
        for reestimated in [false, true].into_iter().take(1 + layers.len()) {
            let (files, rows) = match reestimated {
                false => (Ok(filled.files.clone()), &bench.rows),
                // Training used the attacker's samples: measure on the others.
                true => {
                    let files = normal::estimate(&filled.files, layers, bench.unlabelled())?;
                    (files, &bench.split.evaluation)
                }
            };
            let ran = match files {
                Ok(files) => bench.run(&files, trial.is_probed, &view.name)?,
                Err(reason) => Err(reason),
            };
            if let (true, Ok(ran)) = (trial.is_probed, &ran) {
                self.probe(&ran.features, (fill, reestimated), probes)?;
            }
            if trial.is_attack {
                let attack = Attack::Fill { fill, reestimated };
                self.add(attacks, attack, ran, rows)?;
            }
        }
        Ok(filled.notes)
    }

    /// Adds the result of `attack` with one seed for the samples `rows`. The row keeps the best of
    /// several seeds.
    fn add(
        &self,
        attacks: &mut Vec<AttackRow>,
        attack: Attack,
        ran: Attempt<Ran>,
        rows: &[usize],
    ) -> Result<()> {
        let at = attacks.iter().position(|row| row.attack == attack);
        let at = at.unwrap_or_else(|| {
            attacks.push(row(attack));
            attacks.len() - 1
        });
        match ran {
            Ok(ran) => {
                let measure = self.bench.judge.measure(&ran.answers, rows)?;
                attacks[at].seeds.push(measure.value);
                keep(&mut attacks[at].measure, measure);
            }
            Err(reason) => {
                attacks[at].note = Some(format!("ONNX Runtime does not run it: {reason}"));
            }
        }
        Ok(())
    }

    /// Trains probes on the features of a model with this fill, for each number of labels. A probe
    /// enters `best` if cross-validation gets more labels right.
    ///
    /// With the fewest labels it tries every layer; with more labels, the last layer and the best
    /// one so far.
    fn probe(
        &self,
        features: &[(String, Features)],
        (fill, reestimated): (Fill, bool),
        best: &mut Vec<Probed>,
    ) -> Result<()> {
        let (judge, split) = (&self.bench.judge, &self.bench.split);
        let Some(labels) = &judge.labels else {
            return Ok(());
        };
        let mut before = None;
        for &n_labels in &split.sizes {
            let known = &split.attacker[..n_labels];
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
            let attack = Attack::Probe {
                n_labels,
                fill,
                reestimated,
                head: probe.head,
            };
            let is_rival = |best: &Probed| {
                best.n_labels == n_labels && best.row.attack.has_base() == attack.has_base()
            };
            let earlier = best.iter().position(is_rival);
            if earlier.is_some_and(|at| best[at].n_right >= probe.n_right) {
                continue;
            }
            let (layer, features) = &features[i];
            let classes = features.classes(&probe, &split.evaluation);
            let note = "the labels are the original's answers";
            let probed = Probed {
                n_labels,
                n_right: probe.n_right,
                row: AttackRow {
                    layer: Some(layer.clone()),
                    measure: Some(judge.rate(&classes, &split.evaluation)),
                    note: (!judge.has_labels).then(|| note.to_owned()),
                    ..row(attack)
                },
            };
            match earlier {
                Some(at) => best[at] = probed,
                None => best.push(probed),
            }
        }
        Ok(())
    }
}

/// Keeps the larger measure.
pub(crate) fn keep(best: &mut Option<Measure>, measure: Measure) {
    if best.as_ref().is_none_or(|best| measure.value > best.value) {
        *best = Some(measure);
    }
}

/// Makes a row without measurement or verdict.
fn row(attack: Attack) -> AttackRow {
    let name = match attack {
        Attack::AsItIs => "as it is".to_owned(),
        Attack::Fill { fill, reestimated } => {
            let of_fill = if attack.has_base() { "" } else { " fill" };
            let anew = if reestimated {
                ", statistics estimated anew"
            } else {
                ""
            };
            format!("{}{of_fill}{anew}", name_of(fill))
        }
        Attack::Probe { n_labels, .. } => {
            let on_base = if attack.has_base() {
                " on the public base"
            } else {
                ""
            };
            format!("probe{on_base} with {n_labels} labels")
        }
    };
    AttackRow {
        attack,
        name,
        layer: None,
        measure: None,
        seeds: Vec::new(),
        floor: 0.0,
        floor_kind: FloorKind::Constant,
        verdict: Verdict::holds(),
        note: None,
    }
}

/// Returns a fill's name for people.
fn name_of(fill: Fill) -> &'static str {
    match fill {
        Fill::Zero => "zero",
        Fill::ChannelMean => "channel mean",
        Fill::RowMean => "row mean",
        Fill::ChannelGaussian => "channel Gaussian",
        Fill::Random => "random",
        Fill::PublicBase => "public base",
    }
}
