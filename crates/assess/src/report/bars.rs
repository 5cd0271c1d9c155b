//! Draws the results of attacks as bars, with intervals and floors.

use super::draw::*;
use super::text::{above_floor, class, difference, measure, value};
use crate::assessment::{Assessment, AttackRow, Candidate};

/// The range of values, common to all candidates so that bars compare.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Finds an axis with room for each finite value.
    fn of(assessment: &Assessment) -> Axis {
        if assessment.metric.is_rate {
            return Axis {
                low: 0.0,
                high: 1.0,
                step: 0.25,
            };
        }
        let mut values = vec![assessment.original.value];
        values.extend(assessment.floors.iter().map(|floor| floor.measure.value));
        for row in assessment.candidates.iter().flat_map(|c| &c.attacks) {
            values.extend([row.floor, row.floor + assessment.margin]);
            values.extend(row.measure.iter().map(|got| got.value));
            let ends = row.measure.as_ref().and_then(|got| got.interval);
            values.extend(ends.iter().flat_map(|ends| [ends.low, ends.high]));
        }
        let (low, high) = range(values);
        let step = round_step((high - low) / 4.0);
        Axis {
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            step,
        }
    }

    /// Returns the x of a value in a panel; the start for a value that is not finite.
    fn x(&self, value: f64) -> f64 {
        if value.is_nan() {
            return 0.0;
        }
        let share = (value.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        short(share * PANEL)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let n = ((self.high - self.low) / self.step).round();
        let n = n.clamp(0.0, 20.0) as usize;
        (0..=n).map(|i| self.low + i as f64 * self.step)
    }
}

/// Returns the least and the greatest of finite values and 0, spread apart if they are equal.
pub(super) fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let finite = values.into_iter().filter(|value| value.is_finite());
    let (low, high) = finite.fold((0.0_f64, 0.0_f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let is_narrow = high - low < f64::MIN_POSITIVE;
    (low, if is_narrow { low + 1.0 } else { high })
}

/// Returns the next 1, 2 or 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let mut steps = [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter();
    let step = steps.find(|step| *step >= least);
    step.unwrap_or(10.0 * power)
}

/// Draws a bar for each attack on a candidate.
pub(super) fn attacks(assessment: &Assessment, candidate: &Candidate) -> Drawing {
    let rows = candidate.attacks.iter().enumerate();
    let rows = rows.map(|(i, row)| (row.name.clone(), row, candidate.worst == Some(i)));
    bars(assessment, rows)
}

/// Draws the best fill and the best probe of each candidate.
pub(super) fn overview(assessment: &Assessment) -> Drawing {
    let rows = assessment.candidates.iter().flat_map(|candidate| {
        let best = [candidate.best_fill_attack(), candidate.best_probe()];
        let best = best.into_iter().flatten();
        best.map(|row| (format!("{}: {}", candidate.name, row.name), row, false))
    });
    bars(assessment, rows)
}

/// Draws a bar for each label and row, some in bold, and the scale below.
fn bars<'a>(
    assessment: &Assessment,
    rows: impl Iterator<Item = (String, &'a AttackRow, bool)>,
) -> Drawing {
    let axis = Axis::of(assessment);
    let bars = rows.map(|(label, row, is_bold)| bar(assessment, &axis, &label, row, is_bold));
    Drawing::stacked(bars.chain([scale(assessment, &axis)]))
}

fn bar(a: &Assessment, axis: &Axis, label: &str, row: &AttackRow, is_bold: bool) -> Drawing {
    let Some(got) = &row.measure else {
        let body = label_and_figure(label, "not tried", SOFT, false);
        return Drawing::new(26.0, body, format!("{label}: not tried."));
    };
    let colour = format!("var(--{})", class(row.verdict));
    let figure = format!("{} · {}", value(&a.metric, got.value), row.verdict.word());
    let (zero, end) = (axis.x(0.0), axis.x(got.value));
    let mut body = label_and_figure(label, &figure, &colour, is_bold);
    body += &rectangle(0.0, 20.0, PANEL, 10.0, TRACK);
    body += &rectangle(
        zero.min(end),
        20.0,
        short((end - zero).abs()),
        10.0,
        &colour,
    );
    if a.original.value.is_finite() {
        body += &mark(axis.x(a.original.value), 17.0, 16.0, ORIGINAL);
    }
    if let Some(ends) = got.interval {
        body += &whisker(axis.x(ends.low), axis.x(ends.high), 25.0);
    }
    for (at, stroke) in [(row.floor, FLOOR), (row.floor + a.margin, WITH_MARGIN)] {
        if at.is_finite() {
            body += &mark(axis.x(at), 16.0, 18.0, stroke);
        }
    }
    let named = (label != row.name).then(|| format!("{label}, "));
    let (named, what) = (named.unwrap_or_default(), above_floor(a, row));
    let (got, verdict) = (measure(&a.metric, got), row.verdict);
    Drawing::new(44.0, body, format!("{named}{what}; {got}. {verdict}."))
}

/// Draws the scale below the bars.
fn scale(assessment: &Assessment, axis: &Axis) -> Drawing {
    let mut body = line((0.0, 0.0), (PANEL, 0.0), ORIGINAL);
    for tick in axis.ticks() {
        let anchor = match axis.x(tick) {
            x if x < 12.0 => "start",
            x if x > PANEL - 12.0 => "end",
            _ => "middle",
        };
        let text = if assessment.metric.is_rate {
            format!("{:.0}\u{a0}%", tick * 100.0)
        } else {
            value(&assessment.metric, tick)
        };
        body += &mark(axis.x(tick), 0.0, 5.0, ORIGINAL);
        body += &soft(axis.x(tick), 18.0, anchor, &text);
    }
    Drawing::new(30.0, body, "")
}

/// Says what bars, whiskers and marks mean.
pub(super) fn legend(assessment: &Assessment) -> Drawing {
    let mut body = String::new();
    for (x, verdict, name) in [
        (0.0, "holds", "holds"),
        (90.0, "unknown", "cannot tell"),
        (200.0, "leaks", "leaks"),
    ] {
        body += &rectangle(x, 7.0, 22.0, 10.0, &format!("var(--{verdict})"));
        body += &soft(x + 28.0, 16.0, "start", name);
    }
    body += &whisker(0.0, 22.0, 34.0);
    body += &mark(161.0, 26.0, 16.0, FLOOR);
    body += &mark(11.0, 48.0, 16.0, WITH_MARGIN);
    body += &mark(161.0, 48.0, 16.0, ORIGINAL);
    body += &soft(28.0, 38.0, "start", "95 % interval");
    body += &soft(178.0, 38.0, "start", "floor");
    let margin = difference(&assessment.metric, assessment.margin);
    body += &soft(28.0, 60.0, "start", &format!("floor + {margin}"));
    body += &soft(178.0, 60.0, "start", "the model itself");
    Drawing::new(72.0, body, "")
}

const FLOOR: Stroke = (INK, 2.0, "none");
const WITH_MARGIN: Stroke = (INK, 1.5, "3 2");
const ORIGINAL: Stroke = (SOFT, 1.0, "none");

/// Draws a vertical line.
fn mark(x: f64, y: f64, length: f64, stroke: Stroke) -> String {
    line((x, y), (x, y + length), stroke)
}

/// Draws a line with two ends, with a halo that sets it off from the bar.
fn whisker(low: f64, high: f64, y: f64) -> String {
    let whisker = |colour, width| {
        let stroke = (colour, width, "none");
        let ends = [low, high].map(|x| mark(x, y - 3.0, 6.0, stroke));
        line((low, y), (high, y), stroke) + &ends.concat()
    };
    whisker(BACKGROUND, 3.5) + &whisker(INK, 1.5)
}
