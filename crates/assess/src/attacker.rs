//! The attacks on what one attacker sees.

use crate::assessment::{Attack, AttackRow, Fill, Floor, FloorKind, Measure, Verdict};
use crate::attack::base::Base;
use crate::attack::{Instead, normal, variant};
use crate::bench::{Bench, N_SEEDS, Probed, keep};
use crate::error::{Attempt, Result, attempt};
use crate::subject::Subject;
use crate::views::View;

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

/// The attacker: what they have besides a candidate.
pub(crate) struct Attacker<'t> {
    pub(crate) bench: &'t Bench<'t>,
    pub(crate) subject: &'t Subject,
    /// The public base, where there is one.
    pub(crate) base: Option<&'t Base>,
    /// Whether probes can be trained.
    pub(crate) has_probes: bool,
    pub(crate) seed: u64,
}

/// The scores of attacks, before anything compares them.
#[derive(Clone)]
pub(crate) struct Tried {
    pub(crate) attacks: Vec<AttackRow>,
    pub(crate) notes: Vec<String>,
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

impl Attacker<'_> {
    /// Tries every attack on what `view` shows.
    ///
    /// # Errors
    /// As [`assess`](crate::assess()).
    pub(crate) fn tries(&self, view: &View) -> Result<Tried> {
        let View { name, hidden, .. } = view;
        let bench = self.bench;
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

        bench.step(&format!("{name}: as it is"))?;
        let plain = self.subject.files();
        let ciphertext = || variant(plain, hidden, Instead::Ciphertext, self.seed).files;
        let as_it_is = view.files.clone().unwrap_or_else(ciphertext);
        let ran = attempt(bench.run(&as_it_is, false, name))?;
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
            let (mut filled_only, mut reestimated) = (Vec::new(), Vec::new());
            for i in 0..n_seeds {
                bench.step(&format!("{name}: {}", name_of(*fill)))?;
                let probed = self.has_probes && i == 0 && OF_PROBES.contains(fill);
                let seed = self.seed.wrapping_add(i);
                let filled = variant(plain, hidden, instead, seed);
                notes.extend(filled.notes);
                let best = probed.then_some(&mut *best);
                let (judged, again) = bench.tried(&filled.files, &layers, *fill, best, name)?;
                filled_only.push(judged);
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
            let rows = [(name, false, filled_only), (again, true, reestimated)];
            for (name, reestimated, judged) in rows.into_iter().filter(|row| !row.2.is_empty()) {
                let attack = Attack::Fill {
                    fill: *fill,
                    reestimated,
                };
                attacks.push(fill_row(attack, &name, judged));
            }
        }
        for probed in probes.into_iter().chain(base_probes) {
            attacks.push(probe_row(probed, bench.judge.has_labels));
        }
        notes.sort();
        notes.dedup();
        Ok(Tried { attacks, notes })
    }
}

/// The row of an attack without labels: of several seeds, the one that gets most.
fn fill_row(
    attack: Attack,
    name: &str,
    measured: impl IntoIterator<Item = Attempt<Measure>>,
) -> AttackRow {
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
