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
    /// Offset of the first byte from the beginning of the file.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
}

impl Span {
    /// Offset of the byte after the last one.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// Names a file of the model: 0 is the model file itself, `i + 1` is `Model::external_files[i]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

impl FileId {
    /// The model file itself.
    pub const MODEL: FileId = FileId(0);
}

/// A located ONNX model (`ModelProto`).
#[derive(Debug)]
pub struct Model<'a> {
    /// Length of the model file in bytes.
    pub len: u64,
    /// `ModelProto.ir_version`, if the file has one.
    pub ir_version: Option<i64>,
    /// `ModelProto.opset_import`.
    pub opset_imports: Vec<OpsetImport<'a>>,
    /// `ModelProto.metadata_props`, in file order.
    pub metadata_props: Vec<MetadataProp<'a>>,
    /// The main graph first, then every subgraph and function body, parents before children.
    pub graphs: Vec<Graph<'a>>,
    /// Every node of every graph, in file order.
    pub nodes: Vec<Node<'a>>,
    /// Every tensor that may hold weights, in file order.
    pub tensors: Vec<Tensor<'a>>,
    /// Model-local functions (`ModelProto.functions`).
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
    /// The names of all values, and the operator types, as numbers.
    pub names: Names,
    /// The first key of `external_data` that ONNX Runtime does not know, and where it is.
    pub(crate) stray_key: Option<(Box<At>, Fault)>,
}

/// A part of the file that may hold weights and was not read.
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

/// Numbers and text in attributes of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The number of attributes.
    pub n: u64,
    /// Bytes of their values in the file, with tags and lengths.
    pub bytes: u64,
}

/// An attribute of a node with much text, or many numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongSetting<'a> {
    /// The node.
    pub node: NodeId,
    /// The attribute's name.
    pub attribute: &'a str,
    /// Its protobuf path, such as `graph.node[2].attribute[1]`.
    pub path: String,
    /// Bytes of its values in the file, with tags and lengths.
    pub bytes: u64,
}

/// One entry of `ModelProto.opset_import`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpsetImport<'a> {
    /// Operator set domain; empty for `ai.onnx`.
    pub domain: &'a str,
    /// Operator set version.
    pub version: i64,
}

/// One entry of `ModelProto.metadata_props`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataProp<'a> {
    /// The entry's key.
    pub key: &'a str,
    /// The entry's value.
    pub value: &'a str,
    /// The whole field in the file: tag, length and message.
    pub field: Span,
}

/// A graph: the main one, a node's subgraph, or a function's body.
#[derive(Debug)]
pub struct Graph<'a> {
    /// `GraphProto.name` or the function's name.
    pub name: &'a str,
    /// The owner of the graph.
    pub owner: GraphOwner<'a>,
    /// Its protobuf path, such as `graph.node[2].attribute[1].g`; for a function's body, the path
    /// of the function.
    pub path: String,
    /// Names of the graph's inputs, or a function's formal parameters, in order.
    pub inputs: Vec<&'a str>,
    /// Names of the graph's outputs, in order.
    pub outputs: Vec<&'a str>,
}

/// The owner of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphOwner<'a> {
    /// The model: this is `ModelProto.graph`.
    Model,
    /// A node's attribute: the body of an If, Loop, Scan, BeamSearch, and so on. Names of the
    /// node's own graph are visible inside.
    Node {
        /// The node.
        node: NodeId,
        /// The name of the graph's attribute.
        attribute: &'a str,
    },
    /// A model-local function. Nothing outside is visible inside.
    Function(FunctionId),
}

/// A model-local function (`FunctionProto`).
#[derive(Clone, Copy, Debug)]
pub struct Function<'a> {
    /// Domain under which nodes call it.
    pub domain: &'a str,
    /// `op_type` by which nodes call it.
    pub name: &'a str,
    /// Overload by which nodes call it (IR version 10 and later), often empty.
    pub overload: &'a str,
    /// The function's body.
    pub body: GraphId,
}

/// A node (`NodeProto`).
#[derive(Debug)]
pub struct Node<'a> {
    /// The graph the node stands in.
    pub graph: GraphId,
    /// `NodeProto.name`, often empty.
    pub name: &'a str,
    /// `NodeProto.op_type`.
    pub op_type: &'a str,
    /// `NodeProto.domain` with `ai.onnx` folded to the empty string.
    pub domain: &'a str,
    /// `NodeProto.overload`, often empty.
    pub overload: &'a str,
    /// Names of the inputs by slot; an empty name is an omitted optional input.
    pub inputs: Vec<&'a str>,
    /// Names of the outputs by slot.
    pub outputs: Vec<&'a str>,
    /// The node's position among its graph's nodes, from 0.
    pub position: u32,
    /// The `NodeProto` in the model file.
    pub message: Span,
}

/// A tensor that may hold weights.
#[derive(Debug)]
pub struct Tensor<'a> {
    /// The name of the value: the initializer's own, that of the Constant node's output, or that of
    /// another attribute.
    pub name: &'a str,
    /// The graph the tensor stands in.
    pub graph: GraphId,
    /// The holder of the tensor.
    pub place: TensorRole<'a>,
    /// The protobuf path of the tensor, such as `graph.initializer[3]`,
    /// `graph.node[5].attribute[0].t`, `graph.node[2].attribute[1].g.initializer[0]`,
    /// `functions[0].node[1].attribute[0].t`, `graph.sparse_initializer[0].values` or
    /// `graph.node[0].attribute[4].floats`, `graph.node[0].attribute[0].ints`.
    pub path: String,
    /// Element type.
    pub data_type: DataType,
    /// Shape; empty for a scalar. `[count]` for an attribute's floats or integers.
    pub dims: Vec<u64>,
    /// Number of elements: the product of `dims`.
    pub n_elements: u64,
    /// The `TensorProto` (the attribute, for its floats) in the model file.
    pub message: Span,
    /// Where the elements lie.
    pub payload: Payload,
}

/// The holder of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorRole<'a> {
    /// `GraphProto.initializer`.
    Initializer,
    /// The values of a `GraphProto.sparse_initializer` (or of a sparse attribute).
    SparseValues,
    /// The indices of a `GraphProto.sparse_initializer` (or of a sparse attribute).
    SparseIndices,
    /// A node's attribute: `value` of Constant, tree ensemble weights, ...
    Attribute {
        /// The node.
        node: NodeId,
        /// The attribute's name.
        attribute: &'a str,
    },
}

/// Where the elements of a tensor lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The tensor has no elements.
    Empty,
    /// Fixed-width elements, contiguous and little-endian.
    Dense {
        /// The file.
        file: FileId,
        /// The range in the file.
        span: Span,
        /// The field that contains them.
        field: PayloadField,
        /// Bits of one element: 2, 4, 6, 8, 16, 32, 64 or 128. Below 8, elements are packed from
        /// the low bits up and the last byte may be padded.
        element_bits: u32,
    },
    /// Fixed-width elements of the model file a fixed stride apart: unpacked `float` fields, each
    /// with a tag before it.
    Strided {
        /// Offset of the first element in bytes.
        start: u64,
        /// Bytes from the start of one element to the start of the next.
        stride: u32,
        /// The field that contains them.
        field: PayloadField,
        /// Bits of one element: 32 or 64.
        element_bits: u32,
    },
    /// The elements cannot be replaced without moving other bytes.
    Unpatchable(Unpatchable),
}

/// The protobuf field in which a tensor's elements lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadField {
    /// `TensorProto.raw_data`.
    RawData,
    /// `TensorProto.float_data`.
    FloatData,
    /// `TensorProto.double_data`.
    DoubleData,
    /// `TensorProto.external_data`.
    ExternalData,
    /// `AttributeProto.floats`.
    AttributeFloats,
}

/// Why a tensor's elements cannot be replaced in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unpatchable {
    /// `int32_data`: each element is a varint whose length depends on its value.
    Int32Data,
    /// `int64_data`: each element is a varint whose length depends on its value.
    Int64Data,
    /// `uint64_data`: each element is a varint whose length depends on its value.
    Uint64Data,
    /// `AttributeProto.ints`: each element is a varint whose length depends on its value.
    AttributeInts,
    /// `string_data`.
    Strings,
    /// The elements are scattered over several fields without a fixed stride.
    Fragmented,
}

impl<'a> Model<'a> {
    /// The main graph.
    pub fn main(&self) -> GraphId {
        GraphId(0)
    }

    /// The location of an external data file; `None` for the model file itself.
    pub fn location(&self, file: FileId) -> Option<&str> {
        let index = file.0.checked_sub(1)?;
        self.external_files.get(index as usize).map(String::as_str)
    }

    /// Every node with its id, in file order.
    pub fn nodes_with_ids(&self) -> impl Iterator<Item = (NodeId, &Node<'a>)> {
        (0..).map(NodeId).zip(&self.nodes)
    }

    /// Every graph with its id, parents before children.
    pub fn graphs_with_ids(&self) -> impl Iterator<Item = (GraphId, &Graph<'a>)> {
        (0..).map(GraphId).zip(&self.graphs)
    }

    /// Every tensor with its id, in file order.
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
