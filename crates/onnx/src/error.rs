//! The errors of reading a model, with their places.

use std::borrow::Cow;
use std::fmt;

use crate::foreign::Foreign;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not an ONNX model, or contradict themselves.
    #[error("{at}: {fault}")]
    Malformed { at: Box<At>, fault: Fault },
    /// The model exceeds the [`Limits`](crate::Limits).
    #[error("{at}: too many {what}: expected at most {maximum}")]
    LimitExceeded {
        at: Box<At>,
        what: &'static str,
        maximum: u64,
    },
    /// The file is of another kind.
    #[error("it is {}, not an ONNX model", kind.what)]
    Foreign { kind: &'static Foreign },
    /// The system has no memory left.
    #[error("there is no memory for {len_bytes} bytes")]
    Memory { len_bytes: usize },
}

/// A place in the model file, as far as known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// Offset from the beginning of the model file in bytes.
    pub offset: u64,
    /// Protobuf path of the innermost graph, node or tensor; empty for the model itself.
    pub path: String,
    /// The named tensor or node at fault, such as `tensor "w"`.
    pub subject: Option<String>,
    /// The field, such as `TensorProto.raw_data`.
    pub field: Option<String>,
}

/// A fault in a model's bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// An external data location is not a plain path below the model's folder.
    #[error("location {found:?} {reason}")]
    Location { reason: &'static str, found: String },
    #[error("{0}")]
    Other(Cow<'static, str>),
}

impl From<&'static str> for Fault {
    fn from(words: &'static str) -> Fault {
        Fault::Other(words.into())
    }
}

impl Fault {
    pub(crate) fn expected(expected: impl fmt::Display, found: impl fmt::Display) -> Fault {
        Fault::Other(format!("expected {expected}, found {found}").into())
    }

    /// Makes the fault of a field that ends after the message, or the file, that holds it.
    pub(crate) fn truncated(expected: u64, found: u64) -> Fault {
        Fault::Other(format!("truncated: expected {expected} bytes, found {found}").into())
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(subject) = &self.subject {
            write!(f, "{subject}, ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}, ", self.path)?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}, ")?;
        }
        write!(f, "offset {}", self.offset)
    }
}

impl At {
    fn of(offset: u64) -> Box<At> {
        Box::new(At {
            offset,
            ..At::default()
        })
    }
}

impl Error {
    pub(crate) fn malformed(offset: u64, fault: impl Into<Fault>) -> Error {
        let (at, fault) = (At::of(offset), fault.into());
        Error::Malformed { at, fault }
    }

    pub fn limit(offset: u64, what: &'static str, maximum: u64) -> Error {
        let at = At::of(offset);
        Error::LimitExceeded { at, what, maximum }
    }

    /// Names the field, unless a more precise one is known.
    pub(crate) fn in_field(self, field: impl Into<String>) -> Error {
        self.with(|at| {
            at.field.get_or_insert(field.into());
        })
    }

    /// Names the tensor, unless something inner is known.
    pub(crate) fn in_tensor(self, name: &str) -> Error {
        self.about("tensor", name)
    }

    /// Names the node, unless something inner is known.
    pub(crate) fn in_node(self, name: &str) -> Error {
        self.about("node", name)
    }

    fn about(self, what: &str, name: &str) -> Error {
        self.with(|at| {
            let named = || format!("{what} {:?}", excerpt(name));
            at.subject.get_or_insert_with(named);
        })
    }

    pub(crate) fn into_fault(self) -> Option<(Box<At>, Fault)> {
        match self {
            Error::Malformed { at, fault } => Some((at, fault)),
            _ => None,
        }
    }

    pub(crate) fn under(self, path: &str) -> Error {
        self.with(|at| at.path = path.to_owned())
    }

    fn with(mut self, edit: impl FnOnce(&mut At)) -> Error {
        if let Error::Malformed { at, .. } | Error::LimitExceeded { at, .. } = &mut self {
            edit(at);
        }
        self
    }
}

/// Returns the beginning of a string from a file, so that a message stays readable.
pub fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
