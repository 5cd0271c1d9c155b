//! Changes of messages: what is added, and the lengths around it.

use onnxseal_onnx::edit::{NewTensor, add_input, set_elements, with_lengths};
use onnxseal_onnx::model::Span;
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::{Limits, locate};

use onnxseal_testkit::build::{GraphBuilder, node, weights};

#[test]
fn a_bias_is_added_and_elements_move_to_raw_data() {
    for n in [1usize, 100, 40_000] {
        let coded = onnxseal_onnx::proto::TensorProto {
            int32_data: vec![-1, 5, 300],
            ..onnxseal_testkit::build::bare_tensor("coded", DataType::Int32, &[3])
        };
        let bytes = GraphBuilder::new("g")
            .input("x", &[1, 3, 8, 8])
            .initializer(weights("w", &[2, 3, 4, 4], 1))
            .initializer(coded)
            .node(node("Conv", &["x", "w"], &["y"]))
            .node(node("QLinearConv", &["x", "", "w"], &["z"]))
            .encode();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let raw_of_new = vec![7; n];
        let dims = [n as u64];
        let new = |name| NewTensor {
            name,
            data_type: DataType::Int8,
            dims: &dims,
            raw: &raw_of_new,
        };
        let raw: Vec<u8> = [9i32, 8, 7].iter().flat_map(|i| i.to_le_bytes()).collect();
        let tensor = model.tensors.iter().find(|t| t.name == "coded").unwrap();
        let mut changes = add_input(&bytes, &model.nodes[0], 2, new("b")).unwrap();
        changes.extend(add_input(&bytes, &model.nodes[0], 4, new("c")).unwrap());
        changes.extend(add_input(&bytes, &model.nodes[1], 1, new("d")).unwrap());
        changes.extend(set_elements(&bytes, tensor, &raw).unwrap());
        // The second adds slots that the first has filled by then: only the names matter here.
        let edits = with_lengths(&bytes, changes).unwrap();
        let out = apply(&bytes, &edits);
        let model = locate(&out, &Limits::default()).unwrap();
        assert_eq!(model.nodes[0].inputs, ["x", "w", "b", "", "", "c"]);
        assert_eq!(model.nodes[1].inputs, ["x", "d", "w"]);
        let names: Vec<_> = model
            .tensors
            .iter()
            .map(|t| (t.name, t.n_elements))
            .collect();
        let n = n as u64;
        assert_eq!(
            names,
            [("w", 96), ("coded", 3), ("b", n), ("c", n), ("d", n)]
        );
    }
}

fn apply(bytes: &[u8], edits: &[(Span, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut end) = (Vec::new(), 0);
    for (taken, text) in edits {
        out.extend_from_slice(&bytes[end..taken.start as usize]);
        out.extend_from_slice(text);
        end = taken.end() as usize;
    }
    out.extend_from_slice(&bytes[end..]);
    out
}
