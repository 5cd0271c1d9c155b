//! What a row of the tables says of an operator type.

/// Elements that a constant of an arithmetic operator needs to pass for a weight. Below it stand
/// epsilons, scale factors and the float arithmetic of shapes.
pub const MIN_ARITHMETIC_ELEMENTS: u64 = 16;

/// The rule for one operator type.
#[derive(Debug)]
pub struct Rule {
    /// Operator set domain; empty for `ai.onnx`.
    pub domain: &'static str,
    /// Operator type.
    pub op_type: &'static str,
    /// How the operator uses tensors.
    pub role: Role,
}

impl Rule {
    /// The family, if the operator has weights.
    pub fn class(&self) -> Option<Class> {
        match self.role {
            Role::Inputs(class, _) => Some(class),
            Role::Attributes(_) => Some(Class::Classical),
            _ => None,
        }
    }
}

/// How an operator uses its input tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Some of its inputs are weights. So are floats or quantised values in its first input, from
    /// [`MIN_ARITHMETIC_ELEMENTS`] on: a constant where data goes as a rule.
    Inputs(Class, Slots),
    /// Some of its attributes are weights.
    Attributes(&'static [&'static str]),
    /// Its output is one of these inputs in another shape, order or type.
    PassThrough(Slots),
    /// It runs one of its subgraphs and hands out what that puts out, position by position (If).
    Branch,
    /// Input `i` from 2 on is its body's input `i`; body output `i` from 1 on is its output
    /// `i - 1` (Loop).
    Loop,
    /// Input `i` is its body's input `i`, body output `i` its output `i` (Scan).
    Scan,
    /// None of its tensors are weights.
    NoWeights,
}

/// Input slots of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// These.
    These(&'static [u32]),
    /// Every one of a variadic operator.
    All,
}

impl Slots {
    /// Whether `slot` is among them.
    pub fn contain(self, slot: u32) -> bool {
        match self {
            Slots::These(slots) => slots.contains(&slot),
            Slots::All => true,
        }
    }
}

/// A family of operators that presets treat alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Convolutions.
    Convolution,
    /// Matrix products, fully connected layers, mixtures of experts.
    Dense,
    /// LSTM, GRU, RNN.
    Recurrent,
    /// Attention with its own projection weights.
    Attention,
    /// Lookup tables. Only floats or quantised values pass for one, and of those in a single row at
    /// least [`MIN_ARITHMETIC_ELEMENTS`].
    Embedding,
    /// Normalisations and activations with learnt parameters.
    Normalization,
    /// Additions of a learnt bias that an export or an optimiser fused.
    Bias,
    /// Add, Mul and the like. Only constants of floats or quantised values, of at least
    /// [`MIN_ARITHMETIC_ELEMENTS`], pass for weights.
    Arithmetic,
    /// Classical machine learning.
    Classical,
}
