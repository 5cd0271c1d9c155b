//! One file per subcommand.

#[cfg(feature = "assess")]
mod assess;
mod batch;
#[cfg(feature = "assess")]
mod compared;
#[cfg(feature = "fingerprint")]
mod fingerprint;
#[cfg(feature = "inputs")]
mod inputs;
mod inspect;
mod keygen;
#[cfg(feature = "labels")]
mod labels;
mod licence;
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
use crate::text::be_quiet;

pub fn run(cli: Cli) -> anyhow::Result<()> {
    // A result on standard output must not be mixed with notes.
    if named::check_outputs()? || cli.quiet {
        be_quiet();
    }
    match cli.command {
        Command::Keygen(args) => keygen::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Protect(args) => protect::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Unprotect(args) => unprotect::run(&args),
        #[cfg(target_os = "linux")]
        Command::Run(args) => run::run(&args),
        #[cfg(not(target_os = "linux"))]
        Command::Run(_) => Err(crate::exit::usage(
            "`onnxseal run` needs Linux; `onnxseal unprotect` opens a model to files",
        )),
        Command::Licence(args) => licence::run(&args),
        Command::Batch(args) => batch::run(&args),
        Command::Rekey(args) => rekey::run(&args),
        Command::Rotate(args) => rotate::run(&args),
        Command::Sign(args) => sign::run(&args),
        #[cfg(feature = "assess")]
        Command::Assess(args) => assess::run(&args),
        #[cfg(feature = "assess")]
        Command::Rank(args) => rank::run(&args),
        #[cfg(feature = "assess")]
        Command::Tiers(args) => tiers::run(&args),
        #[cfg(feature = "inputs")]
        Command::Inputs(args) => inputs::run(&args),
        #[cfg(feature = "labels")]
        Command::Labels(args) => labels::run(&args),
        #[cfg(feature = "fingerprint")]
        Command::Fingerprint(args) => fingerprint::run(&args),
    }
}
