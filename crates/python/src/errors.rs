//! Errors as Python exceptions: the classes of `onnxseal._errors`.

use onnxseal_core::{Error, ErrorKind, KeyError, StoreError, redact};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The result of a call that may fail with one of our exceptions or with any other.
pub type Result<T> = std::result::Result<T, Fault>;

/// What ends a call.
#[derive(Debug)]
pub enum Fault {
    /// An error of one of our crates, with its class.
    Ours(ErrorKind, Box<dyn std::error::Error + Send + Sync>),
    /// An exception that is raised as it is.
    Python(PyErr),
}

macro_rules! ours {
    ($($of:path),*) => {
        $(impl From<$of> for Fault {
            fn from(error: $of) -> Fault {
                Fault::Ours(error.kind(), error.into())
            }
        })*
    };
}

ours!(
    Error,
    onnxseal_runtime::Error,
    onnxseal_data::Error,
    onnxseal_engine::Error,
    onnxseal_fingerprint::Error,
    onnxseal_inputs::Error,
    onnxseal_labels::Error,
    onnxseal_rewrite::Error
);

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Error::from(error).into()
    }
}

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Fault {
        Error::from(error).into()
    }
}

impl From<onnxseal_assess::Error> for Fault {
    fn from(error: onnxseal_assess::Error) -> Fault {
        match error {
            onnxseal_assess::Error::Core(error) => error.into(),
            error => Fault::Ours(error.kind(), error.into()),
        }
    }
}

impl From<onnxseal_batch::Error> for Fault {
    fn from(error: onnxseal_batch::Error) -> Fault {
        match error {
            onnxseal_batch::Error::Core(error) => error.into(),
            // All others are mistakes in the arguments.
            error => usage(error.to_string()),
        }
    }
}

impl From<PyErr> for Fault {
    fn from(error: PyErr) -> Fault {
        Fault::Python(error)
    }
}

impl From<Fault> for PyErr {
    fn from(fault: Fault) -> PyErr {
        match fault {
            Fault::Ours(kind, error) => Python::attach(|py| exception(py, kind, &*error)),
            Fault::Python(error) => error,
        }
    }
}

/// A mistake in the arguments.
pub fn usage(message: impl Into<String>) -> Fault {
    Error::Usage(message.into()).into()
}

/// The exception for `error`, with the message of each of its causes.
fn exception(py: Python<'_>, kind: ErrorKind, error: &dyn std::error::Error) -> PyErr {
    let mut message = error.to_string();
    let mut errno = None;
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some say what their cause says.
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        let system = error.downcast_ref::<std::io::Error>();
        errno = errno.or(system.and_then(std::io::Error::raw_os_error));
        cause = error.source();
    }
    let message = redact(&message);
    let raised = class(py, kind).and_then(|class| class.call1((message,)));
    match raised {
        Ok(raised) => {
            if let (Some(errno), ErrorKind::Io) = (errno, kind) {
                // Without, it is still an OSError.
                let _ = raised.setattr("errno", errno);
            }
            PyErr::from_value(raised)
        }
        Err(error) => error,
    }
}

fn class(py: Python<'_>, kind: ErrorKind) -> PyResult<Bound<'_, PyAny>> {
    let name = match kind {
        ErrorKind::Usage => "UsageError",
        ErrorKind::Malformed => "MalformedError",
        ErrorKind::Authentication => "AuthenticationError",
        ErrorKind::NoMatchingKey => "NoMatchingKeyError",
        ErrorKind::PolicyNotMet => "PolicyNotMetError",
        ErrorKind::NotInForce => "NotInForceError",
        ErrorKind::Io => "IoError",
        ErrorKind::Runtime => "OnnxRuntimeError",
        _ => "InternalError",
    };
    py.import("onnxseal._errors")?.getattr(name)
}

/// Makes the fault of a system call that failed on a user's file.
pub fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Fault {
    let path = path.to_owned();
    move |source| onnxseal_core::io(action, &path)(source).into()
}

/// The exception for a value that JSON cannot express; all of ours can be expressed.
pub fn not_json(error: serde_json::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}
