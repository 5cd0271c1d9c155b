//! Judges results of attacks against floors, which attackers reach anyway.

use crate::assessment::{Attack, AttackRow, Candidate, Floor, FloorKind, Measure, Verdict};
use crate::attacker::Tried;
use crate::stats::verdict;
use crate::views::View;

/// The measure for attacks: floors and margin.
pub(crate) struct Bar<'t> {
    pub(crate) floors: &'t [Floor],
    pub(crate) margin: f64,
    /// Whether the metric is a share of samples.
    pub(crate) is_rate: bool,
    /// Whether all attacks were tried against which a candidate with weights in clear must hold.
    pub(crate) is_thorough: bool,
}

impl Bar<'_> {
    /// Judges the attacks on `view` against the floors and, if the attacker has a tier's key,
    /// against `next_tier`, the value of the next higher tier's edition.
    pub(crate) fn judges(&self, view: View, tried: Tried, next_tier: Option<f64>) -> Candidate {
        let (View { hidden, .. }, Tried { mut attacks, notes }) = (&view, tried);
        let is_everything = hidden.is_everything();
        let verdict_of = |got: &Measure, floor: f64| {
            if is_everything && got.value <= floor {
                // With nothing in clear, the attack is one of those that make the floor, and can
                // exceed it only by chance.
                return Verdict::Holds;
            }
            let (interval, n) = (got.interval, got.n_samples);
            verdict(got.value, interval, n, self.is_rate, floor, self.margin)
        };
        for row in &mut attacks {
            (row.floor, row.floor_kind) = self.floor(row.attack, next_tier);
            // A model that does not run gives its attacker nothing.
            let measure = row.measure.as_ref();
            row.verdict = measure.map_or(Verdict::Holds, |got| verdict_of(got, row.floor));
        }
        let value = |row: &AttackRow| {
            let measure = row.measure.as_ref();
            measure.map_or(f64::NEG_INFINITY, |measure| measure.value)
        };
        let above = |row: &AttackRow| value(row) - row.floor;
        let worst = attacks.iter().enumerate().max_by(|(_, a), (_, b)| {
            (a.verdict.rank().cmp(&b.verdict.rank())).then(above(a).total_cmp(&above(b)))
        });
        let verdict = match worst.map_or(Verdict::Holds, |(_, row)| row.verdict) {
            Verdict::Holds if !self.is_thorough && !is_everything => Verdict::NotBroken,
            verdict => verdict,
        };
        let is_fill =
            |row: &AttackRow| matches!(row.attack, Attack::Fill { .. }) && row.measure.is_some();
        let fills = attacks.iter().enumerate().filter(|(_, row)| is_fill(row));
        let best_fill = fills.max_by(|(_, a), (_, b)| value(a).total_cmp(&value(b)));
        let (weight_bytes, encrypted_bytes) = (hidden.weight_bytes, hidden.encrypted_bytes());
        Candidate {
            weight_bytes,
            encrypted_bytes,
            share: encrypted_bytes as f64 / weight_bytes.max(1) as f64,
            opening: None,
            verdict,
            worst: worst.map(|(i, _)| i),
            best_fill: best_fill.map(|(i, _)| i),
            attacks,
            operators: hidden.rows(),
            notes,
            name: view.name,
            tier: view.tier,
        }
    }

    /// Returns the highest of the floors that apply to an attack. `next` is the value of the next
    /// tier, for an attacker with a tier's key.
    fn floor(&self, attack: Attack, next: Option<f64>) -> (f64, FloorKind) {
        let applies = |floor: &&Floor| {
            let has_base = matches!(floor.kind, FloorKind::Base | FloorKind::BaseProbe);
            let has_labels = match attack {
                Attack::Probe { n_labels, .. } => floor.n_labels == Some(n_labels),
                _ => false,
            };
            // For an attacker with a tier's edition, floors without a key do not count, except the
            // base's.
            (attack.has_base() || !has_base)
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
