//! Every rule against the operators' schemas, as `operators.txt` has them.

use std::collections::BTreeSet;

use onnxseal_onnx::proto::NodeProto;
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_plan::Reason;
use onnxseal_plan::rules::{Role, rules};
use onnxseal_testkit::build::{
    GraphBuilder, floats_attribute, in_domain, node, node_with, tensor_attribute, weights,
};

use crate::common;

/// A line of `operators.txt`.
struct Operator<'t> {
    name: &'t str,
    domain: &'t str,
    op_type: &'t str,
    /// With the mark before the name.
    inputs: Vec<&'t str>,
    attributes: Vec<&'t str>,
}

fn operators() -> Vec<Operator<'static>> {
    let lines = include_str!("operators.txt").lines();
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(parse)
        .collect()
}

fn parse(line: &'static str) -> Operator<'static> {
    let (name, rest) = line.split_once('(').expect(line);
    let (inputs, attributes) = rest.split_once(')').expect(line);
    let (domain, op_type) = name.rsplit_once('.').unwrap_or(("", name));
    let inputs = inputs
        .split(", ")
        .filter(|input| !input.is_empty())
        .collect();
    Operator {
        name,
        domain,
        op_type,
        inputs,
        attributes: attributes.split_whitespace().collect(),
    }
}

/// The inputs' names with variadic ones three times, each beside its mark.
fn slots(operator: &Operator<'_>) -> Vec<(String, char)> {
    let mut slots = Vec::new();
    for input in &operator.inputs {
        let mark = input
            .chars()
            .next()
            .filter(|c| "*~".contains(*c))
            .unwrap_or(' ');
        let name = input.trim_start_matches(['*', '~']);
        match name.strip_suffix("...") {
            Some(name) => slots.extend((0..3).map(|i| (format!("{name}_{i}"), mark))),
            None => slots.push((name.to_owned(), mark)),
        }
    }
    slots
}

#[test]
fn every_rule_has_a_line() {
    let lines: BTreeSet<&str> = operators().iter().map(|operator| operator.name).collect();
    for rule in rules() {
        match rule.role {
            Role::NoWeights | Role::Branch | Role::Loop | Role::Scan => {}
            _ => assert!(lines.contains(&*rule.name()), "{} has no line", rule.name()),
        }
    }
}

/// Every input of the operator is an initializer: those and only those with a mark are weights.
#[test]
fn weights_are_the_marked_inputs() {
    for operator in operators() {
        let slots = slots(&operator);
        let mut graph = GraphBuilder::new("g");
        for (seed, (name, _)) in (0..).zip(&slots) {
            graph = graph.initializer(weights(name, &[8, 4], seed));
        }
        let names: Vec<&str> = slots.iter().map(|(name, _)| name.as_str()).collect();
        let this = in_domain(operator.domain, node(operator.op_type, &names, &["y"]));
        let bytes = graph.node(this).encode();
        let model = common::located(&bytes);
        let has_weights = slots.iter().any(|(_, mark)| *mark == '*');
        for (slot, (name, mark)) in slots.iter().enumerate() {
            let reason = common::reason(&model, name);
            match mark {
                // A constant where data goes as a rule is one.
                ' ' if slot == 0 && has_weights => assert_eq!(reason, None, "{}", operator.name),
                '*' => assert_eq!(reason, None, "{} of {}", name, operator.name),
                // Nothing reads what the operator puts out.
                '~' => assert_eq!(
                    reason,
                    Some(Reason::Unconsumed),
                    "{} of {}",
                    name,
                    operator.name
                ),
                _ => assert!(
                    matches!(
                        reason,
                        Some(Reason::NotAWeight { .. } | Reason::NoWeights { .. } | Reason::Shape)
                    ),
                    "{name} of {}: {reason:?}",
                    operator.name
                ),
            }
        }
    }
}

#[test]
fn weights_are_the_marked_attributes() {
    for operator in operators() {
        let bare = |attribute: &&str| attribute.trim_start_matches('*').to_owned();
        let names: Vec<String> = operator.attributes.iter().map(bare).collect();
        let attributes = (0..).zip(&names).map(|(seed, name)| {
            if name.contains("_as_tensor") {
                tensor_attribute(name, weights(name, &[32], seed))
            } else {
                floats_attribute(name, &[0.5; 32])
            }
        });
        let this = node_with(operator.op_type, &["x"], &["y"], attributes.collect());
        let bytes = GraphBuilder::new("g")
            .node(in_domain(operator.domain, this))
            .encode();
        let model = common::located(&bytes);
        for (marked, name) in operator.attributes.iter().zip(&names) {
            let is_weight = common::reason(&model, name).is_none();
            assert_eq!(
                is_weight,
                marked.starts_with('*'),
                "{name} of {}",
                operator.name
            );
        }
    }
}

/// What a marked input takes reaches the Conv behind the operator; what others take does not.
#[test]
fn marked_inputs_pass_on() {
    for operator in operators()
        .iter()
        .filter(|o| o.inputs.iter().any(|i| i.starts_with('~')))
    {
        let slots = slots(operator);
        let mut graph = GraphBuilder::new("g");
        for (seed, (name, _)) in (0..).zip(&slots) {
            graph = graph.initializer(weights(name, &[8, 4], seed));
        }
        let names: Vec<&str> = slots.iter().map(|(name, _)| name.as_str()).collect();
        let this: NodeProto = node(operator.op_type, &names, &["passed"]);
        let bytes = graph
            .node(in_domain(operator.domain, this))
            .node(node("Conv", &["x", "passed"], &["y"]))
            .encode();
        let model = common::located(&bytes);
        for (name, mark) in &slots {
            let is_weight = common::reason(&model, name).is_none();
            assert_eq!(is_weight, *mark == '~', "{name} of {}", operator.name);
        }
    }
}

/// Which tensors pass for weights where an operator also takes other things.
#[test]
fn guards_tell_weights_from_indices_and_constants() {
    let cases: [(&str, DataType, &[i64], bool); 16] = [
        ("Gather", DataType::Float, &[100, 8], true),
        ("Gather", DataType::Int8, &[100, 8], true),
        ("Gather", DataType::Float, &[100], true),
        ("Gather", DataType::Float, &[16], true),
        ("Gather", DataType::Float, &[15], false),
        ("Gather", DataType::Float, &[1, 15], true),
        ("Gather", DataType::Int64, &[100, 8], false),
        ("Gather", DataType::Int32, &[100, 8], false),
        ("Add", DataType::Float, &[16], true),
        ("Add", DataType::Float, &[15], false),
        ("Add", DataType::Int64, &[64], false),
        ("Mul", DataType::Float16, &[4, 4], true),
        ("Conv", DataType::Float, &[1], true),
        ("PRelu", DataType::Float, &[16], true),
        ("PRelu", DataType::Float, &[15], false),
        ("MatMul", DataType::Int64, &[8, 8], false),
    ];
    for (op_type, data_type, dims, is_weight) in cases {
        let n_bytes = dims.iter().product::<i64>() * 8;
        let bits = i64::from(onnxseal_onnx::element_bits(data_type).unwrap());
        let bytes = vec![1; (n_bytes * bits / 64) as usize];
        let tensor = onnxseal_testkit::build::raw_tensor("w", data_type, dims, bytes);
        let inputs = if op_type == "Conv" {
            ["x", "w"]
        } else {
            ["w", "x"]
        };
        let bytes = GraphBuilder::new("g")
            .initializer(tensor)
            .node(node(op_type, &inputs, &["y"]))
            .encode();
        let reason = common::reason(&common::located(&bytes), "w");
        assert_eq!(
            reason.is_none(),
            is_weight,
            "{op_type} {data_type:?} {dims:?}: {reason:?}"
        );
    }
}
