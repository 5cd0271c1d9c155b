//! Which weights ONNX Runtime can use where they lie.
//!
//! A session has two ways to take weights from the application's memory. *Shared* ones
//! (`OrtApi::AddInitializer`) stay there; but graph optimizations do not see them, so those that want
//! to read one fail. *Injected* ones (`OrtApi::AddExternalInitializers`) are seen by all
//! optimizations; but ONNX Runtime copies them.

use std::collections::{HashMap, HashSet};

use onnxseal_onnx::model::{GraphOwner, Payload, Place, Tensor};

use crate::DataType::{
    self, Bool, Double, Float, Float16, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64,
};

/// Whether weights are to be shared with ONNX Runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Those that are used by operators of which no optimization is known that reads their weights. A
    /// session may still fail; it is to be tried once more with [`Never`](Sharing::Never).
    #[default]
    WherePossible,
    /// ONNX Runtime copies all of them.
    Never,
}

/// How ONNX Runtime comes by a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// As part of the model it is given.
    Inline,
    Injected,
    Shared,
    /// Not at all: nothing uses it, so ONNX Runtime drops it, and takes nothing in its place.
    Unused,
}

/// Smaller tensors are inline. Among them are most of those that shape inference reads.
const MIN_BYTES: u64 = 16 << 10;

/// Smaller lists of integers are inline too: Split may be told thousands of sizes.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// What may be shared: inputs of operators, which kernels pack or read as they are.
///
/// Not Conv (its weights are reordered into blocks of channels before they are packed), and not half
/// floats where kernels compute (a CPU converts them once, if it may see them).
const SHARED: &[(&str, &str, &[usize], &[DataType])] = &[
    ("", "MatMul", &[1], &[Float, Double]),
    ("", "Gemm", &[1], &[Float, Double]),
    ("", "Gather", &[0], &TYPES),
    ("", "GatherElements", &[0], &TYPES),
    ("", "MatMulInteger", &[1], &[Int8, Uint8]),
    ("", "LSTM", &[1, 2], &[Float]),
    ("", "GRU", &[1, 2], &[Float]),
    ("com.microsoft", "MatMulNBits", &[1, 2], &[Float, Uint8]),
    ("com.microsoft", "GatherBlockQuantized", &[0], &[Uint8]),
];

/// Types that every binding of ONNX Runtime can make a tensor of.
const TYPES: [DataType; 12] = [
    Float, Double, Float16, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Bool,
];

/// How ONNX Runtime is to come by each tensor of `model`.
pub(crate) fn decide(model: &onnxseal_onnx::Model<'_>) -> Vec<How> {
    let consumers = Consumers::of(model);
    let tensors = model.tensors.iter();
    tensors.map(|tensor| consumers.how(model, tensor)).collect()
}

struct Consumers<'a> {
    /// How many initializers have this name: ONNX Runtime knows them by name, in subgraphs too.
    initializers: HashMap<&'a str, u32>,
    /// Values that are inputs or outputs of a graph.
    ends: HashSet<&'a str>,
    /// For each value whether all that use it, there is one, may share it; and as which types.
    users: HashMap<&'a str, Vec<&'static [DataType]>>,
}

impl<'a> Consumers<'a> {
    fn of(model: &onnxseal_onnx::Model<'a>) -> Consumers<'a> {
        let mut initializers = HashMap::new();
        for tensor in &model.tensors {
            if matches!(tensor.place, Place::Initializer | Place::SparseValues) {
                *initializers.entry(tensor.name).or_default() += 1;
            }
        }
        let in_functions = in_functions(model);
        let is_outside = |graph: usize| in_functions.get(graph) == Some(&false);
        let graphs = model.graphs.iter().enumerate();
        let graphs = graphs.filter(|(index, _)| is_outside(*index));
        let ends = graphs.flat_map(|(_, graph)| graph.inputs.iter().chain(&graph.outputs).copied());
        let mut users: HashMap<_, Vec<_>> = HashMap::new();
        let nodes = model.nodes.iter();
        for node in nodes.filter(|node| is_outside(node.graph.index())) {
            for (slot, name) in node.inputs.iter().copied().enumerate() {
                let row = SHARED.iter().find(|(domain, op_type, slots, _)| {
                    (*domain, *op_type) == (node.domain, node.op_type) && slots.contains(&slot)
                });
                let types = row.map_or(&[][..], |(_, _, _, types)| types);
                users.entry(name).or_default().push(types);
            }
        }
        Consumers {
            initializers,
            ends: ends.collect(),
            users,
        }
    }

    fn how(&self, model: &onnxseal_onnx::Model<'_>, tensor: &Tensor<'_>) -> How {
        let Payload::Dense { span, .. } = &tensor.payload else {
            return How::Inline;
        };
        let in_main = (model.graphs.get(tensor.graph.index()))
            .is_some_and(|graph| graph.owner == GraphOwner::Model);
        if !in_main
            || tensor.place != Place::Initializer
            || span.len < MIN_BYTES
            || self.initializers.get(tensor.name) != Some(&1)
            || !TYPES.contains(&tensor.data_type)
            // ONNX Runtime's calls take names up to a NUL.
            || tensor.name.contains('\0')
        {
            return How::Inline;
        }
        let users = self.users.get(tensor.name).map_or(&[][..], Vec::as_slice);
        let all_share = !users.is_empty()
            && users.iter().all(|types| types.contains(&tensor.data_type))
            && !self.ends.contains(tensor.name);
        // What shape inference reads must be in the model: it looks before anything is injected.
        let is_list = matches!(tensor.data_type, Int32 | Int64) && tensor.dims.len() <= 1;
        if all_share {
            How::Shared
        } else if is_list && span.len < MAX_LIST_BYTES {
            How::Inline
        } else if users.is_empty() && !self.ends.contains(tensor.name) {
            How::Unused
        } else {
            How::Injected
        }
    }
}

/// For each graph whether it is a function's body or inside one, where no name outside is visible.
fn in_functions(model: &onnxseal_onnx::Model<'_>) -> Vec<bool> {
    let mut in_functions: Vec<bool> = Vec::with_capacity(model.graphs.len());
    // Parents come before children.
    for graph in &model.graphs {
        let is_in_one = match graph.owner {
            GraphOwner::Model => false,
            GraphOwner::Function(_) => true,
            GraphOwner::Node { node, .. } => (model.nodes.get(node.index()))
                .and_then(|node| in_functions.get(node.graph.index()))
                .is_some_and(|is_in_one| *is_in_one),
        };
        in_functions.push(is_in_one);
    }
    in_functions
}
