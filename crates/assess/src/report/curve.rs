//! The curve of a model's editions: the value for each share of the encrypted bytes, with the tiers
//! marked.

use super::text::{floor, measure, percent, value};
use crate::tune::{Point, Tuning};

/// The columns of the table of tiers.
pub const TIER_HEAD: [&str; 5] = ["tier", "share", "wanted", "calibration", "evaluation"];

/// The columns of the curve's table, which has a row wherever the values change.
pub const CURVE_HEAD: [&str; 3] = ["share", "calibration", "evaluation"];

/// A tuning in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TuningSummary {
    /// Lines before the tables: the measurement and its data.
    pub before: Vec<String>,
    /// The tiers, without [`TIER_HEAD`].
    pub tiers: Vec<[String; 5]>,
    /// The curve, without [`CURVE_HEAD`].
    pub curve: Vec<[String; 3]>,
    /// Lines after the tables: floors and notes.
    pub after: Vec<String>,
}

impl TuningSummary {
    pub fn of(tuning: &Tuning) -> TuningSummary {
        let metric = &tuning.metric;
        let original = measure(metric, &tuning.original);
        let (n_calibration, n_evaluation) = (tuning.n_calibration, tuning.n_evaluation);
        let before = vec![
            format!(
                "{}: {} of the original {original}",
                tuning.model, metric.name
            ),
            format!(
                "data: {}; {n_calibration} samples served to choose shares, the other {n_evaluation} to measure figures; seed {}; ONNX Runtime {}",
                tuning.data.source, tuning.seed, tuning.engine.version
            ),
        ];
        let tiers = tuning.tiers.iter().map(|tier| {
            let wanted = tier.target.map(|target| value(metric, target));
            [
                tier.name.clone(),
                percent(tier.point.share),
                wanted.unwrap_or_default(),
                value(metric, tier.point.calibration),
                measure(metric, &tier.point.evaluation),
            ]
        });
        // All shares between two units give one edition: show the first.
        let mut points: Vec<&Point> = tuning.curve.iter().collect();
        let values = |point: &Point| (point.calibration, point.evaluation.value);
        points.dedup_by(|next, before| values(next) == values(before));
        let curve = points.into_iter().map(|point| {
            [
                percent(point.share),
                value(metric, point.calibration),
                value(metric, point.evaluation.value),
            ]
        });
        let floors = tuning.floors.iter().map(|row| {
            let got = value(metric, row.measure.value);
            format!("floor: {got}: {}", floor(row))
        });
        TuningSummary {
            before,
            tiers: tiers.collect(),
            curve: curve.collect(),
            after: floors.chain(tuning.notes.iter().cloned()).collect(),
        }
    }
}
