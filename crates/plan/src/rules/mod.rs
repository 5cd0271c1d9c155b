//! Rules for operators, as rows of data: which inputs or attributes hold weights, which pass a
//! tensor on, and which do neither.
//!
//! A new operator needs only a row here and a line in `tests/it/operators.txt`.

mod known;
mod rule;
pub(crate) mod shapes;
mod table;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use onnxseal_onnx::model::Tensor;
use onnxseal_onnx::proto::tensor_proto::DataType;

pub use self::rule::{Class, MIN_ARITHMETIC_ELEMENTS, Role, Rule, Slots};

/// Finds the rule for an operator type.
///
/// `domain` is empty for `ai.onnx`.
pub fn find(domain: &str, op_type: &str) -> Option<&'static Rule> {
    static INDEX: LazyLock<HashMap<(&str, &str), &Rule>> = LazyLock::new(|| {
        rules()
            .map(|rule| ((rule.domain, rule.op_type), rule))
            .collect()
    });
    INDEX.get(&(domain, op_type)).copied()
}

/// Returns whether ONNX Runtime has operators of its own in this domain, which it runs instead of a
/// model-local function of the same name.
pub(crate) fn is_builtin_domain(domain: &str) -> bool {
    let is_below = |rest: &str| rest.is_empty() || rest.starts_with('.');
    let of = |root: &str| domain.strip_prefix(root).is_some_and(is_below);
    domain.is_empty() || of("ai.onnx") || of("com.microsoft") || of("com.ms.internal")
}

/// Returns every row, in the order of the tables.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    table::RULES.iter().chain(known::rules())
}

/// Returns every row of an operator with weights.
pub(crate) fn with_weights() -> impl Iterator<Item = &'static Rule> {
    rules().filter(|rule| rule.class().is_some())
}

/// Returns the name of an operator type in policies and reports: `Conv`,
/// `com.microsoft.QAttention`.
pub fn qualified(domain: &str, op_type: &str) -> Cow<'static, str> {
    if !domain.is_empty() {
        return format!("{domain}.{op_type}").into();
    }
    match find("", op_type) {
        Some(rule) => rule.op_type.into(),
        None => op_type.to_owned().into(),
    }
}

/// Finds the rule of a qualified name; `ai.onnx.Conv` is `Conv`.
pub(crate) fn find_qualified(name: &str) -> Option<&'static Rule> {
    find("", name).or_else(|| {
        let (domain, op_type) = name.rsplit_once('.')?;
        find(if domain == "ai.onnx" { "" } else { domain }, op_type)
    })
}

impl Rule {
    /// The operator type's qualified name.
    pub fn name(&self) -> Cow<'static, str> {
        qualified(self.domain, self.op_type)
    }
}

/// Returns whether elements of this type can be learnt: floats, and the integers of quantised
/// models.
pub(crate) fn learnable(data_type: DataType) -> bool {
    data_type == DataType::Int32 || float_or_quantised(data_type)
}

/// Returns whether a tensor may be learnt: floats or quantised values, and enough of them.
pub(crate) fn may_be_learnt(tensor: &Tensor<'_>) -> bool {
    float_or_quantised(tensor.data_type) && tensor.n_elements >= MIN_ARITHMETIC_ELEMENTS
}

/// Returns whether a type is a float or an integer of at most 16 bits, which indices and shapes
/// never use.
pub(crate) fn float_or_quantised(data_type: DataType) -> bool {
    !matches!(
        data_type,
        DataType::Undefined
            | DataType::String
            | DataType::Bool
            | DataType::Int32
            | DataType::Int64
            | DataType::Uint32
            | DataType::Uint64
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operator_has_two_rows() {
        let mut seen = std::collections::HashSet::new();
        for rule in rules() {
            assert!(
                seen.insert((rule.domain, rule.op_type)),
                "{} stands twice",
                rule.name()
            );
        }
    }

    #[test]
    fn names_find_their_rule() {
        for rule in rules() {
            let found = find_qualified(&rule.name()).map(|r| (r.domain, r.op_type));
            assert_eq!(found, Some((rule.domain, rule.op_type)));
        }
        assert!(find_qualified("ai.onnx.Conv").is_some());
        assert!(find_qualified("Cnov").is_none());
        assert!(find_qualified("com.microsoft.").is_none());
    }

    #[test]
    fn shapes_and_indices_are_not_learnable() {
        for data_type in [
            DataType::Int64,
            DataType::Bool,
            DataType::String,
            DataType::Uint64,
        ] {
            assert!(!learnable(data_type));
        }
        for data_type in [
            DataType::Float,
            DataType::Bfloat16,
            DataType::Int4,
            DataType::Int32,
        ] {
            assert!(learnable(data_type));
        }
        assert!(!float_or_quantised(DataType::Int32));
    }
}
