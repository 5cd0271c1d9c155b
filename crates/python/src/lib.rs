//! The native half of the Python package `onnxseal`: what `python/onnxseal` makes public.

mod assess;
mod batch;
mod call;
mod calls;
mod command;
mod data;
mod errors;
mod fingerprint;
mod inputs;
mod keys;
mod keywords;
mod labels;
mod marks;
mod model;
mod output;
mod policy;
mod source;
mod view;

use pyo3::prelude::*;

/// Protects the weights of ONNX models, and opens what it protected.
#[pymodule]
mod _onnxseal {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::assess::{Assessment, assess, rank, tune_tiers};
    #[pymodule_export]
    use crate::batch::run_batch;
    #[pymodule_export]
    use crate::calls::{
        inspect, is_marked, is_protected, plan, protect, rekey, rotate, unprotect, verify,
    };
    #[pymodule_export]
    use crate::command::run_command;
    #[pymodule_export]
    use crate::fingerprint::{apply_fingerprint, generate_fingerprint_secret, trace_fingerprint};
    #[pymodule_export]
    use crate::inputs::RawInputKey;
    #[pymodule_export]
    use crate::keys::{Identity, IdentityCommand, Passphrase, generate_identity, is_secret};
    #[pymodule_export]
    use crate::labels::{RawLabelDecoder, protect_labels, trace_labels};
    #[pymodule_export]
    use crate::model::{Model, obstacle, open};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // Some exporters write one external data file a tensor, and all that are written stay open.
        onnxseal_core::raise_file_limit();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
