//! The identity that the environment names.

use std::ffi::OsString;
use std::path::PathBuf;

/// Names an identity file, or a descriptor as `fd:N`, for calls without an identity.
pub const IDENTITY_VARIABLE: &str = "ONNXSEAL_IDENTITY";

/// The value of [`IDENTITY_VARIABLE`].
pub fn named_by_environment() -> Option<OsString> {
    std::env::var_os(IDENTITY_VARIABLE)
}

/// The path of the identity file that the environment names, or of the descriptor.
pub fn file_named_by_environment() -> Option<PathBuf> {
    let value = named_by_environment().filter(|value| !value.is_empty())?;
    match value.to_str().and_then(|text| text.strip_prefix("fd:")) {
        None => Some(value.into()),
        Some(n) => {
            let n = n.parse::<u32>().ok()?;
            Some(format!("/dev/fd/{n}").into())
        }
    }
}
