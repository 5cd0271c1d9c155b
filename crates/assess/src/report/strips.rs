//! Draws where the encrypted parts of each operator's weights lie.

use std::cmp::Reverse;

use super::draw::*;
use super::text::{bytes, percent};
use crate::assessment::{Candidate, OperatorRow};

/// The most operators with a strip of their own.
pub(super) const MOST_STRIPS: usize = 40;
/// The number of shades, from nothing to all of a part.
const LEVELS: usize = 8;

/// Draws a strip for each operator, darker where more is encrypted. Beyond [`MOST_STRIPS`], the
/// smallest operators share a line.
pub(super) fn operators(candidate: &Candidate) -> Drawing {
    let operators = &candidate.operators;
    let mut order: Vec<usize> = (0..operators.len()).collect();
    order.sort_by_key(|i| (Reverse(operators[*i].bytes), *i));
    let (shown, rest) = order.split_at_mut(MOST_STRIPS.min(operators.len()));
    shown.sort_unstable();
    let strips = shown.iter().map(|i| strip(&operators[*i]));
    let line = if operators.is_empty() {
        Some("No operator owns weights.".to_owned())
    } else if rest.is_empty() {
        None
    } else {
        let sum = |of: fn(&OperatorRow) -> u64| {
            let sizes = rest.iter().map(|i| of(&operators[*i]));
            bytes(sizes.fold(0, u64::saturating_add))
        };
        let (encrypted, all) = (sum(|row| row.encrypted_bytes), sum(|row| row.bytes));
        Some(format!(
            "{} smaller operators: {encrypted} of {all}",
            rest.len()
        ))
    };
    let line = line.map(|line| Drawing::new(20.0, soft(0.0, 12.0, "start", &line), line));
    Drawing::stacked(strips.chain(line))
}

/// Explains the shades.
pub(super) fn legend() -> Drawing {
    let mut body = String::new();
    for (x, name, opacity) in [
        (0, "none", 0.0),
        (84, "part", opacity(0.5)),
        (168, "all encrypted", 1.0),
    ] {
        let x = f64::from(x);
        body += &rectangle(x, 6.0, 22.0, 12.0, TRACK);
        body += &shade(&format!("M{x} 6h22v12h-22z"), opacity);
        body += &soft(x + 28.0, 16.0, "start", name);
    }
    Drawing::new(24.0, body, "")
}

fn strip(row: &OperatorRow) -> Drawing {
    let name = match (row.node.as_str(), row.tensors.first()) {
        ("", Some(tensor)) => format!("{} {}", row.op_type, tensor.name),
        ("", None) => row.op_type.clone(),
        (node, _) => format!("{} {node}", row.op_type),
    };
    let figure = format!("{} of {}", percent(row.share), bytes(row.bytes));
    let label = label_and_figure(&name, &figure, SOFT, false);
    let body = label + &rectangle(0.0, 17.0, PANEL, 12.0, TRACK) + &shades(&row.strip);
    Drawing::new(38.0, body, format!("{name}: {figure}."))
}

/// Draws one path for each shade, which keeps pages with many operators small. A part is 1 wide
/// before it is stretched.
fn shades(strip: &[f32]) -> String {
    let levels: Vec<usize> = strip.iter().map(|share| level(*share)).collect();
    let mut paths = vec![String::new(); LEVELS + 1];
    let mut at = 0;
    for run in levels.chunk_by(|a, b| a == b) {
        let n = run.len();
        paths[run[0]] += &format!("M{at} 0h{n}v12h-{n}z");
        at += n;
    }
    let paths = paths.iter().enumerate().skip(1);
    let paths = paths.filter(|(_, path)| !path.is_empty());
    let paths = paths.map(|(level, path)| shade(path, opacity(level as f64 / LEVELS as f64)));
    let (width, paths) = (PANEL / at.max(1) as f64, paths.collect::<String>());
    format!(r#"<g transform="translate(0 17) scale({width} 1)">{paths}</g>"#)
}

fn shade(path: &str, opacity: f64) -> String {
    format!(r#"<path d="{path}" fill="{ENCRYPTED}" fill-opacity="{opacity}"/>"#)
}

/// Returns the shade of a share. Only parts without any encrypted element get the lightest.
fn level(share: f32) -> usize {
    let level = (share.clamp(0.0, 1.0) * LEVELS as f32).ceil();
    (level as usize).min(LEVELS)
}

/// Returns an opacity at which even light shades stand out from the track.
fn opacity(share: f64) -> f64 {
    0.2 + 0.8 * share
}
