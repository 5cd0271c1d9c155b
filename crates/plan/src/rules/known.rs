//! Operators without weights, by domain: their constants are shapes, indices, masks, bounds and the
//! like.
//!
//! An operator in neither table is unknown, and reports say so of the tensors it reads. Sources as
//! in the table of rules.

use std::sync::LazyLock;

use super::rule::{Role, Rule};

/// Returns one row for each name below.
pub(super) fn no_weights() -> impl Iterator<Item = &'static Rule> {
    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let names = NAMES.iter().flat_map(|(domain, names)| {
            names
                .split_whitespace()
                .map(move |op_type| (*domain, op_type))
        });
        names
            .map(|(domain, op_type)| Rule {
                domain,
                op_type,
                role: Role::NoWeights,
            })
            .collect()
    });
    RULES.iter()
}

#[rustfmt::skip]
static NAMES: &[(&str, &str)] = &[
    ("", "
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
    ("ai.onnx.ml", "
        ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer
        LabelEncoder Normalizer OneHotEncoder ZipMap
    "),
    ("com.microsoft", "
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
    ("com.microsoft.nchwc", "
        AveragePool GlobalAveragePool GlobalMaxPool MaxPool Upsample
    "),
    ("com.ms.internal.nhwc", "
        AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample LRN LpPool MaxPool
        MaxUnpool QLinearAveragePool Resize
    "),
];
