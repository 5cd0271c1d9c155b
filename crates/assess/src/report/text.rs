//! Numbers and names as people read them.

use crate::assessment::{
    Assessment, AttackRow, Floor, FloorKind, Interval, Measure, MetricRow, Verdict,
};

/// Escapes text for HTML and XML. What XML cannot hold, and what turns the direction of writing, becomes U+FFFD.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            other if other.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// The start of `text` that fits into `width` at a font size, with an ellipsis where it is cut.
pub(super) fn fitted(text: &str, width: f64, font_size: f64) -> String {
    if text_width(text, font_size) <= width {
        return text.to_owned();
    }
    let mut room = width - font_size;
    let fits = |character: &char| {
        room -= char_width(*character) * font_size;
        room >= 0.0
    };
    let mut start: String = text.chars().take_while(fits).collect();
    start.push('…');
    start
}

/// About the width of text in a sans-serif font.
pub(super) fn text_width(text: &str, font_size: f64) -> f64 {
    text.chars().map(char_width).sum::<f64>() * font_size
}

/// About the width of a character, for a font size of 1.
fn char_width(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '/'
        | '(' | ')' | ' ' | '\u{a0}' => 0.36,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.92,
        'A'..='Z' | '_' => 0.72,
        character if character.is_ascii() => 0.58,
        '·' | '–' => 0.58,
        _ => 1.05,
    }
}

/// `1234 bytes`, `12.3 KB`.
pub(super) fn bytes(n: u64) -> String {
    let n_float = n as f64;
    match n {
        0..=9_999 => format!("{n}\u{a0}bytes"),
        10_000..=999_999 => format!("{:.1}\u{a0}KB", n_float / 1e3),
        1_000_000..=999_999_999 => format!("{:.1}\u{a0}MB", n_float / 1e6),
        _ => format!("{:.2}\u{a0}GB", n_float / 1e9),
    }
}

/// `1.2 ms`, `3.40 s`.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.1 => format!("{:.1}\u{a0}ms", s * 1e3),
        s if s < 1.0 => format!("{:.0}\u{a0}ms", s * 1e3),
        s if s < 100.0 => format!("{s:.2}\u{a0}s"),
        s => format!("{s:.0}\u{a0}s"),
    }
}

/// `12.3 %`, with a space that does not break.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1}\u{a0}%", share * 100.0)
}

/// A value of the metric with its unit.
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

/// A difference of two values: `5.0 points`, `1.0 dB`.
pub(super) fn difference(metric: &MetricRow, by: f64) -> String {
    if metric.is_rate {
        format!("{:.1}\u{a0}points", by * 100.0)
    } else {
        value(metric, by)
    }
}

/// `95.1 % to 97.9 %`.
pub(super) fn interval(metric: &MetricRow, interval: Interval) -> String {
    format!(
        "{} to {}",
        value(metric, interval.low),
        value(metric, interval.high)
    )
}

/// A value with its interval, and how many answers are no numbers.
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

/// What an attacker does who uses no encrypted weight.
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

/// A floor with the labels that it takes.
pub(crate) fn floor(floor: &Floor) -> String {
    let kind = floor_kind(floor.kind);
    match floor.n_labels {
        Some(n) => format!("{kind}, {n} labels"),
        None => kind.to_owned(),
    }
}

/// A verdict in words.
pub(super) fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Undecided {
            needed_samples: Some(n),
        } => format!("undecided: about {n} samples would do"),
        other => other.to_string(),
    }
}

/// What an attack gets, and how far that is above its floor.
pub(super) fn above_floor(assessment: &Assessment, row: &AttackRow) -> String {
    let metric = &assessment.metric;
    let Some(measure) = &row.measure else {
        return format!("{}: not tried", row.name);
    };
    let by = measure.value - row.floor;
    let how = if by.is_finite() {
        let side = if by < 0.0 { "below" } else { "above" };
        format!("{} {side}", difference(metric, by.abs()))
    } else {
        "no comparable number".to_owned()
    };
    format!(
        "{}: {}; that is {how} the floor of {} ({})",
        row.name,
        value(metric, measure.value),
        value(metric, row.floor),
        floor_kind(row.floor_kind)
    )
}
