//! `onnxseal labels`

mod attack;
mod authority;
mod decode;
mod inspect;
mod keygen;
pub mod protect;
mod targets;
mod trace;

use anyhow::Result;

use crate::cli::labels::Labels;

pub fn run(args: &Labels, quiet: bool) -> Result<()> {
    match args {
        Labels::Setup(args) => keygen::setup(args, quiet),
        Labels::Keygen(args) => keygen::run(args, quiet),
        Labels::Users(args) => keygen::users(args, quiet),
        Labels::Revoke(args) => keygen::revoke(args, quiet),
        Labels::Protect(args) => protect::run(args, quiet),
        Labels::Targets(args) => targets::run(args, quiet),
        Labels::Inspect(args) => inspect::run(args),
        Labels::Decode(args) => decode::run(args, quiet),
        Labels::Trace(args) => trace::run(args, quiet),
        Labels::Attack(args) => attack::run(args),
    }
}
