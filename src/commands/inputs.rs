//! `onnxseal inputs`

mod attack;
mod encrypt;
mod inspect;
mod keygen;
mod rewrite;

use anyhow::Result;

use crate::cli::inputs::Inputs;

pub fn run(args: &Inputs, quiet: bool) -> Result<()> {
    match args {
        Inputs::Keygen(args) => keygen::run(args, quiet),
        Inputs::Inspect(args) => inspect::run(args),
        Inputs::Rewrite(args) => rewrite::run(args, quiet),
        Inputs::Encrypt(args) => encrypt::run(args, quiet),
        Inputs::Rekey(args) => rewrite::rekey(args, quiet),
        Inputs::Attack(args) => attack::run(args, quiet),
    }
}
