//! The checked-in messages are what the generator makes of `proto/onnx.proto`.
//!
//! `ONNXSEAL_BLESS=1` rewrites them.

use std::path::Path;
use std::{env, fs};

#[test]
fn generated_messages_are_current() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proto_drift");
    fs::create_dir_all(&out).unwrap();

    let schema = protox::compile(["onnx.proto"], [crate_dir.join("../../proto")]).unwrap();
    prost_build::Config::new()
        // ONNX's comments hold indented text, which rustdoc takes for code to run.
        .disable_comments(["."])
        .out_dir(&out)
        .compile_fds(schema)
        .unwrap();
    let fresh = fs::read_to_string(out.join("onnx.rs")).unwrap();

    let checked_in = crate_dir.join("src/proto/onnx.rs");
    if env::var_os("ONNXSEAL_BLESS").is_some() {
        fs::write(&checked_in, &fresh).unwrap();
    }
    let current = fs::read_to_string(&checked_in).unwrap();
    assert!(
        current == fresh,
        "{} differs from what proto/onnx.proto generates; ONNXSEAL_BLESS=1 rewrites it",
        checked_in.display()
    );
}
