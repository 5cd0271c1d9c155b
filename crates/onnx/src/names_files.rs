//! Whether a part of the model that was not read keeps elements in external files.

use prost::Message as _;

use crate::model::PassedOver;
use crate::proto::tensor_proto::DataLocation;
use crate::proto::{AttributeProto, GraphProto, SparseTensorProto, TensorProto};
use crate::schema;
use crate::wire::{Message, Value};

impl PassedOver {
    /// Whether an attribute's default, of the model file `bytes`, has elements in external files. Also
    /// true of one that is no `AttributeProto`.
    pub fn names_files(&self, bytes: &[u8]) -> bool {
        let field = Message::within(bytes, self.field.start as usize, self.field.end() as usize);
        let field = field.fields(schema::ANY).next();
        let Ok(Some(Value::Delimited(message))) = field.map(|field| field.map(|field| field.value))
        else {
            return true;
        };
        AttributeProto::decode(message.slice()).map_or(true, |default| attribute(&default))
    }
}

fn attribute(of: &AttributeProto) -> bool {
    of.t.iter().chain(&of.tensors).any(tensor)
        || of
            .sparse_tensor
            .iter()
            .chain(&of.sparse_tensors)
            .any(sparse)
        || of.g.iter().chain(&of.graphs).any(graph)
}

fn graph(of: &GraphProto) -> bool {
    of.initializer.iter().any(tensor)
        || of.sparse_initializer.iter().any(sparse)
        || of
            .node
            .iter()
            .flat_map(|node| &node.attribute)
            .any(attribute)
}

fn sparse(of: &SparseTensorProto) -> bool {
    of.values.iter().chain(&of.indices).any(tensor)
}

fn tensor(of: &TensorProto) -> bool {
    of.data_location() == DataLocation::External
}
