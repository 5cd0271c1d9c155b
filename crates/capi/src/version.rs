//! Which version a program runs with.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// The version of the library, such as `"0.1.0"`; `ONNXSEAL_VERSION` is the header's version. Do not
/// release it.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_version() -> *const c_char {
    CStr::from_bytes_with_nul(VERSION.as_bytes())
        .unwrap_or_default()
        .as_ptr()
}
