//! Operators without weights, by role and domain.
//!
//! An operator in neither table is unknown, and reports say so of the tensors it reads. Sources as
//! in the table of rules.

use std::sync::LazyLock;

use super::rule::{Role, Rule, Slots};

/// Returns one row for each name below.
pub(super) fn rules() -> impl Iterator<Item = &'static Rule> {
    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let rows = NAMES.iter().flat_map(|&(role, domain, names)| {
            names.split_whitespace().map(move |op_type| Rule {
                domain,
                op_type,
                role,
            })
        });
        rows.collect()
    });
    RULES.iter()
}

const PASS: Role = Role::PassThrough(Slots::These(&[0]));

#[rustfmt::skip]
static NAMES: &[(Role, &str, &str)] = &[
    // Shape and order; type; unary functions that exports apply to a parameter (`-exp(A_log)`,
    // `sqrt(var)`). Of DequantizeLinear the scale and the zero point stay clear.
    (PASS, "", "
        Identity Transpose Reshape Flatten Squeeze Unsqueeze Expand Tile Slice DynamicSlice Split Pad
        Trilu ReverseSequence DepthToSpace SpaceToDepth Dropout
        Cast CastLike BitCast QuantizeLinear DequantizeLinear
        Abs Exp Neg Reciprocal Sigmoid Softplus Sqrt Tanh
    "),
    (PASS, "com.microsoft", "
        ExpandDims Pad Trilu
        QuantizeLinear DequantizeLinear QuantizeWithOrder DequantizeWithOrder DequantizeBFP
    "),
    (PASS, "com.microsoft.nchwc", "ReorderInput ReorderOutput"),
    (PASS, "com.ms.internal.nhwc", "DepthToSpace SpaceToDepth"),
    (Role::PassThrough(Slots::All), "", "Concat"),
    (Role::Branch, "", "If"),
    (Role::Loop, "", "Loop"),
    (Role::Scan, "", "Scan"),
    // Their constants are shapes, indices, masks, bounds and the like.
    (Role::NoWeights, "", "
        Acos Acosh AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
        Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Ceil Celu
        CenterCropPad Clip Col2Im Compress ConcatFromSequence Constant ConstantOfShape Cos Cosh
        CumProd CumSum DFT Det DynamicQuantizeLinear Elu Equal Erf EyeLike Floor Gelu
        GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample HammingWindow
        HannWindow HardSigmoid HardSwish Hardmax ImageDecoder IsInf IsNaN LRN LeakyRelu Less
        LessOrEqual LinearAttention Log LogSoftmax LpNormalization LpPool Max MaxPool MaxRoiPool
        MaxUnpool Mean MeanVarianceNormalization MelWeightMatrix Min Mish Mod Multinomial
        NegativeLogLikelihoodLoss NonMaxSuppression NonZero Not OneHot Optional OptionalGetElement
        OptionalHasElement Or Pow RandomNormal RandomNormalLike RandomUniform RandomUniformLike
        Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
        ReduceProd ReduceSum ReduceSumSquare RegexFullMatch Relu Resize RoiAlign RotaryEmbedding
        Round STFT Scatter ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty
        SequenceErase SequenceInsert SequenceLength SequenceMap Shape Shrink Sign Sin Sinh Size
        Softmax SoftmaxCrossEntropyLoss Softsign SplitToSequence StringConcat StringNormalizer
        StringSplit SwiGLU Swish Tan TensorScatter ThresholdedRelu TopK Unique Upsample Where Xor
    "),
    (Role::NoWeights, "ai.onnx.ml", "
        ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer
        LabelEncoder Normalizer OneHotEncoder ZipMap
    "),
    (Role::NoWeights, "com.microsoft", "
        BeamSearch BiasSoftmax BifurcationDetector BitmaskDropout CDist ComplexMul ComplexMulConj
        CropAndResize DynamicTimeWarping GatedAdd Gelu GemmaRotaryEmbedding GreedySearch GridSample
        HyperConnectionPostMix HyperConnectionPreMix Inverse Irfft IsAllFinite LinearAttention
        MRotaryEmbedding MaxpoolWithMask MurmurHash3 NGramHashMapping NGramRepeatBlock NhwcMaxPool
        QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearReduceMean
        QLinearSigmoid QLinearSoftmax QLinearWhere QOrderedGelu QuantizeBFP QuickGelu Range
        ReduceSumInteger RemovePadding RestorePadding Rfft RotaryEmbedding Sampling ScaledSiLU
        SparseAttention SparsePagedAttention UnfoldTensor Unique VarlenNGramHashMapping
        WhisperBeamSearch
    "),
    (Role::NoWeights, "com.microsoft.nchwc", "
        AveragePool GlobalAveragePool GlobalMaxPool MaxPool Upsample
    "),
    (Role::NoWeights, "com.ms.internal.nhwc", "
        AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample LRN LpPool MaxPool
        MaxUnpool QLinearAveragePool Resize
    "),
];
