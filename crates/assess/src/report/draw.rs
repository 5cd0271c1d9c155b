//! Pictures as SVG: elements, their size, and their contents in words.

use super::text::{element, escaped};

/// Width of one panel, which a phone shows unscaled.
pub(super) const PANEL: f64 = 330.0;
/// Size of most text, as in `picture.svg`.
pub(super) const FONT: f64 = 12.0;

// The page's colours, which follow the reader's scheme: `page.css` has them.
pub(super) const BACKGROUND: &str = "var(--background)";
pub(super) const INK: &str = "var(--ink)";
pub(super) const SOFT: &str = "var(--soft)";
pub(super) const TRACK: &str = "var(--track)";
pub(super) const ENCRYPTED: &str = "var(--encrypted)";

/// SVG elements with their size, and their contents in words.
pub(super) struct Drawing {
    body: String,
    height: f64,
    words: String,
}

impl Drawing {
    /// Makes a panel of a height, described by `words`.
    pub(super) fn new(height: f64, body: String, words: impl Into<String>) -> Drawing {
        Drawing {
            body,
            height,
            words: words.into(),
        }
    }

    /// Puts drawings below each other.
    pub(super) fn stacked(parts: impl IntoIterator<Item = Drawing>) -> Drawing {
        let mut whole = Drawing::new(0.0, String::new(), "");
        for Drawing {
            body,
            height,
            words,
        } in parts
        {
            whole.body += &format!("<g transform=\"translate(0 {})\">{body}</g>", whole.height);
            whole.height += height;
            if !whole.words.is_empty() && !words.is_empty() {
                whole.words.push(' ');
            }
            whole.words += &words;
        }
        whole
    }

    /// Makes the SVG element; `id` begins the ids in it.
    pub(super) fn svg(&self, id: &str, title: &str) -> String {
        format!(
            include_str!("picture.svg"),
            id = id,
            width = PANEL,
            height = self.height,
            title = escaped(title),
            words = escaped(&self.words),
            body = self.body,
        )
    }
}

/// Writes a label at the left of a panel and a figure at its right, 12 below its top. Cuts the
/// label if both do not fit.
pub(super) fn label_and_figure(label: &str, figure: &str, colour: &str, is_bold: bool) -> String {
    let (weight, bold_room) = if is_bold { (700, 0.93) } else { (400, 1.0) };
    let room = PANEL - text_width(figure, FONT).min(PANEL * 0.6) - 10.0;
    let label = cut(label, room * bold_room, FONT);
    let figure = cut(figure, PANEL * 0.62, FONT);
    let label = format!(r#"<text y="12" fill="{INK}">{label}</text>"#);
    let figure =
        format!(r#"<text x="{PANEL}" y="12" text-anchor="end" fill="{colour}">{figure}</text>"#);
    format!(r#"<g font-weight="{weight}">{label}{figure}</g>"#)
}

/// Writes text in the soft colour.
pub(super) fn soft(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let tag = format!(r#"text x="{x}" y="{y}" text-anchor="{anchor}" fill="{SOFT}""#);
    element(&tag, text)
}

/// Fills a rectangle.
pub(super) fn rectangle(x: f64, y: f64, width: f64, height: f64, colour: &str) -> String {
    format!(r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}"/>"#)
}

/// A line's colour, width and dashes.
pub(super) type Stroke = (&'static str, f64, &'static str);

/// Draws a line.
pub(super) fn line(from: (f64, f64), to: (f64, f64), (colour, width, dashes): Stroke) -> String {
    let ((x1, y1), (x2, y2)) = (from, to);
    let ends = format!(r#"x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}""#);
    let stroke = format!(r#"stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}""#);
    format!("<line {ends} {stroke}/>")
}

/// Cuts text to fit into `room` at a font size. Cut text ends in an ellipsis, and a tooltip has all
/// of it.
pub(super) fn cut(text: &str, room: f64, size: f64) -> String {
    if text_width(text, size) <= room {
        return escaped(text);
    }
    let mut room = room - size;
    let fits = |character: &char| {
        room -= char_width(*character) * size;
        room >= 0.0
    };
    let start: String = text.chars().take_while(fits).collect();
    escaped(&start) + "…" + &element("title", text)
}

/// Estimates the width of text in a sans-serif font.
fn text_width(text: &str, size: f64) -> f64 {
    text.chars().map(char_width).sum::<f64>() * size
}

/// Estimates the width of a character, for a font size of 1.
fn char_width(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '/'
        | '(' | ')' | ' ' | '\u{a0}' => 0.36,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.92,
        'A'..='Z' | '_' => 0.72,
        '·' | '–' => 0.58,
        character if character.is_ascii() => 0.58,
        _ => 1.05,
    }
}

/// Formats a coordinate to a hundredth.
pub(super) fn short(place: f64) -> f64 {
    (place * 100.0).round() / 100.0
}
