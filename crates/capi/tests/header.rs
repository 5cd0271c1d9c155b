//! The header is what cbindgen makes of the source.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

/// Forward declarations, so that ONNX Runtime's header is not needed.
const PRELUDE: &str = r#"
/* The version of this header; onnxseal_version() is that of the library. */
#define ONNXSEAL_VERSION "{VERSION}"

#if defined(__GNUC__) || defined(__clang__)
#define ONNXSEAL_MUST_USE __attribute__((warn_unused_result))
#else
#define ONNXSEAL_MUST_USE
#endif

/* Those of onnxruntime_c_api.h. */
struct OrtApiBase;
struct OrtEnv;
struct OrtModelCompilationOptions;
struct OrtSession;
struct OrtSessionOptions;
"#;

#[test]
fn the_header_is_what_the_source_gives() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    config.after_includes = Some(PRELUDE.replace("{VERSION}", env!("CARGO_PKG_VERSION")));
    let mut made = Vec::new();
    cbindgen::generate_with_config(root, config)
        .unwrap()
        .write(&mut made);
    let path = root.join("include/onnxseal.h");
    if std::env::var_os("ONNXSEAL_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap();
    assert!(
        checked_in.as_bytes() == made,
        "{} is not what the source gives: run ONNXSEAL_WRITE_HEADER=1 cargo test -p onnxseal-capi --test header",
        path.display()
    );
}
