//! Writes what packages of the command have beside it: completions for shells, and manual pages.
//!
//!     cargo run --release --example shell_files -- FOLDER

use std::path::PathBuf;

use clap::ValueEnum as _;
use clap_complete::Shell;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| ".".into()));
    std::fs::create_dir_all(&folder)?;
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut onnxseal::command(), "onnxseal", &folder)?;
    }
    clap_mangen::generate_to(onnxseal::command(), &folder)
}
