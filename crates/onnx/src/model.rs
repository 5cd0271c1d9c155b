//! The model as a map: graphs, nodes and weight tensors, each with its place in the file.
//!
//! A [`Model`] borrows its strings from the file's bytes and contains no weights, so it stays small
//! for any file.

use crate::error::{At, Fault};
pub use crate::id::{FunctionId, GraphId, NodeId, TensorId};
use crate::names::Names;
use crate::proto::tensor_proto::DataType;

/// A run of bytes in one file: `[start, start + len)`, `start` absolute, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub start: u64,
    pub len: u64,
}

impl Span {
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// Names a file of the model: 0 is the model file itself, `i + 1` is `Model::external_files[i]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

impl FileId {
    pub const MODEL: FileId = FileId(0);
}

/// A located ONNX model (`ModelProto`).
#[derive(Debug, Default)]
pub struct Model<'a> {
    /// Length of the model file in bytes.
    pub len: u64,
    pub ir_version: Option<i64>,
    pub opset_imports: Vec<OpsetImport<'a>>,
    /// `ModelProto.metadata_props`, in file order.
    pub metadata_props: Vec<MetadataProp<'a>>,
    /// The main graph first, then every subgraph and function body, parents before children.
    pub graphs: Vec<Graph<'a>>,
    /// Every node of every graph, in file order.
    pub nodes: Vec<Node<'a>>,
    /// Every tensor that may hold weights, in file order.
    pub tensors: Vec<Tensor<'a>>,
    pub functions: Vec<Function<'a>>,
    /// Normalised `external_data` locations, `/`-separated, relative to the model's folder, each
    /// once, in order of first use.
    pub external_files: Vec<String>,
    /// The messages of the tensors, in file order, of which the external file has copies too, packed
    /// for ONNX Runtime's kernels.
    pub prepacked: Vec<Span>,
    /// Parts of the file that may hold weights and were not read, in file order:
    /// `training_info`, and `attribute_proto` (attribute defaults) of functions.
    pub passed_over: Vec<PassedOver>,
    /// Numbers and text in attributes of nodes. Lists of two or more floats are among the
    /// [`tensors`](Model::tensors), and so are lists of integers of Constant nodes.
    pub settings: Settings,
    /// The attributes with more than [`MAX_SETTING_BYTES`] of these, in file order.
    pub long_settings: Vec<LongSetting<'a>>,
    pub names: Names,
    /// The first key of `external_data` that ONNX Runtime does not know, and where it is.
    pub(crate) stray_key: Option<(Box<At>, Fault)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Its protobuf path, such as `training_info[0]` or `functions[0].attribute_proto[1]`.
    pub path: String,
    /// The whole field in the file: tag, length and message.
    pub field: Span,
    /// Whether it may keep elements in external files, where a program would look for them.
    pub names_files: bool,
}

/// The most bytes of numbers and text that an attribute has as a mere setting.
pub const MAX_SETTING_BYTES: u64 = 64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub n: u64,
    /// Bytes of their values in the file, with tags and lengths.
    pub bytes: u64,
}

/// An attribute of a node with much text, or many numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongSetting<'a> {
    pub node: NodeId,
    pub attribute: &'a str,
    /// Its protobuf path, such as `graph.node[2].attribute[1]`.
    pub path: String,
    /// Bytes of its values in the file, with tags and lengths.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpsetImport<'a> {
    /// Operator set domain; empty for `ai.onnx`.
    pub domain: &'a str,
    pub version: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataProp<'a> {
    pub key: &'a str,
    pub value: &'a str,
    /// The whole field in the file: tag, length and message.
    pub field: Span,
}

/// A graph: the main one, a node's subgraph, or a function's body.
#[derive(Debug)]
pub struct Graph<'a> {
    pub name: &'a str,
    pub owner: GraphOwner<'a>,
    /// Its protobuf path, such as `graph.node[2].attribute[1].g`; for a function's body, the path
    /// of the function.
    pub path: String,
    /// Names of the graph's inputs, or a function's formal parameters, in order.
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphOwner<'a> {
    /// The model: this is `ModelProto.graph`.
    Model,
    /// A node's attribute: the body of an If, Loop, Scan, BeamSearch, and so on. Names of the
    /// node's own graph are visible inside.
    Node { node: NodeId, attribute: &'a str },
    /// A model-local function. Nothing outside is visible inside.
    Function(FunctionId),
}

/// A model-local function (`FunctionProto`).
#[derive(Clone, Copy, Debug)]
pub struct Function<'a> {
    pub domain: &'a str,
    pub name: &'a str,
    /// Overload by which nodes call it (IR version 10 and later), often empty.
    pub overload: &'a str,
    pub body: GraphId,
}

/// A node (`NodeProto`).
#[derive(Debug)]
pub struct Node<'a> {
    pub graph: GraphId,
    pub name: &'a str,
    pub op_type: &'a str,
    /// `NodeProto.domain` with `ai.onnx` folded to the empty string.
    pub domain: &'a str,
    pub overload: &'a str,
    /// Names of the inputs by slot; an empty name is an omitted optional input.
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    pub position: u32,
    pub message: Span,
}

/// A tensor that may hold weights.
#[derive(Debug)]
pub struct Tensor<'a> {
    /// The name of the value: the initializer's own, that of the Constant node's output, or that of
    /// another attribute.
    pub name: &'a str,
    pub graph: GraphId,
    pub place: TensorRole<'a>,
    /// The protobuf path of the tensor, such as `graph.initializer[3]`,
    /// `graph.node[5].attribute[0].t`, `graph.node[2].attribute[1].g.initializer[0]`,
    /// `functions[0].node[1].attribute[0].t`, `graph.sparse_initializer[0].values` or
    /// `graph.node[0].attribute[4].floats`, `graph.node[0].attribute[0].ints`.
    pub path: String,
    pub data_type: DataType,
    /// Shape; empty for a scalar. `[count]` for an attribute's floats or integers.
    pub dims: Vec<u64>,
    pub n_elements: u64,
    /// The `TensorProto` (the attribute, for its floats) in the model file.
    pub message: Span,
    pub payload: Payload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorRole<'a> {
    Initializer,
    /// The values of a `GraphProto.sparse_initializer` (or of a sparse attribute).
    SparseValues,
    /// The indices of a `GraphProto.sparse_initializer` (or of a sparse attribute).
    SparseIndices,
    /// A node's attribute: `value` of Constant, tree ensemble weights, ...
    Attribute {
        node: NodeId,
        attribute: &'a str,
    },
}

/// Where the elements of a tensor lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Empty,
    /// Fixed-width elements, contiguous and little-endian.
    Dense {
        file: FileId,
        span: Span,
        field: PayloadField,
        /// Bits of one element: 2, 4, 6, 8, 16, 32, 64 or 128. Below 8, elements are packed from
        /// the low bits up and the last byte may be padded.
        element_bits: u32,
    },
    /// Fixed-width elements of the model file a fixed stride apart: unpacked `float` fields, each
    /// with a tag before it.
    Strided {
        start: u64,
        /// Bytes from the start of one element to the start of the next.
        stride: u32,
        field: PayloadField,
        element_bits: u32,
    },
    /// The elements cannot be replaced without moving other bytes.
    Unpatchable(Unpatchable),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadField {
    RawData,
    FloatData,
    DoubleData,
    ExternalData,
    AttributeFloats,
}

/// Why a tensor's elements cannot be replaced in place: unless it says otherwise, because each is a
/// varint, whose length depends on its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unpatchable {
    Int32Data,
    Int64Data,
    Uint64Data,
    AttributeInts,
    Strings,
    /// The elements are scattered over several fields without a fixed stride.
    Fragmented,
}

impl<'a> Model<'a> {
    pub fn main(&self) -> GraphId {
        GraphId(0)
    }

    /// The location of an external data file; `None` for the model file itself.
    pub fn location(&self, file: FileId) -> Option<&str> {
        let index = file.0.checked_sub(1)?;
        self.external_files.get(index as usize).map(String::as_str)
    }

    pub fn nodes_with_ids(&self) -> impl Iterator<Item = (NodeId, &Node<'a>)> {
        (0..).map(NodeId).zip(&self.nodes)
    }

    /// Every graph with its id, parents before children.
    pub fn graphs_with_ids(&self) -> impl Iterator<Item = (GraphId, &Graph<'a>)> {
        (0..).map(GraphId).zip(&self.graphs)
    }

    pub fn tensors_with_ids(&self) -> impl Iterator<Item = (TensorId, &Tensor<'a>)> {
        (0..).map(TensorId).zip(&self.tensors)
    }
}

impl<'a> Graph<'a> {
    pub(crate) fn new(owner: GraphOwner<'a>, path: String) -> Graph<'a> {
        Graph {
            name: "",
            owner,
            path,
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }
}
