//! Errors as Python exceptions: the classes of `onnxseal._errors`.

use onnxseal_assess as assess;
use onnxseal_core::{Error, ErrorKind, KeyError, StoreError, redact};
use onnxseal_inputs as inputs;
use onnxseal_labels as labels;
use onnxseal_runtime as runtime;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// The result of a call that may fail with one of our exceptions or with any other.
pub type Result<T> = std::result::Result<T, Fault>;

/// What ends a call.
#[derive(Debug)]
pub enum Fault {
    /// An error of the library.
    Core(Error),
    /// An error of opening a model for ONNX Runtime.
    Runtime(runtime::Error),
    /// An error of an assessment.
    Assess(assess::Error),
    /// An error of keyed inputs.
    Inputs(inputs::Error),
    /// An error of labels.
    Labels(labels::Error),
    /// A mistake in the arguments.
    Usage(String),
    /// An exception that is raised as it is.
    Python(PyErr),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Error::from(error).into()
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Core(error)
    }
}

impl From<runtime::Error> for Fault {
    fn from(error: runtime::Error) -> Fault {
        Fault::Runtime(error)
    }
}

impl From<assess::Error> for Fault {
    fn from(error: assess::Error) -> Fault {
        match error.into_core() {
            Ok(error) => Fault::Core(error),
            Err(error) => Fault::Assess(error),
        }
    }
}

impl From<onnxseal_data::Error> for Fault {
    fn from(error: onnxseal_data::Error) -> Fault {
        Fault::Assess(error.into())
    }
}

impl From<onnxseal_engine::Error> for Fault {
    fn from(error: onnxseal_engine::Error) -> Fault {
        Fault::Assess(error.into())
    }
}

impl From<inputs::Error> for Fault {
    fn from(error: inputs::Error) -> Fault {
        Fault::Inputs(error)
    }
}

impl From<labels::Error> for Fault {
    fn from(error: labels::Error) -> Fault {
        Fault::Labels(error)
    }
}

impl From<onnxseal_batch::Error> for Fault {
    fn from(error: onnxseal_batch::Error) -> Fault {
        match error {
            onnxseal_batch::Error::Core(error) => Fault::Core(error),
            // All others are mistakes in the arguments.
            error => Fault::Usage(error.to_string()),
        }
    }
}

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Fault {
        Fault::Core(Error::Key(error))
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
            Fault::Core(error) => Python::attach(|py| exception(py, error.kind(), &error)),
            Fault::Runtime(error) => Python::attach(|py| exception(py, error.kind(), &error)),
            Fault::Assess(error) => Python::attach(|py| exception(py, error.kind(), &error)),
            Fault::Inputs(error) => Python::attach(|py| exception(py, error.kind(), &error)),
            Fault::Labels(error) => Python::attach(|py| exception(py, error.kind(), &error)),
            Fault::Usage(message) => {
                let error: Box<dyn std::error::Error> = message.into();
                Python::attach(|py| exception(py, ErrorKind::Usage, &*error))
            }
            Fault::Python(error) => error,
        }
    }
}

/// A mistake in the arguments.
pub fn usage(message: impl Into<String>) -> Fault {
    Fault::Usage(message.into())
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

fn class(py: Python<'_>, kind: ErrorKind) -> PyResult<&Bound<'_, PyType>> {
    macro_rules! import {
        ($name:literal) => {{
            static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
            CLASS.import(py, "onnxseal._errors", $name)
        }};
    }
    match kind {
        ErrorKind::Usage => import!("UsageError"),
        ErrorKind::Malformed => import!("MalformedError"),
        ErrorKind::Authentication => import!("AuthenticationError"),
        ErrorKind::NoMatchingKey => import!("NoMatchingKeyError"),
        ErrorKind::PolicyNotMet => import!("PolicyNotMetError"),
        ErrorKind::Io => import!("IoError"),
        ErrorKind::Runtime => import!("OnnxRuntimeError"),
        _ => import!("InternalError"),
    }
}

/// Makes the fault of a system call that failed on a user's file.
pub fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Fault {
    let path = path.to_owned();
    move |source| Fault::Core(onnxseal_core::io(action, &path)(source))
}

/// The exception for a value that JSON cannot express; all of ours can be expressed.
pub fn not_json(error: serde_json::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}
