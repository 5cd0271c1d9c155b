//! The errors of reading a model, with their places.

use std::fmt;

use crate::foreign::Foreign;

/// An error of reading a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not an ONNX model, or contradict themselves.
    #[error("{at}: {fault}")]
    Malformed {
        /// The place in the model file.
        at: Box<At>,
        /// What is wrong.
        fault: Fault,
    },
    /// The model exceeds the [`Limits`](crate::Limits).
    #[error("{at}: too many {what}: expected at most {maximum}")]
    LimitExceeded {
        /// The place in the model file.
        at: Box<At>,
        /// The things of which there are too many.
        what: &'static str,
        /// The limit.
        maximum: u64,
    },
    /// The file is of another kind.
    #[error("it is {}, not an ONNX model", kind.what)]
    Foreign {
        /// The kind.
        kind: &'static Foreign,
    },
    /// The system has no memory left.
    #[error("there is no memory for {len_bytes} bytes")]
    Memory {
        /// The size that was asked for, in bytes.
        len_bytes: usize,
    },
}

/// A place in the model file, as far as known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// Offset from the beginning of the model file in bytes.
    pub offset: u64,
    /// Protobuf path of the innermost graph, node or tensor; empty for the model itself.
    pub path: String,
    /// Name of the tensor or node.
    pub subject: Option<Subject>,
    /// The field, such as `TensorProto.raw_data`.
    pub field: Option<String>,
}

/// The named tensor or node at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A tensor.
    Tensor(String),
    /// A node.
    Node(String),
}

/// A fault in a model's bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file has no bytes.
    #[error("empty file")]
    Empty,
    /// There is no `ModelProto.graph`.
    #[error("not an ONNX model: no graph")]
    NoGraph,
    /// A field ends after the message, or the file, that holds it.
    #[error("truncated: expected {expected} bytes, found {found}")]
    Truncated {
        /// Bytes that the field asks for.
        expected: u64,
        /// Bytes that are left.
        found: u64,
    },
    /// A varint has more than 10 bytes or 64 bits.
    #[error("expected a varint of at most 64 bits")]
    Varint,
    /// A field number is 0 or has more than 29 bits.
    #[error("expected a field number from 1 to 536870911, found {found}")]
    FieldNumber {
        /// The field number.
        found: u64,
    },
    /// A wire type is unknown, or one of the group types that ONNX has never used.
    #[error("expected wire type 0, 1, 2 or 5, found {found}")]
    WireTypeUnknown {
        /// The wire type.
        found: u8,
    },
    /// A known field has a wire type other than the schema's.
    #[error("expected {expected}, found {found}")]
    WireType {
        /// The schema's wire type.
        expected: &'static str,
        /// What the file has.
        found: &'static str,
    },
    /// A field that may occur once occurs twice. Parsers resolve that in different ways.
    #[error("expected one occurrence, found a second")]
    Duplicate,
    /// A string is not UTF-8.
    #[error("expected UTF-8")]
    Utf8,
    /// A packed field ends inside an element.
    #[error("expected a multiple of {width} bytes, found {found}")]
    PackedLength {
        /// Bytes of an element.
        width: u32,
        /// Bytes of the field.
        found: u64,
    },
    /// A tensor with elements has no known element type.
    #[error("expected a known data_type, found {found}")]
    DataType {
        /// The number in the file.
        found: i32,
    },
    /// `TensorProto.data_location` is neither `DEFAULT` nor `EXTERNAL`.
    #[error("expected data_location 0 or 1, found {found}")]
    DataLocation {
        /// The number in the file.
        found: i32,
    },
    /// A dimension is negative.
    #[error("expected a dimension of at least 0, found {found}")]
    Dim {
        /// The dimension.
        found: i64,
    },
    /// The elements or their bytes are more than 2^60.
    #[error("expected at most 2^60 elements and bytes, found more")]
    TensorTooLarge,
    /// The field with the elements cannot contain elements of this type.
    #[error("expected elements of {data_type} elsewhere, found them in this field")]
    PayloadField {
        /// The element type.
        data_type: &'static str,
    },
    /// Two fields contain elements.
    #[error("expected elements in one field, found them in {first} and {second}")]
    PayloadTwice {
        /// One field.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The number of elements does not match the shape.
    #[error("expected {expected} elements, found {found}")]
    ElementCount {
        /// Number of elements that the shape says.
        expected: u64,
        /// Number of elements in the file.
        found: u64,
    },
    /// The number of bytes does not match shape and type.
    #[error("expected {expected} bytes, found {found}")]
    PayloadLength {
        /// Bytes that shape and type say.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// The number of bytes is impossible for so many varint-coded elements.
    #[error("expected the bytes of {expected} varints, found {found} bytes")]
    VarintBytes {
        /// Number of varints that shape and type say.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// A key of `external_data` occurs twice.
    #[error("expected external_data key {key} once, found it twice")]
    ExternalKeyTwice {
        /// The key.
        key: &'static str,
    },
    /// ONNX Runtime does not accept this key of `external_data`.
    #[error(
        "expected keys location, offset, length, checksum or prepacked, and a value, found {found:?}"
    )]
    ExternalKey {
        /// The key.
        found: String,
    },
    /// Two values of one graph have the same name.
    #[error("expected a value with a name of its own, found {name:?}, which {first} has")]
    NameTwice {
        /// The name.
        name: String,
        /// Protobuf path of the initializer, input or node with the same name.
        first: String,
    },
    /// A part of the model that is not read keeps elements in an external file.
    #[error(
        "expected elements in the model file, found them, or data that may be elements, in an external file"
    )]
    PassedOverFile,
    /// A value in `external_data` that must be a number is not one.
    #[error("expected a decimal number as external_data {key}, found {found:?}")]
    ExternalNumber {
        /// The key.
        key: &'static str,
        /// The value.
        found: String,
    },
    /// A tensor with `data_location` EXTERNAL has no location.
    #[error("expected external_data to have a location, found none")]
    NoLocation,
    /// An external data location is not a plain path below the model's folder.
    #[error("location {found:?} {reason}")]
    Location {
        /// What is wrong with it.
        reason: &'static str,
        /// The location.
        found: String,
    },
    /// An external tensor does not lie within its file.
    #[error(
        "expected {len} bytes at offset {start} of external data file {location:?}, found a file of {file_len} bytes"
    )]
    ExternalExtent {
        /// Offset in the external data file in bytes.
        start: u64,
        /// Length of the tensor in bytes.
        len: u64,
        /// The external data file's normalised location.
        location: String,
        /// The external data file's length in bytes.
        file_len: u64,
    },
    /// The end of a protected model breaks the rules of the format.
    #[error("changed since it was protected: the metadata has {found} where {expected} must stand")]
    Tail {
        /// What the format requires.
        expected: &'static str,
        /// What the file has.
        found: String,
    },
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Some(Subject::Tensor(name)) => write!(f, "tensor {name:?}, ")?,
            Some(Subject::Node(name)) => write!(f, "node {name:?}, ")?,
            None => {}
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

impl Error {
    pub(crate) fn malformed(offset: u64, fault: Fault) -> Error {
        let at = At {
            offset,
            ..At::default()
        };
        Error::Malformed {
            at: Box::new(at),
            fault,
        }
    }

    pub(crate) fn limit(offset: u64, what: &'static str, maximum: u64) -> Error {
        let at = At {
            offset,
            ..At::default()
        };
        Error::LimitExceeded {
            at: Box::new(at),
            what,
            maximum,
        }
    }

    /// Names the field, unless a more precise one is known.
    pub(crate) fn in_field(self, field: impl Into<String>) -> Error {
        self.with(|at| {
            at.field.get_or_insert(field.into());
        })
    }

    /// Names the tensor, unless something inner is known.
    pub(crate) fn in_tensor(self, name: &str) -> Error {
        self.with(|at| {
            at.subject.get_or_insert(Subject::Tensor(excerpt(name)));
        })
    }

    /// Names the node, unless something inner is known.
    pub(crate) fn in_node(self, name: &str) -> Error {
        self.with(|at| {
            at.subject.get_or_insert(Subject::Node(excerpt(name)));
        })
    }

    /// Returns the place and the fault of a malformed model.
    pub(crate) fn into_fault(self) -> Option<(Box<At>, Fault)> {
        match self {
            Error::Malformed { at, fault } => Some((at, fault)),
            _ => None,
        }
    }

    /// Adds the place in the protobuf tree.
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
