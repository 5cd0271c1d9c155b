//! What attacks get, as bars with intervals against floors.

use crate::assessment::{Assessment, AttackRow, Candidate, Verdict};

use super::draw::{Anchor, Drawing, FONT, PANEL, Palette, Stroke, Text, label_and_figure};
use super::text::{above_floor, measure, value};

const BAR_HEIGHT: f64 = 10.0;
const STEP: f64 = 44.0;

/// The values that bars can have: the same for all candidates, so that they compare.
pub(super) struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Finds one that holds each finite value.
    pub(super) fn of(assessment: &Assessment) -> Axis {
        if assessment.metric.is_rate {
            return Axis {
                low: 0.0,
                high: 1.0,
                step: 0.25,
            };
        }
        let attacks = assessment
            .candidates
            .iter()
            .flat_map(|candidate| &candidate.attacks);
        let of_attack = |row: &AttackRow| {
            let measure = row.measure.as_ref();
            let interval = measure.and_then(|measure| measure.interval);
            [
                measure.map(|measure| measure.value),
                interval.map(|interval| interval.low),
                interval.map(|interval| interval.high),
                Some(row.floor + assessment.margin),
                Some(row.floor),
            ]
        };
        let values = attacks.flat_map(of_attack).flatten();
        let floors = assessment.floors.iter().map(|floor| floor.measure.value);
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for value in values
            .chain(floors)
            .chain([assessment.original.value])
            .filter(|value| value.is_finite())
        {
            low = low.min(value);
            high = high.max(value);
        }
        if high - low < f64::MIN_POSITIVE {
            high = low + 1.0;
        }
        let step = round_step((high - low) / 4.0);
        Axis {
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            step,
        }
    }

    /// Where a value lies in a panel; what is no number, at the start.
    fn x(&self, value: f64) -> f64 {
        if value.is_nan() {
            return 0.0;
        }
        let share = (value.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        share * PANEL
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let n = ((self.high - self.low) / self.step)
            .round()
            .clamp(0.0, 20.0) as usize;
        (0..=n).map(|i| self.low + i as f64 * self.step)
    }
}

/// The next 1, 2 or 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least);
    step.unwrap_or(10.0 * power)
}

/// Draws a bar for each attack on a candidate.
pub(super) fn attacks(
    assessment: &Assessment,
    candidate: &Candidate,
    axis: &Axis,
    palette: &Palette,
) -> Drawing {
    let mut drawing = Drawing::new(PANEL);
    for (i, row) in candidate.attacks.iter().enumerate() {
        let is_worst = candidate.worst == Some(i);
        bar(
            &mut drawing,
            assessment,
            (&row.name, row, is_worst),
            axis,
            palette,
        );
    }
    scale(&mut drawing, assessment, axis, palette);
    drawing
}

/// Draws the best fill and the best probe of each candidate.
pub(super) fn overview(assessment: &Assessment, axis: &Axis, palette: &Palette) -> Drawing {
    let mut drawing = Drawing::new(PANEL);
    for candidate in &assessment.candidates {
        let best = [candidate.best_fill_attack(), candidate.best_probe()];
        for row in best.into_iter().flatten() {
            let label = format!("{}: {}", candidate.name, row.name);
            bar(
                &mut drawing,
                assessment,
                (&label, row, false),
                axis,
                palette,
            );
        }
    }
    scale(&mut drawing, assessment, axis, palette);
    drawing
}

/// Says what bars, whiskers and lines mean.
pub(super) fn legend(assessment: &Assessment, palette: &Palette) -> Drawing {
    let mut drawing = Drawing::new(PANEL);
    let style = Text::new(FONT, palette.soft);
    let verdicts = [
        ("holds", palette.holds),
        ("undecided", palette.undecided),
        ("leaks", palette.leaks),
    ];
    for ((name, colour), x) in verdicts.into_iter().zip([0.0, 90.0, 200.0]) {
        drawing.rectangle((x, 7.0), (22.0, BAR_HEIGHT), colour);
        drawing.text((x + 28.0, 16.0), name, 100.0, style);
    }
    let margin = super::text::difference(&assessment.metric, assessment.margin);
    let lines = [
        (0.0, 38.0, "95 % interval".to_owned()),
        (150.0, 38.0, "floor".to_owned()),
        (0.0, 60.0, format!("floor + {margin}")),
        (150.0, 60.0, "the model itself".to_owned()),
    ];
    for (x, y, name) in lines {
        drawing.text((x + 28.0, y), &name, 180.0, style);
    }
    whisker(&mut drawing, (0.0, 22.0), 34.0, palette);
    drawing.line((161.0, 26.0), (161.0, 42.0), solid(palette));
    drawing.line((11.0, 48.0), (11.0, 64.0), dashed(palette));
    drawing.line((161.0, 48.0), (161.0, 64.0), faint(palette));
    drawing.height = 72.0;
    drawing
}

fn bar(
    drawing: &mut Drawing,
    assessment: &Assessment,
    (label, row, is_worst): (&str, &AttackRow, bool),
    axis: &Axis,
    palette: &Palette,
) {
    let stretch = drawing.width / PANEL;
    let x = |value: f64| axis.x(value) * stretch;
    let metric = &assessment.metric;
    let y = drawing.height;
    let bar_y = y + FONT + 8.0;
    let Some(got) = &row.measure else {
        let figure = ("not tried", palette.soft);
        label_and_figure(drawing, y + FONT, (label, false), figure, palette);
        drawing.describe(&format!("{label}: not tried."));
        drawing.height += FONT + 14.0;
        return;
    };
    let colour = match row.verdict {
        Verdict::Holds => palette.holds,
        Verdict::NotBroken | Verdict::Undecided { .. } => palette.undecided,
        Verdict::Leaks => palette.leaks,
    };
    let figure = format!("{} · {}", value(metric, got.value), row.verdict);
    label_and_figure(
        drawing,
        y + FONT,
        (label, is_worst),
        (&figure, colour),
        palette,
    );
    drawing.rectangle((0.0, bar_y), (drawing.width, BAR_HEIGHT), palette.track);
    let (zero, end) = (x(0.0), x(got.value));
    drawing.rectangle(
        (zero.min(end), bar_y),
        ((end - zero).abs(), BAR_HEIGHT),
        colour,
    );
    if assessment.original.value.is_finite() {
        let original = x(assessment.original.value);
        drawing.line(
            (original, bar_y - 3.0),
            (original, bar_y + BAR_HEIGHT + 3.0),
            faint(palette),
        );
    }
    if let Some(ends) = got.interval {
        whisker(
            drawing,
            (x(ends.low), x(ends.high)),
            bar_y + BAR_HEIGHT / 2.0,
            palette,
        );
    }
    let lines = [
        (row.floor, solid(palette)),
        (row.floor + assessment.margin, dashed(palette)),
    ];
    for (at, stroke) in lines.into_iter().filter(|(at, _)| at.is_finite()) {
        drawing.line(
            (x(at), bar_y - 4.0),
            (x(at), bar_y + BAR_HEIGHT + 4.0),
            stroke,
        );
    }
    drawing.height += STEP;
    let named = if label == row.name { "" } else { label };
    let gap = if named.is_empty() { "" } else { ", " };
    drawing.describe(&format!(
        "{named}{gap}{}; {}. {}.",
        above_floor(assessment, row),
        measure(metric, got),
        row.verdict
    ));
}

/// The scale below the bars.
fn scale(drawing: &mut Drawing, assessment: &Assessment, axis: &Axis, palette: &Palette) {
    let width = drawing.width;
    let y = drawing.height;
    let stroke = Stroke {
        colour: palette.soft,
        width: 1.0,
        is_dashed: false,
    };
    drawing.line((0.0, y), (width, y), stroke);
    for tick in axis.ticks() {
        let x = axis.x(tick) * width / PANEL;
        let anchor = match x {
            x if x < 12.0 => Anchor::Start,
            x if x > width - 12.0 => Anchor::End,
            _ => Anchor::Middle,
        };
        let text = match assessment.metric.is_rate {
            true => format!("{:.0}\u{a0}%", tick * 100.0),
            false => value(&assessment.metric, tick),
        };
        drawing.line((x, y), (x, y + 5.0), stroke);
        let style = Text::new(FONT, palette.soft).at(anchor);
        drawing.text((x, y + 18.0), &text, 120.0, style);
    }
    drawing.height += 30.0;
}

/// A line with two ends, with a halo that sets it off from the bar.
fn whisker(drawing: &mut Drawing, (low, high): (f64, f64), y: f64, palette: &Palette) {
    for (colour, width) in [(palette.background, 3.5), (palette.ink, 1.5)] {
        let stroke = Stroke {
            colour,
            width,
            is_dashed: false,
        };
        drawing.line((low, y), (high, y), stroke);
        for x in [low, high] {
            drawing.line((x, y - 3.0), (x, y + 3.0), stroke);
        }
    }
}

fn solid(palette: &Palette) -> Stroke {
    Stroke {
        colour: palette.ink,
        width: 2.0,
        is_dashed: false,
    }
}

fn dashed(palette: &Palette) -> Stroke {
    Stroke {
        colour: palette.ink,
        width: 1.5,
        is_dashed: true,
    }
}

fn faint(palette: &Palette) -> Stroke {
    Stroke {
        colour: palette.soft,
        width: 1.0,
        is_dashed: false,
    }
}
