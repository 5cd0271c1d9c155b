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

/// A way to fail, in order of severity: the first that occurs gives the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    AuthenticationFailed,
    Malformed,
    NotProtected,
    BelowPolicy,
    NoMatchingKey,
    Unreadable,
    Other,
}

/// The name of a fault in SARIF and the documentation.
pub struct Rule {
    pub fault: Fault,
    pub id: &'static str,
    pub title: &'static str,
    pub meaning: &'static str,
    pub help: &'static str,
}

/// One rule for each fault. Ids never change.
pub const RULES: [Rule; 7] = [
    Rule {
        fault: Fault::NotProtected,
        id: "ONNXSEAL001",
        title: "Model is not protected",
        meaning: "All weights of the model are in clear, and changes to it cannot be detected.",
        help: "Protect it with `onnxseal protect`, or do not ship it.",
    },
    Rule {
        fault: Fault::BelowPolicy,
        id: "ONNXSEAL002",
        title: "Model is protected less than the policy demands",
        meaning: "The model is protected, but fewer bytes of some tensor are encrypted than under the policy.",
        help: "Protect the original again with this policy.",
    },
    Rule {
        fault: Fault::Malformed,
        id: "ONNXSEAL003",
        title: "File is not a well-formed ONNX model",
        meaning: "The file is named or reads like an ONNX model, but breaks the rules of ONNX or of a protected model.",
        help: "Export the model again. A file of Git LFS may not have been fetched: `git lfs pull`.",
    },
    Rule {
        fault: Fault::AuthenticationFailed,
        id: "ONNXSEAL004",
        title: "Model is not authentic",
        meaning: "A file of the model differs from what was protected or signed, or a demanded signature is missing or by another signer; nothing in the model can be trusted.",
        help: "Get the files again from their source, signed by a publisher you allow.",
    },
    Rule {
        fault: Fault::NoMatchingKey,
        id: "ONNXSEAL005",
        title: "No identity opens the model",
        meaning: "The model is protected to other recipients, so its contents could not be authenticated.",
        help: "Name the matching identity with --identity, or protect the model to that recipient.",
    },
    Rule {
        fault: Fault::Unreadable,
        id: "ONNXSEAL006",
        title: "Model cannot be read",
        meaning: "The system could not read the model or its external data.",
        help: "Make all files of the model readable, and put external data beside the model.",
    },
    Rule {
        fault: Fault::Other,
        id: "ONNXSEAL007",
        title: "Model could not be checked",
        meaning: "Checking the model failed in another way.",
        help: "See the message.",
    },
];

impl Fault {
    /// Returns the rule of this fault, with its position in [`RULES`].
    pub fn rule(self) -> (usize, &'static Rule) {
        let mut rules = RULES.iter().enumerate();
        let found = rules.find(|(_, rule)| rule.fault == self);
        // The last rule is for all other faults.
        found.unwrap_or((RULES.len() - 1, &RULES[RULES.len() - 1]))
    }

    /// Returns the exit code if this is the worst fault.
    pub fn exit_code(self) -> u8 {
        exit::kind_code(match self {
            Fault::AuthenticationFailed => ErrorKind::Authentication,
            Fault::Malformed => ErrorKind::Malformed,
            Fault::NotProtected | Fault::BelowPolicy => ErrorKind::PolicyNotMet,
            Fault::NoMatchingKey => ErrorKind::NoMatchingKey,
            Fault::Unreadable => ErrorKind::Io,
            Fault::Other => ErrorKind::Internal,
        })
    }
}

impl Check {
    /// Returns the model's shortcoming, even if it is no failure.
    pub fn fault(&self) -> Option<Fault> {
        match &self.outcome {
            Outcome::Ok(_) => None,
            Outcome::NotProtected { .. } => Some(Fault::NotProtected),
            Outcome::Failed(error) => Some(match error.kind() {
                ErrorKind::Authentication => Fault::AuthenticationFailed,
                ErrorKind::Malformed => Fault::Malformed,
                ErrorKind::PolicyNotMet => Fault::BelowPolicy,
                ErrorKind::NoMatchingKey => Fault::NoMatchingKey,
                ErrorKind::Io => Fault::Unreadable,
                _ => Fault::Other,
            }),
        }
    }

    /// Returns the fault, if it is a failure.
    pub fn failure(&self) -> Option<Fault> {
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
                let causes =
                    std::iter::successors(Some(error as &dyn std::error::Error), |error| {
                        error.source()
                    });
                let texts: Vec<String> = causes.map(ToString::to_string).collect();
                Some(one_line(&texts.join(": ")))
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
                format!("{path}: ok, {share:.1} % encrypted{policy}, {contents}{except}")
            }
            Outcome::NotProtected {
                required: false, ..
            } => format!("{path}: {}", self.message().unwrap_or_default()),
            _ => {
                let message = self.message().unwrap_or_default();
                format!("{path}: FAILED, {message}")
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
    let worst = checks.iter().filter_map(Check::failure).min();
    worst.map(Fault::exit_code)
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
        let fault = check.fault();
        row["model"] = json!(check.model.to_string());
        row["status"] = fault.map_or(json!("ok"), |fault| json!(fault));
        row["failed"] = json!(check.failure().is_some());
        if let Some(fault) = fault {
            row["rule"] = json!(fault.rule().1.id);
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

/// Prints the last line for people.
pub fn summary(out: &mut impl Write, checks: &[Check]) -> io::Result<()> {
    let summary = Summary::of(checks);
    let models = count(summary.models as u64, "model");
    write!(out, "{models}: {} ok", summary.ok)?;
    if summary.not_protected > 0 {
        write!(out, ", {} not protected", summary.not_protected)?;
    }
    writeln!(out, ", {} failed", summary.failed)
}
