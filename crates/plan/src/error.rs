//! The errors of reading a policy and of planning a model.

/// An error of reading a policy or of planning a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The policy's text is not TOML, uses an unknown name, or holds a value out of range. The
    /// message shows line and column.
    #[error("invalid policy: {message}")]
    PolicyText {
        /// What is wrong, with the line it stands in.
        message: String,
    },
    /// A coefficient is not a share.
    #[error("coefficient {value} is not from 0 to 1")]
    Coefficient {
        /// The value given.
        value: f64,
    },
    /// A policy names an operator type that has no weights or that no rule knows.
    #[error(
        "no operator type with weights is called {op_type:?}{}; \
         weights of operators without a rule are chosen by initializer name",
        similar.as_ref().map(|name| format!(" (did you mean {name:?}?)")).unwrap_or_default()
    )]
    OperatorType {
        /// The name given.
        op_type: String,
        /// A type with a similar name.
        similar: Option<String>,
    },
    /// The preset does not exist.
    #[error("unknown preset {name:?}: expected light, balanced, strong or full")]
    Preset {
        /// The name given.
        name: String,
    },
    /// The glob is not valid.
    #[error("invalid pattern {pattern:?}")]
    Pattern {
        /// The pattern given.
        pattern: String,
        /// What is wrong with it.
        source: globset::Error,
    },
    /// The tensors are larger than the format can state.
    #[error("limit exceeded: the model's tensors claim more than {limit} bytes")]
    TooLarge {
        /// The most bytes that all tensors may have together.
        limit: u64,
    },
    /// The size of subsequences is not allowed.
    #[error("unit {bytes}: expected 64, 128, 256, 512 or 1024 bytes")]
    Unit {
        /// The size given.
        bytes: u64,
    },
    /// The policy's tiers contradict each other.
    #[error("{message}")]
    Tiers {
        /// What is wrong.
        message: String,
    },
    /// The file is not a ranking.
    #[error("invalid ranking: {message}")]
    Ranking {
        /// What is wrong.
        message: String,
    },
    /// The ranking was made of a model with other tensors.
    #[error("the ranking is of another model: make one with `onnxseal rank`")]
    RankingOfAnother,
    /// The number of scores differs from the number of subsequences.
    #[error("the number of scores differs from the number of subsequences")]
    Scores,
}
