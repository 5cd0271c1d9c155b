//! Decides which weights ONNX Runtime can use in place.
//!
//! A session can take weights from the application's memory in two ways. *Shared* weights
//! (`OrtApi::AddInitializer`) stay there, but graph optimizations cannot see them, and an
//! optimization that reads one fails. *Injected* weights (`OrtApi::AddExternalInitializers`) are
//! visible to all optimizations, but ONNX Runtime copies them.

use std::collections::{HashMap, HashSet};

use onnxseal_onnx::model::{GraphOwner, Node, Payload, Tensor, TensorRole};

use crate::DataType::{
    self, Bool, Double, Float, Float16, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64,
};

/// How ONNX Runtime gets the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Shares the weights that no known optimization reads. Making the session may still fail: then
    /// try [`Never`](Sharing::Never).
    #[default]
    WherePossible,
    /// ONNX Runtime copies all weights.
    Never,
    /// The skeleton contains all weights, and may have at most 2 GiB. The session's options get no
    /// weights, so they can serve other models too.
    Inline,
}

/// The entry that marks session options with the weights of a model. The weights stay in the
/// options, and ONNX Runtime finds them by name only: a session of another model would use them as
/// its own.
pub const WEIGHTS_ENTRY: (&str, &str) = ("onnxseal.weights", "1");

/// Entries that make ONNX Runtime write decrypted weights to files, and the values that turn this
/// on.
pub const WRITING_ENTRIES: [(&str, &str); 2] = [
    ("ep.context_enable", "1"),
    ("session.debug_layout_transformation", "1"),
];

/// Execution providers that use the memory of the process, and can therefore share weights.
pub const PROCESSORS: [&str; 2] = ["CPUExecutionProvider", "AzureExecutionProvider"];

/// How ONNX Runtime gets a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// As part of the skeleton.
    Inline,
    Injected,
    /// In place; the number tells when ONNX Runtime comes to it.
    Shared(usize),
    /// Not at all: ONNX Runtime drops it, because nothing uses it.
    Unused,
}

/// Smaller tensors are inline; they include most of those that shape inference reads.
const MIN_BYTES: u64 = 16 << 10;

/// Smaller lists of integers are inline too: Split may have thousands of sizes.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// The inputs that may be shared, because kernels pack them or read them as they are.
///
/// Conv is left out, because its weights are reordered into blocks of channels before they are
/// packed. Half floats in computing kernels are left out, because a CPU converts them once if it
/// can see them.
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

/// Operators through which an optimization looks for a normalization that it can fold into the
/// weights of the MatMul before it.
const LOOKED_THROUGH: &[&str] = &[
    "Add",
    "Cast",
    "Dropout",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// The least number of products of one value whose weights an optimization may join, as the
/// queries, keys and values of attention.
const JOINED: usize = 3;

/// Types that every binding of ONNX Runtime can make a tensor of.
const TYPES: [DataType; 12] = [
    Float, Double, Float16, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Bool,
];

/// Returns ONNX Runtime's name for a type, or `None` for types whose weights stay in the skeleton.
#[cfg(feature = "c-api")]
pub fn element_type(data_type: DataType) -> Option<ort_sys::ONNXTensorElementDataType> {
    use ort_sys::ONNXTensorElementDataType as E;
    Some(match data_type {
        Float => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        Double => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        Float16 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        Int8 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        Int16 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
        Int32 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        Int64 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        Uint8 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        Uint16 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        Uint32 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        Uint64 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        Bool => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        _ => return None,
    })
}

/// Decides how ONNX Runtime gets each tensor of `model`.
pub(crate) fn decide(model: &onnxseal_onnx::Model<'_>) -> Vec<How> {
    let consumers = Consumers::of(model);
    let tensors = model.tensors.iter();
    tensors.map(|tensor| consumers.how(model, tensor)).collect()
}

struct Consumers<'a> {
    /// How many values have the name of each initializer. ONNX Runtime finds initializers by name,
    /// even in subgraphs, where another value of that name may hide one, so that nothing uses it.
    initializers: HashMap<&'a str, u32>,
    /// Values that are inputs or outputs of a graph.
    ends: HashSet<&'a str>,
    /// Values that are outputs of a graph.
    outputs: HashSet<&'a str>,
    /// For each value, one entry per use: the types in which that use may share it, empty if it may
    /// not.
    users: HashMap<&'a str, Vec<&'static [DataType]>>,
    /// For each value, when ONNX Runtime comes to it: the place of the first node that uses it.
    first_users: HashMap<&'a str, usize>,
}

impl<'a> Consumers<'a> {
    fn of(model: &onnxseal_onnx::Model<'a>) -> Consumers<'a> {
        let mut initializers = HashMap::new();
        for tensor in &model.tensors {
            if matches!(
                tensor.place,
                TensorRole::Initializer | TensorRole::SparseValues
            ) {
                *initializers.entry(tensor.name).or_default() += 1;
            }
        }
        let in_functions = in_functions(model);
        let is_outside = |graph: usize| in_functions.get(graph) == Some(&false);
        let graphs = model.graphs.iter().enumerate();
        let graphs = graphs.filter(|(index, _)| is_outside(*index));
        let outputs = graphs
            .clone()
            .flat_map(|(_, graph)| graph.outputs.iter().copied());
        let ends = graphs.flat_map(|(_, graph)| graph.inputs.iter().chain(&graph.outputs).copied());
        let nodes = model.nodes.iter();
        let nodes: Vec<&Node<'a>> = nodes
            .filter(|node| is_outside(node.graph.index()))
            .collect();
        let wanted = Wanted::by_optimizations(&nodes, &initializers);
        let subgraphs = (model.graphs.iter())
            .filter(|graph| matches!(graph.owner, GraphOwner::Node { .. }))
            .flat_map(|graph| &graph.inputs);
        for name in nodes.iter().flat_map(|node| &node.outputs).chain(subgraphs) {
            initializers.entry(*name).and_modify(|n| *n += 1);
        }
        let mut users: HashMap<_, Vec<_>> = HashMap::new();
        let mut first_users = HashMap::new();
        let n_nodes = nodes.len();
        for (index, node) in nodes.into_iter().enumerate() {
            // A product with a bias becomes a node of its own, which comes after all others.
            let index = match is_biased(node, &wanted.biased) {
                true => n_nodes + index,
                false => index,
            };
            let is_wanted = wanted.of(node);
            for (slot, name) in node.inputs.iter().copied().enumerate() {
                let row = SHARED.iter().find(|(domain, op_type, slots, _)| {
                    (*domain, *op_type) == (node.domain, node.op_type) && slots.contains(&slot)
                });
                let row = row.filter(|_| !is_wanted);
                let types = row.map_or(&[][..], |(_, _, _, types)| types);
                users.entry(name).or_default().push(types);
                first_users.entry(name).or_insert(index);
            }
        }
        Consumers {
            initializers,
            ends: ends.collect(),
            outputs: outputs.collect(),
            users,
            first_users,
        }
    }

    fn how(&self, model: &onnxseal_onnx::Model<'_>, tensor: &Tensor<'_>) -> How {
        let Payload::Dense { span, .. } = &tensor.payload else {
            return How::Inline;
        };
        let in_main = (model.graphs.get(tensor.graph.index()))
            .is_some_and(|graph| graph.owner == GraphOwner::Model);
        if !in_main
            || tensor.place != TensorRole::Initializer
            || span.len < MIN_BYTES
            || self.initializers.get(tensor.name) != Some(&1)
            || !TYPES.contains(&tensor.data_type)
            // ONNX Runtime's calls read names up to a NUL, and a value without a name has no users.
            || tensor.name.contains('\0')
            || tensor.name.is_empty()
        {
            return How::Inline;
        }
        let users = self.users.get(tensor.name).map_or(&[][..], Vec::as_slice);
        let all_share = !users.is_empty()
            && users.iter().all(|types| types.contains(&tensor.data_type))
            && !self.ends.contains(tensor.name);
        // Shape inference runs before anything is injected: tensors that it reads must be inline.
        let is_list = matches!(tensor.data_type, Int32 | Int64) && tensor.dims.len() <= 1;
        if all_share {
            let first = self.first_users.get(tensor.name);
            How::Shared(first.copied().unwrap_or_default())
        } else if is_list && span.len < MAX_LIST_BYTES {
            How::Inline
        } else if users.is_empty() && !self.ends.contains(tensor.name) {
            How::Unused
        } else if users.is_empty() && !self.outputs.contains(tensor.name) {
            // The default of an unused input, which ONNX Runtime may have dropped.
            How::Inline
        } else {
            How::Injected
        }
    }
}

/// The surroundings of a node that make an optimization read its weights. A false positive costs a
/// copy of its weights; a false negative, a second attempt at the session.
struct Wanted<'a> {
    /// Values that ONNX Runtime computes before the session runs, from weights.
    constants: HashSet<&'a str>,
    /// Values that may flow into a normalization, which folds into the weights.
    normalized: HashSet<&'a str>,
    /// Values with [`JOINED`] or more products that may be joined.
    joined: HashSet<&'a str>,
    /// Values to which a constant is added.
    biased: HashSet<&'a str>,
}

impl<'a> Wanted<'a> {
    /// Finds these values. `nodes` must be sorted so that values come before their users.
    fn by_optimizations(nodes: &[&Node<'a>], initializers: &HashMap<&'a str, u32>) -> Wanted<'a> {
        let mut constants: HashSet<&str> = initializers.keys().copied().collect();
        let mut biased = HashSet::new();
        for node in nodes {
            let is_constant = |name: &&str| name.is_empty() || constants.contains(name);
            // A shape may be known before the session runs even if its tensor is not.
            if node.inputs.iter().all(&is_constant) || node.op_type == "Shape" {
                constants.extend(node.outputs.iter().filter(|name| !name.is_empty()));
            } else if node.op_type == "Add" && node.inputs.iter().any(is_constant) {
                biased.extend(node.inputs.iter().copied());
            }
        }
        let mut normalized = HashSet::new();
        for node in nodes.iter().rev() {
            let is_taken = |name: &&str| normalized.contains(*name);
            if node.op_type == "BatchNormalization"
                || LOOKED_THROUGH.contains(&node.op_type) && node.outputs.iter().any(is_taken)
            {
                normalized.extend(node.inputs.iter().copied());
            }
        }
        let mut products: HashMap<&str, usize> = HashMap::new();
        for node in nodes {
            let may_join = node.op_type == "MatMulNBits" || is_biased(node, &biased);
            if let (true, Some(value)) = (may_join, node.inputs.first()) {
                *products.entry(value).or_default() += 1;
            }
        }
        let joined = products.into_iter().filter(|(_, n)| *n >= JOINED);
        Wanted {
            joined: joined.map(|(value, _)| value).collect(),
            constants,
            normalized,
            biased,
        }
    }

    /// Returns whether an optimization may read the weights of `node`.
    fn of(&self, node: &Node<'_>) -> bool {
        let is_folded = node
            .outputs
            .iter()
            .any(|name| self.constants.contains(name));
        let is_normalized = (node.outputs.iter()).any(|name| self.normalized.contains(name));
        let is_joined = (node.inputs.first()).is_some_and(|name| self.joined.contains(name));
        is_folded || is_normalized || is_joined
    }
}

/// Returns whether `node` is a product to which a constant is added. `biased` has all values to which
/// one is added.
fn is_biased(node: &Node<'_>, biased: &HashSet<&str>) -> bool {
    node.op_type == "MatMul" && node.outputs.iter().any(|name| biased.contains(name))
}

/// Returns, for each graph, whether it is inside a function, where outer names are invisible.
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
