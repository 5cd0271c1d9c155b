//! One candidate under attack.

use crate::assessment::{Attack, AttackRow, Candidate, Fill, Floor, FloorKind, Measure, Verdict};
use crate::attack::base::Base;
use crate::attack::{Instead, normal, variant};
use crate::bench::{Bench, Judged, N_SEEDS, Probed, keep};
use crate::engine::Files;
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
    pub(crate) is_random: bool,
    pub(crate) name: &'t str,
    /// What is run as it is; random bytes stand for ciphertext if absent.
    pub(crate) as_it_is: Option<&'t Files>,
    /// The tier of which the attacker has the key, and the value of the next higher one's edition.
    pub(crate) tier: Option<(&'t str, f64)>,
}

impl Trial<'_> {
    /// Tries every attack.
    ///
    /// # Errors
    /// As [`assess`](crate::assess()).
    pub(crate) fn run(&self) -> Result<Candidate> {
        let (bench, hidden) = (self.bench, self.hidden);
        let mut notes = Vec::new();
        let mut attacks = Vec::new();
        let model = self.subject.located()?;
        let norms = normal::layers(&model, hidden, &[]);
        let is_partial = hidden
            .tensors
            .iter()
            .any(|tensor| tensor.n_hidden() > 0 && !tensor.is_whole());
        let mut fills: Vec<Fill> = match is_partial {
            true => FILLS.to_vec(),
            false => FILLS_OF_WHOLE.to_vec(),
        };
        fills.extend(self.base.map(|_| Fill::PublicBase));
        let has_probes = bench.has_probes() && !self.is_random;
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
        attacks.push(self.fill_row(Attack::AsItIs, "as it is", [as_it_is])?);

        // By those without the public base, and those that have it.
        let (mut probes, mut base_probes) = (Vec::new(), Vec::new());
        // A probe also looks at features of random weights, which are no attack of their own where others are visible.
        let only_probed = [Fill::Random];
        let only_probed = only_probed
            .iter()
            .filter(|fill| has_probes && !fills.contains(fill));
        for fill in fills.iter().chain(only_probed) {
            let is_attack = fills.contains(fill);
            let n_seeds = match fill {
                Fill::ChannelGaussian | Fill::Random if is_attack => N_SEEDS,
                _ => 1,
            };
            let (instead, layers, best) = match (fill, self.base) {
                (Fill::PublicBase, Some(base)) => {
                    let layers = normal::layers(&model, hidden, &base.convolutions);
                    (Instead::Base(base), layers, &mut base_probes)
                }
                _ => (Instead::Fill(*fill), norms.clone(), &mut probes),
            };
            let (mut plain, mut reestimated) = (Vec::new(), Vec::new());
            for i in 0..n_seeds {
                bench.step(&format!("{}: {}", self.name, name_of(*fill)))?;
                let probed = has_probes && i == 0 && OF_PROBES.contains(fill);
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
                attacks.push(self.fill_row(attack, &name, judged)?);
            }
        }
        for probed in probes.into_iter().chain(base_probes) {
            attacks.push(self.probe_row(probed));
        }
        notes.sort();
        notes.dedup();
        Ok(self.candidate(attacks, notes))
    }

    /// The row of an attack without labels: of several seeds, the one that gets most.
    fn fill_row(
        &self,
        attack: Attack,
        name: &str,
        measured: impl IntoIterator<Item = Judged>,
    ) -> Result<AttackRow> {
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
        let (floor, floor_kind) = self.floor(attack);
        let verdict = match &best {
            Some(measure) => self.verdict(measure, floor),
            // Whoever cannot run it gets nothing from it.
            None => Verdict::Holds,
        };
        if seeds.len() < 2 {
            seeds.clear();
        }
        Ok(AttackRow {
            attack,
            name: name.to_owned(),
            layer: None,
            measure: best,
            seeds,
            floor,
            floor_kind,
            verdict,
            note,
        })
    }

    fn probe_row(&self, probed: Probed) -> AttackRow {
        let attack = Attack::Probe {
            n_labels: probed.n_labels,
            fill: probed.fill,
            reestimated: probed.reestimated,
            head: probed.head,
        };
        let (floor, floor_kind) = self.floor(attack);
        let verdict = self.verdict(&probed.measure, floor);
        let note = (!self.bench.judge.has_labels())
            .then(|| "the labels are the original's answers".to_owned());
        let on_base = match attack.has_base() {
            true => " on the public base",
            false => "",
        };
        AttackRow {
            attack,
            layer: Some(probed.layer),
            name: format!("probe{on_base} with {} labels", probed.n_labels),
            measure: Some(probed.measure),
            seeds: Vec::new(),
            floor,
            floor_kind,
            verdict,
            note,
        }
    }

    /// The highest of the floors that apply to an attack.
    fn floor(&self, attack: Attack) -> (f64, FloorKind) {
        let n_labels = match attack {
            Attack::Probe { n_labels, .. } => Some(n_labels),
            _ => None,
        };
        let applies = |floor: &&Floor| {
            let has_base = matches!(floor.kind, FloorKind::Base | FloorKind::BaseProbe);
            // Whoever has a tier's edition is not held against those who have no key, but for what the base gives them.
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

    fn candidate(&self, attacks: Vec<AttackRow>, notes: Vec<String>) -> Candidate {
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
