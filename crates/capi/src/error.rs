//! What every call answers: nothing, or an error with its kind and message.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use onnxseal_core::{Error, ErrorKind, KeyError, StoreError, redact};

/// Why a call failed: a kind to branch on, and a message.
///
/// Functions that can fail return `NULL` on success and an error otherwise. The caller releases the
/// error with onnxseal_error_release(). An error may be used from any thread.
pub struct OnnxsealError {
    kind: OnnxsealErrorKind,
    message: CString,
}

/// The class of an error. The numbers are the exit codes of the command `onnxseal`, as far as it has
/// them. Later versions may add more.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnnxsealErrorKind {
    /// No error.
    Ok = 0,
    /// An internal fault, or something that others failed to give: randomness, memory, a plugin's
    /// answer.
    Internal = 1,
    /// The call cannot be carried out as asked: an argument is `NULL` or makes no sense.
    Usage = 2,
    /// The input is malformed or exceeds a limit.
    Malformed = 3,
    /// Something was changed since it was protected.
    Authentication = 4,
    /// No identity opens the model.
    NoMatchingKey = 5,
    /// The model does not make the required claims.
    PolicyNotMet = 6,
    /// The system failed to read.
    Io = 7,
    /// ONNX Runtime is too old, or refuses the model.
    Runtime = 8,
    /// The model or licence opens from a later date, or opened until an earlier one.
    NotInForce = 9,
}

/// An error on its way out.
#[derive(Debug)]
pub(crate) struct Fault {
    pub kind: OnnxsealErrorKind,
    pub message: String,
}

/// The result of what a call does.
pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    fn of(kind: ErrorKind, error: &dyn std::error::Error) -> Fault {
        let kind = match kind {
            ErrorKind::Usage => OnnxsealErrorKind::Usage,
            ErrorKind::Malformed => OnnxsealErrorKind::Malformed,
            ErrorKind::Authentication => OnnxsealErrorKind::Authentication,
            ErrorKind::NoMatchingKey => OnnxsealErrorKind::NoMatchingKey,
            ErrorKind::PolicyNotMet => OnnxsealErrorKind::PolicyNotMet,
            ErrorKind::Io => OnnxsealErrorKind::Io,
            ErrorKind::Runtime => OnnxsealErrorKind::Runtime,
            ErrorKind::NotInForce => OnnxsealErrorKind::NotInForce,
            _ => OnnxsealErrorKind::Internal,
        };
        Fault::new(kind, with_causes(error))
    }

    pub fn usage(message: impl Into<String>) -> Fault {
        Fault::new(OnnxsealErrorKind::Usage, message)
    }

    pub fn memory(len_bytes: usize) -> Fault {
        let message = format!("there is no memory for {len_bytes} bytes");
        Fault::new(OnnxsealErrorKind::Internal, message)
    }

    pub fn malformed(message: impl Into<String>) -> Fault {
        Fault::new(OnnxsealErrorKind::Malformed, message)
    }

    pub fn runtime(message: impl Into<String>) -> Fault {
        Fault::new(OnnxsealErrorKind::Runtime, message)
    }

    fn new(kind: OnnxsealErrorKind, message: impl Into<String>) -> Fault {
        let message = message.into();
        Fault { kind, message }
    }
}

macro_rules! ours {
    ($($of:path),*) => {
        $(impl From<$of> for Fault {
            fn from(error: $of) -> Fault {
                Fault::of(error.kind(), &error)
            }
        })*
    };
}

ours!(Error, StoreError, onnxseal_runtime::Error);
#[cfg(feature = "inputs")]
ours!(onnxseal_inputs::Error);
#[cfg(feature = "labels")]
ours!(onnxseal_labels::Error);

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Fault {
        Fault::from(Error::Key(error))
    }
}

/// The error and its causes, each after a colon.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    message
}

impl From<Fault> for Box<OnnxsealError> {
    fn from(Fault { kind, message }: Fault) -> Self {
        Box::new(OnnxsealError {
            kind,
            message: c_text(&message),
        })
    }
}

/// `text` on one line, without secret keys that were given in place of file names: names from files
/// may hold what moves a terminal's cursor, or ends C's strings.
fn c_text(text: &str) -> CString {
    let text = redact(text);
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
    }
    CString::new(line).unwrap_or_default()
}

/// Runs what a call does. Panics end here: C knows none.
pub(crate) fn guard(call: impl FnOnce() -> Result<()>) -> Option<Box<OnnxsealError>> {
    // What a panic leaves behind unfinished is dropped, or is a handle of which the caller is told.
    let fault = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => return None,
        Ok(Err(fault)) => fault,
        Err(panic) => {
            let message = format!("internal error: {}", panic_message(panic.as_ref()));
            Fault::new(OnnxsealErrorKind::Internal, message)
        }
    };
    Some(fault.into())
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let string = || panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(string).unwrap_or("a panic")
}

/// The kind of `error`; `ONNXSEAL_ERROR_KIND_OK` for `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_error_kind(error: Option<&OnnxsealError>) -> OnnxsealErrorKind {
    error.map_or(OnnxsealErrorKind::Ok, |error| error.kind)
}

/// The message of `error` with its causes, on one line of UTF-8; `""` for `NULL`. It belongs to `error`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_error_message(error: Option<&OnnxsealError>) -> *const c_char {
    error.map_or(c"".as_ptr(), |error| error.message.as_ptr())
}

/// Releases `error`; does nothing for `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_error_release(error: Option<Box<OnnxsealError>>) {
    drop(error);
}

#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(error: &OnnxsealError) -> &str {
        error.message.to_str().unwrap()
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let error = guard(|| panic!("no {}", "way")).unwrap();
        assert_eq!(error.kind, OnnxsealErrorKind::Internal);
        assert_eq!(text(&error), "internal error: no way");
        assert!(guard(|| Ok(())).is_none());
    }

    #[test]
    fn messages_have_all_causes_on_one_line() {
        let source = std::io::Error::other("no\0 \x1b[31mluck\n");
        let error = onnxseal_core::StoreError::Io {
            action: "read",
            path: "a b".into(),
            source,
        };
        let error = guard(|| Err(Error::from(error).into())).unwrap();
        assert_eq!(error.kind, OnnxsealErrorKind::Io);
        assert_eq!(text(&error), r"cannot read a b: no\u{0} \u{1b}[31mluck\n");
    }
}
