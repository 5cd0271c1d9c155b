//! The `onnxseal` command.

mod checks;
mod cli;
mod commands;
mod exit;
mod io;
mod keys;
mod progress;
mod prompt;
mod render;
mod sarif;
mod signing;
mod stop;
mod table;
mod text;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Some exporters write one external data file a tensor.
    onnxseal_core::raise_file_limit();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => exit::misread(error),
    };
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
