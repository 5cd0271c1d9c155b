//! The findings of `verify` on several models, for people, as JSON and as SARIF.

use std::io::{self, Write};

use onnxseal_batch::{Discovery, Error};
use onnxseal_core::{ErrorKind, Location, Verification};
use serde::Serialize;
use serde_json::{Value, json};

use crate::exit;
use crate::text::{count, except, one_line};

pub fn passed_over(found: &Discovery) -> Option<String> {
    let first = found.unfinished.first()?.display();
    Some(match found.unfinished.len() {
        1 => format!("skipped an unfinished file, {first}"),
        n => format!("skipped {n} unfinished files, such as {first}"),
    })
}

pub struct Check {
    pub model: Location,
    pub outcome: Outcome,
}

pub enum Outcome {
    Ok(Verification),
    /// Not protected: a failure if `required`.
    NotProtected {
        required: bool,
        /// Why it cannot be protected, if so.
        obstacle: Option<String>,
    },
    Failed(Error),
}

pub struct Rule {
    pub kind: ErrorKind,
    /// Its name in JSON.
    pub status: &'static str,
    /// Its name in SARIF and the documentation.
    pub id: &'static str,
    pub title: &'static str,
    pub meaning: &'static str,
    pub help: &'static str,
}

/// All rules: the first for models that are not protected, the last for all errors without a rule of
/// their own. Ids never change.
pub const RULES: [Rule; 8] = [
    Rule {
        kind: ErrorKind::PolicyNotMet,
        status: "not_protected",
        id: "ONNXSEAL001",
        title: "Model is not protected",
        meaning: "All weights of the model are in clear, and changes to it cannot be detected.",
        help: "Protect it with `onnxseal protect`, or do not ship it.",
    },
    Rule {
        kind: ErrorKind::PolicyNotMet,
        status: "below_policy",
        id: "ONNXSEAL002",
        title: "Model is protected less than the policy demands",
        meaning: "The model is protected, but fewer bytes of some tensor are encrypted than under the policy.",
        help: "Protect the original again with this policy.",
    },
    Rule {
        kind: ErrorKind::Malformed,
        status: "malformed",
        id: "ONNXSEAL003",
        title: "File is not a well-formed ONNX model",
        meaning: "The file is named or reads like an ONNX model, but breaks the rules of ONNX or of a protected model.",
        help: "Export the model again. A file of Git LFS may not have been fetched: `git lfs pull`.",
    },
    Rule {
        kind: ErrorKind::Authentication,
        status: "authentication_failed",
        id: "ONNXSEAL004",
        title: "Model is not authentic",
        meaning: "A file of the model differs from what was protected or signed, or a demanded signature is missing or by another signer; nothing in the model can be trusted.",
        help: "Get the files again from their source, signed by a publisher you allow.",
    },
    Rule {
        kind: ErrorKind::NoMatchingKey,
        status: "no_matching_key",
        id: "ONNXSEAL005",
        title: "No identity opens the model",
        meaning: "The model is protected to other recipients, so its contents could not be authenticated.",
        help: "Name the matching identity with --identity, or protect the model to that recipient.",
    },
    Rule {
        kind: ErrorKind::Io,
        status: "unreadable",
        id: "ONNXSEAL006",
        title: "Model cannot be read",
        meaning: "The system could not read the model or its external data.",
        help: "Make all files of the model readable, and put external data beside the model.",
    },
    Rule {
        kind: ErrorKind::NotInForce,
        status: "not_in_force",
        id: "ONNXSEAL008",
        title: "Licence is not in force",
        meaning: "The licence that was named opens models from a later date, or opened them until an earlier one.",
        help: "Ask whoever issued the licence for another.",
    },
    Rule {
        kind: ErrorKind::Internal,
        status: "other",
        id: "ONNXSEAL007",
        title: "Model could not be checked",
        meaning: "Checking the model failed in another way.",
        help: "See the message.",
    },
];

/// The classes of failures, the worst first: it gives the exit code.
const BY_SEVERITY: [ErrorKind; 6] = [
    ErrorKind::Authentication,
    ErrorKind::Malformed,
    ErrorKind::PolicyNotMet,
    ErrorKind::NoMatchingKey,
    ErrorKind::NotInForce,
    ErrorKind::Io,
];

impl Check {
    /// Returns the rule that the model breaks, even if that is no failure.
    pub fn fault(&self) -> Option<&'static Rule> {
        match &self.outcome {
            Outcome::Ok(_) => None,
            Outcome::NotProtected { .. } => RULES.first(),
            Outcome::Failed(error) => {
                let mut others = RULES.iter().skip(1);
                let found = others.find(|rule| rule.kind == error.kind());
                found.or(RULES.last())
            }
        }
    }

    /// Returns the fault, if it is a failure.
    pub fn failure(&self) -> Option<&'static Rule> {
        match self.outcome {
            Outcome::NotProtected {
                required: false, ..
            } => None,
            _ => self.fault(),
        }
    }

    pub fn message(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Ok(_) => None,
            Outcome::NotProtected { obstacle, .. } => Some(match obstacle {
                None => "not protected".into(),
                Some(obstacle) => format!("not protected, and cannot be: {obstacle}"),
            }),
            Outcome::Failed(error) => {
                let causes = anyhow::Chain::new(error).map(ToString::to_string);
                Some(one_line(&causes.collect::<Vec<_>>().join(": ")))
            }
        }
    }

    pub fn line(&self) -> String {
        let path = one_line(&self.model.to_string());
        match &self.outcome {
            Outcome::Ok(verified) => {
                let share = verified.weights.share * 100.0;
                let contents = match (verified.authenticated, &verified.signed_by) {
                    (true, None) => "every byte authentic".to_owned(),
                    (false, None) => "contents not checked".to_owned(),
                    (_, Some(signer)) => {
                        let principals = one_line(&signer.principals.join(", "));
                        format!("every byte as signed by {principals}")
                    }
                };
                let policy = match verified.policy_met {
                    Some(true) => ", policy met",
                    _ => "",
                };
                let except = except(&verified.unchecked);
                let force = match verified.not_in_force {
                    Some(_) => ", NOT IN FORCE",
                    None => "",
                };
                format!("{path}: ok, {share:.1} % encrypted{policy}, {contents}{except}{force}")
            }
            _ => {
                let failed = if self.failure().is_some() {
                    "FAILED, "
                } else {
                    ""
                };
                let message = self.message().unwrap_or_default();
                format!("{path}: {failed}{message}")
            }
        }
    }
}

/// Returns the entries of the policy that match nothing in any model. Returns none if a model
/// failed, since its matches are unknown.
pub fn unmatched(checks: &[Check]) -> Vec<&str> {
    let mut unmatched: Option<Vec<&str>> = None;
    for check in checks {
        match &check.outcome {
            Outcome::Ok(verified) => {
                let here = verified.unmatched.iter().map(String::as_str);
                unmatched = Some(match unmatched {
                    None => here.collect(),
                    Some(known) => here.filter(|entry| known.contains(entry)).collect(),
                });
            }
            Outcome::NotProtected { .. } => {}
            Outcome::Failed(_) => return Vec::new(),
        }
    }
    unmatched.unwrap_or_default()
}

pub fn exit_code(checks: &[Check]) -> Option<u8> {
    let failures = checks.iter().filter_map(Check::failure);
    let kinds: Vec<ErrorKind> = failures.map(|rule| rule.kind).collect();
    let worst = BY_SEVERITY.iter().find(|kind| kinds.contains(kind));
    worst.or(kinds.first()).map(|kind| exit::kind_code(*kind))
}

#[derive(Serialize)]
pub struct Summary {
    pub models: usize,
    pub ok: usize,
    /// Unprotected models, if these are no failures.
    pub not_protected: usize,
    pub failed: usize,
}

impl Summary {
    pub fn of(checks: &[Check]) -> Summary {
        let count = |is: fn(&Check) -> bool| checks.iter().filter(|check| is(check)).count();
        let failed = count(|check| check.failure().is_some());
        let ok = count(|check| check.fault().is_none());
        Summary {
            models: checks.len(),
            ok,
            not_protected: checks.len() - ok - failed,
            failed,
        }
    }
}

pub fn json(checks: &[Check]) -> Value {
    let row = |check: &Check| {
        let mut row = match &check.outcome {
            Outcome::Ok(verified) => json!(verified),
            _ => json!({}),
        };
        row["model"] = json!(check.model.to_string());
        row["status"] = json!(check.fault().map_or("ok", |rule| rule.status));
        row["failed"] = json!(check.failure().is_some());
        if let Some(rule) = check.fault() {
            row["rule"] = json!(rule.id);
            row["message"] = json!(check.message());
        }
        row
    };
    json!({
        "models": checks.iter().map(row).collect::<Vec<_>>(),
        "summary": Summary::of(checks),
        "exit_code": exit_code(checks).unwrap_or(0),
    })
}

pub fn summary(out: &mut impl Write, checks: &[Check]) -> io::Result<()> {
    let summary = Summary::of(checks);
    let models = count(summary.models as u64, "model");
    write!(out, "{models}: {} ok", summary.ok)?;
    if summary.not_protected > 0 {
        write!(out, ", {} not protected", summary.not_protected)?;
    }
    writeln!(out, ", {} failed", summary.failed)
}
