//! Finds entries of a policy that match nothing in a model, which are usually typing errors.

use onnxseal_onnx::model::Model;

use crate::plan::Gap;
use crate::policy::{OpType, Policy};
use crate::rules;
use crate::similar::similar;

/// Returns the entries of `policy` that match nothing in `model`, even if the policy allows that.
///
/// Each comes with a similar name from the model, if there is one.
pub fn unmatched(
    model: &Model<'_>,
    policy: &Policy,
    gaps: &[Gap],
) -> Vec<(String, Option<String>)> {
    let mut unmatched = Vec::new();
    let nodes = model.nodes.iter().map(|node| node.name);
    let tensors = model.tensors.iter().map(|tensor| tensor.name);
    let is_used = |of: (&str, &str)| {
        let mut nodes = model.nodes.iter();
        nodes.any(|node| (node.domain, node.op_type) == of)
    };
    for &OpType(domain, op_type) in policy.coefficients.keys() {
        if !is_used((domain, op_type)) {
            let name = rules::qualified(domain, op_type);
            let others = rules::with_weights().filter(|rule| is_used((rule.domain, rule.op_type)));
            let similar = similar(&name, others.map(rules::Rule::name));
            unmatched.push((format!("the coefficient of {name}"), similar));
        }
    }
    for named in &policy.overrides {
        if let Some(pattern) = &named.node
            && !nodes.clone().any(|name| pattern.matches(name))
        {
            unmatched.push((named.to_string(), similar(pattern.text(), nodes.clone())));
        }
        if let Some(pattern) = &named.initializer
            && !tensors.clone().any(|name| pattern.matches(name))
        {
            unmatched.push((named.to_string(), similar(pattern.text(), tensors.clone())));
        }
    }
    for pattern in &policy.allow_clear {
        let paths = model.tensors.iter().map(|of| &*of.path);
        let parts = model.passed_over.iter().map(|part| &*part.path);
        let settings = model.long_settings.iter();
        let settings = settings.flat_map(|setting| [setting.attribute, &setting.path]);
        let files = model.external_files.iter().map(String::as_str);
        let gaps = gaps.iter().map(|gap| &*gap.location);
        let mut names = (tensors.clone().chain(paths).chain(parts))
            .chain(settings)
            .chain(files)
            .chain(gaps)
            .peekable();
        // A model without anything to name has nothing to encrypt either.
        if names.peek().is_some() && !names.any(|name| pattern.matches(name)) {
            let entry = format!("the name {:?} that may stay in clear", pattern.text());
            unmatched.push((entry, similar(pattern.text(), tensors.clone())));
        }
    }
    unmatched
}
