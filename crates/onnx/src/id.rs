//! Numbers that identify the parts of a model.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) u32);
        impl $name {
            /// Returns the index in the [`Model`](crate::model::Model)'s list of these.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// Names one of [`Model::graphs`](crate::model::Model::graphs).
    GraphId;
    /// Names one of [`Model::nodes`](crate::model::Model::nodes).
    NodeId;
    /// Names one of [`Model::tensors`](crate::model::Model::tensors).
    TensorId;
    /// Names one of [`Model::functions`](crate::model::Model::functions).
    FunctionId;
}
