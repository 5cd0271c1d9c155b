//! The fields of ONNX's messages that this crate reads.

#![allow(non_upper_case_globals)]

use crate::wire::{Known, Schema};

/// A message with an unknown schema.
pub(crate) static ANY: Schema = Schema::new("message", &[]);

/// Declares messages, each as a module with the numbers of its fields and their [`Schema`]: the
/// fields that may occur once, those that may be repeated, and of what message a field is, if that
/// can contain tensors.
macro_rules! messages {
    ($($name:literal $module:ident
        once [$($one:ident $one_number:literal $(of $one_inside:ident)?),*]
        many [$($of_many:ident $number:literal $(of $inside:ident)?),*];
    )*) => {$(
        pub(crate) mod $module {
            use super::{Known, Schema};

            $(pub(crate) const $one: u32 = $one_number;)*
            $(pub(crate) const $of_many: u32 = $number;)*

            pub(crate) static SCHEMA: Schema = Schema::new($name, &[
                $(Known {
                    number: $one,
                    name: stringify!($one),
                    is_single: true,
                    inside: &[$(&super::$one_inside::SCHEMA)?],
                },)*
                $(Known {
                    number: $of_many,
                    name: stringify!($of_many),
                    is_single: false,
                    inside: &[$(&super::$inside::SCHEMA)?],
                },)*
            ]);
        }
    )*};
}

messages! {
    "ModelProto" model
        once [ir_version 1, producer_name 2, producer_version 3, domain 4, model_version 5,
            doc_string 6, graph 7 of graph]
        many [opset_import 8, metadata_props 14, training_info 20 of training_info,
            functions 25 of function];
    "GraphProto" graph
        once [name 2, doc_string 10]
        many [node 1 of node, initializer 5 of tensor, input 11, output 12, value_info 13,
            quantization_annotation 14, sparse_initializer 15 of sparse_tensor];
    "FunctionProto" function
        once [name 1, doc_string 8, domain 10, overload 13]
        many [input 4, output 5, node 7 of node, attribute_proto 11 of attribute];
    "NodeProto" node
        once [name 3, op_type 4, doc_string 6, domain 7, overload 8]
        many [input 1, output 2, attribute 5 of attribute];
    "AttributeProto" attribute
        once [name 1, f 2, i 3, s 4, t 5 of tensor, g 6 of graph, doc_string 13, tp 14, r#type 20,
            ref_attr_name 21, sparse_tensor 22 of sparse_tensor]
        many [floats 7, ints 8, strings 9, tensors 10 of tensor, graphs 11 of graph, type_protos 15,
            sparse_tensors 23 of sparse_tensor];
    "TensorProto" tensor
        once [data_type 2, segment 3, name 8, raw_data 9, doc_string 12, data_location 14]
        many [dims 1, float_data 4, int32_data 5, string_data 6, int64_data 7, double_data 10,
            uint64_data 11, external_data 13];
    "TrainingInfoProto" training_info
        once [initialization 1 of graph, algorithm 2 of graph]
        many [];
    "SparseTensorProto" sparse_tensor
        once [values 1 of tensor, indices 2 of tensor]
        many [dims 3];
    "ValueInfoProto" value_info
        once [name 1, r#type 2, doc_string 3]
        many [];
    "TensorAnnotation" annotation
        once [tensor_name 1]
        many [];
    "TypeProto" type_proto
        once [tensor_type 1]
        many [];
    "TypeProto.Tensor" tensor_type
        once [elem_type 1, shape 2]
        many [];
    "TensorShapeProto" shape
        once []
        many [dim 1];
    "TensorShapeProto.Dimension" dimension
        once [dim_value 1, dim_param 2]
        many [];
    "OperatorSetIdProto" opset_import
        once [domain 1, version 2]
        many [];
    "StringStringEntryProto" entry
        once [key 1, value 2]
        many [];
}

/// The fields of a tensor that contain its elements, if these are in the model file.
pub(crate) const ELEMENTS: [u32; 7] = [
    tensor::float_data,
    tensor::int32_data,
    tensor::string_data,
    tensor::int64_data,
    tensor::raw_data,
    tensor::double_data,
    tensor::uint64_data,
];
