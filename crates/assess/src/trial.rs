//! One candidate under attack.

use crate::assessment::{Attack, AttackRow, Candidate, Fill, Floor, FloorKind, Measure, Verdict};
use crate::attack::base::Base;
use crate::attack::{Instead, normal, variant};
use crate::bench::{Bench, N_SEEDS, Probed, Ran, keep};
use crate::engine::Files;
use crate::error::{Error, Result};
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
const OF_PROBES: [Fill; 4] = [
    Fill::Zero,
    Fill::ChannelMean,
    Fill::ChannelGaussian,
    Fill::Random,
];

/// One candidate under attack.
pub(crate) struct Trial<'t> {
    pub(crate) bench: &'t Bench<'t>,
    pub(crate) subject: &'t Subject,
    pub(crate) hidden: &'t Hidden,
    pub(crate) floors: &'t [Floor],
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
    pub(crate) fn run(&self, base: Option<&Base>) -> Result<Candidate> {
        let (bench, hidden) = (self.bench, self.hidden);
        let mut notes = Vec::new();
        let mut attacks = Vec::new();
        let model = self.subject.located()?;
        let layers = normal::layers(&model, hidden);
        let is_partial = hidden
            .tensors
            .iter()
            .any(|tensor| tensor.n_hidden() > 0 && !tensor.is_whole());
        let fills: &[Fill] = if is_partial { &FILLS } else { &FILLS_OF_WHOLE };
        let has_probes = bench.has_probes() && !self.is_random;
        if hidden.encrypted_bytes() == 0 {
            notes.push("nothing is encrypted".to_owned());
        }

        bench.step(&format!("{}: as it is", self.name))?;
        let as_it_is = match self.as_it_is {
            None => self.measured(Instead::Ciphertext, 0, &mut notes)?,
            Some(files) => self.judged(self.ran(files, false)?, &bench.rows)?,
        };
        let row = self.fill_row(Attack::AsItIs, "as it is", [as_it_is])?;
        attacks.push(row);

        let mut probes: Vec<(Fill, Probed)> = Vec::new();
        let mut probe = |fill: Fill, ran: &Ran| -> Result<()> {
            for found in bench.probes(ran)? {
                match probes
                    .iter_mut()
                    .find(|(_, best)| best.n_labels == found.n_labels)
                {
                    Some((_, best)) if found.measure.value <= best.measure.value => {}
                    Some(best) => *best = (fill, found),
                    None => probes.push((fill, found)),
                }
            }
            Ok(())
        };
        // A probe also looks at features of random weights, which are no attack of their own where others are visible.
        let only_probed = OF_PROBES
            .iter()
            .filter(|fill| has_probes && !fills.contains(fill) && is_partial);
        for fill in fills.iter().chain(only_probed) {
            let is_attack = fills.contains(fill);
            let n_seeds = match fill {
                Fill::ChannelGaussian | Fill::Random if is_attack => N_SEEDS,
                _ => 1,
            };
            let (mut plain, mut reestimated) = (Vec::new(), Vec::new());
            for i in 0..n_seeds {
                bench.step(&format!("{}: {}", self.name, name_of(*fill)))?;
                let probed = has_probes && i == 0 && OF_PROBES.contains(fill);
                let seed = self.options.seed.wrapping_add(i);
                let filled = variant(self.subject.files(), hidden, Instead::Fill(*fill), seed);
                notes.extend(filled.notes);
                let ran = self.ran(&filled.files, probed)?;
                if let (true, Ok(ran)) = (probed, &ran) {
                    probe(*fill, ran)?;
                }
                plain.push(self.judged(ran, &bench.rows)?);
                if !layers.is_empty() {
                    let known = &bench.split.attacker;
                    let estimated = normal::estimate(
                        &bench.engine,
                        &filled.files,
                        &layers,
                        &bench.samples,
                        known,
                    );
                    let ran = match estimated {
                        Ok(files) => self.ran(&files, probed)?,
                        Err(Error::Run { reason, .. }) => Err(reason),
                        Err(error) => return Err(error),
                    };
                    if let (true, Ok(ran)) = (probed, &ran) {
                        probe(*fill, ran)?;
                    }
                    // The attacker's samples have been used.
                    reestimated.push(self.judged(ran, &bench.split.evaluation)?);
                }
            }
            if !is_attack {
                continue;
            }
            let name = format!("{} fill", name_of(*fill));
            attacks.push(self.fill_row(
                Attack::Fill {
                    fill: *fill,
                    reestimated: false,
                },
                &name,
                plain,
            )?);
            if !layers.is_empty() {
                let attack = Attack::Fill {
                    fill: *fill,
                    reestimated: true,
                };
                attacks.push(self.fill_row(
                    attack,
                    &format!("{name}, statistics estimated anew"),
                    reestimated,
                )?);
            }
        }

        for (fill, probed) in probes {
            attacks.push(self.probe_row(fill, probed));
        }
        if let Some(base) = base {
            bench.step(&format!("{}: public base", self.name))?;
            let measured = self.measured(Instead::Base(base, Fill::ChannelMean), 0, &mut notes)?;
            attacks.push(self.fill_row(Attack::PublicBase, "public base", [measured])?);
        }
        notes.sort();
        notes.dedup();
        Ok(self.candidate(attacks, notes))
    }

    /// Runs a variant; the inner error says why ONNX Runtime does not, which is no error of the assessment.
    fn ran(&self, files: &Files, with_features: bool) -> Result<std::result::Result<Ran, String>> {
        match self.bench.run(files, with_features, self.name) {
            Ok(ran) => Ok(Ok(ran)),
            Err(Error::Run { reason, .. } | Error::Output { reason, .. }) => Ok(Err(reason)),
            Err(error) => Err(error),
        }
    }

    /// Measures what a run gave for the samples `rows`.
    fn judged(&self, ran: std::result::Result<Ran, String>, rows: &[usize]) -> Result<Judged> {
        let ran = match ran {
            Ok(ran) => ran,
            Err(reason) => return Ok(Err(reason)),
        };
        if rows.len() == self.bench.n {
            return self
                .bench
                .judge
                .measure(&ran.answers, &self.bench.rows)
                .map(Ok);
        }
        let answers = ran.answers.picked(rows);
        self.bench.judge.measure(&answers, rows).map(Ok)
    }

    fn measured(&self, instead: Instead<'_>, seed: u64, notes: &mut Vec<String>) -> Result<Judged> {
        let seed = self.options.seed.wrapping_add(seed);
        let changed = variant(self.subject.files(), self.hidden, instead, seed);
        notes.extend(changed.notes);
        let ran = self.ran(&changed.files, false)?;
        self.judged(ran, &self.bench.rows)
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
        let kinds: &[FloorKind] = match attack {
            Attack::PublicBase => &[FloorKind::Constant, FloorKind::FullBase],
            _ => &[FloorKind::Constant, FloorKind::FullRandom],
        };
        let (floor, floor_kind) = self.floor(kinds, None);
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

    fn probe_row(&self, fill: Fill, probed: Probed) -> AttackRow {
        let Probed {
            n_labels,
            layer,
            measure,
        } = probed;
        let kinds = [
            FloorKind::Constant,
            FloorKind::RawProbe,
            FloorKind::FullProbe,
        ];
        let (floor, floor_kind) = self.floor(&kinds, Some(n_labels));
        let verdict = self.verdict(&measure, floor);
        let note = (!self.bench.judge.has_labels())
            .then(|| "the labels are the original's answers".to_owned());
        AttackRow {
            attack: Attack::Probe { n_labels, fill },
            layer: Some(layer),
            name: format!("probe with {n_labels} labels"),
            measure: Some(measure),
            seeds: Vec::new(),
            floor,
            floor_kind,
            verdict,
            note,
        }
    }

    /// The highest of the floors of these kinds, with so many labels or none.
    fn floor(&self, kinds: &[FloorKind], n_labels: Option<usize>) -> (f64, FloorKind) {
        if let Some((_, next)) = self.tier {
            return (next - 2.0 * self.bench.margin, FloorKind::NextTier);
        }
        let applies = |floor: &&Floor| {
            kinds.contains(&floor.kind) && (floor.n_labels.is_none() || floor.n_labels == n_labels)
        };
        let highest = self
            .floors
            .iter()
            .filter(applies)
            .max_by(|a, b| a.measure.value.total_cmp(&b.measure.value));
        highest.map_or((0.0, FloorKind::Constant), |floor| {
            (floor.measure.value, floor.kind)
        })
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
        Candidate {
            name: self.name.to_owned(),
            tier: self.tier.map(|(tier, _)| tier.to_owned()),
            weight_bytes,
            encrypted_bytes,
            share: encrypted_bytes as f64 / weight_bytes.max(1) as f64,
            opening: None,
            verdict: worst
                .and_then(|i| attacks.get(i))
                .map_or(Verdict::Holds, |row| row.verdict),
            attacks,
            worst,
            best_fill,
            operators: self.hidden.rows(),
            notes,
        }
    }
}

/// What an attack gets, or why ONNX Runtime does not run it.
type Judged = std::result::Result<Measure, String>;

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
    }
}
