//! Changes of messages: what is added, and the lengths around it.

use onnxseal_onnx::edit::{Change, NewTensor, add_input, apply, set_elements};
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
        let out = apply(&bytes, changes).unwrap();
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

/// An empty graph is a message to which a field can be added; bytes of another kind are none.
#[test]
fn changes_find_their_message_or_fail() {
    let insert = |message, at| Change {
        message,
        taken: Span { start: at, len: 0 },
        text: vec![0x50, 1].into(),
    };
    let empty = [0x3a, 0, 0x08, 9];
    assert_eq!(
        **apply(&empty, vec![insert(2, 2)]).unwrap(),
        [0x3a, 2, 0x50, 1, 0x08, 9]
    );
    let outer = vec![insert(0, 2), insert(2, 2)];
    assert_eq!(
        **apply(&empty, outer).unwrap(),
        [0x3a, 2, 0x50, 1, 0x50, 1, 0x08, 9]
    );
    assert!(apply(&empty, vec![insert(3, 3)]).is_err());
}

/// As many changes as a large model has tensors take one walk.
#[test]
fn many_changes_grow_many_messages() {
    let n = 200_000;
    let bytes = [0x2a, 3, 0x42, 1, b'w'].repeat(n);
    let changes = (0..n as u64).map(|i| Change {
        message: 5 * i + 2,
        taken: Span {
            start: 5 * i + 5,
            len: 0,
        },
        text: vec![0x10, 1].into(),
    });
    let out = apply(&bytes, changes.collect()).unwrap();
    assert!(*out == [0x2a, 5, 0x42, 1, b'w', 0x10, 1].repeat(n));
}
