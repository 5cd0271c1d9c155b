//! Limits on the size of models.

/// Limits on what [`locate`](crate::locate) reads.
///
/// Each limit is checked before memory is allocated. The defaults are far above any model in use.
/// With them, `locate` keeps up to 2 GiB for the worst file, itself of some hundred MB: 512 MiB of
/// dimensions, 512 MiB of external data locations, and nodes, tensors, values, paths and unread
/// parts. A plan and other results take further memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Nesting of graphs inside nodes: 0 allows only the main graph and function bodies.
    pub graph_depth: u32,
    /// Graphs in all: main, subgraphs and function bodies.
    pub graphs: u32,
    /// Model-local functions.
    pub functions: u32,
    /// Nodes in all graphs.
    pub nodes: u32,
    /// Tensors in all graphs.
    pub tensors: u32,
    /// Inputs and outputs of all nodes and graphs.
    pub values: u32,
    /// Dimensions of one tensor.
    pub dims: u32,
    /// Bytes of all tensors' protobuf paths together.
    pub path_bytes: u32,
    /// Bytes of all tensors' names, and of the names of attributes that hold tensors, together.
    pub name_bytes: u32,
    /// Entries of `ModelProto.metadata_props`.
    pub metadata_props: u32,
    /// Entries of `ModelProto.opset_import`.
    pub opset_imports: u32,
    /// External data files.
    pub external_files: u32,
    /// Bytes of one external data location.
    pub location_bytes: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            graph_depth: 32,
            graphs: 1 << 16,
            functions: 1 << 16,
            nodes: 1 << 20,
            tensors: 1 << 20,
            values: 1 << 22,
            dims: 64,
            path_bytes: 1 << 26,
            name_bytes: 1 << 26,
            metadata_props: 1 << 16,
            opset_imports: 1 << 12,
            external_files: 1 << 16,
            location_bytes: 1 << 12,
        }
    }
}
