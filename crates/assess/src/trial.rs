//! One candidate under attack.

use onnxseal_engine::Files;

use crate::assessment::{Attack, AttackRow, Candidate, Fill, Floor, FloorKind, Measure, Verdict};
use crate::attack::base::Base;
use crate::attack::{Instead, normal, variant};
use crate::bench::{Bench, Judged, N_SEEDS, Probed, keep};
use crate::error::Result;
use crate::hidden::Hidden;
use crate::options::Options;
use crate::stats::verdict;
use crate::subject::Subject;

/// Fills that are tried where tensors are encrypted in part.
const FILLS: [Fill; 6] = [
    Fill::Zero,
    Fill::ChannelMean,
    Fill::RowMean,
    Fill::ChannelGaussian,
    Fill::Neighbours,
    Fill::LowRank,
];

/// Fills that are tried where all tensors are encrypted whole: nothing visible says anything about them.
const FILLS_OF_WHOLE: [Fill; 2] = [Fill::Zero, Fill::Random];

/// Fills whose features a probe is trained on.
const OF_PROBES: [Fill; 5] = [
    Fill::Zero,
    Fill::ChannelMean,
    Fill::ChannelGaussian,
    Fill::Random,
    Fill::PublicBase,
];

/// One candidate under attack.
#[derive(Clone, Copy)]
pub(crate) struct Trial<'t> {
    pub(crate) bench: &'t Bench<'t>,
    pub(crate) subject: &'t Subject,
    pub(crate) hidden: &'t Hidden,
    pub(crate) floors: &'t [Floor],
    /// The public base, where there is one.
    pub(crate) base: Option<&'t Base>,
    /// Whether all was tried that a candidate with weights in clear must hold against.
    pub(crate) is_thorough: bool,
    pub(crate) options: &'t Options<'t>,
    /// Whether probes can be trained.
    pub(crate) has_probes: bool,
    pub(crate) name: &'t str,
    /// What is run as it is; random bytes stand for ciphertext if absent.
    pub(crate) as_it_is: Option<&'t Files>,
    /// The tier of which the attacker has the key, and the value of the next higher one's edition.
    pub(crate) tier: Option<(&'t str, f64)>,
}

/// The scores of attacks, before anything compares them.
#[derive(Clone)]
pub(crate) struct Tried {
    attacks: Vec<AttackRow>,
    notes: Vec<String>,
}

impl Tried {
    /// The floors that these attacks are, where all that can be encrypted is.
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
            let Some(measure) = &row.measure else {
                continue;
            };
            let is_same = |floor: &&mut Floor| floor.kind == kind && floor.n_labels == n_labels;
            match floors.iter_mut().find(is_same) {
                Some(floor) if floor.measure.value >= measure.value => {}
                Some(floor) => floor.measure = measure.clone(),
                None => floors.push(Floor {
                    kind,
                    n_labels,
                    measure: measure.clone(),
                }),
            }
        }
        floors
    }
}

impl Trial<'_> {
    /// Tries every attack.
    ///
    /// # Errors
    /// As [`assess`](crate::assess()).
    pub(crate) fn run(&self) -> Result<Tried> {
        let (bench, hidden) = (self.bench, self.hidden);
        let mut notes = Vec::new();
        let mut attacks = Vec::new();
        let model = self.subject.located()?;
        let norms = normal::layers(&model, hidden, &[]);
        let is_partial = hidden
            .tensors
            .iter()
            .any(|tensor| tensor.n_hidden() > 0 && !tensor.is_whole());
        let mut fills: Vec<Fill> = if is_partial {
            FILLS.to_vec()
        } else {
            FILLS_OF_WHOLE.to_vec()
        };
        fills.extend(self.base.map(|_| Fill::PublicBase));
        if hidden.encrypted_bytes() == 0 {
            notes.push("nothing is encrypted".to_owned());
        }

        bench.step(&format!("{}: as it is", self.name))?;
        let ran = match self.as_it_is {
            Some(files) => bench.ran(files, false, self.name)?,
            None => {
                let (files, seed) = (self.subject.files(), self.options.seed);
                let changed = variant(files, hidden, Instead::Ciphertext, seed);
                bench.ran(&changed.files, false, self.name)?
            }
        };
        let as_it_is = bench.judged(ran, &bench.rows)?;
        attacks.push(fill_row(Attack::AsItIs, "as it is", [as_it_is]));

        // By those without the public base, and those that have it.
        let (mut probes, mut base_probes) = (Vec::new(), Vec::new());
        // A probe also looks at features of random weights, which are no attack of their own where others are visible.
        let only_probed = [Fill::Random];
        let only_probed = only_probed
            .iter()
            .filter(|fill| self.has_probes && !fills.contains(fill));
        for fill in fills.iter().chain(only_probed) {
            let is_attack = fills.contains(fill);
            let n_seeds = match fill {
                Fill::ChannelGaussian | Fill::Random if is_attack => N_SEEDS,
                _ => 1,
            };
            let (instead, layers, best) = match (fill, self.base) {
                (Fill::PublicBase, Some(base)) => {
                    // With nothing in clear, convolutions are the base's own.
                    let convolutions = if hidden.is_everything() {
                        &[][..]
                    } else {
                        &base.convolutions
                    };
                    let layers = normal::layers(&model, hidden, convolutions);
                    (Instead::Base(base), layers, &mut base_probes)
                }
                _ => (Instead::Fill(*fill), norms.clone(), &mut probes),
            };
            let (mut plain, mut reestimated) = (Vec::new(), Vec::new());
            for i in 0..n_seeds {
                bench.step(&format!("{}: {}", self.name, name_of(*fill)))?;
                let probed = self.has_probes && i == 0 && OF_PROBES.contains(fill);
                let seed = self.options.seed.wrapping_add(i);
                let filled = variant(self.subject.files(), hidden, instead, seed);
                notes.extend(filled.notes);
                let best = probed.then_some(&mut *best);
                let (judged, again) =
                    bench.tried(&filled.files, &layers, *fill, best, self.name)?;
                plain.push(judged);
                reestimated.extend(again);
            }
            if !is_attack {
                continue;
            }
            let name = match fill {
                Fill::PublicBase => name_of(*fill).to_owned(),
                _ => format!("{} fill", name_of(*fill)),
            };
            let again = format!("{name}, statistics estimated anew");
            let rows = [(name, false, plain), (again, true, reestimated)];
            for (name, reestimated, judged) in rows.into_iter().filter(|row| !row.2.is_empty()) {
                let attack = Attack::Fill {
                    fill: *fill,
                    reestimated,
                };
                attacks.push(fill_row(attack, &name, judged));
            }
        }
        for probed in probes.into_iter().chain(base_probes) {
            attacks.push(probe_row(probed, bench.judge.has_labels()));
        }
        notes.sort();
        notes.dedup();
        Ok(Tried { attacks, notes })
    }

    /// The highest of the floors that apply to an attack.
    fn floor(&self, attack: Attack) -> (f64, FloorKind) {
        let n_labels = match attack {
            Attack::Probe { n_labels, .. } => Some(n_labels),
            _ => None,
        };
        let applies = |floor: &&Floor| {
            let has_base = matches!(floor.kind, FloorKind::Base | FloorKind::BaseProbe);
            // Whoever has a tier's edition is not held against those who have no key, but for what
            // the base gives them.
            (attack.has_base() || !has_base)
                && (has_base || self.tier.is_none())
                && (floor.n_labels.is_none() || floor.n_labels == n_labels)
        };
        let next_tier = self.tier.map(|(_, next)| {
            let below = next - 2.0 * self.bench.margin;
            (below, FloorKind::NextTier)
        });
        let floors = self.floors.iter().filter(applies);
        let floors = floors.map(|floor| (floor.measure.value, floor.kind));
        let highest = floors.chain(next_tier).max_by(|a, b| a.0.total_cmp(&b.0));
        highest.unwrap_or((0.0, FloorKind::Constant))
    }

    fn verdict(&self, measure: &Measure, floor: f64) -> Verdict {
        if self.hidden.is_everything() && measure.value <= floor {
            // Nothing is in clear: the attack is one of those that the floor is made of, and not
            // above it by chance.
            return Verdict::Holds;
        }
        let is_rate = self.bench.judge.is_rate();
        verdict(
            measure.value,
            measure.interval,
            measure.n_samples,
            is_rate,
            floor,
            self.bench.margin,
        )
    }

    /// Holds what was tried against the floors.
    pub(crate) fn candidate(&self, tried: Tried) -> Candidate {
        let Tried { mut attacks, notes } = tried;
        for row in &mut attacks {
            (row.floor, row.floor_kind) = self.floor(row.attack);
            // Whoever cannot run it gets nothing from it.
            let measure = row.measure.as_ref();
            row.verdict = measure.map_or(Verdict::Holds, |got| self.verdict(got, row.floor));
        }
        let value = |row: &AttackRow| {
            row.measure
                .as_ref()
                .map_or(f64::NEG_INFINITY, |measure| measure.value)
        };
        let worst = attacks.iter().enumerate().max_by(|(_, a), (_, b)| {
            let above = |row: &AttackRow| value(row) - row.floor;
            (a.verdict.rank().cmp(&b.verdict.rank())).then(above(a).total_cmp(&above(b)))
        });
        let is_fill =
            |row: &AttackRow| matches!(row.attack, Attack::Fill { .. }) && row.measure.is_some();
        let fills = attacks.iter().enumerate().filter(|(_, row)| is_fill(row));
        let best_fill = fills.max_by(|(_, a), (_, b)| value(a).total_cmp(&value(b)));
        let (worst, best_fill) = (worst.map(|(i, _)| i), best_fill.map(|(i, _)| i));
        let (weight_bytes, encrypted_bytes) =
            (self.hidden.weight_bytes, self.hidden.encrypted_bytes());
        let verdict = worst.and_then(|i| attacks.get(i));
        let verdict = match verdict.map_or(Verdict::Holds, |row| row.verdict) {
            Verdict::Holds if !self.is_thorough && !self.hidden.is_everything() => {
                Verdict::NotBroken
            }
            verdict => verdict,
        };
        Candidate {
            name: self.name.to_owned(),
            tier: self.tier.map(|(tier, _)| tier.to_owned()),
            weight_bytes,
            encrypted_bytes,
            share: encrypted_bytes as f64 / weight_bytes.max(1) as f64,
            opening: None,
            verdict,
            attacks,
            worst,
            best_fill,
            operators: self.hidden.rows(),
            notes,
        }
    }
}

/// The row of an attack without labels: of several seeds, the one that gets most.
fn fill_row(attack: Attack, name: &str, measured: impl IntoIterator<Item = Judged>) -> AttackRow {
    let (mut best, mut seeds, mut note) = (None, Vec::new(), None);
    for judged in measured {
        match judged {
            Ok(measure) => {
                seeds.push(measure.value);
                keep(&mut best, measure);
            }
            Err(reason) => note = Some(format!("ONNX Runtime does not run it: {reason}")),
        }
    }
    if seeds.len() < 2 {
        seeds.clear();
    }
    row(attack, name.to_owned(), best, seeds, note)
}

fn probe_row(probed: Probed, has_labels: bool) -> AttackRow {
    let attack = Attack::Probe {
        n_labels: probed.n_labels,
        fill: probed.fill,
        reestimated: probed.reestimated,
        head: probed.head,
    };
    let on_base = if attack.has_base() {
        " on the public base"
    } else {
        ""
    };
    let name = format!("probe{on_base} with {} labels", probed.n_labels);
    let note = (!has_labels).then(|| "the labels are the original's answers".to_owned());
    AttackRow {
        layer: Some(probed.layer),
        ..row(attack, name, Some(probed.measure), Vec::new(), note)
    }
}

/// A row that is held against nothing yet.
fn row(
    attack: Attack,
    name: String,
    measure: Option<Measure>,
    seeds: Vec<f64>,
    note: Option<String>,
) -> AttackRow {
    AttackRow {
        attack,
        name,
        layer: None,
        measure,
        seeds,
        floor: 0.0,
        floor_kind: FloorKind::Constant,
        verdict: Verdict::Holds,
        note,
    }
}

/// A fill's name for people.
fn name_of(fill: Fill) -> &'static str {
    match fill {
        Fill::Zero => "zero",
        Fill::ChannelMean => "channel mean",
        Fill::RowMean => "row mean",
        Fill::ChannelGaussian => "channel Gaussian",
        Fill::Neighbours => "neighbours",
        Fill::LowRank => "low rank",
        Fill::Random => "random",
        Fill::PublicBase => "public base",
    }
}
