//! The attacks' scores, held against what attackers get anyway.

use crate::assessment::{Attack, AttackRow, Candidate, Floor, FloorKind, Verdict};
use crate::attacker::Tried;
use crate::stats::verdict;
use crate::views::View;

/// What attacks are held against.
pub(crate) struct Bar<'f> {
    pub(crate) floors: &'f [Floor],
    /// How far above its floor an attack may come, in the metric's unit.
    pub(crate) margin: f64,
    /// Whether the metric is a share of samples.
    pub(crate) is_rate: bool,
    /// Whether all was tried that a candidate with weights in clear must hold against.
    pub(crate) is_thorough: bool,
}

impl Bar<'_> {
    /// The highest of the floors that apply to an attack.
    fn floor(&self, attack: Attack, next_tier: Option<f64>) -> (f64, FloorKind) {
        let n_labels = match attack {
            Attack::Probe { n_labels, .. } => Some(n_labels),
            _ => None,
        };
        let applies = |floor: &&Floor| {
            let has_base = matches!(floor.kind, FloorKind::Base | FloorKind::BaseProbe);
            // Whoever has a tier's edition is not held against those who have no key, but for what
            // the base gives them.
            (attack.has_base() || !has_base)
                && (has_base || next_tier.is_none())
                && (floor.n_labels.is_none() || floor.n_labels == n_labels)
        };
        let next_tier = next_tier.map(|next| (next - 2.0 * self.margin, FloorKind::NextTier));
        let floors = self.floors.iter().filter(applies);
        let floors = floors.map(|floor| (floor.measure.value, floor.kind));
        let highest = floors.chain(next_tier).max_by(|a, b| a.0.total_cmp(&b.0));
        highest.unwrap_or((0.0, FloorKind::Constant))
    }

    /// Holds what was tried on `view` against the floors, and where the attacker has a tier's key,
    /// against the value `next_tier` of the next higher tier's edition.
    pub(crate) fn judges(&self, view: &View, tried: Tried, next_tier: Option<f64>) -> Candidate {
        let View { hidden, .. } = view;
        let Tried { mut attacks, notes } = tried;
        for row in &mut attacks {
            (row.floor, row.floor_kind) = self.floor(row.attack, next_tier);
            row.verdict = match &row.measure {
                // Where nothing is in clear, the attack is one of those that the floor is made of,
                // and is not above it by chance.
                Some(got) if !(hidden.is_everything() && got.value <= row.floor) => verdict(
                    got.value,
                    got.interval,
                    got.n_samples,
                    self.is_rate,
                    row.floor,
                    self.margin,
                ),
                // Whoever cannot run it gets nothing from it.
                _ => Verdict::Holds,
            };
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
        let (weight_bytes, encrypted_bytes) = (hidden.weight_bytes, hidden.encrypted_bytes());
        let verdict = worst.and_then(|i| attacks.get(i));
        let verdict = match verdict.map_or(Verdict::Holds, |row| row.verdict) {
            Verdict::Holds if !self.is_thorough && !hidden.is_everything() => Verdict::NotBroken,
            verdict => verdict,
        };
        Candidate {
            name: view.name.clone(),
            tier: view.tier.clone(),
            weight_bytes,
            encrypted_bytes,
            share: encrypted_bytes as f64 / weight_bytes.max(1) as f64,
            opening: None,
            verdict,
            attacks,
            worst,
            best_fill,
            operators: hidden.rows(),
            notes,
        }
    }
}
