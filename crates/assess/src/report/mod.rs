//! An [`Assessment`] for people: one HTML file, single SVG files, or a table in plain text.
//!
//! The page stands alone, without scripts or fetched parts, and is well-formed XML. All text from a
//! model or its data is escaped.

mod bars;
pub mod curve;
mod draw;
mod page;
mod strips;
pub mod summary;
#[cfg(test)]
mod tests;
mod text;

use crate::assessment::{Assessment, Candidate};
use crate::tune::Tuning;
use draw::Drawing;

/// Makes a page of an assessment: verdicts first, then the result of each attack, the encrypted
/// parts, and what remains open.
pub fn html(assessment: &Assessment) -> String {
    page::page(assessment)
}

/// Makes a picture of a tuning, as an SVG file: the curve, with the tiers on it.
pub fn curve_svg(tuning: &Tuning) -> String {
    curve::draw(tuning).file(&format!("Editions of {}", tuning.model))
}

/// Makes the page's pictures as separate files: names such as `attacks.svg`, each with its SVG
/// text.
///
/// `presets.svg` has the best fill and the best probe of each candidate, `attacks.svg` all attacks,
/// and `encrypted.svg` the places of the encrypted weights.
pub fn plots(assessment: &Assessment) -> Vec<(String, String)> {
    let candidates = |draw: &dyn Fn(&Candidate) -> Drawing| {
        Drawing::side_by_side(assessment.candidates.iter().map(|candidate| {
            draw(candidate).headed(&format!("{}: {}", candidate.name, candidate.verdict))
        }))
    };
    let best = bars::overview(assessment);
    let attacks = candidates(&|candidate| bars::attacks(assessment, candidate));
    let bars_legend = || bars::legend(assessment);
    let encrypted = candidates(&strips::operators);
    [
        ("presets", "Best fill and best probe", [best, bars_legend()]),
        ("attacks", "What each attack gets", [attacks, bars_legend()]),
        (
            "encrypted",
            "What is encrypted",
            [encrypted, strips::legend()],
        ),
    ]
    .map(|(name, title, parts)| {
        let title = format!("{title}: {}", assessment.model);
        (format!("{name}.svg"), Drawing::stacked(parts).file(&title))
    })
    .into()
}
