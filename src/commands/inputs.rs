//! `onnxseal inputs`

mod keygen;

use anyhow::Result;

use crate::cli::inputs::Inputs;

pub fn run(args: &Inputs, quiet: bool) -> Result<()> {
    match args {
        Inputs::Keygen(args) => keygen::run(args, quiet),
    }
}
