//! `onnxseal inputs`

mod attack;
mod encrypt;
mod inspect;
mod keygen;
mod rewrite;

use anyhow::Result;

use crate::cli::inputs::Inputs;

pub fn run(args: &Inputs) -> Result<()> {
    match args {
        Inputs::Keygen(args) => keygen::run(args),
        Inputs::Inspect(args) => inspect::run(args),
        Inputs::Rewrite(args) => rewrite::run(args),
        Inputs::Encrypt(args) => encrypt::run(args),
        Inputs::Rekey(args) => rewrite::rekey(args),
        Inputs::Attack(args) => attack::run(args),
    }
}
