//! Fills in `page.html`. The page's content security policy forbids scripts and fetching.

use super::draw::Drawing;
use super::text::*;
use super::{bars, strips};
use crate::assessment::{Assessment, AttackRow, Candidate, Verdict};

/// The cells of a table's row. The verdict colours the cell in the column `Verdict`.
type Row<const N: usize> = (Option<Verdict>, [String; N]);

pub(super) fn page(assessment: &Assessment) -> String {
    let (data, engine) = (&assessment.data, &assessment.engine);
    let (metric, original) = (&assessment.metric, &assessment.original);
    let random = "The inputs are random numbers, which prove little about real ones.";
    let random = element("p class=\"leaks\"", random);
    let top5 = original.top5.map(percent);
    let top5 = top5.map(|top5| format!(" Among the first five: {top5}."));
    let classes = data.n_classes.map(|n| format!(", {n} classes"));
    let attacks = |candidate: &Candidate| bars::attacks(assessment, candidate);
    let encrypted = strips::operators;
    let best = "Best fill and best probe of each candidate";
    let candidates = &assessment.candidates;
    let figures = candidates.iter().map(|it| figures(assessment, it));
    format!(
        include_str!("page.html"),
        style = include_str!("page.css"),
        model = escaped(&assessment.model),
        verdicts = verdicts(assessment),
        random = if data.is_random { &random } else { "" },
        metric = escaped(&metric.name),
        original = escaped(&measure(metric, original)),
        n_original = original.n_samples,
        top5 = top5.unwrap_or_default(),
        margin = escaped(&difference(metric, assessment.margin)),
        candidates = side_by_side(assessment),
        best = bars::overview(assessment).svg("best", best),
        bars_legend = bars::legend(assessment).svg("bars-legend", "Legend"),
        attacks = panels(candidates, "attacks", "What attacks get from", &attacks),
        strips_legend = strips::legend().svg("strips-legend", "What shades mean"),
        encrypted = panels(candidates, "encrypted", "What is encrypted by", &encrypted),
        floors = floors(assessment),
        figures = figures.collect::<String>(),
        model_bytes = bytes(assessment.model_bytes),
        source = escaped(&data.source),
        n_samples = data.n_samples,
        with = if data.is_labelled { "with" } else { "without" },
        classes = classes.unwrap_or_default(),
        n_attacker = data.n_attacker,
        n_evaluation = data.n_evaluation,
        seed = assessment.seed,
        engine = escaped(&engine.version),
        n_threads = engine.n_threads,
        seconds = seconds(assessment.seconds),
        notes = list(&assessment.notes),
    )
}

/// Puts the verdicts in a sentence.
fn verdicts(assessment: &Assessment) -> String {
    let warning = base_warning(assessment);
    let warning = warning.map(|warning| element("span class=\"leaks\"", warning));
    let mut sentences: Vec<String> = warning.into_iter().collect();
    if assessment.candidates.is_empty() {
        sentences.push("Nothing was assessed.".to_owned());
    }
    sentences.extend(assessment.candidates.iter().map(|candidate| {
        let verdict = marked(candidate.verdict, &candidate.verdict.to_string());
        format!(
            "{} {verdict}.",
            element("strong", &format!("{}:", candidate.name))
        )
    }));
    sentences.join(" ")
}

fn side_by_side(assessment: &Assessment) -> String {
    let got = |row: Option<&AttackRow>| {
        let row = row.and_then(|row| Some((&row.name, row.measure.as_ref()?.value)));
        let got = row.map(|(name, got)| format!("{} ({name})", value(&assessment.metric, got)));
        got.unwrap_or("not tried".to_owned())
    };
    let rows = assessment.candidates.iter().map(|candidate| {
        let opens = candidate.opening.map(|opening| seconds(opening.seconds));
        let cells = [
            candidate.name.clone(),
            candidate.verdict.to_string(),
            assessment.reason(candidate),
            bytes(candidate.encrypted_bytes),
            percent(candidate.share),
            opens.unwrap_or("not measured".to_owned()),
            got(candidate.best_fill_attack()),
            got(candidate.best_probe()),
        ];
        (Some(candidate.verdict), cells)
    });
    let head = [
        "Candidate",
        "Verdict",
        "Why",
        "Encrypted",
        "Share",
        "Opens in",
        "Best fill",
        "Best probe",
    ];
    table(head, rows)
}

type Draw<'a> = &'a dyn Fn(&Candidate) -> Drawing;

/// Draws each candidate, with ids that begin with `id`.
fn panels(candidates: &[Candidate], id: &str, title: &str, draw: Draw<'_>) -> String {
    let panels = candidates.iter().enumerate().map(|(i, candidate)| {
        let Candidate { name, verdict, .. } = candidate;
        let picture = draw(candidate).svg(&format!("{id}-{i}"), &format!("{title} {name}"));
        let (name, verdict) = (escaped(name), marked(*verdict, &verdict.to_string()));
        format!("<div>\n<h3>{name}: {verdict}</h3>\n{picture}\n</div>\n")
    });
    panels.collect()
}

fn floors(assessment: &Assessment) -> String {
    let metric = &assessment.metric;
    let rows = assessment.floors.iter().map(|row| {
        let ends = row.measure.interval.map(|ends| interval(metric, ends));
        let cells = [
            floor(row),
            value(metric, row.measure.value),
            ends.unwrap_or("none".to_owned()),
            row.measure.n_samples.to_string(),
        ];
        (None, cells)
    });
    table(["Floor", &metric.name, "95 % interval", "Samples"], rows)
}

/// Writes all attacks on a candidate, and its notes.
fn figures(assessment: &Assessment, candidate: &Candidate) -> String {
    let metric = &assessment.metric;
    let rows = candidate.attacks.iter().map(|row| {
        let got = row.measure.as_ref().map(|got| measure(metric, got));
        let judged = got.is_some().then_some(row.verdict);
        let (floor, kind) = (value(metric, row.floor), floor_kind(row.floor_kind));
        let cells = [
            row.name.clone(),
            got.unwrap_or("not tried".to_owned()),
            format!("{floor} ({kind})"),
            judged.map_or("–".to_owned(), |verdict| verdict.to_string()),
            remarks(assessment, row),
        ];
        (judged, cells)
    });
    let table = table(["Attack", "Gets", "Floor", "Verdict", "Remarks"], rows);
    let (name, notes) = (element("h3", &candidate.name), list(&candidate.notes));
    format!("{name}\n{table}\n{notes}\n")
}

fn remarks(assessment: &Assessment, row: &AttackRow) -> String {
    let seeds = row.seeds.iter().map(|got| value(&assessment.metric, *got));
    let seeds: Vec<String> = seeds.collect();
    let mut remarks = Vec::new();
    remarks.extend(row.layer.iter().map(|layer| format!("looks at {layer}")));
    if seeds.len() > 1 {
        remarks.push(format!("seeds: {}", seeds.join(", ")));
    }
    if let Some(got) = &row.measure {
        let agreement = got.agreement.map(percent);
        remarks.extend(agreement.map(|share| format!("agrees with the model: {share}")));
        let top5 = got.top5.map(percent);
        remarks.extend(top5.map(|share| format!("among the first five: {share}")));
        let error = got.relative_error;
        remarks.extend(error.map(|error| format!("relative error {error:.3}")));
    }
    remarks.extend(row.note.clone());
    remarks.join("; ")
}

fn list(sentences: &[String]) -> String {
    let items = sentences.iter().map(|sentence| element("li", sentence));
    let list = (!sentences.is_empty()).then(|| format!("<ul>{}</ul>", items.collect::<String>()));
    list.unwrap_or_default()
}

/// Writes words in the colour of a verdict.
fn marked(verdict: Verdict, words: &str) -> String {
    element(&format!("span class=\"{}\"", class(verdict)), words)
}

/// Writes a table whose rows begin with their names. Phones show rows as lists, with labels before
/// cells.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = Row<N>>) -> String {
    let mut body = String::new();
    for (verdict, cells) in rows {
        body += &format!("<tr><th scope=\"row\">{}</th>", escaped(&cells[0]));
        for (label, cell) in head.iter().zip(&cells).skip(1) {
            let cell = match verdict {
                Some(verdict) if *label == "Verdict" => marked(verdict, cell),
                _ => escaped(cell),
            };
            body += &format!("<td data-label=\"{}\">{cell}</td>", escaped(label));
        }
        body += "</tr>\n";
    }
    if body.is_empty() {
        return "<p>None.</p>".to_owned();
    }
    let head = head.map(|name| element("th scope=\"col\"", name)).concat();
    format!("<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>")
}
