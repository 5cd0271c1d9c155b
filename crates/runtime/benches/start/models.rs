//! Models of noise, with their weights in the model file or beside it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{ModelProto, TensorProto};
use onnxseal_testkit::build::{
    GraphBuilder, external, in_domain, int_attribute, ints_attribute, node, node_with, opset,
    raw_tensor,
};
use prost::Message;

const WIDTH: i64 = 768;

/// Makes a model with about so many bytes of weights.
pub type Make = fn(u64, &mut Weights) -> ModelProto;

/// Writes a model to `plain.onnx` in `folder`, and its matrices to `weights.bin` if it is external.
pub fn write(make: Make, n_bytes: u64, folder: &Path, is_external: bool) {
    let mut weights = Weights {
        beside: is_external
            .then(|| BufWriter::new(File::create(folder.join("weights.bin")).unwrap())),
        offset: 0,
        state: 1,
    };
    let model = make(n_bytes, &mut weights);
    if let Some(mut beside) = weights.beside {
        beside.flush().unwrap();
    }
    fs::write(folder.join("plain.onnx"), model.encode_to_vec()).unwrap();
}

/// Makes tensors; those of two and more axes go to the external file at once, if there is one.
pub struct Weights {
    beside: Option<BufWriter<File>>,
    offset: u64,
    state: u64,
}

impl Weights {
    /// FLOAT numbers that keep the size of what a matrix `[K, N]` multiplies.
    fn floats(&mut self, name: &str, dims: &[i64]) -> TensorProto {
        let bound = match dims {
            [k, _] => (3.0 / *k as f32).sqrt(),
            _ => 1.0,
        };
        self.floats_up_to(bound, name, dims)
    }

    fn floats_up_to(&mut self, bound: f32, name: &str, dims: &[i64]) -> TensorProto {
        let scale = bound / 2f32.powi(31);
        let mut bytes = Vec::with_capacity(4 * n_elements(dims));
        for _ in 0..n_elements(dims) {
            bytes.extend((self.next() as i32 as f32 * scale).to_le_bytes());
        }
        self.tensor(name, DataType::Float, dims, bytes)
    }

    fn uint8s(&mut self, name: &str, dims: &[i64]) -> TensorProto {
        let mut bytes = Vec::with_capacity(n_elements(dims));
        while bytes.len() < n_elements(dims) {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(n_elements(dims));
        self.tensor(name, DataType::Uint8, dims, bytes)
    }

    /// xorshift64.
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn tensor(
        &mut self,
        name: &str,
        data_type: DataType,
        dims: &[i64],
        bytes: Vec<u8>,
    ) -> TensorProto {
        match &mut self.beside {
            Some(beside) if dims.len() >= 2 => {
                beside.write_all(&bytes).unwrap();
                let (offset, len) = (self.offset, bytes.len() as u64);
                self.offset += len;
                TensorProto {
                    data_type: Some(data_type as i32),
                    ..external(name, dims, "weights.bin", Some(offset), Some(len))
                }
            }
            _ => raw_tensor(name, data_type, dims, bytes),
        }
    }
}

fn n_elements(dims: &[i64]) -> usize {
    dims.iter().product::<i64>() as usize
}

/// Layers of attention with one head, and two dense layers, on 197 rows.
pub fn transformer(n_bytes: u64, weights: &mut Weights) -> ModelProto {
    let dims = [197, WIDTH];
    let mut graph = GraphBuilder::new("transformer")
        .input("x", &dims)
        .output("y", &dims);
    let mut x = "x".to_owned();
    let n_layers = (n_bytes as i64 / (4 * 12 * WIDTH * WIDTH)).max(1);
    for layer in 0..n_layers {
        let n = |name: &str| format!("{name}{layer}");
        for (name, dims) in [
            ("scale", &[WIDTH][..]),
            ("q", &[WIDTH, WIDTH]),
            ("k", &[WIDTH, WIDTH]),
            ("v", &[WIDTH, WIDTH]),
            ("o", &[WIDTH, WIDTH]),
            ("up", &[WIDTH, 4 * WIDTH]),
            ("bias", &[4 * WIDTH]),
            ("down", &[4 * WIDTH, WIDTH]),
        ] {
            graph = graph.initializer(weights.floats(&n(name), dims));
        }
        let y = if layer + 1 == n_layers {
            "y".to_owned()
        } else {
            n("out")
        };
        for (op_type, inputs, output) in [
            (
                "LayerNormalization",
                vec![x.clone(), n("scale")],
                n("normal"),
            ),
            ("MatMul", vec![n("normal"), n("q")], n("xq")),
            ("MatMul", vec![n("normal"), n("k")], n("xk")),
            ("MatMul", vec![n("normal"), n("v")], n("xv")),
            ("Transpose", vec![n("xk")], n("xkt")),
            ("MatMul", vec![n("xq"), n("xkt")], n("scores")),
            ("Softmax", vec![n("scores")], n("share")),
            ("MatMul", vec![n("share"), n("xv")], n("mixed")),
            ("MatMul", vec![n("mixed"), n("o")], n("projected")),
            ("MatMul", vec![n("projected"), n("up")], n("wide")),
            ("Add", vec![n("wide"), n("bias")], n("biased")),
            ("Tanh", vec![n("biased")], n("active")),
            ("MatMul", vec![n("active"), n("down")], n("narrow")),
            ("Add", vec![x.clone(), n("narrow")], y.clone()),
        ] {
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            graph = graph.node(node(op_type, &inputs, &[&output]));
        }
        x = y;
    }
    graph.model()
}

/// Blocks of two convolutions of 512 channels, 9 MiB each, around which the block's input is added.
pub fn resnet(n_bytes: u64, weights: &mut Weights) -> ModelProto {
    const CHANNELS: i64 = 512;
    let dims = [1, CHANNELS, 7, 7];
    let n_blocks = (n_bytes as i64 / (2 * 4 * 9 * CHANNELS * CHANNELS)).max(1);
    let mut graph = GraphBuilder::new("resnet")
        .input("x0", &dims)
        .output(&format!("x{n_blocks}"), &dims);
    let bound = (3.0 / (9 * CHANNELS) as f32).sqrt();
    for block in 0..n_blocks {
        let (x, w, y) = names(block);
        let [up, down, wide, active, narrow] =
            ["_up", "_down", "_wide", "_active", "_narrow"].map(|part| format!("{w}{part}"));
        let kernel = [CHANNELS, CHANNELS, 3, 3];
        let pads = || vec![ints_attribute("pads", &[1; 4])];
        graph = graph
            .initializer(weights.floats_up_to(bound, &up, &kernel))
            .initializer(weights.floats_up_to(bound, &down, &kernel))
            .node(node_with("Conv", &[&x, &up], &[&wide], pads()))
            .node(node("Relu", &[&wide], &[&active]))
            .node(node_with("Conv", &[&active, &down], &[&narrow], pads()))
            .node(node("Add", &[&x, &narrow], &[&y]));
    }
    graph.model()
}

/// A chain of MatMuls with weights of 4 KiB, on one row.
pub fn small_tensors(n_bytes: u64, weights: &mut Weights) -> ModelProto {
    matmuls_of(32, n_bytes, weights)
}

/// A chain of MatMuls with weights of 16 MiB, or of 1 MiB in small models, on one row.
pub fn matmuls(n_bytes: u64, weights: &mut Weights) -> ModelProto {
    let side = if n_bytes < 64 << 20 { 512 } else { 2048 };
    matmuls_of(side, n_bytes, weights)
}

fn matmuls_of(side: i64, n_bytes: u64, weights: &mut Weights) -> ModelProto {
    let n_layers = n_bytes as i64 / (4 * side * side);
    let mut graph = chain("matmuls", side, n_layers);
    for layer in 0..n_layers {
        let (x, w, y) = names(layer);
        graph = graph
            .initializer(weights.floats(&w, &[side, side]))
            .node(node("MatMul", &[&x, &w], &[&y]));
    }
    graph.model()
}

/// A chain of MatMulNBits on one row: weights of 4 bits in blocks of 32, 10 MiB with their scales.
pub fn matmulnbits(n_bytes: u64, weights: &mut Weights) -> ModelProto {
    const SIDE: i64 = 4096;
    const BLOCK: i64 = 32;
    let n_blocks = SIDE / BLOCK;
    let n_layers = n_bytes as i64 / (SIDE * n_blocks * (BLOCK / 2 + 4));
    let mut graph = chain("matmulnbits", SIDE, n_layers);
    for layer in 0..n_layers {
        let (x, w, y) = names(layer);
        let scales = format!("{w}_scales");
        let attributes = [
            ("K", SIDE),
            ("N", SIDE),
            ("bits", 4),
            ("block_size", BLOCK),
            ("accuracy_level", 4),
        ];
        let attributes = attributes.map(|(name, value)| int_attribute(name, value));
        let matmul = node_with("MatMulNBits", &[&x, &w, &scales], &[&y], attributes.into());
        graph = graph
            .initializer(weights.uint8s(&w, &[SIDE, n_blocks, BLOCK / 2]))
            .initializer(weights.floats_up_to(0.006, &scales, &[SIDE, n_blocks]))
            .node(in_domain("com.microsoft", matmul));
    }
    let mut model = graph.model();
    model.opset_import.push(opset("com.microsoft", 1));
    model
}

fn chain(name: &str, side: i64, n_layers: i64) -> GraphBuilder {
    GraphBuilder::new(name)
        .input("x0", &[1, side])
        .output(&format!("x{n_layers}"), &[1, side])
}

/// Of a layer of a chain: what goes in, the weights, what comes out.
fn names(layer: i64) -> (String, String, String) {
    (
        format!("x{layer}"),
        format!("w{layer}"),
        format!("x{}", layer + 1),
    )
}
