//! The callbacks through which ONNX Runtime uses the store.
#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::{fmt, io, ptr, slice};

use super::EpContextStore;
use super::ffi::{
    API_VERSION, ErrorCode, Functions, OrtAllocator, OrtApiBase, OrtModelCompilationOptions,
    OrtReadNamedBufferFunc, OrtSessionOptions, OrtStatus, OrtWriteNamedBufferFunc,
};
use crate::error::{Error, Result};

/// Callbacks that seal the compiled caches of execution providers, and open them again.
///
/// **Lifetime.** ONNX Runtime keeps a pointer to these callbacks, and an execution provider may
/// too: they must outlive the options they were set on, all copies of those, and every session made
/// of them. They may be moved meanwhile, and several threads may call them at once.
pub struct EpContextCallbacks {
    // ONNX Runtime keeps its address.
    state: Arc<State>,
}

struct State {
    store: EpContextStore,
    functions: Functions,
}

impl EpContextCallbacks {
    /// Makes callbacks for a store, for the loaded ONNX Runtime that returned `base`.
    ///
    /// # Errors
    /// [`Error::Callbacks`] before version 1.31.
    ///
    /// # Safety
    /// `base` must be the result of `OrtGetApiBase`, or null. The library must not be unloaded
    /// before the callbacks are dropped.
    pub unsafe fn new(
        store: EpContextStore,
        base: *const OrtApiBase,
    ) -> Result<EpContextCallbacks> {
        // SAFETY: the caller's promise.
        let functions = unsafe { Functions::of(base) };
        let functions = functions.ok_or_else(|| {
            Error::Callbacks(format!(
                "this ONNX Runtime has no callbacks for compiled caches: version 1.{API_VERSION} or newer has them"
            ))
        })?;
        let state = Arc::new(State { store, functions });
        Ok(EpContextCallbacks { state })
    }

    /// Makes sessions with these options read compiled caches from the store
    /// (`SessionOptionsSetEpContextDataReadFunc`).
    ///
    /// # Errors
    /// [`Error::Callbacks`] if ONNX Runtime refuses.
    ///
    /// # Safety
    /// `options` must be alive, and used by nobody else meanwhile. The callbacks must live as long
    /// as the type's documentation says.
    pub unsafe fn set_on_session(&self, options: *mut OrtSessionOptions) -> Result<()> {
        let ((function, state), functions) = (self.read_func(), &self.state.functions);
        // SAFETY: the caller's promise.
        let status = unsafe { (functions.set_read_func)(options, function, state) };
        functions.result(status).map_err(refused)
    }

    /// Makes a compilation with these options write compiled caches to the store
    /// (`ModelCompilationOptions_SetEpContextDataWriteFunc`).
    ///
    /// # Errors
    /// [`Error::Callbacks`] if ONNX Runtime refuses.
    ///
    /// # Safety
    /// As [`set_on_session`](Self::set_on_session).
    pub unsafe fn set_on_compilation(
        &self,
        options: *mut OrtModelCompilationOptions,
    ) -> Result<()> {
        let ((function, state), functions) = (self.write_func(), &self.state.functions);
        // SAFETY: the caller's promise.
        let status = unsafe { (functions.set_write_func)(options, function, state) };
        functions.result(status).map_err(refused)
    }

    /// Returns the function that reads, and the state to call it with.
    pub fn read_func(&self) -> (OrtReadNamedBufferFunc, *mut c_void) {
        (read, self.state())
    }

    /// Returns the function that writes, and the state to call it with.
    pub fn write_func(&self) -> (OrtWriteNamedBufferFunc, *mut c_void) {
        (write, self.state())
    }

    /// Returns the store, to read and write it directly.
    pub fn store(&self) -> &EpContextStore {
        &self.state.store
    }

    fn state(&self) -> *mut c_void {
        Arc::as_ptr(&self.state).cast_mut().cast()
    }
}

impl fmt::Debug for EpContextCallbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpContextCallbacks({:?})", self.store())
    }
}

fn refused(message: String) -> Error {
    Error::Callbacks(format!(
        "ONNX Runtime refuses the callbacks for compiled caches: {message}"
    ))
}

/// The failure to report to ONNX Runtime.
struct Fault {
    code: ErrorCode,
    message: String,
}

fn invalid(message: &str) -> Fault {
    Fault {
        code: ErrorCode::InvalidArgument,
        message: message.into(),
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let code = match &error {
            Error::Usage(_) => ErrorCode::InvalidArgument,
            Error::Core(onnxseal_core::Error::Store(onnxseal_core::StoreError::Io {
                source,
                ..
            })) if source.kind() == io::ErrorKind::NotFound => ErrorCode::NoSuchFile,
            _ => ErrorCode::Fail,
        };
        // Append the causes, since a status holds only one message.
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            message = format!("{message}: {source}");
            cause = source.source();
        }
        Fault { code, message }
    }
}

/// Opens a blob, as an [`OrtReadNamedBufferFunc`].
unsafe extern "system" fn read(
    state: *mut c_void,
    name: *const c_char,
    allocator: *mut OrtAllocator,
    buffer: *mut *mut c_void,
    data_size: *mut usize,
) -> *mut OrtStatus {
    // SAFETY: the state that the function was set with, which is alive.
    let state = unsafe { &*state.cast::<State>() };
    state.answer(|| {
        if allocator.is_null() || buffer.is_null() || data_size.is_null() {
            return Err(invalid("a pointer of the read callback is null"));
        }
        // SAFETY: it points to where the buffer is wanted.
        unsafe { *buffer = ptr::null_mut() };
        // SAFETY: it points to where the size is wanted.
        unsafe { *data_size = 0 };
        // SAFETY: a string, or null.
        let name = unsafe { text(name) }?;
        let stored = state.store.load(name)?;
        let len = stored.plaintext_len;
        if len == 0 {
            return Ok(state.store.open_into(name, &stored, &mut [])?);
        }
        // SAFETY: an allocator that is alive.
        let memory = unsafe { Memory::new(allocator, len) }?;
        // SAFETY: `len` bytes, which are ours until they are handed out.
        unsafe { ptr::write_bytes(memory.start, 0, len) };
        // SAFETY: the same bytes, now initialised.
        let plaintext = unsafe { slice::from_raw_parts_mut(memory.start, len) };
        state.store.open_into(name, &stored, plaintext)?;
        // SAFETY: it points to where the buffer is wanted.
        unsafe { *buffer = memory.hand_out() };
        // SAFETY: it points to where the size is wanted.
        unsafe { *data_size = len };
        Ok(())
    })
}

/// Seals a blob, as an [`OrtWriteNamedBufferFunc`].
unsafe extern "system" fn write(
    state: *mut c_void,
    name: *const c_char,
    buffer: *const c_void,
    buffer_num_bytes: usize,
) -> *mut OrtStatus {
    // SAFETY: the state that the function was set with, which is alive.
    let state = unsafe { &*state.cast::<State>() };
    state.answer(|| {
        // SAFETY: a string, or null.
        let name = unsafe { text(name) }?;
        let bytes = match (buffer.is_null(), buffer_num_bytes) {
            (_, 0) => &[][..],
            (true, _) => return Err(invalid("the buffer of the write callback is null")),
            // SAFETY: `len` bytes, which ONNX Runtime leaves unchanged until the function returns.
            (false, len) => unsafe { slice::from_raw_parts(buffer.cast::<u8>(), len) },
        };
        Ok(state.store.write(name, bytes)?)
    })
}

/// Returns the string at `name`.
///
/// # Safety
/// `name` must be null, or end in NUL and live for `'a`.
unsafe fn text<'a>(name: *const c_char) -> std::result::Result<&'a str, Fault> {
    if name.is_null() {
        return Err(invalid("the name of EPContext data is null"));
    }
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str()
        .map_err(|_| invalid("the name of EPContext data is not UTF-8"))
}

impl State {
    /// Runs `call` and turns its result into a status. It catches panics, which must not unwind
    /// into ONNX Runtime.
    fn answer(&self, call: impl FnOnce() -> std::result::Result<(), Fault>) -> *mut OrtStatus {
        let done = catch_unwind(AssertUnwindSafe(call));
        let panicked = |_: Box<dyn Any + Send>| {
            Err(Fault {
                code: ErrorCode::Fail,
                message: "internal error: a callback panicked".into(),
            })
        };
        match done.unwrap_or_else(panicked) {
            Ok(()) => ptr::null_mut(),
            Err(Fault { code, message }) => {
                (self.functions).status(code, format!("onnxseal: {message}"))
            }
        }
    }
}

/// Memory from ONNX Runtime's allocator, freed unless it is handed out.
struct Memory {
    allocator: *mut OrtAllocator,
    start: *mut u8,
}

impl Memory {
    /// # Safety
    /// The allocator must outlive the memory.
    unsafe fn new(allocator: *mut OrtAllocator, len: usize) -> std::result::Result<Memory, Fault> {
        // SAFETY: the caller's promise.
        let alloc = unsafe { (*allocator).alloc };
        let alloc = alloc.ok_or(invalid("the allocator does not allocate"))?;
        // SAFETY: called on its allocator.
        let start = unsafe { alloc(allocator, len) };
        if start.is_null() {
            return Err(Fault {
                code: ErrorCode::Fail,
                message: format!("cannot allocate {len} bytes"),
            });
        }
        let start = start.cast();
        Ok(Memory { allocator, start })
    }

    fn hand_out(self) -> *mut c_void {
        std::mem::ManuallyDrop::new(self).start.cast()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the allocator is alive.
        if let Some(free) = unsafe { (*self.allocator).free } {
            // SAFETY: memory of this allocator, no longer used.
            unsafe { free(self.allocator, self.start.cast()) };
        }
    }
}
