//! The contents of a row of the tables.

/// The least elements of an arithmetic operator's constant to count as a weight. Smaller ones are
/// epsilons, scale factors and the float arithmetic of shapes.
pub const MIN_ARITHMETIC_ELEMENTS: u64 = 16;

/// The rule for one operator type.
#[derive(Debug)]
pub struct Rule {
    pub domain: &'static str,
    pub op_type: &'static str,
    pub role: Role,
}

impl Rule {
    /// Returns the family, if the operator has weights.
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
    /// Some of its inputs are weights. So is a constant in its first input, where data usually
    /// goes, if it has floats or quantised values, at least [`MIN_ARITHMETIC_ELEMENTS`].
    Inputs(Class, Slots),
    /// Some of its attributes are weights.
    Attributes(&'static [&'static str]),
    /// Its output is one of these inputs in another shape, order or type.
    PassThrough(Slots),
    /// It runs one of its subgraphs and returns its outputs, position by position (If).
    Branch,
    /// Input `i` from 2 on is its body's input `i`; body output `i` from 1 on is its output
    /// `i - 1` (Loop).
    Loop,
    /// Input `i` is its body's input `i`, body output `i` its output `i` (Scan).
    Scan,
    NoWeights,
}

/// Input slots of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    These(&'static [u32]),
    /// Every slot of a variadic operator.
    All,
}

impl Slots {
    /// Returns whether `slot` is one of these.
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
    Convolution,
    /// Matrix products, fully connected layers, mixtures of experts.
    Dense,
    Recurrent,
    /// Attention with its own projection weights.
    Attention,
    /// Lookup tables. Only floats or quantised values count as one, and in a single row only if
    /// there are at least [`MIN_ARITHMETIC_ELEMENTS`].
    Embedding,
    /// Normalisations and activations with learnt parameters.
    Normalization,
    /// Additions of a learnt bias that an export or an optimiser fused.
    Bias,
    /// Add, Mul and the like. Only constants of at least [`MIN_ARITHMETIC_ELEMENTS`] floats or
    /// quantised values count as weights.
    Arithmetic,
    Classical,
}
