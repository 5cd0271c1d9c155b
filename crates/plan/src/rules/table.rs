//! Operators with weights.
//!
//! Sources: the ONNX operator pages (<https://onnx.ai/onnx/operators/>) up to opset 27 and
//! `ai.onnx.ml` 5; ONNX Runtime's `docs/ContribOperators.md` of release 1.31; for the two internal
//! layouts, which appear in models that ONNX Runtime has optimised and saved, its schemas.
//!
//! Never weights, in any row: values that a runtime checks or indexes with when it loads or runs a
//! model (indices, shapes, sequence lengths, `g_idx`, tree topology, `membership_values`), zero
//! points (kernels demand that all those of a filter are equal), scales of activations, states,
//! masks and tables computed by formula (`cos_cache`). Per-tensor and per-channel scales of
//! quantised weights stay clear too: they are few and reveal little. Scales of blocks number a
//! sixteenth of the weights and are weights.

use super::rule::Class::{
    Arithmetic, Attention, Bias, Convolution, Dense, Embedding, Normalization, Recurrent,
};
use super::rule::{Class, Role, Rule, Slots};

const ONNX: &str = "";
const ML: &str = "ai.onnx.ml";
const MS: &str = "com.microsoft";
const NCHWC: &str = "com.microsoft.nchwc";
const NHWC: &str = "com.ms.internal.nhwc";

const fn row(
    domain: &'static str,
    op_type: &'static str,
    class: Class,
    slots: &'static [u32],
) -> Rule {
    Rule {
        domain,
        op_type,
        role: Role::Inputs(class, Slots::These(slots)),
    }
}

const fn all(domain: &'static str, op_type: &'static str, class: Class) -> Rule {
    Rule {
        domain,
        op_type,
        role: Role::Inputs(class, Slots::All),
    }
}

const fn attributes(
    domain: &'static str,
    op_type: &'static str,
    names: &'static [&'static str],
) -> Rule {
    Rule {
        domain,
        op_type,
        role: Role::Attributes(names),
    }
}

#[rustfmt::skip]
pub(super) static RULES: &[Rule] = &[
    // Convolutions: W `[M, C/group, kH, kW]`, B `[M]`.
    row(ONNX, "Conv", Convolution, &[1, 2]),
    row(ONNX, "ConvTranspose", Convolution, &[1, 2]),
    row(ONNX, "ConvInteger", Convolution, &[1]),
    row(ONNX, "QLinearConv", Convolution, &[3, 8]),
    row(ONNX, "DeformConv", Convolution, &[1, 3]),
    row(ONNX, "CausalConvWithState", Convolution, &[1, 2]),
    row(MS, "CausalConvWithState", Convolution, &[1, 2]),
    row(MS, "VarlenCausalConvWithState", Convolution, &[1, 3]),
    row(MS, "ConvTransposeWithDynamicPads", Convolution, &[1, 3]),
    row(MS, "FusedConv", Convolution, &[1, 2]),
    row(MS, "NhwcConv", Convolution, &[1, 2]),
    row(MS, "NhwcFusedConv", Convolution, &[1, 2]),
    row(MS, "QLinearConv", Convolution, &[3, 8]),
    row(MS, "WordConvEmbedding", Convolution, &[1, 2, 3]),
    row(NCHWC, "Conv", Convolution, &[1, 2]),
    row(NHWC, "Conv", Convolution, &[1, 2]),
    row(NHWC, "ConvTranspose", Convolution, &[1, 2]),
    row(NHWC, "QLinearConv", Convolution, &[3, 8]),
    row(NHWC, "QLinearConvTranspose", Convolution, &[3, 8]),

    // Matrix products. Either factor may be the constant one.
    row(ONNX, "MatMul", Dense, &[0, 1]),
    row(ONNX, "Gemm", Dense, &[0, 1, 2]),
    row(ONNX, "MatMulInteger", Dense, &[0, 1]),
    row(ONNX, "QLinearMatMul", Dense, &[0, 3]),
    all(ONNX, "Einsum", Dense),
    row(MS, "FusedMatMul", Dense, &[0, 1]),
    row(MS, "FusedMatMulActivation", Dense, &[0, 1]),
    row(MS, "TransposeMatMul", Dense, &[0, 1]),
    row(MS, "SparseToDenseMatMul", Dense, &[0, 1]),
    row(MS, "FusedGemm", Dense, &[0, 1, 2]),
    row(MS, "GemmFastGelu", Dense, &[1, 2]),
    row(MS, "GemmFloat8", Dense, &[0, 1, 2]),
    row(MS, "QGemm", Dense, &[0, 3, 6]),
    row(MS, "MatMulInteger16", Dense, &[0, 1]),
    row(MS, "MatMulIntegerToFloat", Dense, &[0, 1, 6]),
    row(MS, "DynamicQuantizeMatMul", Dense, &[1, 4]),
    row(MS, "QOrderedMatMul", Dense, &[2, 5]),
    // Block-quantised: packed B, scales of blocks, bias; zero_points and g_idx stay clear.
    row(MS, "MatMulNBits", Dense, &[1, 2, 5]),
    row(MS, "MatMulNBitsMlp", Dense, &[2, 3, 4, 5, 6, 7, 8]),
    row(MS, "MatMulNBitsQkv", Dense, &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    row(MS, "MatMulBnb4", Dense, &[1, 2]),
    row(MS, "MatMulFpQ4", Dense, &[1]),
    row(MS, "MatMulBlockQuantizedFp4Weight", Dense, &[1, 2, 5]),
    row(MS, "MatMulBlockQuantizedFp8Weight", Dense, &[1, 2, 4]),
    row(MS, "MoE", Dense, &[2, 3, 4, 5, 6, 7]),
    row(MS, "QMoE", Dense, &[2, 3, 4, 5, 6, 7, 8, 9, 10]),

    // Recurrent: W `[directions, gates * hidden, input]`, R, B, and LSTM's peepholes P.
    row(ONNX, "LSTM", Recurrent, &[1, 2, 3, 7]),
    row(ONNX, "GRU", Recurrent, &[1, 2, 3]),
    row(ONNX, "RNN", Recurrent, &[1, 2, 3]),
    row(MS, "AttnLSTM", Recurrent, &[1, 2, 3, 7, 8, 9, 10, 13]),
    row(MS, "DynamicQuantizeLSTM", Recurrent, &[1, 2, 3, 7]),

    // Attention with weights or biases of its own. `ai.onnx` Attention has none.
    row(MS, "Attention", Attention, &[1, 2]),
    row(MS, "QAttention", Attention, &[1, 2]),
    row(MS, "PackedAttention", Attention, &[1, 2]),
    row(MS, "DecoderMaskedSelfAttention", Attention, &[1, 2]),
    row(MS, "DecoderAttention", Attention, &[2, 3, 4]),
    row(MS, "LongformerAttention", Attention, &[1, 2, 4, 5]),
    row(MS, "QOrderedAttention", Attention, &[5, 6, 7, 11, 12, 13]),
    row(MS, "QOrderedLongformerAttention", Attention, &[2, 4, 8, 10]),
    row(MS, "MultiHeadAttention", Attention, &[3]),
    row(MS, "PackedMultiHeadAttention", Attention, &[3]),
    row(MS, "DecoderMaskedMultiHeadAttention", Attention, &[10]),
    // Sinks and norm weights of heads.
    row(MS, "GroupQueryAttention", Attention, &[11, 14, 15]),
    row(MS, "PagedAttention", Attention, &[11, 12, 13]),
    row(MS, "DynamicSparseAttention", Attention, &[14, 15, 16]),
    row(MS, "SparseAttentionIndexer", Attention, &[2, 3]),
    row(MS, "PackedSparseAttentionIndexer", Attention, &[2, 3]),
    row(MS, "GatedDeltaNet", Attention, &[7, 8]),
    row(MS, "LinearAttentionGate", Attention, &[1, 2]),
    row(MS, "GatedRelativePositionBias", Attention, &[1, 3, 4, 5]),
    row(MS, "RelativePositionBias", Attention, &[0]),

    // Lookup tables.
    row(ONNX, "Gather", Embedding, &[0]),
    row(ONNX, "GatherElements", Embedding, &[0]),
    row(ONNX, "GatherND", Embedding, &[0]),
    row(MS, "GatherND", Embedding, &[0]),
    row(MS, "TorchEmbedding", Embedding, &[0]),
    row(MS, "GatherBlockQuantized", Embedding, &[0, 2]),
    // Tables and norm parameters together, of any rank.
    row(MS, "EmbedLayerNormalization", Dense, &[2, 3, 4, 5, 6]),
    row(MS, "QEmbedLayerNormalization", Dense, &[2, 3, 4, 5, 6]),

    // Normalisations and parametric activations.
    row(ONNX, "BatchNormalization", Normalization, &[1, 2, 3, 4]),
    row(ONNX, "InstanceNormalization", Normalization, &[1, 2]),
    row(ONNX, "LayerNormalization", Normalization, &[1, 2]),
    row(ONNX, "GroupNormalization", Normalization, &[1, 2]),
    row(ONNX, "RMSNormalization", Normalization, &[1]),
    row(ONNX, "SimplifiedLayerNormalization", Normalization, &[1]),
    row(ONNX, "PRelu", Normalization, &[1]),
    row(MS, "SkipLayerNormalization", Normalization, &[2, 3, 4]),
    row(MS, "SkipSimplifiedLayerNormalization", Normalization, &[2, 3]),
    row(MS, "QOrderedLayerNormalization", Normalization, &[2, 3]),
    row(MS, "GroupNorm", Normalization, &[1, 2]),
    row(MS, "SkipGroupNorm", Normalization, &[1, 2, 4]),
    row(MS, "GatedRMSNorm", Normalization, &[1]),
    row(MS, "BranchwiseRMSNorm", Normalization, &[1]),
    row(MS, "EngramGate", Normalization, &[3, 4, 5]),
    row(NHWC, "BatchNormalization", Normalization, &[1, 2, 3, 4]),
    row(NHWC, "InstanceNormalization", Normalization, &[1, 2]),

    // Fused biases.
    row(MS, "BiasAdd", Bias, &[1]),
    row(MS, "BiasDropout", Bias, &[1]),
    row(MS, "BitmaskBiasDropout", Bias, &[1]),
    row(MS, "BiasGelu", Bias, &[1]),
    row(MS, "BiasSplitGelu", Bias, &[1]),
    row(MS, "FastGelu", Bias, &[1]),

    // Arithmetic: the bias after a MatMul, a normalisation in its parts, position embeddings.
    row(ONNX, "Add", Arithmetic, &[0, 1]),
    row(ONNX, "Sub", Arithmetic, &[0, 1]),
    row(ONNX, "Mul", Arithmetic, &[0, 1]),
    row(ONNX, "Div", Arithmetic, &[0, 1]),
    all(ONNX, "Sum", Arithmetic),
    row(MS, "QLinearAdd", Arithmetic, &[0, 3]),
    row(MS, "QLinearMul", Arithmetic, &[0, 3]),
    row(MS, "MulInteger", Arithmetic, &[0, 2]),

    // Classical machine learning: the weights are attributes.
    attributes(ML, "LinearClassifier", &["coefficients", "intercepts"]),
    attributes(ML, "LinearRegressor", &["coefficients", "intercepts"]),
    attributes(ML, "SVMClassifier", &["coefficients", "support_vectors", "rho", "prob_a", "prob_b"]),
    attributes(ML, "SVMRegressor", &["coefficients", "support_vectors", "rho"]),
    attributes(ML, "TreeEnsemble", &["nodes_splits", "leaf_weights"]),
    attributes(ML, "TreeEnsembleClassifier", &[
        "nodes_values", "nodes_values_as_tensor", "class_weights", "class_weights_as_tensor",
        "base_values", "base_values_as_tensor",
    ]),
    attributes(ML, "TreeEnsembleRegressor", &[
        "nodes_values", "nodes_values_as_tensor", "target_weights", "target_weights_as_tensor",
        "base_values", "base_values_as_tensor",
    ]),
    attributes(ML, "Scaler", &["offset", "scale"]),
    attributes(ML, "Imputer", &["imputed_value_floats"]),
    attributes(ONNX, "TfIdfVectorizer", &["weights"]),
];
