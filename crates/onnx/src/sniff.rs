//! Tells models from other files by their contents.

use crate::model::Model;
use crate::proto::tensor_proto::DataType;

/// Returns whether a file that begins with `head` may be a protobuf model: whether its first field
/// is one of `ModelProto`.
pub fn may_be_model(head: &[u8]) -> bool {
    // ir_version, producer_name, producer_version, domain, model_version, doc_string, graph,
    // opset_import, metadata_props, training_info, functions
    let tags = [0x08, 0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42, 0x72];
    match head {
        [0xa2 | 0xca, 0x01, ..] => true,
        [first, ..] => tags.contains(first),
        [] => false,
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
