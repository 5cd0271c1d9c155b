//! An [`Assessment`] for people: one HTML file, single SVG files, or a table in plain text.
//!
//! The page stands alone: it has no script, and it fetches nothing. It is well-formed XML, too. All that comes from a
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

use crate::assessment::{Assessment, Candidate, PublicBase};
use crate::tune::Tuning;
use draw::{Drawing, PLAIN};
pub(crate) use text::floor as floor_in_words;

/// The line before every verdict, where nobody tried a public base.
fn base_warning(assessment: &Assessment) -> Option<&'static str> {
    (assessment.public_base == PublicBase::NotTried).then_some(
        "Nobody tried a public base. Most models that people ship were fine-tuned from one; whoever has it gets more than these \
         figures say. Name the base, or state that there is none.",
    )
}

/// Makes a page of an assessment: verdicts first, then what each attack gets, what is encrypted, and what remains open.
pub fn html(assessment: &Assessment) -> String {
    page::page(assessment)
}

/// Makes a picture of a tuning, as an SVG file: the curve, with the tiers on it.
pub fn curve_svg(tuning: &Tuning) -> String {
    let title = format!("Editions of {}", tuning.model);
    curve::draw(tuning, &PLAIN).standing_alone(&title, &PLAIN)
}

/// Makes the page's pictures as files of their own: names such as `attacks.svg`, each with its SVG text.
///
/// `presets.svg` has the best fill and the best probe of each candidate, `attacks.svg` all attacks,
/// `encrypted.svg` where the encrypted weights are.
pub fn plots(assessment: &Assessment) -> Vec<(String, String)> {
    let axis = bars::Axis::of(assessment);
    let side_by_side = |draw: &dyn Fn(&Candidate) -> Drawing| {
        let panels = assessment.candidates.iter().map(|candidate| {
            let heading = format!("{}: {}", candidate.name, candidate.verdict);
            draw(candidate).headed(&heading, &PLAIN)
        });
        draw::side_by_side(panels.collect())
    };
    let attacks = side_by_side(&|candidate| bars::attacks(assessment, candidate, &axis, &PLAIN));
    let encrypted = side_by_side(&|candidate| strips::operators(candidate, &PLAIN));
    let best = bars::overview(assessment, &axis, &PLAIN);
    let bars_legend = || bars::legend(assessment, &PLAIN);
    let file = |name: &str, drawing: Drawing, title: &str| {
        let title = format!("{title}: {}", assessment.model);
        (name.to_owned(), drawing.standing_alone(&title, &PLAIN))
    };
    vec![
        file(
            "presets.svg",
            best.above(bars_legend()),
            "Best fill and best probe",
        ),
        file(
            "attacks.svg",
            attacks.above(bars_legend()),
            "What each attack gets",
        ),
        file(
            "encrypted.svg",
            encrypted.above(strips::legend(&PLAIN)),
            "What is encrypted",
        ),
    ]
}
