//! Where in each operator's weights the encrypted ones are.

use crate::assessment::{Candidate, OperatorRow};

use super::draw::{Drawing, FONT, PANEL, Palette, Text, label_and_figure, short};
use super::text::{bytes, percent};

/// Operators that have a strip of their own.
pub(super) const MOST_STRIPS: usize = 40;
/// Shades of a part, from nothing to all of it.
const LEVELS: usize = 8;
const STRIP_HEIGHT: f64 = 12.0;
const STEP: f64 = 38.0;

/// Draws a strip for each operator: darker is more encrypted. The largest operators have strips, the others a line.
pub(super) fn operators(candidate: &Candidate, palette: &Palette) -> Drawing {
    let mut drawing = Drawing::new(PANEL);
    let (shown, rest) = largest(&candidate.operators);
    for row in &shown {
        let name = label(row);
        let figure = format!("{} of {}", percent(row.share), bytes(row.bytes));
        drawing.describe(&format!("{name}: {figure}."));
        let y = drawing.height;
        label_and_figure(
            &mut drawing,
            y + FONT,
            (&name, false),
            (&figure, palette.soft),
            palette,
        );
        strip(&mut drawing, row, y + FONT + 5.0, palette);
        drawing.height += STEP;
    }
    let line = match (shown.is_empty(), rest.is_empty()) {
        (true, _) => "No operator owns weights.".to_owned(),
        (false, true) => return drawing,
        (false, false) => {
            let sum = |of: fn(&OperatorRow) -> u64| {
                rest.iter()
                    .fold(0_u64, |sum, row| sum.saturating_add(of(row)))
            };
            format!(
                "{} smaller operators: {} of {}",
                rest.len(),
                bytes(sum(|row| row.encrypted_bytes)),
                bytes(sum(|row| row.bytes))
            )
        }
    };
    let at = (0.0, drawing.height + FONT);
    drawing.text(at, &line, PANEL, Text::new(FONT, palette.soft));
    drawing.height += FONT + 8.0;
    drawing.describe(&line);
    drawing
}

/// Says what the shades mean.
pub(super) fn legend(palette: &Palette) -> Drawing {
    let mut drawing = Drawing::new(PANEL);
    let style = Text::new(FONT, palette.soft);
    let entries = [("none", 0.0), ("part", 0.5), ("all encrypted", 1.0)];
    for (i, (name, share)) in entries.into_iter().enumerate() {
        let x = i as f64 * 84.0;
        drawing.rectangle((x, 6.0), (22.0, STRIP_HEIGHT), palette.track);
        if share > 0.0 {
            let path = format!("M{} 6h22v{STRIP_HEIGHT}h-22z", short(x));
            drawing.path(&path, palette.encrypted, opacity(share));
        }
        drawing.text((x + 28.0, 16.0), name, 100.0, style);
    }
    drawing.height = 24.0;
    drawing
}

/// The largest operators in file order, and the others.
fn largest(operators: &[OperatorRow]) -> (Vec<&OperatorRow>, Vec<&OperatorRow>) {
    let mut order: Vec<usize> = (0..operators.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(operators[*i].bytes), *i));
    let mut is_shown = vec![false; operators.len()];
    order
        .iter()
        .take(MOST_STRIPS)
        .for_each(|i| is_shown[*i] = true);
    let shown_and_rest: (Vec<_>, Vec<_>) = operators
        .iter()
        .zip(is_shown)
        .partition(|(_, is_shown)| *is_shown);
    let rows = |pairs: Vec<(_, bool)>| pairs.into_iter().map(|(row, _)| row).collect();
    (rows(shown_and_rest.0), rows(shown_and_rest.1))
}

fn label(row: &OperatorRow) -> String {
    match (row.node.is_empty(), row.tensors.first()) {
        (false, _) => format!("{} {}", row.op_type, row.node),
        (true, Some(tensor)) => format!("{} {}", row.op_type, tensor.name),
        (true, None) => row.op_type.clone(),
    }
}

fn strip(drawing: &mut Drawing, row: &OperatorRow, y: f64, palette: &Palette) {
    drawing.rectangle((0.0, y), (PANEL, STRIP_HEIGHT), palette.track);
    let width = PANEL / row.strip.len().max(1) as f64;
    // One path for each shade keeps pages of many operators small.
    let mut paths = vec![String::new(); LEVELS + 1];
    let mut bins = row.strip.iter().map(|share| level(*share)).enumerate();
    let mut run = bins.next().map(|(i, level)| (i, i + 1, level));
    while let Some((begin, end, level)) = run {
        run = bins.next().map(|(i, level)| (i, i + 1, level));
        if let Some((next_begin, next_end, next_level)) = run
            && next_level == level
        {
            run = Some((begin, next_end, level));
            debug_assert_eq!(next_begin, end);
            continue;
        }
        let x = begin as f64 * width;
        let length = (end - begin) as f64 * width;
        let rectangle = format!(
            "M{} {}h{}v{STRIP_HEIGHT}h{}z",
            short(x),
            short(y),
            short(length),
            short(-length)
        );
        paths[level].push_str(&rectangle);
    }
    for (level, path) in paths.iter().enumerate().skip(1) {
        if !path.is_empty() {
            drawing.path(
                path,
                palette.encrypted,
                opacity(level as f64 / LEVELS as f64),
            );
        }
    }
}

/// The shade of a share: the lightest is left to what has no encrypted element at all.
fn level(share: f32) -> usize {
    let level = (share.clamp(0.0, 1.0) * LEVELS as f32).ceil();
    (level as usize).min(LEVELS)
}

/// Light shades still stand out from the track.
fn opacity(share: f64) -> f64 {
    0.2 + 0.8 * share
}
