//! Settings of nodes, types of inputs, and elements coded as varints.

use onnxseal_onnx::detail::{Setting, attributes, input_types, raw_elements};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::{Limits, locate};

use onnxseal_testkit::build::{
    GraphBuilder, bare_tensor, ints_attribute, node_with, strings_attribute, weights,
};

#[test]
fn attributes_types_and_coded_elements_are_read() {
    let coded = |values: &[i64]| onnxseal_onnx::proto::TensorProto {
        int64_data: values.to_vec(),
        ..bare_tensor("shape", DataType::Int64, &[3])
    };
    let halves = onnxseal_onnx::proto::TensorProto {
        int32_data: vec![0x3c00, 0x8001],
        ..bare_tensor("halves", DataType::Float16, &[2])
    };
    let conv = node_with(
        "Conv",
        &["x", "w"],
        &["y"],
        vec![
            ints_attribute("strides", &[4, 4]),
            strings_attribute("names", &["a"]),
            ints_attribute("none", &[]),
        ],
    );
    let bytes = GraphBuilder::new("g")
        .input("x", &[1, 3, 8, 0])
        .initializer(weights("w", &[2, 3, 4, 4], 1))
        .initializer(coded(&[1, -1, 300]))
        .initializer(halves)
        .node(conv)
        .encode();
    let model = locate(&bytes, &Limits::default()).unwrap();
    let attributes = attributes(&bytes, &model.nodes[0]).unwrap();
    let of = |name| &attributes.iter().find(|a| a.name == name).unwrap().value;
    assert_eq!(of("strides"), &Setting::Ints(vec![4, 4]));
    assert_eq!(of("names"), &Setting::Other);
    assert_eq!(of("none"), &Setting::Ints(vec![]));
    let shape = model.tensors.iter().find(|t| t.name == "shape").unwrap();
    let expected: Vec<u8> = [1i64, -1, 300].map(i64::to_le_bytes).concat();
    assert_eq!(raw_elements(&bytes, shape).unwrap(), Some(expected));
    let halves = model.tensors.iter().find(|t| t.name == "halves").unwrap();
    assert_eq!(
        raw_elements(&bytes, halves).unwrap(),
        Some(vec![0, 0x3c, 1, 0x80])
    );
    // These lie in raw_data already.
    assert_eq!(raw_elements(&bytes, &model.tensors[0]).unwrap(), None);
    let types = input_types(&bytes).unwrap();
    assert_eq!(types[0].data_type, Some(DataType::Float));
    assert_eq!(types[0].dims, Some(vec![Some(1), Some(3), Some(8), None]));
}
