//! Runs the attacks on one attacker's view: variants of the model, each run once.

use std::cmp::Reverse;

use onnxseal_onnx::Model;

use crate::assessment::{Attack, AttackRow, Fill, Floor, FloorKind, Measure, Verdict};
use crate::attack::base::Base;
use crate::attack::normal;
use crate::attack::probe::{Features, HEADS, Probe};
use crate::attack::{ciphertext, filled};
use crate::bench::{Bench, Ran};
use crate::error::{Attempt, Result, attempt};
use crate::subject::located;
use crate::views::AttackerView;

/// The seeds of random fills; the worst result counts.
const N_SEEDS: u64 = 3;

/// The attacker's resources besides a candidate.
pub(crate) struct Attacker<'t> {
    pub(crate) bench: &'t Bench<'t>,
    /// The public base, if there is one.
    pub(crate) base: Option<&'t Base>,
}

/// A probe, and how many of its labels cross-validation gets right.
type Probed = (usize, AttackRow);

/// Turns attacks on a model of which everything is hidden into floors.
pub(crate) fn floors_of(attacks: &[AttackRow]) -> Vec<Floor> {
    let mut floors: Vec<Floor> = Vec::new();
    for row in attacks {
        let n_labels = n_labels(row.attack);
        let kind = match (row.attack, row.attack.has_base()) {
            (Attack::AsItIs, _) => continue,
            (Attack::Fill { .. }, false) => FloorKind::FullRandom,
            (Attack::Fill { .. }, true) => FloorKind::Base,
            (Attack::Probe { .. }, false) => FloorKind::FullProbe,
            (Attack::Probe { .. }, true) => FloorKind::BaseProbe,
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
            let probes = self.probes(&raw, (Fill::Random, false))?.into_iter();
            floors.extend(probes.filter_map(|(_, row)| {
                Some(Floor {
                    kind: FloorKind::RawProbe,
                    n_labels: n_labels(row.attack),
                    measure: row.measure?,
                })
            }));
        }
        Ok(floors)
    }

    /// Tries every attack on `view`. The attacks are not judged yet.
    pub(crate) fn tries(&self, view: &AttackerView) -> Result<Vec<AttackRow>> {
        let (bench, name) = (self.bench, &view.name);
        let model = located(name, &view.clear.model)?;
        bench.step(&format!("{name}: as it is"))?;
        let ciphertext = || ciphertext(&view.clear, &view.hidden, bench.options.seed);
        let as_it_is = view.files.clone().unwrap_or_else(ciphertext);
        let mut as_it_is_row = row(Attack::AsItIs);
        let ran = attempt(bench.run(&as_it_is, false, name))?;
        self.add(&mut as_it_is_row, ran, &bench.rows)?;
        let (mut attacks, mut probes) = (vec![as_it_is_row], Vec::new());
        for (fill, is_attack) in self.fills(view) {
            let rows = self.try_fill(view, &model, (fill, is_attack), &mut probes)?;
            attacks.extend(rows.into_iter().filter(|_| is_attack));
        }
        // The best probe with each number of labels, the first among equals; those without the
        // public base first.
        let kind = |row: &AttackRow| (row.attack.has_base(), n_labels(row.attack));
        probes.sort_by_key(|(n_right, row)| (kind(row), Reverse(*n_right)));
        probes.dedup_by_key(|(_, row)| kind(row));
        attacks.extend(probes.into_iter().map(|(_, row)| row));
        // One seed makes no range.
        let alone = attacks.iter_mut().filter(|row| row.seeds.len() < 2);
        alone.for_each(|row| row.seeds.clear());
        Ok(attacks)
    }

    /// Lists the fills of `view`, each with whether its answers count, and not only its features.
    fn fills(&self, view: &AttackerView) -> Vec<(Fill, bool)> {
        use Fill::{ChannelGaussian, ChannelMean, PublicBase, Random, RowMean, Zero};
        let mut hidden = view.hidden.tensors.iter();
        let is_partial = hidden.any(|tensor| tensor.n_hidden() > 0 && !tensor.is_whole());
        let fills = if is_partial {
            &[Zero, ChannelMean, RowMean, ChannelGaussian][..]
        } else {
            // No visible element tells anything about these.
            &[Zero, Random]
        };
        let of_base = self.base.map(|_| PublicBase);
        // With visible weights, random ones are no attack of their own, but probes use their
        // features.
        let only_probed = is_partial && self.bench.has_probes();
        let attacks = fills.iter().copied().chain(of_base);
        let attacks = attacks.map(|fill| (fill, true));
        (attacks.chain(only_probed.then_some((Random, false)))).collect()
    }

    /// Runs the model with a fill, then with statistics estimated anew if it stores some. Adds the
    /// probes on their features to `probes`.
    fn try_fill(
        &self,
        view: &AttackerView,
        model: &Model<'_>,
        (fill, is_attack): (Fill, bool),
        probes: &mut Vec<Probed>,
    ) -> Result<Vec<AttackRow>> {
        let (bench, hidden, seed) = (self.bench, &view.hidden, self.bench.options.seed);
        let base = self.base.filter(|_| fill == Fill::PublicBase);
        // With nothing in clear, the convolutions come from the base as they are.
        let matched = base.filter(|_| !view.is_everything);
        let convolutions = matched.map_or(&[][..], |base| &base.convolutions);
        let layers = normal::layers(model, hidden, convolutions);
        let n_seeds = match fill {
            Fill::ChannelGaussian | Fill::Random if is_attack => N_SEEDS,
            _ => 1,
        };
        // Training takes longer than runs, and means of rows are like those of channels.
        let is_probed = bench.has_probes() && fill != Fill::RowMean;
        let mut attacks = Vec::new();
        for reestimated in [false, true].into_iter().take(1 + layers.len()) {
            let mut row = row(Attack::Fill { fill, reestimated });
            for i in 0..n_seeds {
                bench.step(&format!("{}: {}", view.name, name_of(fill)))?;
                let filled = filled(&view.clear, hidden, fill, base, seed.wrapping_add(i));
                let (files, rows) = if reestimated {
                    // Estimates used the attacker's samples: measure on the others.
                    let files = normal::estimate(&filled, &layers, bench);
                    (files, &bench.split.evaluation)
                } else {
                    (Ok(filled), &bench.rows)
                };
                let is_probed = is_probed && i == 0;
                let ran = files.and_then(|files| bench.run(&files, is_probed, &view.name));
                let ran = attempt(ran)?;
                if let (true, Ok(ran)) = (is_probed, &ran) {
                    probes.extend(self.probes(&ran.features, (fill, reestimated))?);
                }
                self.add(&mut row, ran, rows)?;
            }
            attacks.push(row);
        }
        Ok(attacks)
    }

    /// Adds the result with one seed on the samples `rows`. The attack keeps the best of several
    /// seeds.
    fn add(&self, attack: &mut AttackRow, ran: Attempt<Ran>, rows: &[usize]) -> Result<()> {
        match ran {
            Ok(ran) => {
                let measure = self.bench.judge.measure(&ran.answers, rows)?;
                attack.seeds.push(measure.value);
                keep(&mut attack.measure, measure);
            }
            Err(reason) => attack.note = Some(format!("ONNX Runtime does not run it: {reason}")),
        }
        Ok(())
    }

    /// Trains probes on the features of a model with this fill: for each number of labels the one
    /// of which cross-validation gets most labels right, the first among equals.
    ///
    /// With the fewest labels it tries every layer; with more labels, the last layer and the best
    /// one so far.
    fn probes(
        &self,
        features: &[(String, Features)],
        (fill, reestimated): (Fill, bool),
    ) -> Result<Vec<Probed>> {
        let (judge, split) = (&self.bench.judge, &self.bench.split);
        let Some(labels) = &judge.labels else {
            return Ok(Vec::new());
        };
        let (mut found, mut best) = (Vec::new(), None);
        for &n_labels in &split.sizes {
            let known = &split.attacker[..n_labels];
            let is_tried = |i: &usize| *i == 0 || best.is_none_or(|best| best == *i);
            let probe = |i: usize| Ok((i, features[i].1.probe(known, labels, &HEADS)?));
            let probes = (0..features.len()).filter(is_tried).map(probe);
            let probes: Vec<(usize, Probe)> = probes.collect::<Result<_>>()?;
            let first_best = (probes.into_iter().rev()).max_by_key(|(_, probe)| probe.n_right);
            let Some((i, probe)) = first_best else {
                continue;
            };
            best = best.or(Some(i));
            let attack = Attack::Probe {
                n_labels,
                fill,
                reestimated,
                head: probe.head,
            };
            let (layer, features) = &features[i];
            let classes = features.classes(&probe, &split.evaluation);
            let note = "the labels are the original's answers";
            let attack = AttackRow {
                layer: Some(layer.clone()),
                measure: Some(judge.rate(&classes, &split.evaluation)),
                note: (!judge.has_labels).then(|| note.to_owned()),
                ..row(attack)
            };
            found.push((probe.n_right, attack));
        }
        Ok(found)
    }
}

/// Returns the number of labels of an attack, if it uses labels.
pub(crate) fn n_labels(attack: Attack) -> Option<usize> {
    match attack {
        Attack::Probe { n_labels, .. } => Some(n_labels),
        _ => None,
    }
}

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
