//! What `protect` rewrites comes back equal in every value.

use std::fs;

use onnxseal_core::{Policy, Preset, RepackedRow, Silent, protect, unprotect};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{ModelProto, TensorProto};
use onnxseal_testkit::build::{
    self, GraphBuilder, bare_tensor, entry, external, floats, le_bytes, node, weights,
};
use onnxseal_testkit::wire;
use prost::Message;

use super::{ORPHAN, holds, repacking, verified, violations, with_gaps};
use crate::lab::{IN_PLACE, Lab, files};

/// A tensor whose elements are varints, and the bytes that `raw_data` has in their place.
pub fn coded(data_type: DataType, n: i64, values: &[i64], width: usize) -> (TensorProto, Vec<u8>) {
    let name = format!("{}_{}", data_type.as_str_name(), values.len());
    let mut tensor = bare_tensor(&name, data_type, &[n]);
    match data_type {
        DataType::Int64 => tensor.int64_data = values.to_vec(),
        DataType::Uint32 | DataType::Uint64 => {
            tensor.uint64_data = values.iter().map(|value| *value as u64).collect();
        }
        _ => tensor.int32_data = values.iter().map(|value| *value as i32).collect(),
    }
    let element = |value: &i64| value.to_le_bytes().into_iter().take(width);
    (tensor, values.iter().flat_map(element).collect())
}

/// `n` numbers from `low` on, far apart.
pub fn spread(n: u64, low: i64, range: u64) -> Vec<i64> {
    let value = |i: u64| low.wrapping_add((i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % range) as i64);
    (1..=n).map(value).collect()
}

/// One of each type, with what they become.
fn all_coded() -> Vec<(TensorProto, Vec<u8>)> {
    let mut tensors: Vec<_> = [
        (DataType::Float16, 2, 0, 1 << 16),
        (DataType::Bfloat16, 2, 0, 1 << 16),
        (DataType::Int8, 1, -128, 1 << 8),
        (DataType::Uint8, 1, 0, 1 << 8),
        (DataType::Bool, 1, 0, 2),
        (DataType::Int16, 2, -(1 << 15), 1 << 16),
        (DataType::Uint16, 2, 0, 1 << 16),
        (DataType::Int32, 4, i64::from(i32::MIN), 1 << 32),
        (DataType::Int64, 8, i64::MIN, u64::MAX),
        (DataType::Uint32, 4, 0, 1 << 32),
        (DataType::Uint64, 8, 0, u64::MAX),
    ]
    .into_iter()
    .map(|(data_type, width, low, range)| {
        let mut values = spread(31, low, range);
        values.push(low.wrapping_add((range - 1) as i64));
        coded(data_type, 32, &values, width)
    })
    .collect();
    // Two in a byte, and one in each.
    tensors.push(coded(DataType::Int4, 33, &spread(17, 0, 1 << 8), 1));
    let apart = spread(33, -8, 16);
    let (tensor, _) = coded(DataType::Int4, 33, &apart, 1);
    let half = |value: &i64| (*value & 15) as u8;
    let pairs = apart.chunks(2);
    let bytes = pairs.map(|pair| half(&pair[0]) | pair.get(1).map_or(0, half) << 4);
    tensors.push((tensor, bytes.collect()));
    tensors
}

/// A model that reads the float16 and the scattered tensor, and no other; and what it becomes.
fn coded_model() -> (Vec<u8>, ModelProto) {
    let mut before = GraphBuilder::new("coded").input("x", &[1, 32]);
    let mut after = before.clone();
    for (tensor, raw) in all_coded() {
        after = after.initializer(TensorProto {
            int32_data: Vec::new(),
            int64_data: Vec::new(),
            uint64_data: Vec::new(),
            raw_data: Some(raw),
            ..tensor.clone()
        });
        before = before.initializer(tensor);
    }
    let [mut before, mut after] = [before, after].map(|graph| {
        let graph = graph.node(node("Mul", &["x", "FLOAT16_32"], &["h"]));
        let graph = graph.node(node("Add", &["h", "scattered"], &["y"]));
        graph.output("y", &[1, 32]).model()
    });
    // Packed, then one by one.
    let values = floats(32, 7);
    let mut scattered = bare_tensor("scattered", DataType::Float, &[32]).encode_to_vec();
    scattered.extend(wire::field(4, &le_bytes(&values[..20])));
    scattered.extend(wire::unpacked_floats(4, &values[20..]));
    let initializers = &mut after.graph.as_mut().unwrap().initializer;
    initializers.push(build::raw_tensor(
        "scattered",
        DataType::Float,
        &[32],
        le_bytes(&values),
    ));
    let mut graph = before.graph.take().unwrap().encode_to_vec();
    graph.extend(wire::field(5, &scattered));
    (
        [before.encode_to_vec(), wire::field(7, &graph)].concat(),
        after,
    )
}

#[test]
fn varints_are_an_error_and_move_to_raw_data() {
    let lab = Lab::new();
    let (bytes, expected) = coded_model();
    let n = expected.graph.as_ref().unwrap().initializer.len();
    let model = lab.path("m.onnx");
    fs::write(&model, bytes).unwrap();
    let refused = violations(lab.protect(&model, "refused", Preset::Full));
    assert_eq!(refused.len(), n, "{refused:#?}");

    let sealed = lab.path("sealed/m.onnx");
    let report = protect(&*model, &*sealed, &lab.recipients, &repacking(), &Silent).unwrap();
    assert_eq!(report.repacked.unwrap().tensors, n as u64);
    assert_eq!((report.weights.share, report.clear.len()), (1.0, 0));
    let written = fs::read(&sealed).unwrap();
    let back = fs::read(lab.unprotect(&sealed, "back").unwrap()).unwrap();
    let back = ModelProto::decode(&*back).unwrap();
    for (tensor, expected) in (back.graph.iter().flat_map(|graph| &graph.initializer))
        .zip(expected.graph.iter().flat_map(|graph| &graph.initializer))
    {
        assert_eq!(tensor, expected);
        for part in expected.raw_data().chunks_exact(8) {
            assert!(!holds(&written, part), "{}", tensor.name());
        }
    }
    assert_eq!(back, expected);
    verified(&sealed, &Policy::preset(Preset::Full)).unwrap();
}

#[test]
fn packed_copies_are_an_error_and_go_with_their_keys() {
    let lab = Lab::new();
    let copy = "MatMul+1|64;64;0";
    let keys = [
        ("prepacked_0", copy),
        ("checksum", "abc"),
        ("prepacked_1", copy),
    ];
    let mut tensor = external("w", &[4, 4], "w.bin", Some(0), Some(64));
    let plain = tensor.clone();
    tensor
        .external_data
        .extend(keys.map(|(key, value)| entry(key, value)));
    let of = |tensor| {
        GraphBuilder::new("packed")
            .input("x", &[1, 4])
            .initializer(tensor)
            .node(node("MatMul", &["x", "w"], &["y"]))
            .output("y", &[1, 4])
    };
    let model = lab.path("m.onnx");
    fs::write(&model, of(tensor).encode()).unwrap();
    let w = le_bytes(&floats(16, 1));
    fs::write(lab.path("w.bin"), [&w[..], &w[..]].concat()).unwrap();
    for preset in Preset::ALL {
        let refused = violations(lab.protect(&model, "refused", preset));
        let gap = "64 bytes of \"w.bin\" from offset 64 on belong to no tensor, and stay in clear";
        assert!(refused.iter().any(|found| found == gap), "{refused:?}");
    }
    let sealed = lab.path("sealed/m.onnx");
    let report = protect(&*model, &*sealed, &lab.recipients, &repacking(), &Silent).unwrap();
    assert_eq!(report.repacked.unwrap().zeroed_bytes, 64);
    let back = lab.unprotect(&sealed, "back").unwrap();
    let mut expected = plain;
    expected.external_data.push(entry("checksum", "abc"));
    let expected = of(expected).encode();
    assert!(fs::read(&back).unwrap() == expected);
    let data = fs::read(back.with_file_name("w.bin")).unwrap();
    assert!(data == [&w[..], &[0; 64]].concat());
}

/// New names and moved elements at once, beside the original and in its place.
#[test]
fn a_repacked_model_may_get_other_names_too() {
    let lab = Lab::new();
    for in_place in [false, true] {
        let folder = format!("m{in_place}");
        let path = with_gaps(&lab, &folder);
        let mut expected = ModelProto::decode(&*fs::read(&path).unwrap()).unwrap();
        let mut coded_in = expected.clone();
        let (tensor, raw) = coded(DataType::Float16, 32, &spread(32, 0, 1 << 16), 2);
        let moved = build::raw_tensor(tensor.name(), DataType::Float16, &[32], raw);
        coded_in
            .graph
            .as_mut()
            .unwrap()
            .initializer
            .insert(1, tensor);
        expected
            .graph
            .as_mut()
            .unwrap()
            .initializer
            .insert(1, moved);
        fs::write(&path, coded_in.encode_to_vec()).unwrap();
        let before = files(&lab.path(&folder));
        let sealed = match in_place {
            true => path.clone(),
            false => path.with_file_name("sealed.onnx"),
        };
        let (to, options) = (&lab.recipients, repacking());
        let report = match in_place {
            true => protect(&*path, IN_PLACE, to, &options, &Silent).unwrap(),
            false => protect(&*path, &*sealed, to, &options, &Silent).unwrap(),
        };
        let row = RepackedRow {
            tensors: 1,
            zeroed_bytes: 48,
        };
        assert_eq!(report.repacked, Some(row));
        assert_eq!(report.original_files[1].path, "w.bin");
        let renamed = sealed.with_file_name(&report.files[1].path);
        assert_ne!(renamed, sealed.with_file_name("w.bin"));
        assert!(!holds(&fs::read(renamed).unwrap(), &ORPHAN[..8]));
        let kept = before.iter().filter(|(path, _)| *path != sealed);
        for (path, bytes) in kept {
            assert!(fs::read(path).unwrap() == *bytes, "{}", path.display());
        }
        let back = lab.path(&format!("back{in_place}")).join("m.onnx");
        unprotect(&*sealed, &*back, &lab.identities, &Silent).unwrap();
        assert_eq!(
            ModelProto::decode(&*fs::read(&back).unwrap()).unwrap(),
            expected
        );
        let data = fs::read(back.with_file_name("w.bin")).unwrap();
        let original = fs::read(path.with_file_name("w.bin")).unwrap();
        assert!(data == [&[0; 32], &original[32..168], &[0; 16]].concat());
    }
}

/// Text in an attribute of floats is not taken for floats of a tensor.
#[test]
fn attributes_are_not_repacked() {
    let lab = Lab::new();
    let values = floats(8, 1);
    let scattered = [
        wire::field(1, b"value_floats"),
        wire::field(4, &[b'a'; 32]),
        wire::field(7, &le_bytes(&values[..4])),
        wire::unpacked_floats(7, &values[4..]),
    ];
    let constant = [
        wire::field(2, b"w"),
        wire::field(4, b"Constant"),
        wire::field(5, &scattered.concat()),
    ];
    let graph = GraphBuilder::new("g").input("x", &[1, 8]).graph();
    let add = node("Mul", &["x", "w"], &["y"]).encode_to_vec();
    let parts = [
        graph.encode_to_vec(),
        wire::field(1, &constant.concat()),
        wire::field(1, &add),
        wire::field(5, &weights("unread", &[4], 1).encode_to_vec()),
    ];
    let model = GraphBuilder::default().model();
    let model = ModelProto {
        graph: None,
        ..model
    };
    let bytes = [model.encode_to_vec(), wire::field(7, &parts.concat())].concat();
    fs::write(lab.path("m.onnx"), bytes).unwrap();
    let (from, to) = (lab.path("m.onnx"), lab.path("sealed.onnx"));
    let refused = violations(protect(
        &*from,
        &*to,
        &lab.recipients,
        &repacking(),
        &Silent,
    ));
    assert!(refused[0].contains("scattered"), "{refused:?}");
}
