//! Fills in `page.html`. The page's content security policy forbids scripts and fetching.

use std::cmp::Reverse;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context, escape_formatter};

use super::text::*;
use crate::assessment::{Assessment, AttackRow, Candidate, Measure, OperatorRow, Verdict};
use crate::error::Result;

/// The most operators with a strip of their own.
pub(super) const MOST_STRIPS: usize = 40;
/// The number of shades, from nothing to all of a part.
const LEVELS: f32 = 8.0;

/// Makes a page of an assessment: verdicts first, then the result of each attack, the encrypted
/// parts, and what remains open.
pub fn html(a: &Assessment) -> Result<String> {
    let metric = a.metric.clone();
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_formatter(|out, state, value| match value.as_str() {
        Some(text) if !value.is_safe() => escape_formatter(out, state, &visible(text).into()),
        _ => escape_formatter(out, state, value),
    });
    environment.add_filter("bytes", bytes);
    environment.add_filter("percent", percent);
    environment.add_filter("seconds", seconds);
    environment.add_filter("value", move |of: f64| value(&metric, of));
    let axis = Axis::of(a);
    let candidates = a.candidates.iter().map(|it| candidate(a, &axis, it));
    let floors = a.floors.iter().map(|row| {
        let ends = row.measure.interval.map(|ends| interval(&a.metric, ends));
        context! { name => floor(row), ends, measure => Serde(&row.measure) }
    });
    let context = context! {
        a => Serde(a),
        style => Value::from_safe_string(include_str!("page.css").to_owned()),
        warning => base_warning(a),
        original => measure(&a.metric, &a.original),
        margin => difference(&a.metric, a.margin),
        low => axis.low,
        high => axis.high,
        candidates => candidates.collect::<Vec<_>>(),
        floors => floors.collect::<Vec<_>>(),
    };
    Ok(environment.render_str(include_str!("page.html"), context)?)
}

fn candidate(a: &Assessment, axis: &Axis, candidate: &Candidate) -> Value {
    let got = |row: Option<&AttackRow>| row.map(|row| attack(a, axis, row, false));
    let rows = candidate.attacks.iter().enumerate();
    let rows = rows.map(|(i, row)| attack(a, axis, row, candidate.worst == Some(i)));
    let (operators, others) = operators(&candidate.operators);
    context! {
        verdict => candidate.verdict.to_string(),
        class => class(candidate.verdict),
        reason => a.reason(candidate),
        fill => got(candidate.best_fill_attack()),
        probe => got(candidate.best_probe()),
        attacks => rows.collect::<Vec<_>>(),
        operators,
        others,
        ..Value::from(Serde(candidate))
    }
}

fn attack(a: &Assessment, axis: &Axis, row: &AttackRow, decides: bool) -> Value {
    let places = [
        ("original", a.original.value),
        ("floor", row.floor),
        ("margin", row.floor + a.margin),
    ];
    let marks = places.into_iter().filter_map(|(kind, value)| {
        let left = axis.place(value)?;
        Some(context! { kind, left })
    });
    let bar = row.measure.as_ref().map(|got| {
        let whisker = got.interval.and_then(|ends| axis.span(ends.low, ends.high));
        context! {
            bar => axis.span(0.0, got.value),
            whisker,
            marks => marks.collect::<Vec<_>>(),
        }
    });
    let (reached, kind) = (value(&a.metric, row.floor), floor_kind(row.floor_kind));
    context! {
        name => &row.name,
        decides,
        got => row.measure.as_ref().map(|got| measure(&a.metric, got)),
        bar,
        class => class(row.verdict),
        verdict => row.verdict.to_string(),
        floor => format!("{reached} ({kind})"),
        remarks => remarks(a, row),
    }
}

fn remarks(a: &Assessment, row: &AttackRow) -> String {
    let seeds = row.seeds.iter().map(|got| value(&a.metric, *got));
    let seeds: Vec<String> = seeds.collect();
    let (layer, got) = (row.layer.as_ref(), row.measure.as_ref());
    let share = |of: fn(&Measure) -> Option<f64>| got.and_then(of).map(percent);
    let remarks = [
        layer.map(|layer| format!("looks at {layer}")),
        (seeds.len() > 1).then(|| format!("seeds: {}", seeds.join(", "))),
        share(|got| got.agreement).map(|share| format!("agrees with the model: {share}")),
        share(|got| got.top5).map(|share| format!("among the first five: {share}")),
        (got.and_then(|got| got.relative_error)).map(|of| format!("relative error {of:.3}")),
        row.note.clone(),
    ];
    Vec::from_iter(remarks.into_iter().flatten()).join("; ")
}

/// Returns the name of a verdict's colour.
fn class(verdict: Verdict) -> &'static str {
    ["holds", "unknown", "leaks"][usize::from(verdict.rank())]
}

/// The range of values that bars show: one for all, so that they compare.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// Finds a range of 0 and each finite value.
    fn of(a: &Assessment) -> Axis {
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        let mut show = |value: f64| {
            if value.is_finite() {
                (low, high) = (low.min(value), high.max(value));
            }
        };
        if a.metric.is_rate {
            show(1.0);
        } else {
            show(a.original.value);
            for row in a.candidates.iter().flat_map(|it| &it.attacks) {
                show(row.floor + a.margin);
                row.measure.iter().for_each(|got| show(got.value));
            }
        }
        if high - low < f64::MIN_POSITIVE {
            high = low + 1.0;
        }
        Axis { low, high }
    }

    /// Returns the place of a value in percent of the range, unless it is not a number.
    fn place(&self, value: f64) -> Option<f64> {
        let share = (value.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        share.is_finite().then(|| (share * 1e4).round() / 100.0)
    }

    /// Returns the left end and the width of what lies between two values.
    fn span(&self, from: f64, to: f64) -> Option<Value> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        Some(context! { left => from.min(to), width => (to - from).abs() })
    }
}

/// Makes a strip for each operator, darker where more is encrypted. Beyond [`MOST_STRIPS`], the
/// smallest operators share a line.
fn operators(operators: &[OperatorRow]) -> (Vec<Value>, Option<String>) {
    let mut order: Vec<usize> = (0..operators.len()).collect();
    order.sort_by_key(|i| (Reverse(operators[*i].bytes), *i));
    let (shown, rest) = order.split_at_mut(MOST_STRIPS.min(operators.len()));
    shown.sort_unstable();
    let strips = shown.iter().map(|i| strip(&operators[*i])).collect();
    let sum = |of: fn(&OperatorRow) -> u64| {
        let sizes = rest.iter().map(|i| of(&operators[*i]));
        bytes(sizes.fold(0, u64::saturating_add))
    };
    let (n, encrypted, all) = (rest.len(), sum(|it| it.encrypted_bytes), sum(|it| it.bytes));
    let others = (n > 0).then(|| format!("{n} smaller operators: {encrypted} of {all}"));
    (strips, others)
}

fn strip(row: &OperatorRow) -> Value {
    let name = match (row.node.as_str(), row.tensors.first()) {
        ("", Some(tensor)) => format!("{} {}", row.op_type, tensor.name),
        ("", None) => row.op_type.clone(),
        (node, _) => format!("{} {node}", row.op_type),
    };
    // Only parts without any encrypted element are as light as the track.
    let level = |share: &f32| (share.clamp(0.0, 1.0) * LEVELS).ceil();
    let (mut left, percent_of_part) = (0.0, 100.0 / row.strip.len().max(1) as f64);
    let mut runs = Vec::new();
    for run in row.strip.chunk_by(|a, b| level(a) == level(b)) {
        let (width, level) = (run.len() as f64 * percent_of_part, level(&run[0]));
        if level > 0.0 {
            // Even light shades stand out from the track.
            let opacity = 0.2 + 0.1 * level;
            runs.push(context! { left, width, opacity => format!("{opacity:.1}") });
        }
        left += width;
    }
    let figure = format!("{} of {}", percent(row.share), bytes(row.bytes));
    context! { name, figure, runs }
}
