//! The fields of ONNX's messages that [`crate::locate`] and [`crate::tail`] read, and the fields
//! that may occur only once.

use crate::wire::Schema;

/// A message with an unknown schema.
pub(crate) const ANY: &Schema = &Schema::new("message", &[], &[]);

pub(crate) const MODEL: &Schema = &Schema::new(
    "ModelProto",
    &[1, 2, 3, 4, 5, 6, 7],
    &[
        (1, "ir_version"),
        (2, "producer_name"),
        (3, "producer_version"),
        (4, "domain"),
        (5, "model_version"),
        (6, "doc_string"),
        (7, "graph"),
        (8, "opset_import"),
        (14, "metadata_props"),
        (20, "training_info"),
        (25, "functions"),
    ],
);

pub(crate) const GRAPH: &Schema = &Schema::new(
    "GraphProto",
    &[2, 10],
    &[
        (1, "node"),
        (2, "name"),
        (5, "initializer"),
        (10, "doc_string"),
        (11, "input"),
        (12, "output"),
        (15, "sparse_initializer"),
    ],
);

pub(crate) const FUNCTION: &Schema = &Schema::new(
    "FunctionProto",
    &[1, 8, 10, 13],
    &[
        (1, "name"),
        (4, "input"),
        (5, "output"),
        (7, "node"),
        (8, "doc_string"),
        (10, "domain"),
        (11, "attribute_proto"),
        (13, "overload"),
    ],
);

pub(crate) const NODE: &Schema = &Schema::new(
    "NodeProto",
    &[3, 4, 6, 7, 8],
    &[
        (1, "input"),
        (2, "output"),
        (3, "name"),
        (4, "op_type"),
        (5, "attribute"),
        (6, "doc_string"),
        (7, "domain"),
        (8, "overload"),
    ],
);

pub(crate) const ATTRIBUTE: &Schema = &Schema::new(
    "AttributeProto",
    &[1, 2, 3, 4, 5, 6, 13, 14, 20, 21, 22],
    &[
        (1, "name"),
        (2, "f"),
        (3, "i"),
        (4, "s"),
        (5, "t"),
        (6, "g"),
        (7, "floats"),
        (10, "tensors"),
        (11, "graphs"),
        (13, "doc_string"),
        (14, "tp"),
        (20, "type"),
        (21, "ref_attr_name"),
        (22, "sparse_tensor"),
        (23, "sparse_tensors"),
    ],
);

pub(crate) const TENSOR: &Schema = &Schema::new(
    "TensorProto",
    &[2, 3, 8, 9, 12, 14],
    &[
        (1, "dims"),
        (2, "data_type"),
        (3, "segment"),
        (4, "float_data"),
        (5, "int32_data"),
        (6, "string_data"),
        (7, "int64_data"),
        (8, "name"),
        (9, "raw_data"),
        (10, "double_data"),
        (11, "uint64_data"),
        (12, "doc_string"),
        (13, "external_data"),
        (14, "data_location"),
    ],
);

/// `TensorProto.external_data`.
pub(crate) const EXTERNAL_DATA: u32 = 13;
/// `TensorProto.data_location`.
pub(crate) const DATA_LOCATION: u32 = 14;

pub(crate) const TRAINING_INFO: &Schema = &Schema::new(
    "TrainingInfoProto",
    &[1, 2],
    &[(1, "initialization"), (2, "algorithm")],
);

pub(crate) const SPARSE_TENSOR: &Schema = &Schema::new(
    "SparseTensorProto",
    &[1, 2],
    &[(1, "values"), (2, "indices"), (3, "dims")],
);

pub(crate) const VALUE_INFO: &Schema = &Schema::new(
    "ValueInfoProto",
    &[1, 2, 3],
    &[(1, "name"), (2, "type"), (3, "doc_string")],
);

pub(crate) const TYPE: &Schema = &Schema::new("TypeProto", &[1], &[(1, "tensor_type")]);

pub(crate) const TENSOR_TYPE: &Schema = &Schema::new(
    "TypeProto.Tensor",
    &[1, 2],
    &[(1, "elem_type"), (2, "shape")],
);

pub(crate) const SHAPE: &Schema = &Schema::new("TensorShapeProto", &[], &[(1, "dim")]);

pub(crate) const DIMENSION: &Schema = &Schema::new(
    "TensorShapeProto.Dimension",
    &[1, 2],
    &[(1, "dim_value"), (2, "dim_param")],
);

pub(crate) const OPSET_IMPORT: &Schema = &Schema::new(
    "OperatorSetIdProto",
    &[1, 2],
    &[(1, "domain"), (2, "version")],
);

pub(crate) const ENTRY: &Schema = &Schema::new(
    "StringStringEntryProto",
    &[1, 2],
    &[(1, "key"), (2, "value")],
);

/// The messages that can contain tensors, directly or deeper inside.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Model,
    TrainingInfo,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    Tensor,
}

impl Kind {
    pub(crate) fn schema(self) -> &'static Schema {
        match self {
            Kind::Model => MODEL,
            Kind::TrainingInfo => TRAINING_INFO,
            Kind::Function => FUNCTION,
            Kind::Graph => GRAPH,
            Kind::Node => NODE,
            Kind::Attribute => ATTRIBUTE,
            Kind::Sparse => SPARSE_TENSOR,
            Kind::Tensor => TENSOR,
        }
    }

    /// Returns the kind of the messages in a field, if they can contain tensors.
    pub(crate) fn inside(self, number: u32) -> Option<Kind> {
        Some(match (self, number) {
            (Kind::Model, 7) => Kind::Graph,
            (Kind::Model, 20) => Kind::TrainingInfo,
            (Kind::Model, 25) => Kind::Function,
            (Kind::TrainingInfo, 1 | 2) => Kind::Graph,
            (Kind::Function, 7) | (Kind::Graph, 1) => Kind::Node,
            (Kind::Function, 11) | (Kind::Node, 5) => Kind::Attribute,
            (Kind::Graph, 5) => Kind::Tensor,
            (Kind::Graph, 15) => Kind::Sparse,
            (Kind::Attribute, 5 | 10) => Kind::Tensor,
            (Kind::Attribute, 6 | 11) => Kind::Graph,
            (Kind::Attribute, 22 | 23) => Kind::Sparse,
            (Kind::Sparse, 1 | 2) => Kind::Tensor,
            _ => return None,
        })
    }
}
