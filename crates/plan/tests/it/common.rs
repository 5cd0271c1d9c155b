//! What these tests share.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

use onnxseal_onnx::model::{Model, TensorId};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{FunctionProto, ModelProto, TensorProto};
use onnxseal_onnx::{Limits, locate};
use onnxseal_plan::{Classified, Error, Plan, Policy, Reason, classify, uniform};
use onnxseal_testkit::build::{GraphBuilder, bare_tensor, opset};
use prost::Message;

/// A model with functions of the domain `my`.
pub fn with_functions(graph: GraphBuilder, functions: Vec<FunctionProto>) -> Vec<u8> {
    let mut model: ModelProto = graph.model();
    model.opset_import.push(opset("my", 1));
    model.functions = functions;
    model.encode_to_vec()
}

/// An INT8 tensor of 64 elements that are varints.
pub fn varints(name: &str) -> TensorProto {
    TensorProto {
        int32_data: vec![1; 64],
        ..bare_tensor(name, DataType::Int8, &[8, 8])
    }
}

/// A tensor of 32 words.
pub fn string_data(name: &str) -> TensorProto {
    TensorProto {
        string_data: vec![b"word".to_vec(); 32],
        ..bare_tensor(name, DataType::String, &[32])
    }
}

/// Locates a model that is known to be well-formed.
pub fn located(bytes: &[u8]) -> Model<'_> {
    locate(bytes, &Limits::default()).unwrap()
}

/// What is known of the tensor `name`.
pub fn classified<'a>(model: &Model<'a>, name: &str) -> Classified<'a> {
    let index = model
        .tensors
        .iter()
        .position(|tensor| tensor.name == name)
        .unwrap();
    classify(model).swap_remove(index)
}

/// The operator types and slots that read the tensor `name`, `Conv[1]`.
pub fn readers(model: &Model<'_>, name: &str) -> Vec<String> {
    let known = classified(model, name);
    let readers = known.consumers.iter().map(|consumer| {
        let node = &model.nodes[consumer.node.index()];
        match consumer.slot {
            onnxseal_plan::Slot::Input(slot) => format!("{}[{slot}]", node.op_type),
            onnxseal_plan::Slot::Attribute(name) => format!("{}.{name}", node.op_type),
        }
    });
    readers.collect()
}

/// Why the tensor `name` is no weight.
pub fn reason(model: &Model<'_>, name: &str) -> Option<Reason> {
    classified(model, name).reason
}

/// Plans, and checks what holds for every plan.
pub fn plan(model: &Model<'_>, policy: &Policy) -> Plan {
    let score = |wanted: &[_]| Ok::<_, Error>(uniform(wanted));
    let plan = onnxseal_plan::plan(model, policy, score).unwrap();
    check(model, &plan);
    plan
}

/// The tensors that a plan leaves in clear, each with the reason.
pub fn clear(bytes: &[u8], policy: &Policy) -> Vec<(String, Reason)> {
    let model = located(bytes);
    let clear = plan(&model, policy).clear.into_iter();
    clear
        .map(|clear| {
            let tensor = &model.tensors[clear.tensor.index()];
            (tensor.name.to_owned(), clear.reason)
        })
        .collect()
}

/// What a plan does not meet, in words.
pub fn violations(bytes: &[u8], policy: &Policy) -> Vec<String> {
    let model = located(bytes);
    let plan = plan(&model, policy);
    plan.violations(&model, policy, plan.encrypted_bytes() > 0)
}

/// Checks what holds for every plan.
pub fn check(model: &Model<'_>, plan: &Plan) {
    assert!(plan.encrypted_bytes() <= plan.total_bytes());
    let mut covered: Vec<TensorId> = plan.clear.iter().map(|clear| clear.tensor).collect();
    for tensor in &plan.tensors {
        let located = &model.tensors[tensor.tensor.index()];
        let owner = &plan.operators[tensor.operator];
        let consumers = plan.consumers(tensor.tensor);
        match owner.node {
            Some(node) => assert!(consumers.contains(&node)),
            None => assert!(consumers.is_empty()),
        }
        assert_eq!(tensor.n, located.n_elements.div_ceil(tensor.unit_elements));
        assert!(tensor.targets.iter().all(|run| run.take >= 1));
        assert!(tensor.targets.iter().skip(1).all(|run| run.skip >= 1));
        assert!(
            tensor
                .targets
                .iter()
                .map(|run| run.skip + run.take)
                .sum::<u64>()
                <= tensor.n
        );
        assert!(tensor.encrypted_bytes <= tensor.bytes);
        assert_eq!(tensor.targets.is_empty(), tensor.encrypted_bytes == 0);
        if !tensor.targets.is_empty() {
            covered.push(tensor.tensor);
        }
    }
    covered.sort();
    let all: Vec<TensorId> = model.tensors_with_ids().map(|(id, _)| id).collect();
    assert_eq!(
        covered, all,
        "every tensor is either encrypted in part or clear for a reason"
    );
}
