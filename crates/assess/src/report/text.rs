//! Formats numbers and names for people.

use onnxseal_store::is_deceptive;

use crate::assessment::{Assessment, Floor, FloorKind, Interval, Measure, MetricRow, PublicBase};

/// Returns the line before every verdict if no public base was tried.
pub(super) fn base_warning(assessment: &Assessment) -> Option<&'static str> {
    (assessment.public_base == PublicBase::NotTried).then_some(
        "Nobody tried a public base. Most models that people ship were fine-tuned from one; whoever has it gets more than these \
         figures say. Name the base, or state that there is none.",
    )
}

/// Replaces by U+FFFD the characters that XML forbids, or that mislead readers.
pub(super) fn visible(text: &str) -> String {
    let shown = |character: char| match character {
        '\t' | '\n' | '\r' => ' ',
        '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        other if is_deceptive(other) => '\u{fffd}',
        other => other,
    };
    text.chars().map(shown).collect()
}

/// Formats bytes: `123 B`, `12.34 KiB`.
pub(super) fn bytes(n: u64) -> String {
    match n.checked_ilog2().unwrap_or(0) / 10 {
        0 => format!("{n}\u{a0}B"),
        power => {
            let power = power.min(4);
            let n = n as f64 / 1024_f64.powi(power as i32);
            format!("{n:.2}\u{a0}{}iB", ["", "K", "M", "G", "T"][power as usize])
        }
    }
}

/// Formats a time: `1.2 ms`, `3.40 s`.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.1 => format!("{:.1}\u{a0}ms", s * 1e3),
        s if s < 1.0 => format!("{:.0}\u{a0}ms", s * 1e3),
        s if s < 100.0 => format!("{s:.2}\u{a0}s"),
        s => format!("{s:.0}\u{a0}s"),
    }
}

/// Formats a share: `12.3 %`, with a no-break space.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}\u{a0}%", share * 100.0)
}

/// Formats a value of the metric with its unit.
pub(super) fn value(metric: &MetricRow, value: f64) -> String {
    if value.is_nan() {
        return "no number".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "−∞" }.to_owned();
    }
    match (metric.is_rate, metric.unit.as_str()) {
        (true, _) => percent(value),
        (false, "") => format!("{value:.4}"),
        (false, unit) => format!("{value:.1}\u{a0}{unit}"),
    }
}

/// Formats a difference of two values: `5.0 points`, `1.0 dB`.
pub(super) fn difference(metric: &MetricRow, by: f64) -> String {
    if metric.is_rate {
        format!("{:.1}\u{a0}points", by * 100.0)
    } else {
        value(metric, by)
    }
}

/// Formats an interval: `95.1 % to 97.9 %`.
pub(super) fn interval(metric: &MetricRow, interval: Interval) -> String {
    let (low, high) = (value(metric, interval.low), value(metric, interval.high));
    format!("{low} to {high}")
}

/// Formats a value with its interval, and the number of answers that are not numbers.
pub(super) fn measure(metric: &MetricRow, measure: &Measure) -> String {
    let mut text = value(metric, measure.value);
    if let Some(ends) = measure.interval {
        text.push_str(&format!(" ({})", interval(metric, ends)));
    }
    if measure.n_nan > 0 {
        text.push_str(&format!("; {} answers are no numbers", measure.n_nan));
    }
    text
}

/// Says what an attacker does without the model's weights.
pub(super) fn floor_kind(kind: FloorKind) -> &'static str {
    match kind {
        FloorKind::Constant => "the same answer always",
        FloorKind::RawProbe => "a probe on the inputs themselves",
        FloorKind::FullRandom => "zeros or random numbers for all weights",
        FloorKind::FullProbe => "a probe on a model of random weights",
        FloorKind::NextTier => "twice the margin below the next tier",
        FloorKind::PassThrough => "the input in place of the output",
        FloorKind::Base => "the public base for all weights",
        FloorKind::BaseProbe => "a probe on the public base",
    }
}

/// Names a floor with its number of labels.
pub(crate) fn floor(floor: &Floor) -> String {
    let kind = floor_kind(floor.kind);
    match floor.n_labels {
        Some(n) => format!("{kind}, {n} labels"),
        None => kind.to_owned(),
    }
}
