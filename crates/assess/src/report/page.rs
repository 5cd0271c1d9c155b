//! The page.

use crate::assessment::{Assessment, AttackRow, Candidate, Verdict};

use super::draw::{Drawing, PAGE};
use super::text::{
    above_floor, bytes, difference, escaped, floor, floor_kind, interval, measure, percent,
    seconds, value, verdict,
};
use super::{bars, strips};

/// Its policy lets nothing be fetched and nothing run.
const HEAD: &str = include_str!("head.html");
const STYLE: &str = include_str!("page.css");

pub(super) fn page(assessment: &Assessment) -> String {
    let title = format!("What attackers get from {}", assessment.model);
    let sections = [
        head(assessment, &title),
        presets(assessment),
        pictures(assessment),
        encrypted(assessment),
        floors(assessment),
        all_figures(assessment),
        about(assessment),
        notes(assessment),
    ];
    format!(
        "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n{HEAD}<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</html>\n",
        escaped(&title),
        sections.concat()
    )
}

/// The verdict in a sentence.
fn head(assessment: &Assessment, title: &str) -> String {
    let named = |wanted: u8| {
        let names: Vec<String> = assessment
            .candidates
            .iter()
            .filter(|candidate| candidate.verdict.rank() == wanted)
            .map(|candidate| format!("<strong>{}</strong>", escaped(&candidate.name)))
            .collect();
        names.join(", ")
    };
    let mut lines = Vec::new();
    for (rank, word, before) in [
        (0, "holds", "Holds"),
        (1, "undecided", "Not broken by what was tried"),
        (2, "undecided", "Undecided"),
        (3, "leaks", "Leaks"),
    ] {
        let names = named(rank);
        if !names.is_empty() {
            lines.push(format!("<span class=\"{word}\">{before}:</span> {names}."));
        }
    }
    let mut lines = match lines.is_empty() {
        true => "Nothing was assessed.".to_owned(),
        false => lines.join(" "),
    };
    if let Some(warning) = super::base_warning(assessment) {
        lines = format!("<span class=\"leaks\">{warning}</span> {lines}");
    }
    let metric = &assessment.metric;
    let mut original = format!(
        "The model itself: {} {} on {} samples.",
        escaped(&metric.name),
        escaped(&measure(metric, &assessment.original)),
        assessment.original.n_samples
    );
    if let Some(top5) = assessment.original.top5 {
        original.push_str(&format!(" Among the first five: {}.", percent(top5)));
    }
    let random = match assessment.data.is_random {
        true => {
            "<p class=\"leaks\">The inputs are random numbers: this shows little about real ones.</p>\n"
        }
        false => "",
    };
    format!(
        "<h1>{}</h1>\n<p class=\"verdict\">{lines}</p>\n{random}<p>{original}</p>\n<p>The attacker has the protected file, knows each encrypted position, and has some data. An attack leaks where it gets more than its floor and {}: the floor is what an attacker gets without any encrypted weight.</p>\n",
        escaped(title),
        escaped(&difference(metric, assessment.margin))
    )
}

/// The candidates side by side.
fn presets(assessment: &Assessment) -> String {
    let metric = &assessment.metric;
    let got = |row: Option<&AttackRow>| {
        let row = row.and_then(|row| Some((row, row.measure.as_ref()?)));
        match row {
            Some((row, got)) => format!("{} ({})", value(metric, got.value), row.name),
            None => "not tried".to_owned(),
        }
    };
    let row = |candidate: &Candidate| {
        let decides = match candidate.worst_attack() {
            Some(row) => above_floor(assessment, row),
            None => "no attack was tried".to_owned(),
        };
        let opening = match candidate.opening {
            Some(opening) => seconds(opening.seconds),
            None => "not measured".to_owned(),
        };
        tr(
            &escaped(&candidate.name),
            &[
                ("Verdict", judged(candidate.verdict)),
                ("Decided by", escaped(&decides)),
                ("Encrypted", bytes(candidate.encrypted_bytes)),
                ("Share", percent(candidate.share)),
                ("Opens in", opening),
                ("Best fill", escaped(&got(candidate.best_fill_attack()))),
                ("Best probe", escaped(&got(candidate.best_probe()))),
            ],
        )
    };
    let rows: String = assessment.candidates.iter().map(row).collect();
    let table = table(
        &[
            "Candidate",
            "Verdict",
            "Decided by",
            "Encrypted",
            "Share",
            "Opens in",
            "Best fill",
            "Best probe",
        ],
        &rows,
    );
    let axis = bars::Axis::of(assessment);
    let best = bars::overview(assessment, &axis, &PAGE);
    let title = "Best fill and best probe of each candidate";
    format!(
        "<h2>Side by side</h2>\n{table}<div class=\"panels\">\n<div>{}</div>\n<div class=\"legend\">{}</div>\n</div>\n",
        best.inline("best", title),
        bars::legend(assessment, &PAGE).inline("bars-legend", "What bars and lines mean")
    )
}

/// The bars of each candidate.
fn pictures(assessment: &Assessment) -> String {
    let axis = bars::Axis::of(assessment);
    let draw = |candidate: &Candidate| bars::attacks(assessment, candidate, &axis, &PAGE);
    let panels = panels(assessment, "attacks", "What attacks get from", &draw);
    format!("<h2>Each attack</h2>\n<p class=\"soft\">The attack in bold decides.</p>\n{panels}")
}

/// The strips of each candidate.
fn encrypted(assessment: &Assessment) -> String {
    let draw = |candidate: &Candidate| strips::operators(candidate, &PAGE);
    let panels = panels(assessment, "encrypted", "What is encrypted by", &draw);
    format!(
        "<h2>What is encrypted</h2>\n<p class=\"soft\">Each strip is an operator's weights from the first to the last.</p>\n<div class=\"legend\">{}</div>\n{panels}",
        strips::legend(&PAGE).inline("strips-legend", "What shades mean")
    )
}

/// A panel for each candidate.
fn panels(
    assessment: &Assessment,
    id: &str,
    title: &str,
    draw: &dyn Fn(&Candidate) -> Drawing,
) -> String {
    let mut out = "<div class=\"panels\">\n".to_owned();
    for (i, candidate) in assessment.candidates.iter().enumerate() {
        let heading = format!(
            "{}: {}",
            escaped(&candidate.name),
            marked(candidate.verdict, &candidate.verdict.to_string())
        );
        let title = format!("{title} {}", candidate.name);
        out.push_str(&format!(
            "<div>\n<h3>{heading}</h3>\n{}\n</div>\n",
            draw(candidate).inline(&format!("{id}-{i}"), &title)
        ));
    }
    out.push_str("</div>\n");
    out
}

fn floors(assessment: &Assessment) -> String {
    let metric = &assessment.metric;
    let rows: String = assessment
        .floors
        .iter()
        .map(|row| {
            let ends = row.measure.interval.map(|ends| interval(metric, ends));
            tr(
                &escaped(&floor(row)),
                &[
                    (&metric.name, escaped(&value(metric, row.measure.value))),
                    ("95 % interval", escaped(ends.as_deref().unwrap_or("none"))),
                    ("Samples", row.measure.n_samples.to_string()),
                ],
            )
        })
        .collect();
    let table = table(&["Floor", &metric.name, "95 % interval", "Samples"], &rows);
    format!(
        "<h2>Floors</h2>\n<p class=\"soft\">What an attacker gets without any weight that is encrypted.</p>\n{table}"
    )
}

/// All attacks as tables.
fn all_figures(assessment: &Assessment) -> String {
    let mut out = "<h2>All figures</h2>\n<div class=\"figures\">\n".to_owned();
    for candidate in &assessment.candidates {
        let rows: String = candidate
            .attacks
            .iter()
            .map(|row| attack_row(assessment, row))
            .collect();
        let table = table(&["Attack", "Gets", "Floor", "Verdict", "Remarks"], &rows);
        out.push_str(&format!(
            "<h3>{}</h3>\n{table}{}",
            escaped(&candidate.name),
            list(&candidate.notes)
        ));
    }
    out.push_str("</div>\n");
    out
}

fn attack_row(assessment: &Assessment, row: &AttackRow) -> String {
    let metric = &assessment.metric;
    let mut remarks = Vec::new();
    if let Some(layer) = &row.layer {
        remarks.push(format!("looks at {layer}"));
    }
    if row.seeds.len() > 1 {
        let seeds: Vec<String> = row.seeds.iter().map(|got| value(metric, *got)).collect();
        remarks.push(format!("seeds: {}", seeds.join(", ")));
    }
    if let Some(share) = row.measure.as_ref().and_then(|got| got.agreement) {
        remarks.push(format!("agrees with the model: {}", percent(share)));
    }
    if let Some(top5) = row.measure.as_ref().and_then(|measure| measure.top5) {
        remarks.push(format!("among the first five: {}", percent(top5)));
    }
    if let Some(error) = row.measure.as_ref().and_then(|m| m.relative_error) {
        remarks.push(format!("relative error {error:.3}"));
    }
    remarks.extend(row.note.clone());
    let (got, judgement) = match &row.measure {
        Some(got) => (measure(metric, got), judged(row.verdict)),
        None => ("not tried".to_owned(), "–".to_owned()),
    };
    let floor = format!(
        "{} ({})",
        value(metric, row.floor),
        floor_kind(row.floor_kind)
    );
    tr(
        &escaped(&row.name),
        &[
            ("Gets", escaped(&got)),
            ("Floor", escaped(&floor)),
            ("Verdict", judgement),
            ("Remarks", escaped(&remarks.join("; "))),
        ],
    )
}

fn about(assessment: &Assessment) -> String {
    let data = &assessment.data;
    let engine = &assessment.engine;
    let labels = match data.is_labelled {
        true => "with labels",
        false => "without labels",
    };
    let classes = data
        .n_classes
        .map_or_else(String::new, |n| format!(", {n} classes"));
    let facts = [
        (
            "Model",
            format!("{}, {}", assessment.model, bytes(assessment.model_bytes)),
        ),
        (
            "Data",
            format!(
                "{}: {} samples {labels}{classes}",
                data.source, data.n_samples
            ),
        ),
        (
            "Split",
            format!(
                "the attacker has {}, and has not {}",
                data.n_attacker, data.n_evaluation
            ),
        ),
        ("Seed", assessment.seed.to_string()),
        (
            "ONNX Runtime",
            format!("{}, {} threads", engine.version, engine.n_threads),
        ),
        ("Took", seconds(assessment.seconds)),
    ];
    let rows: String = facts
        .iter()
        .map(|(name, fact)| format!("<dt>{name}</dt><dd>{}</dd>\n", escaped(fact)))
        .collect();
    format!("<h2>How it was measured</h2>\n<dl>\n{rows}</dl>\n")
}

fn notes(assessment: &Assessment) -> String {
    format!(
        "<h2>What this does not rule out</h2>\n{}",
        list(&assessment.notes)
    )
}

fn list(sentences: &[String]) -> String {
    if sentences.is_empty() {
        return String::new();
    }
    let items: String = sentences
        .iter()
        .map(|sentence| format!("<li>{}</li>\n", escaped(sentence)))
        .collect();
    format!("<ul>\n{items}</ul>\n")
}

fn judged(judgement: Verdict) -> String {
    marked(judgement, &verdict(judgement))
}

/// Words in the colour of a verdict.
fn marked(judgement: Verdict, words: &str) -> String {
    let class = match judgement {
        Verdict::Holds => "holds",
        Verdict::NotBroken | Verdict::Undecided { .. } => "undecided",
        Verdict::Leaks => "leaks",
    };
    format!("<span class=\"{class}\">{}</span>", escaped(words))
}

/// A row: its cells are markup already, their labels are not.
fn tr(name: &str, cells: &[(&str, String)]) -> String {
    let cells: String = cells
        .iter()
        .map(|(label, cell)| format!("<td data-label=\"{}\">{cell}</td>", escaped(label)))
        .collect();
    format!("<tr><th scope=\"row\">{name}</th>{cells}</tr>\n")
}

fn table(head: &[&str], rows: &str) -> String {
    if rows.is_empty() {
        return "<p>None.</p>\n".to_owned();
    }
    let head: String = head
        .iter()
        .map(|name| format!("<th scope=\"col\">{}</th>", escaped(name)))
        .collect();
    format!("<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n")
}
