//! One file per subcommand.

#[cfg(feature = "assess")]
mod assess;
mod batch;
#[cfg(feature = "assess")]
mod compared;
#[cfg(feature = "inputs")]
mod inputs;
mod inspect;
mod keygen;
#[cfg(feature = "labels")]
mod labels;
mod plan;
mod protect;
#[cfg(feature = "assess")]
mod rank;
mod rekey;
mod rotate;
#[cfg(target_os = "linux")]
mod run;
mod sign;
#[cfg(feature = "assess")]
mod tiers;
mod unprotect;
mod verify;

use crate::cli::{Cli, Command};
use crate::named;

pub fn run(cli: Cli) -> anyhow::Result<()> {
    // A result on standard output must not be mixed with notes.
    let quiet = named::check_outputs()? || cli.quiet;
    match cli.command {
        Command::Keygen(args) => keygen::run(&args, quiet),
        Command::Plan(args) => plan::run(&args, quiet),
        Command::Protect(args) => protect::run(&args, quiet),
        Command::Inspect(args) => inspect::run(&args, quiet),
        Command::Verify(args) => verify::run(&args, quiet),
        Command::Unprotect(args) => unprotect::run(&args, quiet),
        #[cfg(target_os = "linux")]
        Command::Run(args) => run::run(&args, quiet),
        #[cfg(not(target_os = "linux"))]
        Command::Run(_) => Err(crate::exit::usage(
            "`onnxseal run` needs Linux; `onnxseal unprotect` opens a model to files",
        )),
        Command::Batch(args) => batch::run(&args, quiet),
        Command::Rekey(args) => rekey::run(&args, quiet),
        Command::Rotate(args) => rotate::run(&args, quiet),
        Command::Sign(args) => sign::run(&args, quiet),
        #[cfg(feature = "assess")]
        Command::Assess(args) => assess::run(&args, quiet),
        #[cfg(feature = "assess")]
        Command::Rank(args) => rank::run(&args, quiet),
        #[cfg(feature = "assess")]
        Command::Tiers(args) => tiers::run(&args, quiet),
        #[cfg(feature = "inputs")]
        Command::Inputs(args) => inputs::run(&args, quiet),
        #[cfg(feature = "labels")]
        Command::Labels(args) => labels::run(&args, quiet),
    }
}
