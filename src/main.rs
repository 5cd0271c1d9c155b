//! The `onnxseal` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    onnxseal::run(std::env::args_os()).into()
}
