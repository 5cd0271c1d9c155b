//! The `onnxseal` command as a function: the program runs it, and the console script of the Python
//! package.
//!
//! No other interface is promised: programs call `onnxseal-core` and its siblings.

mod checks;
mod cli;
mod commands;
mod exit;
#[cfg(target_os = "linux")]
mod given;
mod in_clear;
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

use std::ffi::OsString;
use std::io::Write as _;

use clap::{CommandFactory as _, FromArgMatches as _};

/// Returns the command line, for what is made of it: completions for shells, and manual pages.
#[doc(hidden)]
pub fn command() -> clap::Command {
    cli::Cli::command()
}

/// Carries out a command line, of which the first argument is the program's name, and returns the
/// exit code. Results go to standard output, all else to standard error.
///
/// Call it once in a process: the files that the command line names are remembered, and Ctrl-C and
/// SIGTERM belong to the command from then on.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    // Some exporters write one external data file a tensor.
    onnxseal_core::raise_file_limit();
    stop::heed_children();
    let args: Vec<OsString> = args.into_iter().collect();
    let mut command = command();
    let parsed = command.try_get_matches_from_mut(&args);
    let cli = parsed.and_then(|matches| {
        named::remember(&matches);
        cli::Cli::from_arg_matches(&matches)
    });
    let code = match cli {
        Err(error) => exit::misread(error.format(&mut command), &args),
        Ok(cli) => match commands::run(cli) {
            Ok(()) => 0,
            Err(error) => exit::report(&error),
        },
    };
    // An interpreter ends without it. A reader that is gone has had enough.
    let _ = std::io::stdout().flush();
    code
}
