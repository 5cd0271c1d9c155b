//! Models that nobody here wrote, against an independent decoder.
//!
//! Each file is decoded whole by prost and walked; that walk must find the same nodes and tensors,
//! with the same elements at the places that `locate` gives.

use std::collections::BTreeMap;
use std::fs;

use onnxseal_onnx::external::{check_extent, normalise};
use onnxseal_onnx::model::{FileId, Payload, Unpatchable};
use onnxseal_onnx::proto::tensor_proto::{DataLocation, DataType};
use onnxseal_onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto,
};
use onnxseal_onnx::{Limits, locate, tail};
use onnxseal_testkit::shared::shared_models_in;
use onnxseal_testkit::{corrupt, samples, shared_models};
use prost::Message;

use crate::support::{elements, fault, located, probe};

/// What prost says of a tensor.
#[derive(Debug, PartialEq)]
struct Expected {
    name: String,
    data_type: DataType,
    dims: Vec<u64>,
    elements: Elements,
}

#[derive(Debug, PartialEq)]
enum Elements {
    Here(Vec<u8>),
    External(String, u64),
    Unpatchable(Unpatchable),
}

/// The walk over prost's messages.
#[derive(Default)]
struct Walk {
    tensors: BTreeMap<String, Expected>,
    /// `op_type`, name, inputs and outputs, in file order.
    nodes: Vec<(String, String, Vec<String>, Vec<String>)>,
}

impl Walk {
    fn model(model: &ModelProto) -> Walk {
        let mut walk = Walk::default();
        walk.graph("graph", model.graph.as_ref().unwrap());
        for (i, function) in model.functions.iter().enumerate() {
            for (j, node) in function.node.iter().enumerate() {
                walk.node(&format!("functions[{i}].node[{j}]"), node);
            }
        }
        walk
    }

    fn graph(&mut self, path: &str, graph: &GraphProto) {
        for (i, node) in graph.node.iter().enumerate() {
            self.node(&format!("{path}.node[{i}]"), node);
        }
        for (i, tensor) in graph.initializer.iter().enumerate() {
            self.tensor(format!("{path}.initializer[{i}]"), tensor.name(), tensor);
        }
        for (i, sparse) in graph.sparse_initializer.iter().enumerate() {
            self.sparse(&format!("{path}.sparse_initializer[{i}]"), None, sparse);
        }
    }

    fn node(&mut self, path: &str, node: &NodeProto) {
        self.nodes.push((
            node.op_type().to_owned(),
            node.name().to_owned(),
            node.input.clone(),
            node.output.clone(),
        ));
        let is_constant = node.op_type() == "Constant" && matches!(node.domain(), "" | "ai.onnx");
        for (i, attribute) in node.attribute.iter().enumerate() {
            let name = if is_constant {
                &node.output[0]
            } else {
                attribute.name()
            };
            self.attribute(&format!("{path}.attribute[{i}]"), name, attribute);
        }
    }

    fn attribute(&mut self, path: &str, name: &str, attribute: &AttributeProto) {
        if let Some(tensor) = &attribute.t {
            self.tensor(format!("{path}.t"), name, tensor);
        }
        for (i, tensor) in attribute.tensors.iter().enumerate() {
            self.tensor(format!("{path}.tensors[{i}]"), name, tensor);
        }
        if let Some(graph) = &attribute.g {
            self.graph(&format!("{path}.g"), graph);
        }
        for (i, graph) in attribute.graphs.iter().enumerate() {
            self.graph(&format!("{path}.graphs[{i}]"), graph);
        }
        if let Some(sparse) = &attribute.sparse_tensor {
            self.sparse(&format!("{path}.sparse_tensor"), Some(name), sparse);
        }
        for (i, sparse) in attribute.sparse_tensors.iter().enumerate() {
            self.sparse(&format!("{path}.sparse_tensors[{i}]"), Some(name), sparse);
        }
        if attribute.floats.len() >= 2 {
            let expected = Expected {
                name: name.to_owned(),
                data_type: DataType::Float,
                dims: vec![attribute.floats.len() as u64],
                elements: Elements::Here(le(&attribute.floats, |value| value.to_le_bytes())),
            };
            self.tensors.insert(format!("{path}.floats"), expected);
        }
    }

    fn sparse(&mut self, path: &str, name: Option<&str>, sparse: &SparseTensorProto) {
        for (field, tensor) in [("values", &sparse.values), ("indices", &sparse.indices)] {
            if let Some(tensor) = tensor {
                let name = name.unwrap_or(tensor.name());
                self.tensor(format!("{path}.{field}"), name, tensor);
            }
        }
    }

    fn tensor(&mut self, path: String, name: &str, tensor: &TensorProto) {
        let expected = Expected {
            name: name.to_owned(),
            data_type: tensor.data_type().try_into().unwrap(),
            dims: tensor.dims.iter().map(|&dim| dim as u64).collect(),
            elements: elements_of(tensor),
        };
        self.tensors.insert(path, expected);
    }
}

fn elements_of(tensor: &TensorProto) -> Elements {
    if tensor.data_location() == DataLocation::External {
        let value = |key| {
            let mut entries = tensor.external_data.iter();
            entries
                .find(|entry| entry.key() == key)
                .map(|entry| entry.value())
        };
        let location = normalise(value("location").unwrap()).unwrap();
        let offset = value("offset").unwrap_or("0").parse().unwrap();
        return Elements::External(location, offset);
    }
    let varints = [
        (tensor.int32_data.len(), Unpatchable::Int32Data),
        (tensor.int64_data.len(), Unpatchable::Int64Data),
        (tensor.uint64_data.len(), Unpatchable::Uint64Data),
        (tensor.string_data.len(), Unpatchable::Strings),
    ];
    if let Some((_, why)) = varints.into_iter().find(|(n, _)| *n > 0) {
        return Elements::Unpatchable(why);
    }
    let mut bytes = tensor.raw_data().to_vec();
    bytes.extend(le(&tensor.float_data, |value| value.to_le_bytes()));
    bytes.extend(le(&tensor.double_data, |value| value.to_le_bytes()));
    Elements::Here(bytes)
}

fn le<T: Copy, const N: usize>(values: &[T], bytes: fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&value| bytes(value)).collect()
}

/// Compares what `locate` finds with what prost reads.
fn compare(bytes: &[u8]) {
    let expected = Walk::model(&ModelProto::decode(bytes).unwrap());
    let model = located(bytes);

    let strings = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    let nodes = model.nodes.iter().map(|node| {
        let (op_type, name) = (node.op_type.to_owned(), node.name.to_owned());
        (op_type, name, strings(&node.inputs), strings(&node.outputs))
    });
    assert_eq!(nodes.collect::<Vec<_>>(), expected.nodes);

    assert_eq!(model.tensors.len(), expected.tensors.len());
    for tensor in &model.tensors {
        let found = Expected {
            name: tensor.name.to_owned(),
            data_type: tensor.data_type,
            dims: tensor.dims.clone(),
            elements: match tensor.payload {
                Payload::Unpatchable(why) => Elements::Unpatchable(why),
                Payload::Dense { file, span, .. } if file != FileId::MODEL => {
                    Elements::External(model.location(file).unwrap().to_owned(), span.start)
                }
                _ => Elements::Here(elements(bytes, tensor).unwrap()),
            },
        };
        assert!(found == expected.tensors[&tensor.path], "{}", tensor.path);
    }
}

#[test]
fn samples_are_as_prost_reads_them() {
    for sample in samples::all() {
        compare(&sample.model);
    }
}

#[test]
fn genuine_models_are_as_prost_reads_them() {
    for kind in ["real", "edge"] {
        for path in shared_models_in(kind).unwrap_or_default() {
            println!("{}", path.display());
            compare(&fs::read(&path).unwrap());
        }
    }
}

#[test]
fn genuine_models_have_their_external_data() {
    for path in shared_models_in("edge").unwrap_or_default() {
        println!("{}", path.display());
        let bytes = fs::read(&path).unwrap();
        let model = located(&bytes);
        for tensor in &model.tensors {
            if let Payload::Dense { file, .. } = tensor.payload
                && file != FileId::MODEL
            {
                let location = &model.external_files[file.0 as usize - 1];
                let len = fs::metadata(path.with_file_name(location)).unwrap().len();
                check_extent(&model, tensor, len).unwrap();
            }
        }
    }
}

#[test]
fn hostile_models_are_refused_or_read_for_what_they_are() {
    // What is wrong with each; `None` where the file is well-formed, and only its meaning odd.
    let rows: [(&str, Option<&str>); 7] = [
        (
            "bad_data_type",
            Some("expected a known data_type, found -100"),
        ),
        ("bad_names", None),
        ("corrupt", Some("expected wire type 0, 1, 2 or 5, found")),
        // Also has a location that climbs out of the folder.
        (
            "external_escapes_folder",
            Some("expected elements in one field, found them in"),
        ),
        (
            "external_memory_address",
            Some("location \"*/_ORT_MEM_ADDR_/*\" stands for an address"),
        ),
        ("fuzz_518483", None),
        // The large shape is only that of an input.
        ("tiny_file_large_tensor", None),
    ];
    let Some(paths) = shared_models_in("hostile") else {
        return;
    };
    for path in paths {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let row = rows.iter().find(|(name, _)| *name == stem);
        let bytes = fs::read(&path).unwrap();
        match row.unwrap_or_else(|| panic!("no row for {stem}")) {
            (_, Some(words)) => {
                let (fault, _) = fault(&bytes);
                assert!(fault.starts_with(words), "{stem}: {fault}");
            }
            (_, None) => assert!(probe(&bytes), "{stem}"),
        }
    }
}

#[test]
fn no_shared_model_has_a_tail() {
    for path in shared_models().unwrap_or_default() {
        let bytes = fs::read(&path).unwrap();
        assert!(
            !matches!(tail::split(&bytes), Ok(Some(_))),
            "{}",
            path.display()
        );
    }
}

#[test]
fn damaged_models_do_not_panic() {
    for path in shared_models().unwrap_or_default() {
        let bytes = fs::read(&path).unwrap();
        // Larger files in steps, so that each takes about as long.
        let step = bytes.len().div_ceil(2_000);
        for i in (0..bytes.len()).step_by(step) {
            let _ = locate(&bytes[..i], &Limits::default());
            if bytes.len() < 100_000 {
                probe(&corrupt::flipped(&bytes, i));
            }
        }
    }
}
