//! The `onnxseal` command.

mod checks;
mod cli;
mod commands;
mod exit;
#[cfg(target_os = "linux")]
mod given;
mod io;
mod keys;
mod named;
#[cfg(target_os = "linux")]
mod private;
mod progress;
mod prompt;
mod render;
mod sarif;
mod signing;
mod stop;
mod table;
mod text;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

fn main() -> ExitCode {
    // Some exporters write one external data file a tensor.
    onnxseal_core::raise_file_limit();
    let mut command = cli::Cli::command();
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let cli = parsed.and_then(|matches| {
        named::remember(&matches);
        cli::Cli::from_arg_matches(&matches)
    });
    let cli = match cli {
        Ok(cli) => cli,
        Err(error) => exit::misread(error.format(&mut command)),
    };
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
