//! The result for people: a table with a row for each candidate, and sentences.

use std::fmt;

use super::text::{difference, floor, floor_kind, percent, seconds, value};
use crate::assessment::{Assessment, Attack, AttackRow, Candidate, Measure, MetricKind, Verdict};

/// The columns of the table.
pub const HEAD: [&str; 7] = [
    "candidate",
    "encrypted",
    "share",
    "opens in",
    "best fill",
    "best probe",
    "verdict",
];

/// An assessment in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Lines before the table: what was measured on what.
    pub before: Vec<String>,
    /// The table, without its [`HEAD`].
    pub rows: Vec<[String; 7]>,
    /// Lines after it: why candidates do not hold, floors, and what is not ruled out.
    pub after: Vec<String>,
}

impl Summary {
    /// The summary of `assessment`.
    pub fn of(assessment: &Assessment) -> Summary {
        let data = &assessment.data;
        let attacker = match data.n_attacker {
            0 => String::new(),
            _ if data.is_random => " show little".to_owned(),
            n => format!(", of which attackers have up to {n}"),
        };
        let original = &assessment.original;
        let name = &assessment.metric.name;
        let of_original = match assessment.metric.kind {
            MetricKind::Accuracy | MetricKind::Custom => {
                format!("{name} of the original {}", assessment.measured(original))
            }
            _ => name.clone(),
        };
        let mut before = vec![
            format!(
                "{}: {of_original}, on {} samples",
                assessment.model, original.n_samples
            ),
            format!(
                "data: {}{attacker}; seed {}; ONNX Runtime {}",
                data.source, assessment.seed, assessment.engine.version
            ),
        ];
        if let (MetricKind::Accuracy, Some(top5)) = (assessment.metric.kind, original.top5) {
            before[0].push_str(&format!("; among the first five {}", percent(top5)));
        }
        if let Some(warning) = super::base_warning(assessment) {
            before.insert(0, warning.to_owned());
        }
        let row = |candidate: &Candidate| {
            let fill = candidate.best_fill_attack();
            let probe = candidate.best_probe();
            let opening = candidate.opening.as_ref();
            [
                candidate.name.clone(),
                bytes(candidate.encrypted_bytes),
                percent(candidate.share),
                opening.map_or_else(none, |opening| seconds(opening.seconds)),
                fill.map_or_else(none, |row| {
                    assessment.got(row, &row.name.replacen(" fill", "", 1))
                }),
                probe.map_or_else(none, |row| {
                    assessment.got(
                        row,
                        row.name
                            .trim_start_matches("probe ")
                            .trim_start_matches("with "),
                    )
                }),
                candidate.verdict.to_string(),
            ]
        };
        let mut after = Vec::new();
        for candidate in &assessment.candidates {
            if candidate.verdict != Verdict::Holds {
                after.push(assessment.reason(candidate));
            }
        }
        after.push(format!(
            "floors, what attackers get without any encrypted weight; an attack may come {} above its floor:",
            difference(&assessment.metric, assessment.margin)
        ));
        for item in &assessment.floors {
            let measured = assessment.measured(&item.measure);
            after.push(format!("  {} {measured}", floor(item)));
        }
        let of_candidates = assessment.candidates.iter().flat_map(|candidate| {
            let name = &candidate.name;
            let notes = candidate.notes.iter();
            notes.map(move |note| format!("note: {name}: {note}"))
        });
        after.extend(of_candidates);
        after.extend(assessment.notes.iter().map(|note| format!("note: {note}")));
        let rows = assessment.candidates.iter().map(row);
        Summary {
            before: before.into_iter().map(plain).collect(),
            rows: rows.map(|row| row.map(plain)).collect(),
            after: after.into_iter().map(plain).collect(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.before {
            writeln!(f, "{line}")?;
        }
        writeln!(f)?;
        let head = HEAD.map(str::to_owned);
        let rows = || std::iter::once(&head).chain(&self.rows);
        let widths: [usize; HEAD.len()] = std::array::from_fn(|column| {
            let cells = rows().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        });
        for row in rows() {
            let cells = row.iter().zip(widths);
            let line: String = cells
                .map(|(cell, width)| format!("{cell:width$}  "))
                .collect();
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)?;
        self.after.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Assessment {
    /// Why `candidate` holds or does not, in a sentence: for a leak which attack, and how far above which floor.
    pub fn reason(&self, candidate: &Candidate) -> String {
        plain(self.reason_on_pages(candidate))
    }

    fn reason_on_pages(&self, candidate: &Candidate) -> String {
        let name = &candidate.name;
        let Some((row, measure)) = candidate
            .worst_attack()
            .and_then(|row| Some((row, row.measure.as_ref()?)))
        else {
            return format!("{name} {}: no attack was measured", is(candidate.verdict));
        };
        let floor = format!(
            "its floor of {} ({})",
            value(&self.metric, row.floor),
            floor_kind(row.floor_kind)
        );
        let attack = format!(
            "{name} {}: {} gets {}",
            is(candidate.verdict),
            row.name,
            self.measured(measure)
        );
        match candidate.verdict {
            Verdict::Undecided { needed_samples } => {
                let enough = match needed_samples {
                    Some(n) => format!(
                        "about {n} samples to measure on would decide, and there are {}",
                        measure.n_samples
                    ),
                    None => "no number of samples would decide".to_owned(),
                };
                format!("{attack}, with {floor}; {enough}")
            }
            _ => {
                let above = measure.value - row.floor;
                let direction = if above < 0.0 { "below" } else { "above" };
                format!(
                    "{attack}, {} {direction} {floor}",
                    difference(&self.metric, above.abs())
                )
            }
        }
    }

    /// What an attack gets, for a cell of the table.
    fn got(&self, row: &AttackRow, name: &str) -> String {
        let measure = row.measure.as_ref();
        measure.map_or_else(none, |measure| format!("{name} {}", self.measured(measure)))
    }

    /// A measure with its interval.
    fn measured(&self, measure: &Measure) -> String {
        let value = value(&self.metric, measure.value);
        match measure.interval {
            None => value,
            Some(interval) => format!(
                "{value} ({} to {})",
                self.number(interval.low),
                self.number(interval.high)
            ),
        }
    }

    fn number(&self, value: f64) -> String {
        match self.metric.is_rate {
            true => format!("{:.1}", value * 100.0),
            false if value.abs() < 1.0 => format!("{value:.3}"),
            false => format!("{value:.2}"),
        }
    }
}

impl Candidate {
    /// The probe that comes furthest above its floor.
    pub fn best_probe(&self) -> Option<&AttackRow> {
        let probes = self.attacks.iter().filter_map(|row| match row.attack {
            Attack::Probe { .. } => Some((row, row.measure.as_ref()?.value - row.floor)),
            _ => None,
        });
        let best = probes.max_by(|(_, a), (_, b)| a.total_cmp(b));
        best.map(|(row, _)| row)
    }
}

fn is(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::NotBroken => "is not broken by what was tried",
        Verdict::Undecided { .. } => "is undecided",
        Verdict::Leaks => "leaks",
    }
}

/// Text for terminals, where people search for what they can type: with spaces that break.
fn plain(text: String) -> String {
    text.replace('\u{a0}', " ")
}

fn none() -> String {
    "-".to_owned()
}

fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return match unit {
                "B" => format!("{n} B"),
                _ => format!("{value:.2} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.2} TiB")
}
