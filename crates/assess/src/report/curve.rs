//! The curve of a model's editions: what each share of the encrypted bytes gives, and where the tiers lie on it.

use super::draw::{Anchor, Drawing, FONT, Palette, Stroke, Text};
use super::text::{floor_kind, measure, percent, value};
use crate::tune::{Point, Tuning};

const WIDTH: f64 = 560.0;
const LEFT: f64 = 46.0;
const HEIGHT: f64 = 260.0;

/// The columns of the table of tiers.
pub const TIER_HEAD: [&str; 5] = ["tier", "share", "wanted", "calibration", "evaluation"];

/// The columns of the curve's table. Rows are where the values change.
pub const CURVE_HEAD: [&str; 3] = ["share", "calibration", "evaluation"];

/// A tuning in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Lines before the tables: what was measured on what.
    pub before: Vec<String>,
    /// The tiers, without [`TIER_HEAD`].
    pub tiers: Vec<[String; 5]>,
    /// The curve, without [`CURVE_HEAD`].
    pub curve: Vec<[String; 3]>,
    /// Lines after them: floors, and what to know.
    pub after: Vec<String>,
}

impl Summary {
    /// The summary of `tuning`.
    pub fn of(tuning: &Tuning) -> Summary {
        let metric = &tuning.metric;
        let before = vec![
            format!(
                "{}: {} of the original {}",
                tuning.model,
                metric.name,
                measure(metric, &tuning.original)
            ),
            format!(
                "data: {}; shares are chosen on {} samples, and figures are from the other {}; seed {}; ONNX Runtime {}",
                tuning.data.source,
                tuning.n_calibration,
                tuning.n_evaluation,
                tuning.seed,
                tuning.engine.version
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
        // Shares between two units give the same edition: the first of them says it.
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
        let floors = tuning.floors.iter().map(|floor| {
            let labels = floor.n_labels.map(|n| format!(", {n} labels"));
            format!(
                "floor: {}: {}{}",
                value(metric, floor.measure.value),
                floor_kind(floor.kind),
                labels.unwrap_or_default()
            )
        });
        Summary {
            before,
            tiers: tiers.collect(),
            curve: curve.collect(),
            after: floors.chain(tuning.notes.iter().cloned()).collect(),
        }
    }
}

/// Draws the curve, with the tiers on it.
pub(super) fn draw(tuning: &Tuning, palette: &Palette) -> Drawing {
    let metric = &tuning.metric;
    let values = tuning.curve.iter().map(|point| point.evaluation.value);
    let values = values
        .chain([tuning.original.value])
        .filter(|v| v.is_finite());
    let (low, high) = match metric.is_rate {
        true => (0.0, 1.0),
        false => values.fold((0.0_f64, 1e-9_f64), |(low, high), v| {
            (low.min(v), high.max(v))
        }),
    };
    let x = |share: f64| LEFT + share * (WIDTH - LEFT);
    let y = |value: f64| {
        let share = (value.clamp(low, high) - low) / (high - low);
        10.0 + (1.0 - if share.is_nan() { 0.0 } else { share }) * (HEIGHT - 20.0)
    };
    let mut drawing = Drawing::new(WIDTH);
    drawing.height = HEIGHT + 40.0;
    let grid = Stroke {
        colour: palette.track,
        width: 1.0,
        is_dashed: false,
    };
    for i in 0..=4 {
        let (part, tick) = (f64::from(i) / 4.0, low + (high - low) * f64::from(i) / 4.0);
        drawing.line((LEFT, y(tick)), (WIDTH, y(tick)), grid);
        let style = Text::new(FONT, palette.soft).at(Anchor::End);
        drawing.text(
            (LEFT - 6.0, y(tick) + 4.0),
            &value(metric, tick),
            LEFT,
            style,
        );
        let style = Text::new(FONT, palette.soft).at(match i {
            4 => Anchor::End,
            _ => Anchor::Middle,
        });
        drawing.text((x(part), HEIGHT + 10.0), &percent(part), 60.0, style);
    }
    let style = Text::new(FONT, palette.soft);
    let below = format!(
        "share of the encrypted bytes that an edition opens; {}",
        metric.name
    );
    drawing.text((LEFT, HEIGHT + 30.0), &below, WIDTH - LEFT, style);
    let end = Point {
        share: 1.0,
        calibration: tuning.original.value,
        evaluation: tuning.original.clone(),
    };
    let points: Vec<&Point> = tuning.curve.iter().chain([&end]).collect();
    let stroke = |colour| Stroke {
        colour,
        width: 2.0,
        is_dashed: false,
    };
    for pair in points.windows(2) {
        let at = |point: &Point| (x(point.share), y(point.evaluation.value));
        drawing.line(at(pair[0]), at(pair[1]), stroke(palette.holds));
    }
    if let Some(floor) =
        (tuning.floors.iter()).max_by(|a, b| a.measure.value.total_cmp(&b.measure.value))
    {
        let dashed = Stroke {
            colour: palette.undecided,
            width: 1.0,
            is_dashed: true,
        };
        let at = y(floor.measure.value);
        drawing.line((LEFT, at), (WIDTH, at), dashed);
        drawing.describe(&format!(
            "The dashed line is the floor: {}, {}.",
            value(metric, floor.measure.value),
            floor_kind(floor.kind)
        ));
    }
    for tier in &tuning.tiers {
        let (at_x, at_y) = (x(tier.share), y(tier.evaluation.value));
        drawing.rectangle((at_x - 4.0, at_y - 4.0), (8.0, 8.0), palette.leaks);
        let anchor = if tier.share > 0.8 {
            Anchor::End
        } else {
            Anchor::Start
        };
        let shift = if tier.share > 0.8 { -8.0 } else { 8.0 };
        let label = format!("{} {}", tier.name, value(metric, tier.evaluation.value));
        let style = Text::new(FONT, palette.ink).at(anchor).bold();
        drawing.text((at_x + shift, at_y + 16.0), &label, 200.0, style);
        drawing.describe(&format!(
            "Tier {} opens {} and gets {}.",
            tier.name,
            percent(tier.share),
            value(metric, tier.evaluation.value)
        ));
    }
    drawing
}
