//! Pieces of SVG, in the page's colours or in plain ones.

use super::text::{escaped, fitted, text_width};

/// Width of one panel. A phone shows it at its own size.
pub(super) const PANEL: f64 = 330.0;
/// Size of most text.
pub(super) const FONT: f64 = 12.0;
/// Space between panels.
const GAP: f64 = 32.0;

/// Colours. They tell apart for colour-blind readers, and words say the same.
pub(super) struct Palette {
    pub background: &'static str,
    pub ink: &'static str,
    pub soft: &'static str,
    pub track: &'static str,
    pub holds: &'static str,
    pub undecided: &'static str,
    pub leaks: &'static str,
    pub encrypted: &'static str,
}

/// The page's colours, which follow the reader's scheme.
pub(super) const PAGE: Palette = Palette {
    background: "var(--background)",
    ink: "var(--ink)",
    soft: "var(--soft)",
    track: "var(--track)",
    holds: "var(--holds)",
    undecided: "var(--undecided)",
    leaks: "var(--leaks)",
    encrypted: "var(--encrypted)",
};

/// Colours of files that stand alone.
pub(super) const PLAIN: Palette = Palette {
    background: "#ffffff",
    ink: "#1b1b1f",
    soft: "#50545c",
    track: "#e4e7ec",
    holds: "#0072b2",
    undecided: "#6e6e6e",
    leaks: "#bf4a00",
    encrypted: "#5e3a94",
};

/// A drawing with its size, and what it shows in words.
#[derive(Default)]
pub(super) struct Drawing {
    body: String,
    pub width: f64,
    pub height: f64,
    description: String,
}

/// Where text is held.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Drawing {
    /// Makes an empty one.
    pub(super) fn new(width: f64) -> Drawing {
        Drawing {
            width,
            ..Drawing::default()
        }
    }

    /// Adds a sentence to the description.
    pub(super) fn describe(&mut self, sentence: &str) {
        if !self.description.is_empty() {
            self.description.push(' ');
        }
        self.description.push_str(sentence);
    }

    /// Writes text, cut to `width`, with its whole as a tooltip where it is cut.
    pub(super) fn text(&mut self, at: (f64, f64), text: &str, width: f64, style: Text) {
        let shown = fitted(text, width, style.size);
        let anchor = match style.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if style.is_bold { "700" } else { "400" };
        let whole = if shown == text {
            String::new()
        } else {
            format!("<title>{}</title>", escaped(text))
        };
        self.body.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" font-size=\"{}\" font-weight=\"{weight}\" text-anchor=\"{anchor}\" fill=\"{}\">{}{whole}</text>",
            short(at.0), short(at.1), short(style.size), style.colour, escaped(&shown)
        ));
    }

    /// Fills a rectangle.
    pub(super) fn rectangle(&mut self, at: (f64, f64), size: (f64, f64), colour: &str) {
        self.body.push_str(&format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{colour}\"/>",
            short(at.0),
            short(at.1),
            short(size.0.max(0.0)),
            short(size.1.max(0.0))
        ));
    }

    /// Fills a path.
    pub(super) fn path(&mut self, path: &str, colour: &str, opacity: f64) {
        self.body.push_str(&format!(
            "<path d=\"{path}\" fill=\"{colour}\" fill-opacity=\"{}\"/>",
            short(opacity)
        ));
    }

    /// Draws a line.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) {
        let dashes = if stroke.is_dashed {
            " stroke-dasharray=\"3 2\""
        } else {
            ""
        };
        self.body.push_str(&format!(
            "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{}\" stroke-width=\"{}\"{dashes}/>",
            short(from.0), short(from.1), short(to.0), short(to.1), stroke.colour, short(stroke.width)
        ));
    }

    /// Puts a heading above.
    pub(super) fn headed(self, heading: &str, palette: &Palette) -> Drawing {
        let mut head = Drawing::new(self.width);
        head.height = 30.0;
        head.text(
            (0.0, 18.0),
            heading,
            self.width,
            Text::new(16.0, palette.ink).bold(),
        );
        head.describe(&format!("{heading}."));
        head.above(self)
    }

    /// Puts another drawing below.
    pub(super) fn above(mut self, other: Drawing) -> Drawing {
        self.add(&other, 0.0, self.height);
        self
    }

    /// Adds another drawing at a place, and grows to hold it.
    fn add(&mut self, other: &Drawing, x: f64, y: f64) {
        self.body.push_str(&format!(
            "<g transform=\"translate({} {})\">{}</g>",
            short(x),
            short(y),
            other.body
        ));
        self.width = self.width.max(x + other.width);
        self.height = self.height.max(y + other.height);
        self.describe(&other.description);
    }

    /// The SVG element for a page: it grows and shrinks with its place.
    pub(super) fn inline(&self, id: &str, title: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"{id}-title {id}-description\" font-family=\"system-ui, sans-serif\"><title id=\"{id}-title\">{}</title><desc id=\"{id}-description\">{}</desc>{}</svg>",
            short(self.width),
            short(self.height),
            escaped(title),
            escaped(&self.description),
            self.body
        )
    }

    /// The SVG file, with a margin, a background and the title.
    pub(super) fn standing_alone(self, title: &str, palette: &Palette) -> String {
        let margin = 20.0;
        let whole = self.headed(title, palette);
        let (width, height) = (whole.width + 2.0 * margin, whole.height + 2.0 * margin);
        let mut out = Drawing::new(width);
        out.rectangle((0.0, 0.0), (width, height), palette.background);
        out.add(&whole, margin, margin);
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" role=\"img\" aria-labelledby=\"title description\" font-family=\"system-ui, Helvetica, Arial, sans-serif\"><title id=\"title\">{2}</title><desc id=\"description\">{3}</desc>{4}</svg>\n",
            short(width),
            short(height),
            escaped(title),
            escaped(&whole.description),
            out.body
        )
    }
}

/// Panels in rows of four.
pub(super) fn side_by_side(panels: Vec<Drawing>) -> Drawing {
    let mut out = Drawing::new(PANEL);
    for row in panels.chunks(4) {
        let y = if out.height > 0.0 {
            out.height + GAP
        } else {
            0.0
        };
        for (i, panel) in row.iter().enumerate() {
            out.add(panel, i as f64 * (PANEL + GAP), y);
        }
    }
    out
}

/// How text looks.
#[derive(Clone, Copy)]
pub(super) struct Text {
    size: f64,
    colour: &'static str,
    anchor: Anchor,
    is_bold: bool,
}

impl Text {
    pub(super) fn new(size: f64, colour: &'static str) -> Text {
        Text {
            size,
            colour,
            anchor: Anchor::Start,
            is_bold: false,
        }
    }

    pub(super) fn at(self, anchor: Anchor) -> Text {
        Text { anchor, ..self }
    }

    pub(super) fn bold(self) -> Text {
        Text {
            is_bold: true,
            ..self
        }
    }

    pub(super) fn bold_if(self, is_bold: bool) -> Text {
        Text { is_bold, ..self }
    }
}

/// How a line looks.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    pub colour: &'static str,
    pub width: f64,
    pub is_dashed: bool,
}

/// Writes a label at the left and a figure at the right of a panel; the label gives way.
pub(super) fn label_and_figure(
    drawing: &mut Drawing,
    y: f64,
    label: (&str, bool),
    figure: (&str, &'static str),
    palette: &Palette,
) {
    let width = drawing.width;
    let figure_width = text_width(figure.0, FONT).min(width * 0.6);
    let (label, is_bold) = label;
    let room = (width - figure_width - 10.0) * if is_bold { 0.93 } else { 1.0 };
    let style = Text::new(FONT, palette.ink).bold_if(is_bold);
    drawing.text((0.0, y), label, room, style);
    let style = Text::new(FONT, figure.1).at(Anchor::End).bold_if(is_bold);
    drawing.text((width, y), figure.0, width * 0.62, style);
}

/// A number with at most two places.
pub(super) fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}
