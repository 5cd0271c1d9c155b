//! The identity that the environment names.

use std::path::PathBuf;

/// Names an identity file, or a descriptor as `fd:N`, for calls without an identity.
pub const IDENTITY_VARIABLE: &str = "ONNXSEAL_IDENTITY";

/// The path of the identity file that the environment names, or of the descriptor.
pub fn file_named_by_environment() -> Option<PathBuf> {
    let value = std::env::var_os(IDENTITY_VARIABLE).filter(|value| !value.is_empty())?;
    match value.to_str().and_then(|text| text.strip_prefix("fd:")) {
        None => Some(value.into()),
        Some(n) => {
            let n = n.parse::<u32>().ok()?;
            Some(format!("/dev/fd/{n}").into())
        }
    }
}
