//! Tiny models, one for each way in which a model holds weights.

use std::path::{Path, PathBuf};
use std::{fs, io};

use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{GraphProto, ModelProto, SparseTensorProto};
use prost::Message;

use crate::build::{
    GraphBuilder, constant, external, float_data, floats, floats_attribute, function,
    graph_attribute, in_domain, int_attribute, int64s, ints_attribute, le_bytes, node, node_with,
    opset, raw_tensor, strings_attribute, weights,
};
use crate::wire;

/// A model and the files beside it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it shows.
    pub name: &'static str,
    pub model: Vec<u8>,
    /// External data files: location and content.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

impl Sample {
    /// Writes the files into a folder and returns the model's path, `model.onnx` there.
    pub fn write(&self, dir: &Path) -> io::Result<PathBuf> {
        for (location, content) in &self.files {
            let path = dir.join(location);
            fs::create_dir_all(path.parent().unwrap_or(dir))?;
            fs::write(path, content)?;
        }
        let path = dir.join("model.onnx");
        fs::write(&path, &self.model)?;
        Ok(path)
    }
}

pub fn all() -> Vec<Sample> {
    let alone = [
        ("gemm", gemm()),
        ("conv_net", conv_net()),
        ("tied_weights", tied_weights()),
        ("constant_nodes", constant_nodes()),
        ("if_branches", if_branches()),
        ("local_function", local_function()),
        ("float_data", gemm_float_data()),
        ("unpacked_float_data", gemm_unpacked_float_data()),
        ("lstm", lstm()),
        ("qdq", qdq()),
        ("matmul_nbits", matmul_nbits()),
        ("tree_ensemble", tree_ensemble()),
        ("sparse", sparse()),
        ("chain", chain(10)),
    ];
    let mut samples: Vec<Sample> = alone
        .into_iter()
        .map(|(name, model)| Sample {
            name,
            model,
            files: Vec::new(),
        })
        .collect();
    samples.push(external_data());
    samples
}

fn gemm_graph() -> GraphBuilder {
    let trans_b = int_attribute("transB", 1);
    GraphBuilder::new("gemm")
        .input("x", &[1, 4])
        .output("y", &[1, 3])
        .node(node_with("Gemm", &["x", "w", "b"], &["y"], vec![trans_b]))
}

/// One Gemm: `w` `[3, 4]` and `b` `[3]` in `raw_data`.
pub fn gemm() -> Vec<u8> {
    gemm_graph()
        .initializer(weights("w", &[3, 4], 1))
        .initializer(weights("b", &[3], 2))
        .encode()
}

/// Makes [`gemm`] with its weights in packed `float_data`.
pub fn gemm_float_data() -> Vec<u8> {
    gemm_graph()
        .initializer(float_data("w", &[3, 4], 1))
        .initializer(float_data("b", &[3], 2))
        .encode()
}

/// Makes [`gemm`] with its weights in `float_data`, with a tag before every element.
pub fn gemm_unpacked_float_data() -> Vec<u8> {
    with_unpacked(gemm_graph(), &[("w", &[3, 4], 1), ("b", &[3], 2)])
}

/// The model with more FLOAT tensors, `(name, dims, seed)`, in `float_data` with a tag before every element.
fn with_unpacked(graph: GraphBuilder, tensors: &[(&str, &[i64], u32)]) -> Vec<u8> {
    let mut model = graph.model();
    let mut graph = model
        .graph
        .take()
        .map(|graph| graph.encode_to_vec())
        .unwrap_or_default();
    for &(name, dims, seed) in tensors {
        let mut tensor = float_data(name, dims, seed);
        let values = std::mem::take(&mut tensor.float_data);
        let bytes = [tensor.encode_to_vec(), wire::unpacked_floats(4, &values)].concat();
        graph.extend(wire::field(5, &bytes));
    }
    [model.encode_to_vec(), wire::field(7, &graph)].concat()
}

/// Conv `[8, 1, 5, 5]`, Relu, GlobalAveragePool, Flatten, Gemm `[10, 8]`.
pub fn conv_net() -> Vec<u8> {
    let pads = ints_attribute("pads", &[2, 2, 2, 2]);
    let trans_b = int_attribute("transB", 1);
    GraphBuilder::new("conv_net")
        .input("image", &[1, 1, 8, 8])
        .output("scores", &[1, 10])
        .initializer(weights("conv.weight", &[8, 1, 5, 5], 1))
        .initializer(weights("conv.bias", &[8], 2))
        .initializer(weights("fc.weight", &[10, 8], 3))
        .initializer(weights("fc.bias", &[10], 4))
        .node(node_with(
            "Conv",
            &["image", "conv.weight", "conv.bias"],
            &["c"],
            vec![pads],
        ))
        .node(node("Relu", &["c"], &["r"]))
        .node(node("GlobalAveragePool", &["r"], &["p"]))
        .node(node("Flatten", &["p"], &["f"]))
        .node(node_with(
            "Gemm",
            &["f", "fc.weight", "fc.bias"],
            &["scores"],
            vec![trans_b],
        ))
        .encode()
}

/// An embedding `[16, 8]` that Gather reads, and, transposed, MatMul.
pub fn tied_weights() -> Vec<u8> {
    GraphBuilder::new("tied_weights")
        .typed_input("ids", DataType::Int64, &[1, 3])
        .output("logits", &[1, 3, 16])
        .initializer(weights("embedding", &[16, 8], 1))
        .node(node("Gather", &["embedding", "ids"], &["hidden"]))
        .node(node_with(
            "Transpose",
            &["embedding"],
            &["embedding_t"],
            vec![ints_attribute("perm", &[1, 0])],
        ))
        .node(node("MatMul", &["hidden", "embedding_t"], &["logits"]))
        .encode()
}

/// MatMul and Add with Constant nodes: a tensor `w` `[4, 3]`, and `b` as `value_floats`.
pub fn constant_nodes() -> Vec<u8> {
    let bias = floats_attribute("value_floats", &floats(3, 2));
    GraphBuilder::new("constant_nodes")
        .input("x", &[1, 4])
        .output("y", &[1, 3])
        .node(constant(weights("w", &[4, 3], 1)))
        .node(node_with("Constant", &[], &["b"], vec![bias]))
        .node(node("MatMul", &["x", "w"], &["xw"]))
        .node(node("Add", &["xw", "b"], &["y"]))
        .encode()
}

/// An If: one branch has an initializer `w_then`, the other a Constant `w_else`, both `[4, 3]`.
pub fn if_branches() -> Vec<u8> {
    let then_branch = GraphBuilder::new("then")
        .output("y_then", &[1, 3])
        .initializer(weights("w_then", &[4, 3], 1))
        .node(node("MatMul", &["x", "w_then"], &["y_then"]));
    let else_branch = GraphBuilder::new("else")
        .output("y_else", &[1, 3])
        .node(constant(weights("w_else", &[4, 3], 2)))
        .node(node("MatMul", &["x", "w_else"], &["y_else"]));
    let branches = vec![
        graph_attribute("then_branch", then_branch.graph()),
        graph_attribute("else_branch", else_branch.graph()),
    ];
    GraphBuilder::new("if_branches")
        .typed_input("condition", DataType::Bool, &[])
        .input("x", &[1, 4])
        .output("y", &[1, 3])
        .node(node_with("If", &["condition"], &["y"], branches))
        .encode()
}

/// A function `local.Dense(x, w)` with a Constant `b` `[3]` inside, called with an initializer `w`.
pub fn local_function() -> Vec<u8> {
    let body = vec![
        constant(weights("b", &[3], 2)),
        node("MatMul", &["x", "w"], &["xw"]),
        node("Add", &["xw", "b"], &["y"]),
    ];
    let mut model = GraphBuilder::new("local_function")
        .input("x", &[1, 4])
        .output("y", &[1, 3])
        .initializer(weights("w", &[4, 3], 1))
        .node(in_domain("local", node("Dense", &["x", "w"], &["y"])))
        .model();
    model.opset_import.push(opset("local", 1));
    model
        .functions
        .push(function("local", "Dense", &["x", "w"], &["y"], body));
    model.encode_to_vec()
}

/// [`gemm`] with `w` in `weights/w.bin` at offset 64, and `b` in `b.bin` with location alone.
pub fn external_data() -> Sample {
    let model = gemm_graph()
        .initializer(external("w", &[3, 4], "weights/w.bin", Some(64), Some(48)))
        .initializer(external("b", &[3], "./b.bin", None, None))
        .encode();
    let mut w = vec![0; 64];
    w.extend(le_bytes(&floats(12, 1)));
    w.extend([0; 7]);
    Sample {
        name: "external_data",
        model,
        files: vec![("weights/w.bin", w), ("b.bin", le_bytes(&floats(3, 2)))],
    }
}

/// An LSTM: input 3, hidden 2; `W` `[1, 8, 3]`, `R` `[1, 8, 2]`, `B` `[1, 16]`.
pub fn lstm() -> Vec<u8> {
    GraphBuilder::new("lstm")
        .input("x", &[5, 1, 3])
        .output("y", &[5, 1, 1, 2])
        .initializer(weights("W", &[1, 8, 3], 1))
        .initializer(weights("R", &[1, 8, 2], 2))
        .initializer(weights("B", &[1, 16], 3))
        .node(node_with(
            "LSTM",
            &["x", "W", "R", "B"],
            &["y"],
            vec![int_attribute("hidden_size", 2)],
        ))
        .encode()
}

/// MatMul with INT8 weights `[4, 3]` that DequantizeLinear opens.
pub fn qdq() -> Vec<u8> {
    let w = (0..12_u8).map(|i| i.wrapping_mul(19)).collect();
    GraphBuilder::new("qdq")
        .input("x", &[1, 4])
        .output("y", &[1, 3])
        .initializer(raw_tensor("w_q", DataType::Int8, &[4, 3], w))
        .initializer(raw_tensor(
            "w_scale",
            DataType::Float,
            &[],
            le_bytes(&[0.02]),
        ))
        .initializer(raw_tensor("w_zero", DataType::Int8, &[], vec![0]))
        .node(node(
            "DequantizeLinear",
            &["w_q", "w_scale", "w_zero"],
            &["w"],
        ))
        .node(node("MatMul", &["x", "w"], &["y"]))
        .encode()
}

/// com.microsoft's MatMulNBits: K 32, N 4, 4 bits, blocks of 16; `w_q` `[4, 2, 8]`, `w_scales` `[8]`.
pub fn matmul_nbits() -> Vec<u8> {
    let w = (0..64_u8).map(|i| i.wrapping_mul(37)).collect();
    let attributes = vec![
        int_attribute("K", 32),
        int_attribute("N", 4),
        int_attribute("bits", 4),
        int_attribute("block_size", 16),
    ];
    let matmul = node_with("MatMulNBits", &["x", "w_q", "w_scales"], &["y"], attributes);
    let mut model = GraphBuilder::new("matmul_nbits")
        .input("x", &[1, 32])
        .output("y", &[1, 4])
        .initializer(raw_tensor("w_q", DataType::Uint8, &[4, 2, 8], w))
        .initializer(weights("w_scales", &[8], 1))
        .node(in_domain("com.microsoft", matmul))
        .model();
    model.opset_import.push(opset("com.microsoft", 1));
    model.encode_to_vec()
}

/// ai.onnx.ml's TreeEnsembleRegressor: one tree of a root and two leaves, its weights in attributes.
pub fn tree_ensemble() -> Vec<u8> {
    let attributes = vec![
        int_attribute("n_targets", 1),
        ints_attribute("nodes_treeids", &[0, 0, 0]),
        ints_attribute("nodes_nodeids", &[0, 1, 2]),
        ints_attribute("nodes_featureids", &[0, 0, 0]),
        floats_attribute("nodes_values", &[0.5, 0.0, 0.0]),
        strings_attribute("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        ints_attribute("nodes_truenodeids", &[1, 0, 0]),
        ints_attribute("nodes_falsenodeids", &[2, 0, 0]),
        ints_attribute("target_treeids", &[0, 0]),
        ints_attribute("target_nodeids", &[1, 2]),
        ints_attribute("target_ids", &[0, 0]),
        floats_attribute("target_weights", &[-1.25, 3.5]),
    ];
    let tree = node_with("TreeEnsembleRegressor", &["x"], &["y"], attributes);
    let mut model = GraphBuilder::new("tree_ensemble")
        .input("x", &[1, 2])
        .output("y", &[1, 1])
        .node(in_domain("ai.onnx.ml", tree))
        .model();
    model.opset_import.push(opset("ai.onnx.ml", 3));
    model.encode_to_vec()
}

/// A MatMul whose weights `[4, 3]` are a sparse initializer of three values.
pub fn sparse() -> Vec<u8> {
    let mut graph = GraphBuilder::new("sparse")
        .input("x", &[1, 4])
        .output("y", &[1, 3])
        .node(node("MatMul", &["x", "w"], &["y"]))
        .graph();
    graph.sparse_initializer.push(SparseTensorProto {
        values: Some(weights("w", &[3], 1)),
        indices: Some(int64s("w_indices", &[3], &[0, 5, 11])),
        dims: vec![4, 3],
    });
    model_of(graph)
}

/// `n_nodes` Mul nodes, one after the other, each with its own weights `[4]`.
pub fn chain(n_nodes: usize) -> Vec<u8> {
    let mut graph = GraphBuilder::new("chain")
        .input("v0", &[1, 4])
        .output(&format!("v{n_nodes}"), &[1, 4]);
    for i in 0..n_nodes {
        let (x, w, y) = (format!("v{i}"), format!("w{i}"), format!("v{}", i + 1));
        graph = graph
            .initializer(weights(&w, &[4], i as u32))
            .node(node("Mul", &[&x, &w], &[&y]));
    }
    graph.encode()
}

/// `n_nodes` MatMul nodes on `[1, 512, 512]`, the first with weights `w` `[512, 512]`, the others with
/// the input: a few milliseconds of a core each.
pub fn products(n_nodes: usize) -> Vec<u8> {
    let dims = [1, 512, 512];
    let mut graph = GraphBuilder::new("products")
        .input("x", &dims)
        .output(&format!("v{n_nodes}"), &dims)
        .initializer(weights("w", &[512, 512], 1))
        .node(node("MatMul", &["x", "w"], &["v1"]));
    for i in 1..n_nodes {
        let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
        graph = graph.node(node("MatMul", &[&from, "x"], &[&to]));
    }
    graph.encode()
}

/// Bytes of a tensor of `data_type` with `n` elements: numbers in [-1, 1), and each special one once.
pub fn numbers(data_type: DataType, n: usize, seed: u32) -> Vec<u8> {
    let mut values = floats(n, seed);
    for (value, special) in values
        .iter_mut()
        .zip([0.0, -0.0, f32::INFINITY, f32::NAN, 1e-40])
    {
        *value = special;
    }
    let bits = |value: f32| value.to_bits();
    match data_type {
        DataType::Float => le_bytes(&values),
        DataType::Double => {
            let bytes = values
                .iter()
                .flat_map(|&value| f64::from(value).to_le_bytes());
            bytes.collect()
        }
        DataType::Bfloat16 => {
            let bytes = values
                .iter()
                .flat_map(|&value| ((bits(value) >> 16) as u16).to_le_bytes());
            bytes.collect()
        }
        DataType::Float16 => {
            let half = |value: f32| {
                let (sign, fraction) = (bits(value) >> 16 & 0x8000, bits(value) >> 13 & 0x3FF);
                let exponent = match bits(value) >> 23 & 0xFF {
                    0xFF => 31,
                    exponent => exponent.saturating_sub(127 - 15).min(30),
                };
                (sign | exponent << 10 | fraction) as u16
            };
            values
                .iter()
                .flat_map(|&value| half(value).to_le_bytes())
                .collect()
        }
        DataType::Int4 | DataType::Uint4 => {
            let bytes = values.iter().step_by(2);
            bytes.map(|&value| (bits(value) >> 7) as u8).collect()
        }
        _ => values
            .iter()
            .map(|&value| (bits(value) >> 7) as u8)
            .collect(),
    }
}

/// A model with weights of every element type, each longer than a chunk, and a strided tensor.
/// `n_pad` bytes of text shift them all.
pub fn every_type(n_pad: usize) -> Vec<u8> {
    const N: usize = 1 << 14;
    let types = [
        (DataType::Float, "f32", N + 2),
        (DataType::Float16, "f16", 2 * N + 3),
        (DataType::Bfloat16, "bf16", 2 * N + 3),
        (DataType::Double, "f64", N / 2 + 5),
        (DataType::Int8, "i8", 4 * N + 7),
        (DataType::Uint8, "u8", 4 * N + 7),
        (DataType::Int4, "i4", 8 * N + 9),
        (DataType::Uint4, "u4", 8 * N + 8),
    ];
    let mut graph = GraphBuilder::new(&"p".repeat(n_pad)).input("x", &[1, 1]);
    for (seed, (data_type, name, n)) in (1..).zip(types) {
        let tensor = raw_tensor(name, data_type, &[n as i64, 1], numbers(data_type, n, seed));
        graph = graph.initializer(tensor);
        let (scale, out) = (format!("{name}_scale"), format!("{name}_out"));
        graph = match data_type {
            DataType::Int8 | DataType::Uint8 | DataType::Int4 | DataType::Uint4 => {
                let real = format!("{name}_real");
                graph
                    .initializer(weights(&scale, &[], seed))
                    .node(node("DequantizeLinear", &[name, &scale], &[&real]))
                    .node(node("MatMul", &["x", &real], &[&out]))
            }
            _ => graph.node(node("MatMul", &["x", name], &[&out])),
        };
    }
    // Scale, bias, mean and variance of a normalisation: what stands in their place differs.
    for (seed, name) in (20..).zip(["scale", "bias", "mean", "variance"]) {
        graph = graph.initializer(weights(name, &[300], seed));
    }
    let normalised = ["x", "scale", "bias", "mean", "variance"];
    graph = graph
        .node(node("BatchNormalization", &normalised, &["n"]))
        .node(node("MatMul", &["x", "strided"], &["s"]))
        .output("n", &[1, 1]);
    with_unpacked(graph, &[("strided", &[N as i64 + 1, 1], 40)])
}

fn model_of(graph: GraphProto) -> Vec<u8> {
    ModelProto {
        graph: Some(graph),
        ..GraphBuilder::default().model()
    }
    .encode_to_vec()
}
