//! The errors of reading a policy and of planning a model.

use crate::classify::MAX_BYTES;

/// An error of reading a policy or of planning a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A policy uses an unknown name, holds a value out of range, or contradicts itself. If it is a
    /// text, the message says in which line.
    #[error("{0}")]
    Policy(String),
    /// The tensors are larger than the format can state.
    #[error("limit exceeded: the model's tensors claim more than {MAX_BYTES} bytes")]
    TooLarge,
    /// The file is not a ranking.
    #[error("invalid ranking: {0}")]
    Ranking(String),
    /// The ranking was made of a model with other tensors.
    #[error("the ranking is of another model: make one with `onnxseal rank`")]
    RankingOfAnother,
    /// The number of scores differs from the number of subsequences.
    #[error("the number of scores differs from the number of subsequences")]
    Scores,
}
