//! Finds entries of a policy that match nothing in a model, which are usually typing errors.

use std::collections::HashSet;
use std::fmt;

use onnxseal_onnx::model::Model;

use crate::plan::Gap;
use crate::policy::{Policy, Target};
use crate::rules;
use crate::similar::similar;

/// An entry of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// The coefficient of an operator type.
    OperatorType(String),
    /// The pattern of an override for nodes.
    Node(String),
    /// The pattern of an override for initializers.
    Initializer(String),
    /// The pattern of something that may stay in clear.
    AllowClear(String),
}

/// Returns the entries of `policy` that match nothing in `model`, even if the policy allows that.
///
/// Each comes with a similar name from the model, if there is one.
pub fn unmatched(model: &Model<'_>, policy: &Policy, gaps: &[Gap]) -> Vec<(Entry, Option<String>)> {
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
            note(Entry::OperatorType(name.into_owned()), similar);
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
    for pattern in policy.allowed_clear() {
        let tensors = model.tensors.iter().flat_map(|of| [of.name, &of.path]);
        let parts = model.passed_over.iter().map(|part| &*part.path);
        let settings = model.long_settings.iter();
        let settings = settings.flat_map(|setting| [setting.attribute, &setting.path]);
        let files = model.external_files.iter().map(String::as_str);
        let gaps = gaps.iter().map(|gap| &*gap.location);
        let names = tensors
            .chain(parts)
            .chain(settings)
            .chain(files)
            .chain(gaps);
        let mut names = names.peekable();
        // A model without anything to name has nothing to encrypt either.
        if names.peek().is_some() && !names.any(|name| pattern.is_match(name)) {
            let pattern = pattern.glob().glob().to_owned();
            let similar = similar(&pattern, model.tensors.iter().map(|tensor| tensor.name));
            note(Entry::AllowClear(pattern), similar);
        }
    }
    unmatched
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::OperatorType(op_type) => write!(f, "the coefficient of {op_type}"),
            Entry::Node(pattern) => write!(f, "the override of node {pattern:?}"),
            Entry::AllowClear(pattern) => write!(f, "the name {pattern:?} that may stay in clear"),
            Entry::Initializer(pattern) => write!(f, "the override of initializer {pattern:?}"),
        }
    }
}
