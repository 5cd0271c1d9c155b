//! Writes the Rust types of ONNX's messages, generated from `onnx.proto`, to
//! `crates/onnx/src/proto/onnx.rs`: `cargo run -p onnxseal-proto`.
//!
//! A package of its own, because the generator would give crates that are built beside it other features.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    Ok(fs::write(checked_in(), generated()?)?)
}

fn checked_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/onnx/src/proto/onnx.rs")
}

fn generated() -> Result<String, Box<dyn Error>> {
    let out = tempfile::tempdir()?;
    let schema = protox::compile(["onnx.proto"], [env!("CARGO_MANIFEST_DIR")])?;
    prost_build::Config::new()
        // ONNX's comments hold indented text, which rustdoc takes for code to run.
        .disable_comments(["."])
        .out_dir(out.path())
        .compile_fds(schema)?;
    Ok(fs::read_to_string(out.path().join("onnx.rs"))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{checked_in, generated};
    use std::fs;

    #[test]
    fn checked_in_types_are_what_the_schema_generates() {
        let path = checked_in();
        assert!(
            fs::read_to_string(&path).unwrap() == generated().unwrap(),
            "{} is not what proto/onnx.proto generates; `cargo run -p onnxseal-proto` rewrites it",
            path.display()
        );
    }
}
