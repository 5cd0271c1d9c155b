//! What an application requires of the publisher's claims.

use std::collections::BTreeMap;
use std::path::Path;

use onnxseal_onnx::excerpt;

use crate::error::{Error, Result};
use crate::format::dates::{Moment, NOT_AFTER, NOT_BEFORE, moments, now};

/// Claims that a model must make to be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements(Vec<(String, Requirement)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    /// The model makes the claim, with any value.
    Made,
    Equals(String),
    /// The claim is a time that has not passed.
    NotAfter,
    /// The claim is a time that has come.
    NotBefore,
}

impl Requirements {
    /// Reads requirements, each in one of these forms:
    ///
    /// - `key=value`: the model makes the claim with that value.
    /// - `not-after`, `not-before`: it makes the claim with a date, as `docs/FORMAT.md` has them,
    ///   and the clock of this machine is not after, or not before, that.
    /// - `key`: it makes the claim with any value.
    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Requirements> {
        let requirements = texts.iter().map(|text| {
            let text = text.as_ref();
            let (key, requirement) = match text.split_once('=') {
                Some((key, value)) => (key, Requirement::Equals(value.to_owned())),
                None if text == NOT_AFTER => (text, Requirement::NotAfter),
                None if text == NOT_BEFORE => (text, Requirement::NotBefore),
                None => (text, Requirement::Made),
            };
            if key.is_empty() {
                let fault = format!("{text:?} names no claim: expected KEY=VALUE or KEY");
                return Err(Error::Usage(fault));
            }
            Ok((key.to_owned(), requirement))
        });
        requirements.collect::<Result<_>>().map(Requirements)
    }

    pub(crate) fn check(&self, path: &Path, claims: &BTreeMap<String, String>) -> Result<()> {
        self.check_at(path, claims, now())
    }

    fn check_at(&self, path: &Path, claims: &BTreeMap<String, String>, now: Moment) -> Result<()> {
        for (key, requirement) in &self.0 {
            let refuse = |reason| Error::Claim {
                path: path.to_owned(),
                key: key.clone(),
                reason,
            };
            let value = (claims.get(key)).ok_or_else(|| refuse("it is missing".to_owned()))?;
            let shown = excerpt(value);
            let time =
                || moments(value).ok_or_else(|| refuse(format!("{shown:?} is not a date or time")));
            let untimely = || format!("it is {shown:?}, which does not fit the present time");
            return Err(refuse(match requirement {
                Requirement::Equals(expected) if expected != value => {
                    format!("it is {shown:?}, not {expected:?}")
                }
                Requirement::NotAfter if now >= time()?.end => untimely(),
                Requirement::NotBefore if now < time()?.start => untimely(),
                _ => continue,
            }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refusal(requirement: &str, now: &str) -> Option<String> {
        let claims = [
            ("customer", "acme"),
            ("not-after", "2027-01-01"),
            ("not-before", "2026-06-01T12:00:00+02:00"),
            ("odd", "=a=b"),
        ];
        let claims = claims.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let now = moments(now).unwrap().start;
        let checked = Requirements::parse(&[requirement]).unwrap().check_at(
            Path::new("m.onnx"),
            &claims.into(),
            now,
        );
        checked.err().map(|error| error.to_string())
    }

    #[test]
    fn values_are_compared_whole() {
        let now = "2026-11-01T00:00:00Z";
        for met in [
            "customer=acme",
            "customer",
            "odd==a=b",
            "not-after=2027-01-01",
        ] {
            assert_eq!(refusal(met, now), None, "{met}");
        }
        for unmet in [
            "customer=acm",
            "customer=acme2",
            "customer=",
            "other",
            "other=",
            "odd=a=b",
        ] {
            assert!(refusal(unmet, now).is_some(), "{unmet}");
        }
        for none in ["", "=", "=value"] {
            assert!(Requirements::parse(&[none]).is_err(), "{none}");
        }
    }
}
