//! The command line, in the process of an interpreter.

use std::ffi::OsString;
use std::panic::catch_unwind;
use std::path::PathBuf;

use onnxseal_engine::look_first_in;
use pyo3::prelude::*;

/// The exit code of a Rust program that panicked.
const PANICKED: u8 = 101;

/// Carries out a command line of `onnxseal` and returns the exit code. The first of `args` is the
/// program's name. The command looks for ONNX Runtime in the folders `packages` first.
#[pyfunction(name = "_run_command")]
pub fn run_command(py: Python<'_>, args: Vec<OsString>, packages: Vec<PathBuf>) -> u8 {
    look_first_in(packages);
    py.detach(|| catch_unwind(|| onnxseal::run(args)).unwrap_or(PANICKED))
}
