//! Leaks in other formats, and originals in other formats than 32-bit floats.

use half::{bf16, f16};
use onnxseal_onnx::proto::NodeProto;
use onnxseal_testkit::build::{constant, raw_tensor};

use crate::attacks::*;
use crate::*;

/// Changes all tensors of floats that have two or more dimensions, and the rest of the model.
fn converted(model: &[u8], mut change: impl FnMut(&mut ModelProto, usize)) -> Vec<u8> {
    let mut model = ModelProto::decode(model).unwrap();
    let n = model.graph.as_ref().unwrap().initializer.len();
    (0..n).rev().for_each(|i| change(&mut model, i));
    model.encode_to_vec()
}

fn tensor(model: &mut ModelProto, i: usize) -> &mut TensorProto {
    &mut model.graph.as_mut().unwrap().initializer[i]
}

fn as_16_bits(model: &[u8], data_type: DataType) -> Vec<u8> {
    converted(model, |model, i| {
        let tensor = tensor(model, i);
        let values = floats(tensor).unwrap();
        let bits = |value: &f32| match data_type {
            DataType::Float16 => f16::from_f32(*value).to_bits(),
            _ => bf16::from_f32(*value).to_bits(),
        };
        tensor.data_type = Some(data_type as i32);
        tensor.raw_data = Some(values.iter().flat_map(|v| bits(v).to_le_bytes()).collect());
    })
}

/// Quantises to so many bits by groups of this many rows and columns, each with a zero point.
fn quantised(
    values: &[f32],
    columns: usize,
    (height, width): (usize, usize),
    bits: u32,
) -> Vec<u8> {
    let most = (1u32 << bits) as f32 - 1.0;
    let across = columns / width;
    let cell = |i: usize| i / columns / height * across + i % columns / width;
    let n_cells = (values.len() / columns).div_ceil(height) * across;
    let mut ranges = vec![(0.0f32, 0.0f32); n_cells];
    for (i, v) in values.iter().enumerate() {
        let range = &mut ranges[cell(i)];
        *range = (range.0.min(*v), range.1.max(*v));
    }
    let quantise = |(i, v): (usize, &f32)| {
        let (low, high) = ranges[cell(i)];
        let scale = (high - low) / most;
        let zero = (-low / scale).round();
        ((v / scale).round() + zero).clamp(0.0, most) as u8
    };
    values.iter().enumerate().map(quantise).collect()
}

fn packed(values: &[u8]) -> Vec<u8> {
    values
        .chunks(2)
        .map(|pair| pair[0] | pair[1] << 4)
        .collect()
}

#[test]
fn originals_of_16_bits_carry_marks() {
    for data_type in [DataType::Float16, DataType::Bfloat16] {
        let model = as_16_bits(&network(), data_type);
        let copy = marked(&model, "a");
        let z = least(&model, &copy, &["a"]);
        eprintln!("{data_type:?}: {z:.1}");
        assert!(z > 150.0, "{data_type:?}: {z}");
        // A leak in 32 bits.
        let leak = converted(&copy, |model, i| {
            let tensor = tensor(model, i);
            let raw = tensor.raw_data.clone().unwrap();
            let values = raw.as_chunks().0.iter().map(|bytes| match data_type {
                DataType::Float16 => f16::from_le_bytes(*bytes).to_f32(),
                _ => bf16::from_le_bytes(*bytes).to_f32(),
            });
            set(tensor, &values.collect::<Vec<_>>());
        });
        assert!((least(&model, &leak, &["a"]) - z).abs() < 1.0);
    }
}

#[test]
fn quantised_originals_carry_marks() {
    for data_type in [DataType::Int8, DataType::Uint8] {
        let model = converted(&network(), |model, i| {
            let of = tensor(model, i);
            let columns = floats(of).unwrap().len() / of.dims[0] as usize;
            let mut bytes = quantised(&floats(of).unwrap(), columns, (1, columns), 8);
            if data_type == DataType::Int8 {
                bytes
                    .iter_mut()
                    .for_each(|byte| *byte = byte.wrapping_sub(128));
            }
            of.raw_data = Some(bytes);
            of.data_type = Some(data_type as i32);
            let (name, quantised) = (of.name.clone().unwrap(), format!("q{i}"));
            of.name = Some(quantised.clone());
            let graph = model.graph.as_mut().unwrap();
            graph.initializer.push(weights(&format!("s{i}"), &[], 1));
            let node = node(
                "DequantizeLinear",
                &[&quantised, &format!("s{i}")],
                &[&name],
            );
            graph.node.insert(0, node);
        });
        let leak = marked(&model, "a");
        let changed = model.iter().zip(&leak).filter(|(a, b)| a != b).count();
        assert!((0.02..0.4).contains(&(changed as f64 / model.len() as f64)));
        let bytes = model.iter().zip(&leak);
        assert!(
            bytes
                .into_iter()
                .all(|(a, b)| a.abs_diff(*b) <= 2 || a.abs_diff(*b) >= 254)
        );
        let z = least(&model, &leak, &["a"]);
        eprintln!("{data_type:?}: {z:.1}");
        assert!(z > 100.0, "{data_type:?}: {z}");
    }
}

#[test]
fn renamed_constants_are_found() {
    let model = network();
    let leak = converted(&marked(&model, "a"), |model, i| {
        let mut value = model.graph.as_mut().unwrap().initializer.remove(i);
        let name = value.name.take().unwrap();
        let graph = model.graph.as_mut().unwrap();
        for input in graph.node.iter_mut().flat_map(|node| &mut node.input) {
            if *input == name {
                *input = format!("other{i}");
            }
        }
        let mut constant: NodeProto = constant(value);
        constant.output = vec![format!("other{i}")];
        graph.node.insert(0, constant);
    });
    let traced = traced(&model, &leak, &["a"]);
    assert_eq!(traced.elements_found, traced.elements);
    assert!(traced.suspects[0].z > 400.0);
}

#[test]
fn a_part_of_the_layers_is_enough() {
    let model = network();
    let leak = converted(&marked(&model, "a"), |model, i| {
        if i != 1 {
            let tensor = tensor(model, i);
            *tensor = raw_tensor("none", DataType::Float, &[0], Vec::new());
        }
    });
    let traced = traced(&model, &leak, &["a"]);
    assert_eq!(traced.elements_found, 96 * 64 * 9);
    assert!(traced.suspects[0].z > 150.0);
}

#[test]
fn quantised_leaks_name_their_customer() {
    let model = network();
    let copy = marked(&model, "a");
    // 8 bits by rows and by columns; 4 bits in blocks along either axis, packed.
    for (what, (height, width), bits, wanted) in [
        ("rows", (1, 0), 8, 100.0),
        ("columns", (0, 1), 8, 100.0),
        ("4 bits, columns", (0, 1), 4, 8.0),
        ("4 bits, blocks of columns", (32, 1), 4, 8.0),
        ("4 bits, blocks of rows", (1, 32), 4, 8.0),
    ] {
        let leak = converted(&copy, |model, i| {
            let tensor = tensor(model, i);
            let values = floats(tensor).unwrap();
            let columns = values.len() / tensor.dims[0] as usize;
            let or_all = |side: usize, all: usize| match side {
                0 => all,
                side if all.is_multiple_of(side) => side,
                _ => all,
            };
            let cell = (
                or_all(height, tensor.dims[0] as usize),
                or_all(width, columns),
            );
            let bytes = quantised(&values, columns, cell, bits);
            tensor.name = Some(format!("w{i}"));
            tensor.data_type = Some(DataType::Uint8 as i32);
            tensor.raw_data = Some(bytes);
            if bits == 4 {
                tensor.data_type = Some(DataType::Uint4 as i32);
                tensor.raw_data = Some(packed(tensor.raw_data.as_deref().unwrap()));
            }
        });
        let z = least(&model, &leak, &["a"]);
        eprintln!("{what}: {z:.1}");
        assert!(z > wanted, "{what}: {z}");
    }
}

#[test]
fn weights_of_matmul_nbits_are_found() {
    let model = network();
    let leak = converted(&marked(&model, "a"), |model, i| {
        let tensor = tensor(model, i);
        if tensor.dims.len() == 2 {
            let mut values = floats(tensor).unwrap();
            transpose(&mut values, tensor.dims[0] as usize);
            let bytes = packed(&quantised(&values, tensor.dims[0] as usize, (1, 32), 4));
            let dims = [tensor.dims[1], tensor.dims[0] / 32, 16];
            *tensor = raw_tensor("packed", DataType::Uint8, &dims, bytes);
        } else {
            tensor.dims[0] = 0;
            tensor.raw_data = None;
        }
    });
    let z = least(&model, &leak, &["a"]);
    eprintln!("{z:.1}");
    assert!(z > 8.0, "{z}");
}
