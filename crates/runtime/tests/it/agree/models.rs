//! Random models with weights in every place there is, legal ones and others.
//!
//! All weights are -1, 0 or 1, and few matrices are multiplied: no sum is rounded, in whatever
//! order it is made.

use onnxseal_onnx::proto::attribute_proto::AttributeType;
use onnxseal_onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, SparseTensorProto, TensorProto,
    ValueInfoProto,
};
use onnxseal_runtime::DataType;
use onnxseal_testkit::build::{
    GraphBuilder, bare_tensor, constant, entry, external, function, graph_attribute, in_domain,
    int_attribute, int64s, node, node_with, opset, raw_tensor, tensor_attribute,
};
use onnxseal_testkit::{Sample, wire};
use prost::Message;

pub const INPUT_DIMS: [i64; 2] = [2, 64];

/// What every model is given.
pub fn input() -> Vec<f32> {
    (0..2 * 64).map(|i| (i % 3) as f32 - 1.0).collect()
}

/// Numbers that depend on a seed alone (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// One of `0..n`.
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Whether something happens that does so `percent` times of a hundred.
    fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        match of.len() {
            0 => None,
            n => Some(of[self.below(n as u64) as usize]),
        }
    }
}

/// What a weight is for, which says its shape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    /// `[64, 64]`: 16 KiB, which is not inline.
    MatMul,
    /// `[64]`.
    Add,
}

impl For {
    fn dims(self) -> &'static [i64] {
        match self {
            For::MatMul => &[64, 64],
            For::Add => &[64],
        }
    }
}

/// The names of a graph, and of those around it.
#[derive(Clone, Default)]
struct Scope {
    own: Vec<(String, For)>,
    outer: Vec<(String, For)>,
}

struct Maker<'r> {
    random: &'r mut Random,
    n_names: u32,
    /// Matrices that may still be multiplied.
    n_products: u32,
    files: [(&'static str, Vec<u8>); 3],
    functions: Vec<FunctionProto>,
    /// Whether anything is to be odd: names that occur twice, keys that nobody knows.
    odd: bool,
}

pub fn model(random: &mut Random) -> Sample {
    let odd = random.happens(40);
    let mut maker = Maker {
        random,
        n_names: 0,
        n_products: 3,
        // The second name is that of the file with nothing in it.
        files: [
            ("w.bin", Vec::new()),
            ("null", Vec::new()),
            ("d/v.bin", vec![9; 5]),
        ],
        functions: Vec::new(),
        odd,
    };
    let mut graph = GraphBuilder::new("main").input("x", &INPUT_DIMS).graph();
    let mut scope = Scope::default();
    let last = maker.steps(&mut graph, &mut scope, "x", 0);
    graph.node.push(node("Identity", &[&last], &["y"]));
    graph.output = GraphBuilder::new("")
        .output("y", &INPUT_DIMS)
        .graph()
        .output;
    maker.extras(&mut graph, &mut scope);
    let n_nodes = graph.node.len();
    let mut model = GraphBuilder::new("").model();
    model.graph = Some(graph);
    model.opset_import.push(opset("local", 1));
    model.functions = std::mem::take(&mut maker.functions);
    if maker.random.happens(10) {
        // When all initializers were inputs too.
        model.ir_version = Some(3);
        let graph = model.graph.as_mut().unwrap();
        let inputs = graph.initializer.iter().map(typed_input);
        let inputs: Vec<ValueInfoProto> = inputs.collect();
        graph.input.extend(inputs);
    }
    let mut bytes = model.encode_to_vec();
    if n_nodes > 1 && maker.odd && maker.random.happens(10) {
        // A part that is not read, by a tensor that says twice where its elements are.
        let tensor = external("v", &[64], "w.bin", None, Some(256)).encode_to_vec();
        let tensor = [tensor, wire::varint_field(14, 7)].concat();
        let attribute = [
            wire::field(1, b"v"),
            wire::field(5, &tensor),
            wire::varint_field(20, 4),
        ];
        let function = [
            wire::field(1, b"Twice"),
            wire::field(11, &attribute.concat()),
            wire::field(10, b"local"),
        ];
        bytes.extend(wire::field(25, &function.concat()));
    }
    let files = maker
        .files
        .into_iter()
        .filter(|(_, content)| !content.is_empty());
    Sample {
        name: "random",
        model: bytes,
        files: files.collect(),
    }
}

fn typed_input(tensor: &TensorProto) -> ValueInfoProto {
    let data_type = DataType::try_from(tensor.data_type.unwrap_or(1)).unwrap_or(DataType::Float);
    let graph = GraphBuilder::new("").typed_input(tensor.name(), data_type, &tensor.dims);
    graph.graph().input.remove(0)
}

impl Maker<'_> {
    fn fresh(&mut self, prefix: &str) -> String {
        self.n_names += 1;
        format!("{prefix}{}", self.n_names)
    }

    /// Whether something odd happens that does so `percent` times of a hundred in an odd model.
    fn oddly(&mut self, percent: u64) -> bool {
        self.odd && self.random.happens(percent)
    }

    /// Some nodes from `from` on; returns the name of the last value.
    fn steps(
        &mut self,
        graph: &mut GraphProto,
        scope: &mut Scope,
        from: &str,
        depth: u32,
    ) -> String {
        let mut last = from.to_owned();
        for _ in 0..1 + self.random.below(3) {
            let next = self.value_name(scope);
            match self.random.below(10) {
                0..=3 if self.n_products > 0 => {
                    self.n_products -= 1;
                    let w = self.weight(graph, scope, For::MatMul);
                    let node = match self.random.below(4) {
                        0 => {
                            let b = self.weight(graph, scope, For::Add);
                            node("Gemm", &[&last, &w, &b], &[&next])
                        }
                        1 => {
                            let t = self.fresh("t");
                            graph.node.push(node("Transpose", &[&w], &[&t]));
                            node("MatMul", &[&last, &t], &[&next])
                        }
                        _ => node("MatMul", &[&last, &w], &[&next]),
                    };
                    graph.node.push(node);
                }
                4 if depth < 2 => self.branches(graph, scope, &last, &next, depth),
                5 if depth < 2 && self.n_products >= 2 => {
                    self.repeat(graph, scope, &last, &next, depth);
                }
                6 if self.n_products > 0 => self.call(graph, scope, &last, &next),
                7 => self.with_nothing(graph, &last, &next),
                _ => {
                    let b = self.weight(graph, scope, For::Add);
                    graph.node.push(node("Add", &[&last, &b], &[&next]));
                }
            }
            last = next;
        }
        last
    }

    /// The name of a node's output, which may be that of something outside.
    fn value_name(&mut self, scope: &Scope) -> String {
        let outer = self.random.below(scope.outer.len().max(1) as u64) as usize;
        match scope.outer.get(outer) {
            Some((name, _)) if self.oddly(20) => name.clone(),
            _ => match scope.own.last() {
                Some((name, _)) if self.oddly(4) => name.clone(),
                _ => self.fresh("h"),
            },
        }
    }

    /// The name of a weight, which may be that of another.
    fn weight_name(&mut self, scope: &mut Scope, of: For) -> String {
        let names = |of_scope: &[(String, For)]| -> Vec<String> {
            let names = of_scope.iter().filter(|(_, other)| *other == of);
            names.map(|(name, _)| name.clone()).collect()
        };
        let own: Vec<String> = names(&scope.own);
        let outer: Vec<String> = names(&scope.outer);
        let twice = self.oddly(25);
        let hides = self.oddly(40);
        let pick = |random: &mut Random, names: &[String]| {
            let names: Vec<&String> = names.iter().collect();
            random.pick(&names).cloned()
        };
        let name = match (twice, hides) {
            (true, _) => pick(self.random, &own),
            (_, true) => pick(self.random, &outer),
            _ => None,
        };
        let name = name.unwrap_or_else(|| self.fresh("w"));
        scope.own.push((name.clone(), of));
        name
    }

    /// A weight, or one that was there before; returns the name of a value of floats.
    fn weight(&mut self, graph: &mut GraphProto, scope: &mut Scope, of: For) -> String {
        let visible: Vec<usize> = (0..scope.outer.len())
            .filter(|i| scope.outer[*i].1 == of)
            .collect();
        if let Some(index) = self.random.pick(&visible)
            && self.random.happens(40)
        {
            return scope.outer[index].0.clone();
        }
        let name = self.weight_name(scope, of);
        self.define(graph, &name, of)
    }

    /// Defines a weight of that name, somewhere.
    fn define(&mut self, graph: &mut GraphProto, name: &str, of: For) -> String {
        let dims = of.dims();
        let n = dims.iter().product::<i64>() as usize;
        let values: Vec<f32> = (0..n).map(|_| self.random.below(3) as f32 - 1.0).collect();
        match self.random.below(20) {
            0 | 1 => {
                let tensor = self.tensor(name, dims, &values);
                graph.node.insert(0, constant(tensor));
            }
            2 => graph
                .sparse_initializer
                .push(self.sparse(name, dims, &values)),
            3 => {
                let mut node = node("Constant", &[], &[name]);
                node.attribute.push(AttributeProto {
                    name: Some("sparse_value".to_owned()),
                    r#type: Some(AttributeType::SparseTensor as i32),
                    sparse_tensor: Some(self.sparse("", dims, &values)),
                    ..AttributeProto::default()
                });
                graph.node.insert(0, node);
            }
            4 => {
                let bytes = values.iter().flat_map(|v| f64::from(*v).to_le_bytes());
                let tensor = raw_tensor(name, DataType::Double, dims, bytes.collect());
                graph.initializer.push(tensor);
                let cast = self.fresh("c");
                let to = vec![int_attribute("to", DataType::Float as i64)];
                graph.node.push(node_with("Cast", &[name], &[&cast], to));
                return cast;
            }
            5 => {
                // One that is the default of an input.
                let tensor = self.tensor(name, dims, &values);
                if graph.input.first().is_some_and(|input| input.name() == "x") {
                    graph.input.push(typed_input(&tensor));
                }
                graph.initializer.push(tensor);
            }
            _ => {
                let tensor = self.tensor(name, dims, &values);
                graph.initializer.push(tensor);
            }
        }
        name.to_owned()
    }

    /// A tensor of floats, with its elements anywhere.
    fn tensor(&mut self, name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
        let bytes = || values.iter().flat_map(|value| value.to_le_bytes());
        match self.random.below(10) {
            0..=3 => raw_tensor(name, DataType::Float, dims, bytes().collect()),
            4 => TensorProto {
                float_data: values.to_vec(),
                ..bare_tensor(name, DataType::Float, dims)
            },
            _ => self.external(name, dims, &bytes().collect::<Vec<u8>>()),
        }
    }

    fn external(&mut self, name: &str, dims: &[i64], bytes: &[u8]) -> TensorProto {
        let gap = self.random.below(7) as usize;
        let index = self.random.below(3) as usize;
        let (location, content) = &mut self.files[index];
        let location = *location;
        content.extend(std::iter::repeat_n(0, gap));
        let offset = content.len() as u64;
        content.extend(bytes);
        let offset = (offset > 0 || self.random.happens(50)).then_some(offset);
        let len = self.random.happens(60).then_some(bytes.len() as u64);
        let mut tensor = external(name, dims, location, offset, len);
        if self.random.happens(10) {
            tensor.external_data.push(entry("checksum", "abc"));
        }
        if self.oddly(6) {
            let stray = [
                "Location",
                "location\0",
                "basepath",
                "prepacked_w",
                "Offset",
                "checksum",
            ];
            let key = self.random.pick(&stray).unwrap();
            let value = if key == "checksum" { "" } else { "d/v.bin" };
            tensor.external_data.push(entry(key, value));
        }
        tensor
    }

    fn sparse(&mut self, name: &str, dims: &[i64], values: &[f32]) -> SparseTensorProto {
        let some = values.iter().enumerate().filter(|(_, value)| **value > 0.0);
        let (indices, values): (Vec<i64>, Vec<f32>) = some.map(|(i, v)| (i as i64, *v)).unzip();
        let n = [values.len() as i64];
        SparseTensorProto {
            values: Some(self.tensor(name, &n, &values)),
            indices: Some(int64s("", &n, &indices)),
            dims: dims.to_vec(),
        }
    }

    fn inside(scope: &Scope) -> Scope {
        Scope {
            own: Vec::new(),
            outer: [&scope.outer[..], &scope.own[..]].concat(),
        }
    }

    fn branches(
        &mut self,
        graph: &mut GraphProto,
        scope: &Scope,
        last: &str,
        next: &str,
        depth: u32,
    ) {
        let condition = self.fresh("if");
        let bytes = vec![self.random.below(2) as u8];
        let tensor = raw_tensor(&condition, DataType::Bool, &[], bytes);
        graph.initializer.push(tensor);
        // A branch that is not taken costs no product.
        let before = self.n_products;
        let mut least = before;
        let mut attributes = Vec::new();
        for name in ["then_branch", "else_branch"] {
            self.n_products = before;
            let mut branch = GraphBuilder::new(name).graph();
            let mut inside = Maker::inside(scope);
            let end = self.steps(&mut branch, &mut inside, last, depth + 1);
            let out = self.fresh("out");
            branch.node.push(node("Identity", &[&end], &[&out]));
            branch.output = GraphBuilder::new("")
                .output(&out, &INPUT_DIMS)
                .graph()
                .output;
            attributes.push(graph_attribute(name, branch));
            least = least.min(self.n_products);
        }
        self.n_products = least;
        graph
            .node
            .push(node_with("If", &[&condition], &[next], attributes));
    }

    /// A Loop of two rounds.
    fn repeat(
        &mut self,
        graph: &mut GraphProto,
        scope: &Scope,
        last: &str,
        next: &str,
        depth: u32,
    ) {
        let (n, given, condition) = (self.fresh("n"), self.fresh("in"), self.fresh("cond"));
        graph.initializer.push(int64s(&n, &[], &[2]));
        let before = self.n_products;
        self.n_products = before / 2;
        let mut body = GraphBuilder::new("body")
            .typed_input(&self.fresh("i"), DataType::Int64, &[])
            .typed_input(&condition, DataType::Bool, &[])
            .input(&given, &INPUT_DIMS)
            .graph();
        let mut inside = Maker::inside(scope);
        let end = self.steps(&mut body, &mut inside, &given, depth + 1);
        self.n_products = before - 2 * (before / 2 - self.n_products);
        let (out, go_on) = (self.fresh("out"), self.fresh("cond"));
        body.node.push(node("Identity", &[&end], &[&out]));
        body.node.push(node("Identity", &[&condition], &[&go_on]));
        let condition = GraphBuilder::new("").typed_input(&go_on, DataType::Bool, &[]);
        body.output = condition.graph().input;
        body.output.extend(
            GraphBuilder::new("")
                .output(&out, &INPUT_DIMS)
                .graph()
                .output,
        );
        let attributes = vec![graph_attribute("body", body)];
        graph
            .node
            .push(node_with("Loop", &[&n, "", last], &[next], attributes));
    }

    /// A call of a function with weights of its own.
    fn call(&mut self, graph: &mut GraphProto, scope: &mut Scope, last: &str, next: &str) {
        self.n_products -= 1;
        let w = self.weight(graph, scope, For::MatMul);
        let name = self.fresh("Dense");
        // In a function names of the graph mean nothing.
        let b = scope
            .own
            .last()
            .map_or("b".to_owned(), |(name, _)| name.clone());
        let mut body = GraphBuilder::new("").graph();
        let values: Vec<f32> = (0..64).map(|_| self.random.below(3) as f32 - 1.0).collect();
        let tensor = self.tensor(&b, For::Add.dims(), &values);
        let mut default = None;
        let mut constants = vec![constant(tensor)];
        if self.random.happens(30) {
            let tensor = if self.oddly(30) {
                self.tensor("v", For::Add.dims(), &values)
            } else {
                raw_tensor("v", DataType::Float, For::Add.dims(), vec![0; 256])
            };
            let mut reference = node("Constant", &[], &["d"]);
            reference.attribute.push(AttributeProto {
                name: Some("value".to_owned()),
                r#type: Some(AttributeType::Tensor as i32),
                ref_attr_name: Some("v".to_owned()),
                ..AttributeProto::default()
            });
            constants.push(reference);
            constants.push(node("Add", &[&b, "d"], &["bd"]));
            default = Some(tensor_attribute("v", tensor));
        } else {
            constants.push(node("Identity", &[&b], &["bd"]));
        }
        if self.oddly(15) {
            let tensor = self.tensor(&b, For::Add.dims(), &values);
            constants.insert(1, constant(tensor));
        }
        body.node = constants;
        body.node.push(node("MatMul", &["a", "m"], &["p"]));
        body.node.push(node("Add", &["p", "bd"], &["r"]));
        let mut made = function("local", &name, &["a", "m"], &["r"], body.node);
        made.attribute_proto.extend(default);
        self.functions.push(made);
        let call: NodeProto = in_domain("local", node(&name, &[last, &w], &[next]));
        graph.node.push(call);
    }

    /// Appends a tensor without elements.
    fn with_nothing(&mut self, graph: &mut GraphProto, last: &str, next: &str) {
        let none = self.fresh("none");
        let dims = [0, 64];
        let tensor = match self.random.below(3) {
            0 => bare_tensor(&none, DataType::Float, &dims),
            1 => raw_tensor(&none, DataType::Float, &dims, Vec::new()),
            _ if self.oddly(30) => external(&none, &dims, "d/v.bin", Some(1 << 20), Some(0)),
            // Elsewhere in a file ONNX Runtime may not read 0 bytes.
            _ => external(&none, &dims, "d/v.bin", None, Some(0)),
        };
        graph.initializer.push(tensor);
        let axis = vec![int_attribute("axis", 0)];
        graph
            .node
            .push(node_with("Concat", &[last, &none], &[next], axis));
    }

    /// What no node needs.
    fn extras(&mut self, graph: &mut GraphProto, scope: &mut Scope) {
        if self.random.happens(20) {
            let unused = self.weight_name(scope, For::MatMul);
            self.define(graph, &unused, For::MatMul);
        }
        if self.oddly(5) {
            self.define(graph, "", For::MatMul);
        }
        if self.random.happens(10)
            && let Some(tensor) = graph
                .initializer
                .iter()
                .find(|w| w.dims == [64, 64] && w.data_type() == DataType::Float as i32)
        {
            let output = GraphBuilder::new("")
                .output(tensor.name(), &[64, 64])
                .graph()
                .output;
            graph.output.extend(output);
        }
    }
}
