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

pub fn run(args: &Labels) -> Result<()> {
    match args {
        Labels::Setup(args) => keygen::setup(args),
        Labels::Keygen(args) => keygen::run(args),
        Labels::Users(args) => keygen::users(args),
        Labels::Revoke(args) => keygen::revoke(args),
        Labels::Protect(args) => protect::run(args),
        Labels::Targets(args) => targets::run(args),
        Labels::Inspect(args) => inspect::run(args),
        Labels::Decode(args) => decode::run(args),
        Labels::Trace(args) => trace::run(args),
        Labels::Attack(args) => attack::run(args),
    }
}
