//! The few functions of ONNX Runtime's C API that the callbacks need.
//!
//! The API's tables only grow at their ends, so a slot number identifies a function. With the
//! declarations of `ort` instead, every session would need the version that these functions need.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

/// The first version of the C API with these functions, from ONNX Runtime 1.31.
pub(super) const API_VERSION: u32 = 31;

/// `OrtCompileApi::ModelCompilationOptions_SetEpContextDataWriteFunc`
const SET_WRITE_FUNC_SLOT: usize = 16;
/// `OrtApi::GetCompileApi`
const GET_COMPILE_API_SLOT: usize = 294;
/// `OrtApi::SessionOptionsSetEpContextDataReadFunc`
const SET_READ_FUNC_SLOT: usize = 426;

/// An `OrtErrorCode`.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(super) enum ErrorCode {
    Fail = 1,
    InvalidArgument = 2,
    NoSuchFile = 3,
}

/// ONNX Runtime's `OrtStatus`.
#[repr(C)]
pub struct OrtStatus {
    _opaque: [u8; 0],
}

/// ONNX Runtime's `OrtSessionOptions`.
#[repr(C)]
pub struct OrtSessionOptions {
    _opaque: [u8; 0],
}

/// ONNX Runtime's `OrtModelCompilationOptions`.
#[repr(C)]
pub struct OrtModelCompilationOptions {
    _opaque: [u8; 0],
}

/// The first members of ONNX Runtime's `OrtAllocator`.
#[repr(C)]
pub struct OrtAllocator {
    version: u32,
    pub(super) alloc: Option<unsafe extern "system" fn(*mut OrtAllocator, usize) -> *mut c_void>,
    pub(super) free: Option<unsafe extern "system" fn(*mut OrtAllocator, *mut c_void)>,
}

/// ONNX Runtime's `OrtApiBase`, which its `OrtGetApiBase` returns.
#[repr(C)]
pub struct OrtApiBase {
    get_api: unsafe extern "system" fn(version: u32) -> *const OrtApi,
    get_version_string: unsafe extern "system" fn() -> *const c_char,
}

/// The first members of the table `OrtApi`.
#[repr(C)]
pub(super) struct OrtApi {
    create_status: unsafe extern "system" fn(code: c_int, message: *const c_char) -> *mut OrtStatus,
    get_error_code: *const c_void,
    get_error_message: unsafe extern "system" fn(*const OrtStatus) -> *const c_char,
}

/// `OrtApi::ReleaseStatus`
const RELEASE_STATUS_SLOT: usize = 93;

/// ONNX Runtime's `OrtReadNamedBufferFunc`: returns the data of a name, in memory of the allocator.
pub type OrtReadNamedBufferFunc = unsafe extern "system" fn(
    state: *mut c_void,
    name: *const c_char,
    allocator: *mut OrtAllocator,
    buffer: *mut *mut c_void,
    data_size: *mut usize,
) -> *mut OrtStatus;

/// ONNX Runtime's `OrtWriteNamedBufferFunc`: takes the data of a name.
pub type OrtWriteNamedBufferFunc = unsafe extern "system" fn(
    state: *mut c_void,
    name: *const c_char,
    buffer: *const c_void,
    buffer_num_bytes: usize,
) -> *mut OrtStatus;

type GetCompileApi = unsafe extern "system" fn() -> *const c_void;
type ReleaseStatus = unsafe extern "system" fn(*mut OrtStatus);
type SetReadFunc = unsafe extern "system" fn(
    *mut OrtSessionOptions,
    OrtReadNamedBufferFunc,
    *mut c_void,
) -> *mut OrtStatus;
type SetWriteFunc = unsafe extern "system" fn(
    *mut OrtModelCompilationOptions,
    OrtWriteNamedBufferFunc,
    *mut c_void,
) -> *mut OrtStatus;

/// The functions of a loaded ONNX Runtime. It stays loaded.
#[derive(Clone, Copy)]
pub(super) struct Functions {
    create_status: unsafe extern "system" fn(c_int, *const c_char) -> *mut OrtStatus,
    get_error_message: unsafe extern "system" fn(*const OrtStatus) -> *const c_char,
    release_status: ReleaseStatus,
    pub(super) set_read_func: SetReadFunc,
    pub(super) set_write_func: SetWriteFunc,
}

impl Functions {
    /// Looks the functions up. Returns `None` for a library that is too old or was built without
    /// the compile API.
    ///
    /// # Safety
    /// `base` must be the result of the library's `OrtGetApiBase`.
    pub(super) unsafe fn of(base: *const OrtApiBase) -> Option<Functions> {
        // SAFETY: the caller's promise.
        let base = unsafe { base.as_ref()? };
        // SAFETY: may be called with any version.
        let api = unsafe { (base.get_api)(API_VERSION) };
        // SAFETY: the table of that version, or null; it is static.
        let first = unsafe { api.as_ref()? };
        // SAFETY: the slot is in the table of that version, and holds this function.
        let release_status = unsafe { slot::<ReleaseStatus>(api.cast(), RELEASE_STATUS_SLOT)? };
        // SAFETY: as before.
        let compile_api = unsafe { slot::<GetCompileApi>(api.cast(), GET_COMPILE_API_SLOT)? };
        // SAFETY: as before.
        let set_read_func = unsafe { slot::<SetReadFunc>(api.cast(), SET_READ_FUNC_SLOT)? };
        // SAFETY: takes no arguments.
        let compile = unsafe { compile_api() };
        if compile.is_null() {
            return None;
        }
        // SAFETY: the slot is in this table too, which has the library's version.
        let set_write_func = unsafe { slot::<SetWriteFunc>(compile, SET_WRITE_FUNC_SLOT)? };
        Some(Functions {
            create_status: first.create_status,
            get_error_message: first.get_error_message,
            release_status,
            set_read_func,
            set_write_func,
        })
    }

    /// Makes a status for ONNX Runtime to release. Its message is empty if `message` has a NUL.
    pub(super) fn status(&self, code: ErrorCode, message: String) -> *mut OrtStatus {
        let message = std::ffi::CString::new(message).unwrap_or_default();
        // SAFETY: copies the string.
        unsafe { (self.create_status)(code as c_int, message.as_ptr()) }
    }

    /// Takes a status that ONNX Runtime has just returned.
    pub(super) fn result(&self, status: *mut OrtStatus) -> Result<(), String> {
        if status.is_null() {
            return Ok(());
        }
        // SAFETY: the status is alive.
        let message = unsafe { (self.get_error_message)(status) };
        // SAFETY: a string that lives as long as the status.
        let message = unsafe { std::ffi::CStr::from_ptr(message) };
        let message = message.to_string_lossy().into_owned();
        // SAFETY: nobody uses it any more.
        unsafe { (self.release_status)(status) };
        Err(message)
    }
}

/// Returns the function in a slot of a table.
///
/// # Safety
/// `table` must have more than `index` slots, and a function of type `F` or null in that slot.
unsafe fn slot<F: Copy>(table: *const c_void, index: usize) -> Option<F> {
    const { assert!(size_of::<Option<F>>() == size_of::<*const c_void>()) };
    // SAFETY: the caller's promise; a null is `None`.
    unsafe { *table.cast::<Option<F>>().add(index) }
}
