//! The result as text: a table with a row for each candidate, and sentences.

use std::fmt;

use super::text::{base_warning, bytes, difference, floor, floor_kind, percent, value};
use crate::assessment::{
    Assessment, AttackRow, Candidate, Doubt, Floor, FloorKind, Measure, MetricKind, Verdict,
};

/// The columns of the table.
pub const HEAD: [&str; 6] = [
    "candidate",
    "encrypted",
    "share",
    "best fill",
    "best probe",
    "verdict",
];

/// An assessment in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Lines before the table: the measurement and its data.
    pub before: Vec<String>,
    /// The table, without its [`HEAD`].
    pub rows: Vec<[String; 6]>,
    /// Lines after the table: why candidates hold or do not, floors, and what is not ruled out.
    pub after: Vec<String>,
}

impl Summary {
    pub fn of(assessment: &Assessment) -> Summary {
        let plain = |lines: Vec<String>| lines.into_iter().map(plain).collect();
        let rows = assessment.candidates.iter();
        let rows = rows.map(|candidate| row(assessment, candidate).map(self::plain));
        Summary {
            before: plain(before(assessment)),
            rows: rows.collect(),
            after: plain(after(assessment)),
        }
    }
}

fn before(assessment: &Assessment) -> Vec<String> {
    let (data, metric) = (&assessment.data, &assessment.metric);
    let original = &assessment.original;
    let attacker = match data.n_attacker {
        0 => String::new(),
        _ if data.is_random => " show little".to_owned(),
        n => format!(", of which attackers have up to {n}"),
    };
    let mut measured = format!("{}: {}", assessment.model, metric.name);
    if matches!(metric.kind, MetricKind::Accuracy | MetricKind::Custom) {
        measured += &format!(" of the original {}", assessment.measured(original));
    }
    measured += &format!(", on {} samples", original.n_samples);
    if let (MetricKind::Accuracy, Some(top5)) = (metric.kind, original.top5) {
        measured += &format!("; among the first five {}", percent(top5));
    }
    let (source, seed, version) = (&data.source, assessment.seed, &assessment.engine.version);
    let data = format!("data: {source}{attacker}; seed {seed}; ONNX Runtime {version}");
    let warning = base_warning(assessment).map(str::to_owned);
    warning.into_iter().chain([measured, data]).collect()
}

fn row(assessment: &Assessment, candidate: &Candidate) -> [String; HEAD.len()] {
    let got = |row: Option<&AttackRow>| {
        let got = assessment.measured(row?.measure.as_ref()?);
        let name = row?.name.replacen(" fill", "", 1);
        let name = name.trim_start_matches("probe ");
        Some(format!("{} {got}", name.trim_start_matches("with ")))
    };
    let none = || "-".to_owned();
    [
        candidate.name.clone(),
        bytes(candidate.encrypted_bytes),
        percent(candidate.share),
        got(candidate.best_fill_attack()).unwrap_or_else(none),
        got(candidate.best_probe()).unwrap_or_else(none),
        candidate.verdict.to_string(),
    ]
}

fn after(assessment: &Assessment) -> Vec<String> {
    let candidates = &assessment.candidates;
    let reasons = candidates.iter().map(|it| assessment.reason(it));
    let mut after: Vec<String> = reasons.collect();
    after.push(format!(
        "floors, what attackers get without any weight of the model; an attack may come {} above its floor:",
        difference(&assessment.metric, assessment.margin)
    ));
    for row in &assessment.floors {
        let got = assessment.measured(&row.measure);
        after.push(format!("  {} {got}", floor(row)));
    }
    for Candidate { name, notes, .. } in candidates {
        after.extend(notes.iter().map(|note| format!("note: {name}: {note}")));
    }
    after.extend(assessment.notes.iter().map(|note| format!("note: {note}")));
    after
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
            let widths = rows().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        });
        for row in rows() {
            let cells = row.iter().zip(widths);
            let cells = cells.map(|(cell, width)| format!("{cell:width$}  "));
            writeln!(f, "{}", cells.collect::<String>().trim_end())?;
        }
        writeln!(f)?;
        self.after.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Assessment {
    /// Says in a sentence why `candidate` holds or does not: what the worst attack gets, what the
    /// original has, and how far that is from which floor; or why nothing can be told, and what
    /// would help.
    pub fn reason(&self, candidate: &Candidate) -> String {
        let Candidate { name, verdict, .. } = candidate;
        let (colon, why) = match verdict {
            Verdict::CannotTell(doubt) => (":", self.why_not(candidate, *doubt)),
            _ => ("", None),
        };
        let why = match why {
            _ if candidate.encrypted_bytes == 0 && candidate.tier.is_none() => {
                "nothing is encrypted".to_owned()
            }
            Some(why) => why,
            None => self.worst(candidate),
        };
        plain(format!("{name}{colon} {verdict}: {why}"))
    }

    /// Says what the worst attack gets, and how far that is from its floor.
    fn worst(&self, candidate: &Candidate) -> String {
        let worst = candidate.worst_attack();
        let Some((row, got)) = worst.and_then(|row| Some((row, row.measure.as_ref()?))) else {
            return "no attack was measured".to_owned();
        };
        let original = match self.metric.kind {
            MetricKind::Accuracy | MetricKind::Custom => {
                let of_original = value(&self.metric, self.original.value);
                format!(" where the original has {of_original}")
            }
            _ => String::new(),
        };
        let attack = format!("{} gets {}{original}", row.name, self.measured(got));
        let margin = difference(&self.metric, self.margin);
        let floor = value(&self.metric, row.floor);
        let above = got.value - row.floor;
        let direction = if above < 0.0 { "below" } else { "above" };
        let by = difference(&self.metric, above.abs());
        let kind = floor_kind(row.floor_kind);
        let text = format!("{attack}, {by} {direction} its floor of {floor} ({kind})");
        if candidate.verdict == Verdict::Leaks {
            return text;
        }
        let anyway = match row.floor_kind {
            FloorKind::NextTier => "",
            _ => ", which attackers reach without any weight of the model",
        };
        let it = (got.interval).map_or("it may be", |_| "the interval may end");
        let n = got.n_samples;
        format!("{text}{anyway}; {it} up to {margin} above it, on {n} samples")
    }

    /// Says why no verdict is possible, whatever an attack gets, and what would help.
    fn why_not(&self, candidate: &Candidate, doubt: Doubt) -> Option<String> {
        let is_of_base = |floor: &&Floor| {
            candidate.tier.is_none() || matches!(floor.kind, FloorKind::Base | FloorKind::BaseProbe)
        };
        let why = match doubt {
            Doubt::NoGap => {
                let floors = self.floors.iter().filter(is_of_base);
                let highest = floors.max_by(|a, b| a.measure.value.total_cmp(&b.measure.value))?;
                let help = match highest.kind {
                    FloorKind::RawProbe | FloorKind::FullProbe => {
                        "assess with fewer labels (--attacker-samples), if attackers have no more, or on a harder task"
                    }
                    FloorKind::Base | FloorKind::BaseProbe => {
                        "with the public base, these samples show nothing that is worth protecting"
                    }
                    _ => "check labels, scaling and the order of axes",
                };
                return Some(format!(
                    "it has {}, and {} gets {} without any weight of the model; {} between them would do: {help}",
                    value(&self.metric, self.original.value),
                    floor(highest),
                    value(&self.metric, highest.measure.value),
                    difference(&self.metric, 2.0 * self.margin),
                ));
            }
            Doubt::NoBase => {
                let worst = candidate.worst_attack()?;
                let got = self.measured(worst.measure.as_ref()?);
                return Some(format!(
                    "nothing broke it, and {} got most, {got}; name the public base, or state that there is none",
                    worst.name
                ));
            }
            Doubt::TooFewSamples { .. } => return None,
            Doubt::NanInputs => "take these samples out",
            Doubt::RandomInputs => "give samples of your own (--data)",
            Doubt::Unscaled => {
                "the samples are whole numbers and the model takes floats: give --scale, or --scale 1 if it takes them as they are"
            }
            Doubt::Unreplaced => {
                "single numbers, strings and attributes have more than a hundredth of its bytes: keep weights in tensors"
            }
            Doubt::NoProbe => {
                "give at least a label for each class to attackers (--attacker-samples), and as many samples to measure on"
            }
            Doubt::NotMeasured => {
                "ONNX Runtime runs the model with no other weights, or answers with no number"
            }
        };
        Some(why.to_owned())
    }

    /// Formats a measure with its interval.
    fn measured(&self, measure: &Measure) -> String {
        let number = |value: f64| match value {
            rate if self.metric.is_rate => format!("{:.1}", rate * 100.0),
            small if small.abs() < 1.0 => format!("{small:.3}"),
            large => format!("{large:.2}"),
        };
        let ends = measure.interval.as_ref();
        let ends = ends.map(|ends| format!(" ({} to {})", number(ends.low), number(ends.high)));
        value(&self.metric, measure.value) + &ends.unwrap_or_default()
    }
}

/// Replaces no-break spaces, because people search terminals for text that they can type.
fn plain(text: String) -> String {
    text.replace('\u{a0}', " ")
}
