//! Judges results of attacks against floors, which attackers reach anyway.

use crate::assessment::{
    Attack, AttackRow, Candidate, Doubt, Floor, FloorKind, Interval, Measure, Verdict,
};
use crate::attacker::n_labels;
use crate::options::PublicModel;
use crate::stats::Z;
use crate::views::AttackerView;
use crate::weights::numbers;

/// If it takes more samples to decide, no number is suggested.
const MAX_NEEDED: f64 = 1e7;

/// The figures that attacks are compared with: floors, original and margin.
pub(crate) struct Threshold<'t> {
    pub(crate) floors: &'t [Floor],
    pub(crate) original: &'t Measure,
    pub(crate) margin: f64,
    /// Whether the metric is a share of samples.
    pub(crate) is_rate: bool,
    /// Why no candidate can be said to hold on these data.
    pub(crate) doubt: Option<Doubt>,
    pub(crate) base: PublicModel<'t>,
}

impl Threshold<'_> {
    /// Judges the attacks on `view` against the floors and, if the attacker has a tier's key,
    /// against `next_tier`, the value of the next higher tier's edition.
    pub(crate) fn judges(
        &self,
        view: AttackerView,
        mut attacks: Vec<AttackRow>,
        next_tier: Option<f64>,
    ) -> Candidate {
        let next = next_tier.map(|value| Measure::of(value, None, 0));
        let wanted = next.as_ref().unwrap_or(self.original);
        for row in &mut attacks {
            (row.floor, row.floor_kind) = self.floor(Some(row.attack), next_tier);
            // A model that does not run gives its attacker nothing.
            let got = row.measure.as_ref();
            row.verdict = got.map_or(Verdict::holds(), |got| {
                self.verdict(got, row.floor, wanted.value, view.is_everything)
            });
        }
        let value = |row: &AttackRow| {
            let measure = row.measure.as_ref();
            measure.map_or(f64::NEG_INFINITY, |measure| measure.value)
        };
        let above = |row: &AttackRow| value(row) - row.floor;
        let worst = attacks.iter().enumerate().max_by(|(_, a), (_, b)| {
            (a.verdict.rank().cmp(&b.verdict.rank())).then(above(a).total_cmp(&above(b)))
        });
        let is_fill =
            |row: &AttackRow| matches!(row.attack, Attack::Fill { .. }) && row.measure.is_some();
        let fills = attacks.iter().enumerate().filter(|(_, row)| is_fill(row));
        let best_fill = fills.max_by(|(_, a), (_, b)| value(a).total_cmp(&value(b)));
        let (weight_bytes, encrypted_bytes) =
            (view.hidden.weight_bytes, view.hidden.encrypted_bytes());
        let highest = self.floor(None, next_tier).0;
        let of_attacks = worst.map_or(Verdict::holds(), |(_, row)| row.verdict);
        let in_clear = !view.is_everything && matches!(self.base, PublicModel::Unknown);
        let verdict = match (of_attacks, self.doubt) {
            _ if encrypted_bytes == 0 && next.is_none() => Verdict::Leaks,
            (Verdict::Leaks, _) => Verdict::Leaks,
            (_, Some(doubt)) => Verdict::CannotTell(doubt),
            _ if !self.is_gap(wanted.value, highest) => Verdict::CannotTell(Doubt::NoGap),
            (Verdict::CannotTell(doubt), _) => Verdict::CannotTell(doubt),
            _ if !self.is_apart(wanted) => Verdict::CannotTell(Doubt::TooFewSamples {
                needed_samples: None,
            }),
            _ if best_fill.is_none() => Verdict::CannotTell(Doubt::NotMeasured),
            _ if in_clear => Verdict::CannotTell(Doubt::NoBase),
            _ => Verdict::Holds {
                if_no_public_base: !matches!(self.base, PublicModel::Known(_)),
            },
        };
        Candidate {
            weight_bytes,
            encrypted_bytes,
            share: encrypted_bytes as f64 / weight_bytes.max(1) as f64,
            verdict,
            worst: worst.map(|(i, _)| i),
            best_fill: best_fill.map(|(i, _)| i),
            attacks,
            operators: view.hidden.rows(),
            notes: notes(&view),
            name: view.name,
            tier: view.tier,
        }
    }

    /// Judges what an attack got where `wanted` is what the original has.
    ///
    /// The candidate leaks if the value is above the floor plus the margin, and holds if the
    /// interval's upper end is not. Without an interval the value decides.
    fn verdict(&self, got: &Measure, floor: f64, wanted: f64, is_everything: bool) -> Verdict {
        if !self.is_gap(wanted, floor) {
            return Verdict::CannotTell(Doubt::NoGap);
        }
        if is_everything && got.value <= floor {
            // With nothing in clear, the attack is one of those that make the floor, and can
            // exceed it only by chance.
            return Verdict::holds();
        }
        let limit = floor + self.margin;
        if !got.value.is_finite() || got.n_samples == 0 {
            return Verdict::CannotTell(Doubt::NotMeasured);
        }
        if got.value > limit {
            return Verdict::Leaks;
        }
        match got.interval.filter(|interval| interval.high > limit) {
            None => Verdict::holds(),
            Some(interval) => Verdict::CannotTell(Doubt::TooFewSamples {
                needed_samples: self.needed(got, interval, limit),
            }),
        }
    }

    /// Computes how many samples would bring the upper end of an interval down to the limit.
    fn needed(&self, got: &Measure, interval: Interval, limit: f64) -> Option<u64> {
        let above = limit - got.value;
        let needed = if self.is_rate {
            // The upper end is where `(limit - share)^2 = Z^2 limit (1 - limit) / n`.
            Z.powi(2) * limit * (1.0 - limit) / above.powi(2)
        } else {
            got.n_samples as f64 * ((interval.high - got.value) / above).powi(2)
        };
        (needed <= MAX_NEEDED).then_some(needed.ceil() as u64)
    }

    /// Returns whether the intervals of the original and of each floor are apart: by chance, few
    /// samples may show a gap where there is none.
    fn is_apart(&self, wanted: &Measure) -> bool {
        let floors = self.floors.iter().map(|floor| floor.measure.interval);
        let mut pairs = floors.map(|floor| floor.zip(wanted.interval));
        pairs.all(|pair| pair.is_none_or(|(floor, original)| floor.high < original.low))
    }

    /// Returns whether the value of the original is so far above a floor that an attack could leak
    /// without coming near the original, give or take a rounding. NaN is not.
    fn is_gap(&self, wanted: f64, floor: f64) -> bool {
        wanted - floor >= 2.0 * self.margin - 1e-9
    }

    /// Returns the highest of the floors that apply to an attack, or to any. `next` is the value of
    /// the next tier, for an attacker with a tier's key.
    fn floor(&self, attack: Option<Attack>, next: Option<f64>) -> (f64, FloorKind) {
        let applies = |floor: &&Floor| {
            let has_base = matches!(floor.kind, FloorKind::Base | FloorKind::BaseProbe);
            let has_labels = attack.is_none_or(|attack| n_labels(attack) == floor.n_labels);
            // For an attacker with a tier's edition, floors without a key do not count, except the
            // base's.
            (attack.is_none_or(Attack::has_base) || !has_base)
                && (has_base || next.is_none())
                && (floor.n_labels.is_none() || has_labels)
        };
        let floors = self.floors.iter().filter(applies);
        let floors = floors.map(|floor| (floor.measure.value, floor.kind));
        let next = next.map(|next| (next - 2.0 * self.margin, FloorKind::NextTier));
        let highest = floors.chain(next).max_by(|a, b| a.0.total_cmp(&b.0));
        highest.unwrap_or((0.0, FloorKind::Constant))
    }
}

/// Notes what fills could not do with a view.
fn notes(view: &AttackerView) -> Vec<String> {
    let encrypted = view.hidden.tensors.iter().filter(|of| of.n_hidden() > 0);
    let others = encrypted.filter(|tensor| numbers(tensor.data_type).is_none());
    let zeroed = others.map(|tensor| {
        let (path, of) = (&tensor.path, tensor.data_type.as_str_name());
        format!("{path} of type {of} was filled with bytes of 0")
    });
    let is_clear = view.hidden.encrypted_bytes() == 0;
    let mut notes: Vec<String> = zeroed.collect();
    notes.extend(is_clear.then(|| "nothing is encrypted".to_owned()));
    notes.sort();
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::wilson;

    #[test]
    fn verdicts_are_by_the_upper_end() {
        let judged = |measure: &Measure, is_rate, floor, margin| {
            let threshold = Threshold {
                floors: &[],
                original: measure,
                margin,
                is_rate,
                doubt: None,
                base: PublicModel::None,
            };
            threshold.verdict(measure, floor, 100.0, false)
        };
        let of = |share, n| {
            let measure = Measure::of(share, Some(wilson(share, n)), n);
            judged(&measure, true, 0.10, 0.05)
        };
        assert_eq!(of(0.10, 1000), Verdict::holds());
        assert_eq!(of(0.16, 1000), Verdict::Leaks);
        assert_eq!(of(0.151, 10), Verdict::Leaks);
        let needed = |verdict| match verdict {
            Verdict::CannotTell(Doubt::TooFewSamples { needed_samples }) => needed_samples,
            verdict => unreachable!("{verdict}"),
        };
        let enough = needed(of(0.12, 100)).unwrap_or(0) as usize;
        assert_eq!(of(0.12, enough), Verdict::holds());
        assert!(needed(of(0.12, enough - 1)).is_some());
        assert_eq!(needed(of(0.15, 100)), None);
        let decibels = |value| judged(&Measure::of(value, None, 10), false, 2.5, 1.0);
        assert_eq!(decibels(3.0), Verdict::holds());
        assert_eq!(decibels(f64::NAN), Verdict::CannotTell(Doubt::NotMeasured));
    }
}
