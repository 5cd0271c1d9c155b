//! Tells models from other files by their contents.

use crate::model::Model;
use crate::proto::tensor_proto::DataType;

/// Returns whether a file that begins with `head` may be a protobuf model: whether its first field
/// is one of `ModelProto`, and no text of 16 KiB or more.
pub fn may_be_model(head: &[u8]) -> bool {
    match head {
        // producer_name, producer_version, domain, doc_string, with a length of one or two bytes
        [0x12 | 0x1a | 0x22 | 0x32, low, high, ..] => low.min(high) < &0x80,
        // ir_version, model_version, graph, opset_import, metadata_props
        [0x08 | 0x28 | 0x3a | 0x42 | 0x72, ..] => true,
        // training_info, functions
        [0xa2 | 0xca, 0x01, ..] => true,
        _ => false,
    }
}

impl Model<'_> {
    /// Returns whether a model says what only a model says: which version of the format and of the
    /// operators it has, and a node, an initializer, an input or an output. Other files that can be
    /// located say next to nothing.
    pub fn has_content(&self) -> bool {
        let has_version = match self.ir_version {
            // These versions had no opset_import.
            Some(1 | 2) => true,
            Some(_) => !self.opset_imports.is_empty(),
            None => false,
        };
        let main = self.graphs.iter().take(1);
        let mut values = main.flat_map(|graph| graph.inputs.iter().chain(&graph.outputs));
        let is_typed = |data_type: DataType| data_type != DataType::Undefined;
        has_version
            && (self.nodes.iter().any(|node| !node.op_type.is_empty())
                || self.tensors.iter().any(|tensor| is_typed(tensor.data_type))
                || values.any(|name| !name.is_empty()))
    }
}
