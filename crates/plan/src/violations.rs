//! The demands of a policy that a plan does not meet.

use std::fmt;

use onnxseal_onnx::excerpt;
use onnxseal_onnx::model::{Model, Span, Tensor, TensorId};

use crate::classify::{Reason, is_opaque};
use crate::plan::Plan;
use crate::policy::{Demand, Policy, Target};
use crate::rules;
use crate::unmatched::{Entry, unmatched};

/// A demand of the policy that a plan does not meet.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Violation {
    /// A tensor cannot be encrypted in place.
    Unpatchable {
        /// Name of the tensor.
        name: String,
        /// Its protobuf path.
        path: String,
        /// Why.
        reason: Reason,
    },
    /// A part of the file that may hold weights was not searched.
    PassedOver {
        /// Its protobuf path.
        path: String,
    },
    /// A tensor may be a weight, but only operators without a rule or operators that usually take
    /// no weights read it, or no operator reads it, or its way could not be followed.
    UnknownOperator {
        /// Name of the tensor.
        name: String,
        /// Its protobuf path.
        path: String,
        /// Why.
        reason: Reason,
    },
    /// An attribute of an operator that nobody knows may hold weights.
    Opaque {
        /// Its name.
        attribute: String,
        /// Its protobuf path.
        path: String,
        /// Length of its value in bytes.
        bytes: u64,
    },
    /// An attribute has much text, or many numbers.
    Setting {
        /// Its name.
        attribute: String,
        /// Its protobuf path.
        path: String,
    },
    /// A tensor holds text.
    Strings {
        /// Name of the tensor.
        name: String,
        /// Its protobuf path.
        path: String,
    },
    /// An external data file has bytes in which no tensor lies.
    Gap {
        /// The file's location.
        location: String,
        /// The range in the file.
        span: Span,
    },
    /// Nothing is encrypted, though the policy asks for weights.
    Nothing,
    /// An override of the policy encrypts nothing of the tensors that it names.
    WithoutEffect {
        /// The override.
        entry: Entry,
        /// Why the first of these tensors stays in clear.
        reason: Reason,
    },
    /// The encrypted share is below the policy's least.
    Share {
        /// Encrypted share of the bytes of all tensors.
        share: f64,
        /// The share demanded.
        min_share: f64,
    },
    /// An entry of the policy matches nothing in the model.
    Unmatched {
        /// The entry.
        entry: Entry,
        /// A similar name in the model.
        similar: Option<String>,
    },
}

impl Plan {
    /// Returns the demands of the policy that this plan of `model` does not meet.
    pub fn violations(&self, model: &Model<'_>, policy: &Policy) -> Vec<Violation> {
        let require = policy.require();
        let mut violations = Vec::new();
        for clear in &self.clear {
            let tensor = model.tensors.get(clear.tensor.index());
            violations.extend(tensor.and_then(|tensor| of_clear(tensor, &clear.reason, policy)));
        }
        if policy.asks_for_any() {
            violations.extend(self.in_clear(model, policy));
            let is_told = !violations.is_empty() || !policy.allowed_clear().is_empty();
            if self.encrypted_bytes() == 0 && !is_told {
                violations.push(Violation::Nothing);
            }
        }
        if require.settings == Demand::Error {
            let is_opaque = is_opaque(model);
            let plain = model.long_settings.iter().filter(|setting| {
                !is_opaque(setting) && !policy.allows_clear(&[setting.attribute, &setting.path])
            });
            violations.extend(plain.map(|setting| Violation::Setting {
                attribute: setting.attribute.to_owned(),
                path: setting.path.clone(),
            }));
        }
        if require.unmatched == Demand::Error {
            let unmatched = unmatched(model, policy, &self.gaps).into_iter();
            violations
                .extend(unmatched.map(|(entry, similar)| Violation::Unmatched { entry, similar }));
            violations.extend(self.without_effect(model, policy));
        }
        let (share, min_share) = (self.share(), require.min_share);
        if share < min_share {
            violations.push(Violation::Share { share, min_share });
        }
        violations
    }

    /// Lists the parts of the model, other than tensors, that may hold weights and stay in clear.
    fn in_clear(&self, model: &Model<'_>, policy: &Policy) -> Vec<Violation> {
        let parts = model.passed_over.iter();
        let parts = parts.filter(|part| !policy.allows_clear(&[&part.path]));
        let parts = parts.map(|part| Violation::PassedOver {
            path: part.path.clone(),
        });
        let is_opaque = is_opaque(model);
        let opaque = model.long_settings.iter().filter(|setting| {
            is_opaque(setting) && !policy.allows_clear(&[setting.attribute, &setting.path])
        });
        let opaque = opaque.map(|setting| Violation::Opaque {
            attribute: setting.attribute.to_owned(),
            path: setting.path.clone(),
            bytes: setting.bytes,
        });
        let gaps = self.gaps.iter().filter_map(|gap| {
            let now = model.location(gap.file).unwrap_or_default();
            (!policy.allows_clear(&[&gap.location, now])).then(|| Violation::Gap {
                location: gap.location.clone(),
                span: gap.span,
            })
        });
        parts.chain(opaque).chain(gaps).collect()
    }

    /// Lists the overrides above 0 that encrypt nothing of the tensors they name, or of those that
    /// the nodes read that they name.
    fn without_effect(&self, model: &Model<'_>, policy: &Policy) -> Vec<Violation> {
        let named = policy.overrides().iter();
        let named = named.filter(|named| named.coefficient() > 0.0);
        let found = named.filter_map(|named| {
            let is_of = |tensor: TensorId| match named.target() {
                Target::Initializer => {
                    let tensor = model.tensors.get(tensor.index());
                    tensor.is_some_and(|tensor| named.matches(tensor.name))
                }
                Target::Node => self.consumers(tensor).iter().any(|node| {
                    let node = model.nodes.get(node.index());
                    node.is_some_and(|node| named.matches(node.name))
                }),
            };
            let mut encrypted = self.tensors.iter().filter(|plan| plan.encrypted_bytes > 0);
            if encrypted.any(|plan| is_of(plan.tensor)) {
                return None;
            }
            let clear = self.clear.iter().find(|clear| {
                // A later override may have set the coefficient to 0.
                is_of(clear.tensor) && clear.reason != Reason::ZeroCoefficient
            })?;
            let pattern = named.pattern().to_owned();
            Some(Violation::WithoutEffect {
                entry: match named.target() {
                    Target::Initializer => Entry::Initializer(pattern),
                    Target::Node => Entry::Node(pattern),
                },
                reason: clear.reason.clone(),
            })
        });
        found.collect()
    }
}

/// Returns the violation if a tensor may not stay in clear for `reason`.
fn of_clear(tensor: &Tensor<'_>, reason: &Reason, policy: &Policy) -> Option<Violation> {
    let require = policy.require();
    let is_demanded = match reason {
        Reason::Unpatchable(_) => policy.asks_for_any(),
        Reason::Strings => require.settings == Demand::Error,
        Reason::Unconsumed if !rules::may_be_learnt(tensor) => false,
        Reason::UnknownOperator { .. }
        | Reason::NoWeights { .. }
        | Reason::NotFollowed
        | Reason::Unconsumed => require.unknown_op == Demand::Error,
        _ => false,
    };
    if !is_demanded || policy.allows_clear(&[tensor.name, &tensor.path]) {
        return None;
    }
    let (name, path) = (tensor.name.to_owned(), tensor.path.clone());
    let reason = reason.clone();
    Some(match reason {
        Reason::Unpatchable(_) => Violation::Unpatchable { name, path, reason },
        Reason::Strings => Violation::Strings { name, path },
        _ => Violation::UnknownOperator { name, path, reason },
    })
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Unpatchable { name, path, reason } => {
                let (name, path, reason) = (excerpt(name), excerpt(path), excerpt(&reason.text()));
                write!(f, "tensor {name:?} ({path}) cannot be encrypted: {reason}")
            }
            Violation::PassedOver { path } => {
                write!(f, "{path} may hold weights, and stays in clear")
            }
            Violation::Opaque {
                attribute,
                path,
                bytes,
            } => {
                let (attribute, path) = (excerpt(attribute), excerpt(path));
                write!(
                    f,
                    "attribute {attribute:?} ({path}) has {bytes} bytes, may hold weights, "
                )?;
                f.write_str("and stays in clear")
            }
            Violation::Setting { attribute, path } => {
                let (attribute, path) = (excerpt(attribute), excerpt(path));
                write!(f, "attribute {attribute:?} ({path}) stays in clear")
            }
            Violation::Strings { name, path } => {
                let (name, path) = (excerpt(name), excerpt(path));
                write!(f, "the text of tensor {name:?} ({path}) stays in clear")
            }
            Violation::Gap { location, span } => {
                let location = excerpt(location);
                write!(
                    f,
                    "{} bytes of {location:?} from offset {} on ",
                    span.len, span.start
                )?;
                f.write_str("belong to no tensor, and stay in clear")
            }
            Violation::Nothing => f.write_str("nothing is encrypted"),
            Violation::WithoutEffect { entry, reason } => {
                write!(f, "{entry} encrypts nothing: {reason}")
            }
            Violation::UnknownOperator { name, path, reason } => {
                let (name, path, reason) = (excerpt(name), excerpt(path), excerpt(&reason.text()));
                write!(f, "{name:?} ({path}) may be a weight: {reason}")
            }
            Violation::Share { share, min_share } => {
                write!(
                    f,
                    "{:.1} % of all tensors' bytes are encrypted, ",
                    share * 100.0
                )?;
                write!(f, "at least {:.1} % are demanded", min_share * 100.0)
            }
            Violation::Unmatched { entry, similar } => {
                write!(f, "{entry} matches nothing in the model")?;
                match similar {
                    Some(similar) => write!(f, ": did you mean {similar:?}?"),
                    None => Ok(()),
                }
            }
        }
    }
}
