//! Compiled caches of execution providers (EPContext), sealed under a model's data key.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::path::PathBuf;

use onnxseal_runtime::ep_context::{
    EpContextCallbacks, OrtModelCompilationOptions, OrtSessionOptions,
};
use ort_sys::OrtApiBase;
use zeroize::Zeroizing;

use crate::arguments::{OutPointer, bytes, given, lent, path, text};
use crate::error::{OnnxsealError, Result, guard};
use crate::model::OnnxsealModel;

/// Compiled caches of a model in a folder: sealed there, and opened for ONNX Runtime's execution
/// providers by its callbacks. It may be used from any number of threads.
pub struct OnnxsealEpContext(EpContextCallbacks);

/// The content of a compiled cache, zeroized when it is released.
pub struct OnnxsealBlob(Zeroizing<Vec<u8>>);

/// Opens the compiled caches of `model` in `folder`. The folder must exist and be for this model alone.
///
/// `ort_api_base` is the result of the application's `OrtGetApiBase()`, of ONNX Runtime 1.31 or newer.
/// On success the caller releases `*context` with onnxseal_ep_context_release(); on failure it is
/// `NULL`. The context does not need the model any longer.
///
/// Errors: `IO`; `RUNTIME` when ONNX Runtime is too old; `USAGE`.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_ep_context_open(
    model: Option<&OnnxsealModel>,
    folder: *const c_char,
    ort_api_base: Option<&OrtApiBase>,
    context: Option<&mut MaybeUninit<*mut OnnxsealEpContext>>,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let place = OutPointer::new(context, "context")?;
        let model = given(model, "model")?;
        // SAFETY: the caller gives text.
        let folder = PathBuf::from(unsafe { path(folder, "folder") }?);
        let base: *const OrtApiBase = given(ort_api_base, "ort_api_base")?;
        let store = model.model.ep_context(folder)?;
        // SAFETY: the caller gives that of a library which stays loaded.
        let callbacks = unsafe { EpContextCallbacks::new(store, base.cast()) }?;
        place.fill(OnnxsealEpContext(callbacks));
        Ok(())
    })
}

/// Makes sessions with `options` read compiled caches from here
/// (`SessionOptionsSetEpContextDataReadFunc`). Keep `context` until options, their copies and
/// sessions are released.
///
/// Errors: `RUNTIME`, `USAGE`.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_ep_context_set_on_session(
    context: Option<&OnnxsealEpContext>,
    options: *mut OrtSessionOptions,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let context = given(context, "context")?;
        given((!options.is_null()).then_some(()), "options")?;
        // SAFETY: the caller gives options of this library, and keeps the context.
        Ok(unsafe { context.0.set_on_session(options) }?)
    })
}

/// Makes a compilation with `options` write compiled caches to here
/// (`ModelCompilationOptions_SetEpContextDataWriteFunc`). Keep `context` until the options are
/// released.
///
/// Errors: `RUNTIME`, `USAGE`.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_ep_context_set_on_compilation(
    context: Option<&OnnxsealEpContext>,
    options: *mut OrtModelCompilationOptions,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let context = given(context, "context")?;
        given((!options.is_null()).then_some(()), "options")?;
        // SAFETY: the caller gives options of this library, and keeps the context.
        Ok(unsafe { context.0.set_on_compilation(options) }?)
    })
}

/// Limits files of compiled caches to `max_bytes` bytes from now on. The default is 4 GiB.
///
/// Errors: `USAGE`.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_ep_context_set_max_bytes(
    context: Option<&OnnxsealEpContext>,
    max_bytes: u64,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let store = given(context, "context")?.0.store();
        store.set_max_bytes(max_bytes);
        Ok(())
    })
}

/// Seals `length_bytes` bytes at `content` under `name`. Use it for the compiled model itself, which has
/// the weights of all nodes that no provider took.
///
/// Errors: `IO`; `MALFORMED` if there are more bytes than the limit; `USAGE` if `name` is not a plain file
/// name; `INTERNAL` if there is no memory.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_ep_context_write(
    context: Option<&OnnxsealEpContext>,
    name: *const c_char,
    content: *const c_void,
    length_bytes: usize,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let context = given(context, "context")?;
        // SAFETY: the caller gives text.
        let name = unsafe { text(name, "name") }?;
        // SAFETY: the caller gives this many bytes.
        let content = unsafe { bytes(content, length_bytes, "content") }?;
        Ok(context.0.store().write(name, content)?)
    })
}

/// Opens the cache that is sealed under `name`. On success the caller releases `*blob` with
/// onnxseal_blob_release(); on failure it is `NULL`.
///
/// Errors: `AUTHENTICATION` if the cache was changed, or has another name or another model;
/// `MALFORMED` if the file is no sealed cache or is too large; `IO`; `USAGE`; `INTERNAL` if there is no
/// memory for it.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_ep_context_read(
    context: Option<&OnnxsealEpContext>,
    name: *const c_char,
    blob: Option<&mut MaybeUninit<*mut OnnxsealBlob>>,
) -> Option<Box<OnnxsealError>> {
    guard(|| -> Result<()> {
        let place = OutPointer::new(blob, "blob")?;
        let context = given(context, "context")?;
        // SAFETY: the caller gives text.
        let name = unsafe { text(name, "name") }?;
        place.fill(OnnxsealBlob(context.0.store().read(name)?));
        Ok(())
    })
}

/// The bytes of `blob`, which belong to it. `*length_bytes` is their number. `NULL` if `blob` or
/// `length_bytes` is `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_blob_bytes(
    blob: Option<&OnnxsealBlob>,
    length_bytes: Option<&mut MaybeUninit<usize>>,
) -> *const c_void {
    lent(blob.map(|OnnxsealBlob(bytes)| &bytes[..]), length_bytes)
}

/// Releases `blob`; does nothing for `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_blob_release(blob: Option<Box<OnnxsealBlob>>) {
    drop(blob);
}

/// Releases `context`. No options or sessions may use it any more. Does nothing for `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_ep_context_release(context: Option<Box<OnnxsealEpContext>>) {
    drop(context);
}
