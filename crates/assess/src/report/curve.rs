//! The curve of a model's editions: the value for each share of the encrypted bytes, with the tiers
//! marked.

use super::bars::range;
use super::draw::*;
use super::text::{floor, floor_kind, measure, percent, value};
use crate::tune::{Point, Tuning};

const WIDTH: f64 = 560.0;
const LEFT: f64 = 46.0;
const HEIGHT: f64 = 260.0;

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
    /// Summarises `tuning`.
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
                percent(tier.share),
                wanted.unwrap_or_default(),
                value(metric, tier.calibration),
                measure(metric, &tier.evaluation),
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

/// Draws the curve, with the tiers on it.
pub(super) fn draw(tuning: &Tuning) -> Drawing {
    let metric = &tuning.metric;
    let points = tuning.curve.iter();
    let points = points.map(|point| (point.share, point.evaluation.value));
    let points: Vec<(f64, f64)> = points.chain([(1.0, tuning.original.value)]).collect();
    let (low, high) = if metric.is_rate {
        (0.0, 1.0)
    } else {
        range(points.iter().map(|(_, value)| *value))
    };
    let x = |share: f64| short(LEFT + share * (WIDTH - LEFT));
    let y = |value: f64| {
        let share = (value.clamp(low, high) - low) / (high - low);
        short(10.0 + (1.0 - if share.is_nan() { 0.0 } else { share }) * (HEIGHT - 20.0))
    };
    let mut body = String::new();
    let mut words = Vec::new();
    for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let tick = low + (high - low) * part;
        let anchor = if part < 1.0 { "middle" } else { "end" };
        body += &line((LEFT, y(tick)), (WIDTH, y(tick)), (TRACK, 1.0, "none"));
        body += &soft(LEFT - 6.0, y(tick) + 4.0, "end", &value(metric, tick));
        body += &soft(x(part), HEIGHT + 10.0, anchor, &percent(part));
    }
    let x_axis = format!(
        "share of the encrypted bytes that an edition opens; {}",
        metric.name
    );
    let (x_axis, x_axis_y) = (cut(&x_axis, WIDTH - LEFT, FONT), HEIGHT + 30.0);
    body += &format!(r#"<text x="{LEFT}" y="{x_axis_y}" fill="{SOFT}">{x_axis}</text>"#);
    for ends in points.windows(2) {
        let [from, to] = [ends[0], ends[1]].map(|(share, value)| (x(share), y(value)));
        body += &line(from, to, (HOLDS, 2.0, "none"));
    }
    let floors = tuning.floors.iter();
    let floor = floors.max_by(|a, b| a.measure.value.total_cmp(&b.measure.value));
    if let Some(floor) = floor {
        let (at, got) = (y(floor.measure.value), value(metric, floor.measure.value));
        body += &line((LEFT, at), (WIDTH, at), (UNKNOWN, 1.0, "3 2"));
        let kind = floor_kind(floor.kind);
        words.push(format!("The dashed line is the floor: {got}, {kind}."));
    }
    for tier in &tuning.tiers {
        let (x, y) = (x(tier.share), y(tier.evaluation.value));
        let got = value(metric, tier.evaluation.value);
        let is_late = tier.share > 0.8;
        let anchor = if is_late { "end" } else { "start" };
        let label_x = x + if is_late { -8.0 } else { 8.0 };
        let label_y = y + 16.0;
        let label = cut(&format!("{} {got}", tier.name), 200.0, FONT);
        body += &rectangle(x - 4.0, y - 4.0, 8.0, 8.0, LEAKS);
        body += &format!(
            r#"<text x="{label_x}" y="{label_y}" font-weight="700" text-anchor="{anchor}" fill="{INK}">{label}</text>"#
        );
        let (name, share) = (&tier.name, percent(tier.share));
        words.push(format!("Tier {name} opens {share} and gets {got}."));
    }
    let mut drawing = Drawing::new(HEIGHT + 40.0, body, words.join(" "));
    drawing.width = WIDTH;
    drawing
}
