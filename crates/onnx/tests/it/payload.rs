//! Where the elements of a tensor lie, for each way of writing them.

use onnxseal_onnx::element_bits;
use onnxseal_onnx::model::{Payload, PayloadField, Unpatchable};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_testkit::build::{bare_tensor, external, floats, le_bytes, raw_tensor};
use onnxseal_testkit::{samples, wire};
use prost::Message;

use crate::support::{elements, located, tensor};

#[test]
fn float_data_is_dense_where_packed_and_strided_where_not() {
    let packed = samples::gemm_float_data();
    let model = located(&packed);
    let w = tensor(&model, "w");
    assert_eq!(elements(&packed, w).unwrap(), le_bytes(&floats(12, 1)));
    assert!(matches!(
        w.payload,
        Payload::Dense {
            field: PayloadField::FloatData,
            ..
        }
    ));

    let unpacked = samples::gemm_unpacked_float_data();
    let model = located(&unpacked);
    let w = tensor(&model, "w");
    assert_eq!(elements(&unpacked, w).unwrap(), le_bytes(&floats(12, 1)));
    assert!(
        matches!(
            w.payload,
            Payload::Strided {
                stride: 5,
                element_bits: 32,
                ..
            }
        ),
        "{:?}",
        w.payload
    );
}

#[test]
fn floats_of_mixed_layout_are_unpatchable() {
    let values = floats(4, 0);
    let head = bare_tensor("w", DataType::Float, &[4]).encode_to_vec();
    let packed = |values: &[f32]| wire::field(4, &le_bytes(values));
    let unpacked = |values: &[f32]| wire::unpacked_floats(4, values);
    let doc = wire::field(12, b"between");
    for body in [
        [packed(&values[..2]), packed(&values[2..])].concat(),
        [packed(&values[..3]), unpacked(&values[3..])].concat(),
        [unpacked(&values[..1]), packed(&values[1..])].concat(),
        [unpacked(&values[..2]), doc.clone(), unpacked(&values[2..])].concat(),
        [unpacked(&values[..3]), doc, unpacked(&values[3..])].concat(),
    ] {
        let bytes = wire::model_of_tensors(&[[head.clone(), body].concat()]);
        let model = located(&bytes);
        let fragmented = Payload::Unpatchable(Unpatchable::Fragmented);
        assert_eq!(model.tensors[0].payload, fragmented);
    }
}

#[test]
fn one_unpacked_float_and_empty_packed_runs_are_dense() {
    let head = bare_tensor("w", DataType::Float, &[1]).encode_to_vec();
    let empty = wire::field(4, &[]);
    let one = wire::unpacked_floats(4, &[1.5]);
    let bytes = wire::model_of_tensors(&[[head, empty.clone(), one, empty].concat()]);
    let model = located(&bytes);
    assert!(matches!(model.tensors[0].payload, Payload::Dense { .. }));
    assert_eq!(
        elements(&bytes, &model.tensors[0]).unwrap(),
        1.5_f32.to_le_bytes()
    );
}

#[test]
fn doubles_and_complex_elements_have_their_width() {
    let numbers = [1.5_f64, -2.25, 3.0, 4.0];
    let le: Vec<u8> = numbers
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let packed_f64 = wire::field(10, &le);
    let packed_f32 = wire::field(4, &le_bytes(&floats(4, 0)));
    let dense = |bits| (Some(bits), true);
    for (data_type, n, body, expected) in [
        (DataType::Double, 4, packed_f64.clone(), dense(64)),
        (DataType::Complex128, 2, packed_f64, dense(128)),
        (DataType::Complex64, 2, packed_f32, dense(64)),
        (
            DataType::Double,
            4,
            wire::unpacked_doubles(10, &numbers),
            (Some(64), false),
        ),
        // The two parts of an element do not touch.
        (
            DataType::Complex128,
            2,
            wire::unpacked_doubles(10, &numbers),
            (None, false),
        ),
        (
            DataType::Complex64,
            2,
            wire::unpacked_floats(4, &floats(4, 0)),
            (None, false),
        ),
    ] {
        let head = bare_tensor("w", data_type, &[n]).encode_to_vec();
        let bytes = wire::model_of_tensors(&[[head, body].concat()]);
        let model = located(&bytes);
        let found = match model.tensors[0].payload {
            Payload::Dense { element_bits, .. } => (Some(element_bits), true),
            Payload::Strided { element_bits, .. } => (Some(element_bits), false),
            _ => (None, false),
        };
        assert_eq!(found, expected, "{data_type:?}");
    }
}

#[test]
fn varint_elements_are_unpatchable() {
    let int32 = |data_type, dims: &[i64], n| {
        let mut tensor = bare_tensor("w", data_type, dims);
        tensor.int32_data = vec![-1; n];
        tensor
    };
    let mut int64 = bare_tensor("w", DataType::Int64, &[2]);
    int64.int64_data = vec![1, i64::MIN];
    let mut uint64 = bare_tensor("w", DataType::Uint32, &[2]);
    uint64.uint64_data = vec![1, 1 << 31];
    let mut strings = bare_tensor("w", DataType::String, &[2]);
    strings.string_data = vec![b"a".to_vec(), Vec::new()];
    for (tensor, why) in [
        (int32(DataType::Int32, &[3], 3), Unpatchable::Int32Data),
        (int32(DataType::Float16, &[3], 3), Unpatchable::Int32Data),
        (int32(DataType::Bfloat16, &[], 1), Unpatchable::Int32Data),
        (int32(DataType::Bool, &[2, 2], 4), Unpatchable::Int32Data),
        (int32(DataType::Int4, &[5], 3), Unpatchable::Int32Data),
        (int32(DataType::Uint2, &[5], 2), Unpatchable::Int32Data),
        (int64, Unpatchable::Int64Data),
        (uint64, Unpatchable::Uint64Data),
        (strings, Unpatchable::Strings),
    ] {
        let bytes = wire::model_of_tensors(&[tensor.encode_to_vec()]);
        assert_eq!(
            located(&bytes).tensors[0].payload,
            Payload::Unpatchable(why),
            "{tensor:?}"
        );
    }
}

#[test]
fn raw_data_has_the_bytes_that_the_type_takes() {
    use DataType::*;
    // Bits of an element, from the comments of TensorProto.DataType.
    for (bits, data_types) in [
        (2, &[Int2, Uint2][..]),
        (4, &[Int4, Uint4, Float4e2m1]),
        (6, &[Float6e2m3, Float6e3m2]),
        (8, &[Bool, Int8, Uint8, Float8e4m3fn, Float8e4m3fnuz]),
        (8, &[Float8e5m2, Float8e5m2fnuz, Float8e8m0]),
        (16, &[Int16, Uint16, Float16, Bfloat16]),
        (32, &[Int32, Uint32, Float]),
        (64, &[Int64, Uint64, Double, Complex64]),
        (128, &[Complex128]),
    ] {
        for &data_type in data_types {
            assert_eq!(element_bits(data_type), Some(bits));
            for n in [1, 3, 4, 5, 8, 9] {
                let len = (n * bits as usize).div_ceil(8);
                let tensor = raw_tensor("w", data_type, &[n as i64], vec![7; len]);
                let bytes = wire::model_of_tensors(&[tensor.encode_to_vec()]);
                let model = located(&bytes);
                assert_eq!(elements(&bytes, &model.tensors[0]).unwrap(), vec![7; len]);
            }
        }
    }
    assert_eq!(
        (element_bits(String), element_bits(Undefined)),
        (None, None)
    );
}

#[test]
fn tensors_without_elements_are_empty() {
    let mut with_raw = bare_tensor("w", DataType::Float, &[3, 0]);
    with_raw.raw_data = Some(Vec::new());
    let huge = bare_tensor("w", DataType::Float, &[0, i64::MAX, i64::MAX]);
    let untyped = bare_tensor("w", DataType::Undefined, &[0]);
    for tensor in [with_raw, huge, untyped] {
        let bytes = wire::model_of_tensors(&[tensor.encode_to_vec()]);
        let model = located(&bytes);
        assert_eq!(
            (model.tensors[0].n_elements, &model.tensors[0].payload),
            (0, &Payload::Empty)
        );
    }
    // It has a place in its file, which must be there.
    let bytes = external("w", &[0], "w.bin", Some(8), Some(0)).encode_to_vec();
    let bytes = wire::model_of_tensors(&[bytes]);
    let model = located(&bytes);
    let Payload::Dense { file, span, .. } = &model.tensors[0].payload else {
        panic!();
    };
    assert_eq!(
        (model.location(*file), span.start, span.len),
        (Some("w.bin"), 8, 0)
    );
}
