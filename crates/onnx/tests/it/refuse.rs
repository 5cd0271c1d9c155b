//! What is refused, why, and where.

use onnxseal_onnx::proto::TensorProto;
use onnxseal_onnx::proto::tensor_proto::{DataLocation, DataType};
use onnxseal_onnx::{Error, Limits, locate};
use onnxseal_testkit::build::{
    GraphBuilder, bare_tensor, entry, external, floats_attribute, graph_attribute, node, node_with,
    raw_tensor, tensor_attribute, weights,
};
use onnxseal_testkit::{corrupt, samples, wire};
use prost::Message;

use crate::support::{fault, probe};

fn tensor_fault(tensor: &TensorProto) -> String {
    bytes_fault(tensor.encode_to_vec())
}

fn bytes_fault(tensor: Vec<u8>) -> String {
    fault(&wire::model_of_tensors(&[tensor])).0
}

const DUPLICATE: &str = "expected one occurrence, found a second";
const TOO_LARGE: &str = "expected at most 2^60 elements and bytes, found more";
const NO_LOCATION: &str = "expected external_data to have a location, found none";

fn truncated(expected: u64, found: u64) -> String {
    format!("truncated: expected {expected} bytes, found {found}")
}

fn length(expected: u64, found: u64) -> String {
    format!("expected {expected} bytes, found {found}")
}

#[test]
fn an_empty_file() {
    assert_eq!(fault(&[]), ("empty file".into(), 0));
}

#[test]
fn a_file_without_a_graph() {
    let bytes = wire::varint_field(1, 8);
    assert_eq!(fault(&bytes), ("not an ONNX model: no graph".into(), 2));
}

#[test]
fn every_truncation_except_between_fields_after_the_graph() {
    for sample in samples::all() {
        let bytes = &sample.model;
        let fields = wire::fields(bytes);
        let graph = fields.iter().position(|(number, _)| *number == 7).unwrap();
        let whole: Vec<usize> = fields[graph..].iter().map(|(_, range)| range.end).collect();
        for len in 0..=bytes.len() {
            let accepted = probe(&corrupt::truncated(bytes, len));
            assert_eq!(
                accepted,
                whole.contains(&len),
                "{} cut to {len}",
                sample.name
            );
        }
    }
}

#[test]
fn no_flipped_bit_makes_it_panic_or_leave_the_file() {
    for sample in samples::all() {
        for i in 0..sample.model.len() {
            probe(&corrupt::flipped(&sample.model, i));
            for bit in 0..8 {
                probe(&corrupt::bit_flipped(&sample.model, i, bit));
            }
        }
    }
}

#[test]
fn no_cut_makes_it_panic_or_leave_the_file() {
    for sample in samples::all() {
        for i in 0..sample.model.len() {
            probe(&corrupt::cut(&sample.model, i..i + 1));
        }
    }
}

#[test]
fn trailing_garbage() {
    let bytes = samples::gemm();
    let end = bytes.len() as u64;
    let zeros = corrupt::appended(&bytes, &[0; 8]);
    assert_eq!(
        fault(&zeros),
        (
            "expected a field number from 1 to 536870911, found 0".into(),
            end
        )
    );
    let text = corrupt::appended(&bytes, b"\n");
    let cut = truncated(1, 0);
    assert_eq!(fault(&text), (cut, end + 1));
}

#[test]
fn a_second_graph() {
    let bytes = samples::gemm();
    let end = bytes.len() as u64;
    let twice = corrupt::field_duplicated(&bytes, 7);
    assert_eq!(fault(&twice), (DUPLICATE.into(), end));
    let empty = corrupt::appended(&bytes, &wire::field(7, &[]));
    let error = locate(&empty, &Limits::default()).unwrap_err();
    let expected =
        format!("ModelProto.graph, offset {end}: expected one occurrence, found a second");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn singular_fields_twice() {
    let string = |number| wire::field(number, b"a");
    let number = |number| wire::varint_field(number, 1);
    let model = |body: Vec<u8>| [wire::field(7, &[]), body].concat();
    let graph = |body: Vec<u8>| wire::field(7, &body);
    let in_node = |body: Vec<u8>| graph(wire::field(1, &body));
    let attribute = |body: Vec<u8>| in_node(wire::field(5, &body));
    let tensor = |body: Vec<u8>| wire::model_of_tensors(&[body]);
    let function = |body: Vec<u8>| model(wire::field(25, &body));
    let opset = |body: Vec<u8>| model(wire::field(8, &body));
    let metadata = |body: Vec<u8>| model(wire::field(14, &body));
    let value_info = |body: Vec<u8>| graph(wire::field(11, &body));
    let sparse = |body: Vec<u8>| graph(wire::field(15, &body));

    type Wrap<'a> = &'a dyn Fn(Vec<u8>) -> Vec<u8>;
    let strings: [(Wrap<'_>, &[u32]); 9] = [
        (&model, &[2, 3, 4, 6]),
        (&graph, &[2, 10]),
        (&in_node, &[3, 4, 6, 7, 8]),
        (&attribute, &[1, 4, 13, 14, 21]),
        (&tensor, &[3, 8, 9, 12]),
        (&function, &[1, 8, 10, 13]),
        (&opset, &[1]),
        (&metadata, &[1, 2]),
        (&value_info, &[1, 2, 3]),
    ];
    for (wrap, numbers) in strings {
        for &n in numbers {
            let (found, _) = fault(&wrap([string(n), string(n)].concat()));
            assert_eq!(found, DUPLICATE, "field {n}");
        }
    }
    let varints: [(Wrap<'_>, &[u32]); 4] = [
        (&model, &[1, 5]),
        (&attribute, &[3, 20]),
        (&tensor, &[2, 14]),
        (&opset, &[2]),
    ];
    for (wrap, numbers) in varints {
        for &n in numbers {
            let (found, _) = fault(&wrap([number(n), number(n)].concat()));
            assert_eq!(found, DUPLICATE, "field {n}");
        }
    }
    let value = weights("w", &[1], 0).encode_to_vec();
    for n in [5, 22] {
        let empty_sparse = if n == 5 { value.clone() } else { Vec::new() };
        let field = wire::field(n, &empty_sparse);
        assert_eq!(
            fault(&attribute([field.clone(), field].concat())).0,
            DUPLICATE
        );
    }
    let f = wire::unpacked_floats(2, &[1.0, 1.0]);
    assert_eq!(fault(&attribute(f)).0, DUPLICATE);
    let subgraph = wire::field(6, &[]);
    assert_eq!(
        fault(&attribute([subgraph.clone(), subgraph].concat())).0,
        DUPLICATE
    );
    for n in [1, 2] {
        let field = wire::field(n, &value);
        assert_eq!(fault(&sparse([field.clone(), field].concat())).0, DUPLICATE);
    }
}

#[test]
fn groups_and_unknown_wire_types() {
    for wire_type in [3, 4, 6, 7] {
        let bytes = [wire::field(7, &[]), wire::varint(100 << 3 | wire_type)].concat();
        let found = format!("expected wire type 0, 1, 2 or 5, found {wire_type}");
        assert_eq!(fault(&bytes), (found, 2));
    }
}

#[test]
fn known_fields_of_another_wire_type() {
    let wire_type = |expected, found| format!("expected {expected}, found {found}");
    let (value, varint) = ("a length-delimited value", "a varint");
    let found = fault(&wire::varint_field(7, 1));
    assert_eq!(found, (wire_type(value, varint), 0));
    let bytes = [wire::field(7, &[]), wire::field(1, b"x")].concat();
    assert_eq!(fault(&bytes).0, wire_type(varint, value));
    // Doubles where floats should be.
    let tensor = wire::unpacked_doubles(4, &[1.0]);
    assert_eq!(
        bytes_fault(tensor),
        wire_type("4 bytes or a length-delimited value", "8 bytes")
    );
}

#[test]
fn lying_lengths() {
    for len in [1_u64 << 20, u64::from(u32::MAX), 1 << 62, u64::MAX] {
        let mut bytes = wire::varint(7 << 3 | 2);
        bytes.extend(wire::varint(len));
        let at = bytes.len() as u64;
        let cut = truncated(len, 0);
        assert_eq!(fault(&bytes), (cut, at));
    }
    // A field longer than its message, though not than the file.
    let graph = [wire::varint(2 << 3 | 2), vec![5]].concat();
    let bytes = [wire::field(7, &graph), wire::field(6, b"much more")].concat();
    let cut = truncated(5, 0);
    assert_eq!(fault(&bytes), (cut, 4));
}

#[test]
fn strings_that_are_not_utf8() {
    for (number, body) in [(2, b"ab\xff"), (3, b"ab\xff"), (4, b"ab\xff")] {
        let bytes = wire::field(7, &wire::field(1, &wire::field(number, body)));
        assert_eq!(fault(&bytes), ("expected UTF-8".into(), 8));
    }
}

#[test]
fn dims_that_cannot_be() {
    let dims = |dims: &[i64]| raw_tensor("w", DataType::Float, dims, vec![0; 4]);
    assert_eq!(
        tensor_fault(&dims(&[-1])),
        "expected a dimension of at least 0, found -1"
    );
    assert_eq!(tensor_fault(&dims(&[1 << 60, 2])), TOO_LARGE);
    assert_eq!(tensor_fault(&dims(&[1 << 60])), TOO_LARGE);
    assert_eq!(tensor_fault(&dims(&[1 << 32, 1 << 32])), TOO_LARGE);
    assert_eq!(tensor_fault(&dims(&[i64::MAX; 9])), TOO_LARGE);
    let expected = 1 << 60;
    assert_eq!(tensor_fault(&dims(&[1 << 58])), length(expected, 4));
    // Fewer bytes than that, but more elements.
    let half_bytes = raw_tensor("w", DataType::Int4, &[1 << 60, 2], vec![0; 4]);
    assert_eq!(tensor_fault(&half_bytes), TOO_LARGE);
    // Packed, which writers of proto3 may do.
    let packed = [wire::varint(1), wire::varint(u64::MAX)].concat();
    let tensor = [wire::varint_field(2, 1), wire::field(1, &packed)].concat();
    assert_eq!(
        bytes_fault(tensor),
        "expected a dimension of at least 0, found -1"
    );
}

#[test]
fn payloads_of_the_wrong_length() {
    for len in [0, 1, 15, 17, 20] {
        let tensor = raw_tensor("w", DataType::Float, &[4], vec![0; len]);
        let found = len as u64;
        let expected = 16;
        assert_eq!(tensor_fault(&tensor), length(expected, found));
        if found > 0 {
            let tensor = external("w", &[4], "w.bin", None, Some(found));
            assert_eq!(tensor_fault(&tensor), length(expected, found));
        }
    }
    for n in [1, 3, 5] {
        let mut tensor = bare_tensor("w", DataType::Float, &[4]);
        tensor.float_data = vec![0.0; n];
        assert_eq!(tensor_fault(&tensor), length(16, 4 * n as u64));
        let mut tensor = bare_tensor("w", DataType::Double, &[4]);
        tensor.double_data = vec![0.0; n];
        assert_eq!(tensor_fault(&tensor), length(32, 8 * n as u64));
        let mut tensor = bare_tensor("w", DataType::String, &[4]);
        tensor.string_data = vec![Vec::new(); n];
        assert_eq!(
            tensor_fault(&tensor),
            format!("expected 4 elements, found {n}")
        );
    }
    let mut tensor = bare_tensor("w", DataType::Int32, &[1 << 40]);
    tensor.int32_data = vec![1; 100];
    let words = format!(
        "expected the bytes of {} varints, found 100 bytes",
        1u64 << 40
    );
    assert_eq!(tensor_fault(&tensor), words);
    let mut tensor = bare_tensor("w", DataType::Int64, &[1]);
    tensor.int64_data = vec![1; 11];
    let words = "expected the bytes of 1 varints, found 11 bytes";
    assert_eq!(tensor_fault(&tensor), words);
    let bare = bare_tensor("w", DataType::Float, &[4]);
    assert_eq!(tensor_fault(&bare), "expected 4 elements, found 0");
    // Elements where the shape says there are none.
    let tensor = raw_tensor("w", DataType::Float, &[0], vec![0; 4]);
    assert_eq!(tensor_fault(&tensor), length(0, 4));
    let halves = [bare.encode_to_vec(), wire::field(4, &[0; 6])].concat();
    assert_eq!(
        bytes_fault(halves),
        "expected a multiple of 4 bytes, found 6"
    );
}

#[test]
fn payloads_in_two_places() {
    let both: [fn(&mut TensorProto); 7] = [
        |t| t.float_data = vec![0.0],
        |t| t.double_data = vec![0.0],
        |t| t.int32_data = vec![0],
        |t| t.int64_data = vec![0],
        |t| t.uint64_data = vec![0],
        |t| t.string_data = vec![Vec::new()],
        |t| t.external_data = vec![entry("location", "w.bin")],
    ];
    for add in both {
        let mut tensor = raw_tensor("w", DataType::Float, &[1], vec![0; 4]);
        assert!(probe(&wire::model_of_tensors(&[tensor.encode_to_vec()])));
        add(&mut tensor);
        assert!(
            tensor_fault(&tensor).starts_with("expected elements in one field, found them in "),
            "{tensor:?}"
        );
    }
}

#[test]
fn payloads_in_a_field_for_other_types() {
    let in_field = |data_type, fill: fn(&mut TensorProto)| {
        let mut tensor = bare_tensor("w", data_type, &[1]);
        fill(&mut tensor);
        tensor_fault(&tensor)
    };
    for found in [
        in_field(DataType::Double, |t| t.float_data = vec![0.0, 0.0]),
        in_field(DataType::Float, |t| t.double_data = vec![0.0]),
        in_field(DataType::Float, |t| t.int32_data = vec![0]),
        in_field(DataType::Int64, |t| t.int32_data = vec![0]),
        in_field(DataType::Uint32, |t| t.int32_data = vec![0]),
        in_field(DataType::Int32, |t| t.int64_data = vec![0]),
        in_field(DataType::Int64, |t| t.uint64_data = vec![0]),
        in_field(DataType::Float, |t| t.string_data = vec![vec![0; 4]]),
        in_field(DataType::String, |t| t.raw_data = Some(vec![0; 4])),
        in_field(DataType::String, |t| {
            t.data_location = Some(DataLocation::External as i32);
            t.external_data = vec![entry("location", "w.bin")];
        }),
    ] {
        assert!(
            found.ends_with(" elsewhere, found them in this field"),
            "{found}"
        );
    }
}

#[test]
fn data_types_that_are_none() {
    for found in [0, -100, 29, i32::MAX] {
        let mut tensor = raw_tensor("w", DataType::Float, &[1], vec![0; 4]);
        tensor.data_type = Some(found);
        let words = format!("expected a known data_type, found {found}");
        assert_eq!(tensor_fault(&tensor), words);
    }
    let mut tensor = raw_tensor("w", DataType::Float, &[1], vec![0; 4]);
    tensor.data_location = Some(2);
    assert_eq!(
        tensor_fault(&tensor),
        "expected data_location 0 or 1, found 2"
    );
}

#[test]
fn external_data_that_cannot_be() {
    let with = |entries: &[(&str, &str)]| {
        let mut tensor = external("w", &[1], "", None, None);
        tensor.external_data = entries
            .iter()
            .map(|(key, value)| entry(key, value))
            .collect();
        tensor_fault(&tensor)
    };
    assert_eq!(with(&[]), NO_LOCATION);
    assert_eq!(with(&[("offset", "0")]), NO_LOCATION);
    for text in [
        "",
        "-1",
        "+1",
        " 1",
        "1 ",
        "0x10",
        "1.0",
        "18446744073709551616",
    ] {
        let found = with(&[("location", "w.bin"), ("offset", text)]);
        let words = format!("expected a decimal number as external_data offset, found {text:?}");
        assert_eq!(found, words);
        let found = with(&[("location", "w.bin"), ("length", text)]);
        let words = format!("expected a decimal number as external_data length, found {text:?}");
        assert_eq!(found, words);
    }
    for key in ["location", "offset", "length"] {
        let found = with(&[("location", "1"), (key, "4"), (key, "4")]);
        let words = format!("expected external_data key {key} once, found it twice");
        assert_eq!(found, words);
    }
    for far in [u64::MAX, 1 << 60] {
        let found = with(&[("location", "w.bin"), ("offset", &far.to_string())]);
        assert_eq!(found, TOO_LARGE);
    }
    let found = with(&[("location", "../w.bin")]);
    assert_eq!(found, "location \"../w.bin\" has a part \"..\"");
    // Without data_location, external_data is no payload.
    let mut tensor = external("w", &[1], "w.bin", None, None);
    tensor.data_location = None;
    assert_eq!(tensor_fault(&tensor), "expected 1 elements, found 0");
}

#[test]
fn errors_say_where() {
    let short = raw_tensor("w\n", DataType::Float, &[2], vec![0; 7]);
    let then = GraphBuilder::new("then").initializer(short);
    let attributes = vec![
        floats_attribute("x", &[1.0]),
        graph_attribute("then_branch", then.graph()),
    ];
    let bytes = GraphBuilder::new("g")
        .node(node("Relu", &["x"], &["y"]))
        .node(node_with("If", &["c"], &["z"], attributes))
        .encode();
    let error = locate(&bytes, &Limits::default()).unwrap_err();
    let Error::Malformed { at, .. } = &error else {
        panic!("{error:?}");
    };
    // The tag of raw_data.
    let expected = bytes
        .windows(9)
        .position(|window| window == [0x4a, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(at.offset, expected.unwrap() as u64);
    assert_eq!(at.path, "graph.node[1].attribute[1].g.initializer[0]");
    assert_eq!(at.subject.as_deref(), Some("tensor \"w\\n\""));
    assert_eq!(
        error.to_string(),
        format!(
            "tensor \"w\\n\", graph.node[1].attribute[1].g.initializer[0], TensorProto.raw_data, \
             offset {}: expected 8 bytes, found 7",
            at.offset
        )
    );

    let bad = wire::field(1, b"\xff");
    let node = [wire::field(3, b"conv1"), wire::field(5, &bad)].concat();
    let bytes = wire::field(7, &wire::field(1, &node));
    let error = locate(&bytes, &Limits::default()).unwrap_err();
    let expected = "node \"conv1\", graph.node[0].attribute[0], AttributeProto.name, offset 15: \
                    expected UTF-8";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_attribute_without_a_tensor_type() {
    let value = tensor_attribute("value", TensorProto::default());
    let bytes = GraphBuilder::new("g")
        .node(node_with("Op", &[], &["y"], vec![value]))
        .encode();
    assert_eq!(fault(&bytes).0, "expected a known data_type, found 0");
}
