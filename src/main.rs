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
mod table;
mod text;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    raise_file_limit();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => exit::misread(error),
    };
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}

/// Allows as many open files as the system lets us have: some exporters write one external data file
/// a tensor, and all files of a model are open at once.
fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let current = maximum;
        // Where that fails, the old limit holds.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    }
}
