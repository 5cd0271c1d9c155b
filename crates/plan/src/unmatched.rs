//! Entries of a policy that are about nothing in a model: most are slips of the pen.

use std::collections::HashSet;

use onnxseal_onnx::model::Model;

use crate::plan::Entry;
use crate::policy::{Policy, Target};
use crate::rules;

/// How alike two names must be, from 0 to 1, for one to be what was meant by the other.
const SIMILAR: f64 = 0.75;

/// Names that are compared at most: a hostile model has a million.
const MAX_NAMES: usize = 10_000;

/// Bytes of the longest names that are compared.
const MAX_NAME_BYTES: usize = 256;

/// The entries of `policy` that match nothing in `model`, whether or not the policy counts them.
///
/// With each, what the model has of about the same name.
pub fn unmatched(model: &Model<'_>, policy: &Policy) -> Vec<(Entry, Option<String>)> {
    let mut unmatched = Vec::new();
    let mut note = |entry, similar| unmatched.push((entry, similar));
    let nodes = model.nodes.iter().map(|node| (node.domain, node.op_type));
    let op_types: HashSet<(&str, &str)> = match policy.operator_types().next() {
        Some(_) => nodes.collect(),
        None => HashSet::new(),
    };
    for (domain, op_type) in policy.operator_types() {
        if !op_types.contains(&(domain, op_type)) {
            let name = rules::qualified(domain, op_type);
            let others = rules::with_weights()
                .filter(|rule| op_types.contains(&(rule.domain, rule.op_type)));
            let similar = similar(&name, others.map(rules::Rule::name));
            note(Entry::OperatorType(name), similar);
        }
    }
    for exception in policy.overrides() {
        let pattern = exception.pattern().to_owned();
        match exception.target() {
            Target::Node => {
                let names = model.nodes.iter().map(|node| node.name);
                if !names.clone().any(|name| exception.matches(name)) {
                    let similar = similar(&pattern, names);
                    note(Entry::Node(pattern), similar);
                }
            }
            Target::Initializer => {
                let names = model.tensors.iter().map(|tensor| tensor.name);
                if !names.clone().any(|name| exception.matches(name)) {
                    let similar = similar(&pattern, names);
                    note(Entry::Initializer(pattern), similar);
                }
            }
        }
    }
    unmatched
}

/// The one of `names` that is most like `name`, with or without a domain, if any is much like it.
pub(crate) fn similar<N: Into<String> + AsRef<str>>(
    name: &str,
    names: impl Iterator<Item = N>,
) -> Option<String> {
    let wanted = name.to_lowercase();
    let alike = |name: &str| {
        let name = name.to_lowercase();
        let bare = name.rsplit('.').next().unwrap_or_default();
        strsim::jaro(&wanted, &name).max(strsim::jaro(&wanted, bare))
    };
    let names = names
        .take(MAX_NAMES)
        .filter(|name| name.as_ref().len() <= MAX_NAME_BYTES);
    let scored = names.map(|name| (alike(name.as_ref()), name));
    let best = scored.reduce(|best, other| if other.0 > best.0 { other } else { best });
    best.filter(|(score, _)| *score >= SIMILAR)
        .map(|(_, name)| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_what_was_meant() {
        let names = || {
            [
                "Conv",
                "ConvTranspose",
                "com.microsoft.QAttention",
                "MatMul",
            ]
            .into_iter()
        };
        for (slip, meant) in [
            ("Cnov", Some("Conv")),
            ("conv", Some("Conv")),
            ("QAttention", Some("com.microsoft.QAttention")),
            ("Matmull", Some("MatMul")),
            ("LSTM", None),
            ("", None),
        ] {
            assert_eq!(similar(slip, names()).as_deref(), meant, "{slip}");
        }
        assert_eq!(similar("w", ["x".repeat(1 << 20)].into_iter()), None);
    }
}
