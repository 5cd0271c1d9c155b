//! ONNX Runtime's C API, as the caller's library gives it.
//!
//! Functions are read one by one from the table, of which no more is taken to be there than the
//! first version that has them; what they make is released on drop.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

use onnxseal_runtime::{PROCESSORS, Tensor, element_type};
use ort_sys::{
    OrtAllocatorType, OrtApi, OrtApiBase, OrtEnv, OrtMemType, OrtMemoryInfo, OrtSession,
    OrtSessionOptions, OrtStatusPtr, OrtValue,
};

use crate::error::{Fault, Result};

/// The first version, 1.`MINIMUM`, that takes from the options where a model in memory has its
/// external data: without that it would look for them in the current folder.
pub(crate) const MINIMUM: u32 = 21;

/// Dimensions as C has them.
pub(crate) fn c_dims(dims: &[u64]) -> Result<&[i64]> {
    if dims.iter().any(|dim| i64::try_from(*dim).is_err()) {
        return Err(Fault::malformed("a dimension is 2^63 or more"));
    }
    // SAFETY: the same memory; numbers below 2^63 have the same bits in both types.
    Ok(unsafe { std::slice::from_raw_parts(dims.as_ptr().cast(), dims.len()) })
}

/// The functions of the caller's ONNX Runtime: a table of a version that has all that this file calls, which is for
/// [`Api::of`] to see to. ONNX Runtime keeps the place of each for ever. No reference to the whole table is
/// made: an older version's is shorter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Api(*const OrtApi);

// SAFETY: the table is constant, and its functions may be called from any thread.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

impl Api {
    /// The table of the library whose `OrtGetApiBase` gave `base`.
    pub fn of(base: Option<&OrtApiBase>) -> Result<Api> {
        let Some(base) = base else {
            return Err(Fault::usage(format!(
                "ort_api_base is NULL: load ONNX Runtime 1.{MINIMUM} or newer and give what its OrtGetApiBase returns"
            )));
        };
        // SAFETY: the caller gives what `OrtGetApiBase` returned.
        let api = unsafe { (base.GetApi)(MINIMUM) };
        if !api.is_null() {
            return Ok(Api(api));
        }
        // SAFETY: as above.
        let version = unsafe { (base.GetVersionString)() };
        // SAFETY: ONNX Runtime returns text that is never released.
        let version = unsafe { owned_text(version) };
        Err(Fault::runtime(format!(
            "ONNX Runtime {version} is too old: install version 1.{MINIMUM} or newer, such as libonnxruntime of \
             https://github.com/microsoft/onnxruntime/releases, and see that the program loads that one"
        )))
    }

    /// Whether all execution providers of the library use the memory of the process.
    pub fn is_for_processors(self) -> Result<bool> {
        let (mut names, mut n) = (ptr::null_mut(), 0);
        // SAFETY: the places are ours.
        let status = unsafe { ((*self.0).GetAvailableProviders)(&raw mut names, &raw mut n) };
        self.check(status, "tell its providers")?;
        let all = (0..usize::try_from(n).unwrap_or_default()).all(|index| {
            // SAFETY: so many texts were returned.
            let name = unsafe { *names.add(index) };
            // SAFETY: as above.
            let name = unsafe { owned_text(name) };
            PROCESSORS.contains(&name.as_str())
        });
        // SAFETY: what was returned, and is not used again.
        let status = unsafe { ((*self.0).ReleaseAvailableProviders)(names, n) };
        self.check(status, "release its providers' names")?;
        Ok(all)
    }

    /// Turns a status into a result. `action` is for the message.
    fn check(self, status: OrtStatusPtr, action: &str) -> Result<()> {
        let OrtStatusPtr(status) = status;
        if status.is_null() {
            return Ok(());
        }
        // SAFETY: the status is not null, and ours.
        let message = unsafe { ((*self.0).GetErrorMessage)(status) };
        // SAFETY: the text lives as long as the status.
        let message = unsafe { owned_text(message) };
        // SAFETY: the status is ours, and not used again.
        unsafe { ((*self.0).ReleaseStatus)(status) };
        Err(Fault::runtime(format!(
            "ONNX Runtime cannot {action}: {message}"
        )))
    }

    /// Releases a session.
    ///
    /// # Safety
    /// It is a session of this library, which nobody uses.
    pub unsafe fn release_session(self, session: *mut OrtSession) {
        // SAFETY: as the caller promises.
        unsafe { ((*self.0).ReleaseSession)(session) };
    }

    /// Creates a session of the model in `bytes`, whose release is up to the caller.
    ///
    /// # Safety
    /// `env` is an environment of this library.
    pub unsafe fn create_session(
        self,
        env: *const OrtEnv,
        bytes: &[u8],
        options: &SessionOptions,
    ) -> Result<*mut OrtSession> {
        let mut session = ptr::null_mut();
        // SAFETY: `env` is as the caller promises; the rest is ours and valid for the call.
        let status = unsafe {
            ((*self.0).CreateSessionFromArray)(
                env,
                bytes.as_ptr().cast(),
                bytes.len(),
                options.options,
                &raw mut session,
            )
        };
        self.check(status, "create a session")?;
        Ok(session)
    }
}

/// A copy of ONNX Runtime's text.
///
/// # Safety
/// `text` is null or ends with a NUL.
unsafe fn owned_text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().trim_end().to_owned()
}

/// An object that ONNX Runtime made for us, released on drop.
struct Owned<T> {
    made: *mut T,
    release: unsafe extern "system" fn(*mut T),
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: it is ours, and not used again.
        unsafe { (self.release)(self.made) };
    }
}

/// Session options: our own, or the caller's for the time of a call.
pub(crate) struct SessionOptions {
    api: Api,
    options: *mut OrtSessionOptions,
    _ours: Option<Owned<OrtSessionOptions>>,
}

impl SessionOptions {
    /// A copy of the caller's options; ONNX Runtime's defaults for null.
    ///
    /// # Safety
    /// `options` is null or of this library.
    pub unsafe fn copy_of(api: Api, options: *const OrtSessionOptions) -> Result<SessionOptions> {
        let mut made = ptr::null_mut();
        let status = if options.is_null() {
            // SAFETY: the place is ours.
            unsafe { ((*api.0).CreateSessionOptions)(&raw mut made) }
        } else {
            // SAFETY: `options` is as the caller promises, and the place is ours.
            unsafe { ((*api.0).CloneSessionOptions)(options, &raw mut made) }
        };
        api.check(status, "make session options")?;
        // SAFETY: a function of the table.
        let release = unsafe { (*api.0).ReleaseSessionOptions };
        Ok(SessionOptions {
            api,
            options: made,
            _ours: Some(Owned { made, release }),
        })
    }

    /// The caller's options themselves.
    ///
    /// # Safety
    /// `options` is of this library, and used by nobody else meanwhile.
    pub unsafe fn borrowed(api: Api, options: *mut OrtSessionOptions) -> SessionOptions {
        SessionOptions {
            api,
            options,
            _ours: None,
        }
    }

    /// Sets a configuration entry.
    pub fn configure(&mut self, key: &str, value: &str) -> Result<()> {
        let (c_key, c_value) = (c_name(key)?, c_name(value)?);
        // SAFETY: the options are valid; ONNX Runtime copies the texts.
        let status = unsafe {
            ((*self.api.0).AddSessionConfigEntry)(self.options, c_key.as_ptr(), c_value.as_ptr())
        };
        self.api.check(status, &format!("set {key}"))
    }

    /// The value of a configuration entry; `None` if the options do not have it.
    pub fn configured(&self, key: &str) -> Result<Option<String>> {
        let c_key = c_name(key)?;
        let action = format!("tell {key}");
        let mut has_it = 0;
        // SAFETY: the options are valid, the place is ours.
        let status = unsafe {
            ((*self.api.0).HasSessionConfigEntry)(self.options, c_key.as_ptr(), &raw mut has_it)
        };
        self.api.check(status, &action)?;
        if has_it == 0 {
            return Ok(None);
        }
        let get = |place: *mut c_char, len: &mut usize| {
            // SAFETY: as above; the place has `len` bytes, or is null to ask for their number.
            let status = unsafe {
                ((*self.api.0).GetSessionConfigEntry)(self.options, c_key.as_ptr(), place, len)
            };
            self.api.check(status, &action)
        };
        let mut len = 0;
        get(ptr::null_mut(), &mut len)?;
        let mut value = vec![0_u8; len];
        get(value.as_mut_ptr().cast(), &mut len)?;
        let value = CStr::from_bytes_until_nul(&value);
        Ok(value.ok().map(|value| value.to_string_lossy().into_owned()))
    }

    /// Has sessions write no optimized model, whatever the options said.
    pub fn write_no_optimized_model(&mut self) -> Result<()> {
        // An empty path, of the width that paths have where that is the wider one.
        let none = [0_u16; 1];
        // SAFETY: the options are valid; ONNX Runtime copies the path.
        let status = unsafe {
            ((*self.api.0).SetOptimizedModelFilePath)(self.options, none.as_ptr().cast())
        };
        self.api.check(status, "write no optimized model")
    }

    /// Has sessions use the value's memory as the initializer of its name.
    ///
    /// # Safety
    /// Value and memory outlive the options and all sessions made with them.
    pub unsafe fn share(&mut self, value: &Value) -> Result<()> {
        // SAFETY: all are valid; for how long, the caller promises.
        let status = unsafe {
            ((*self.api.0).AddInitializer)(self.options, value.name.as_ptr(), value.of.made)
        };
        self.api.check(status, "share a weight")
    }

    /// Has sessions copy the value in place of the external data of the initializer of its name.
    ///
    /// # Safety
    /// The value's memory outlives the options and all sessions made with them.
    pub unsafe fn inject(&mut self, value: &Value) -> Result<()> {
        let (name, of) = (value.name.as_ptr(), value.of.made.cast_const());
        // SAFETY: arrays of one valid element; ONNX Runtime copies names and values, not their memory.
        let status = unsafe {
            ((*self.api.0).AddExternalInitializers)(self.options, &raw const name, &raw const of, 1)
        };
        self.api.check(status, "take weights")
    }
}

/// A tensor of ONNX Runtime over memory that is not its own.
pub(crate) struct Value {
    name: CString,
    of: Owned<OrtValue>,
}

// SAFETY: a value is only read once it is made, and may be released by any thread.
unsafe impl Send for Value {}

impl Value {
    /// A tensor over the bytes of `tensor`.
    ///
    /// # Safety
    /// They stay where they are for as long as the value, and what it was given to, is used.
    unsafe fn over(api: Api, tensor: &Tensor<'_>) -> Result<Value> {
        let Tensor {
            bytes, data_type, ..
        } = tensor;
        let element_type = element_type(*data_type).ok_or_else(|| {
            Fault::runtime(format!(
                "ONNX Runtime takes no weights of type {data_type:?} from memory"
            ))
        })?;
        let (name, dims) = (c_name(tensor.name)?, c_dims(tensor.dims)?);
        let memory = cpu_memory(api)?;
        let mut made = ptr::null_mut();
        // SAFETY: memory and dims are as long as stated. ONNX Runtime only reads initializers,
        // though it asks for memory to write to.
        let status = unsafe {
            ((*api.0).CreateTensorWithDataAsOrtValue)(
                memory.made,
                bytes.as_ptr().cast_mut().cast(),
                bytes.len(),
                dims.as_ptr(),
                dims.len(),
                element_type,
                &raw mut made,
            )
        };
        api.check(status, "make a tensor")?;
        // SAFETY: a function of the table.
        let release = unsafe { (*api.0).ReleaseValue };
        let of = Owned { made, release };
        Ok(Value { name, of })
    }
}

/// Where values have their memory.
fn cpu_memory(api: Api) -> Result<Owned<OrtMemoryInfo>> {
    let mut made = ptr::null_mut();
    let kind = (
        OrtAllocatorType::OrtDeviceAllocator,
        OrtMemType::OrtMemTypeDefault,
    );
    // SAFETY: the place is ours.
    let status = unsafe { ((*api.0).CreateCpuMemoryInfo)(kind.0, kind.1, &raw mut made) };
    api.check(status, "describe memory")?;
    // SAFETY: a function of the table.
    let release = unsafe { (*api.0).ReleaseMemoryInfo };
    Ok(Owned { made, release })
}

/// A name as C has it.
pub(crate) fn c_name(name: &str) -> Result<CString> {
    CString::new(name)
        .map_err(|_| Fault::malformed(format!("the name {name} has a NUL, which C cannot express")))
}

/// What ONNX Runtime was given of a model's memory, which must live as long as its sessions: so it
/// lives as long as the model. A process may have several libraries; a tensor is known by where its path lies.
#[derive(Default)]
pub(crate) struct Values(BTreeMap<(Api, usize), Value>);

impl Values {
    /// That of a tensor, made once.
    ///
    /// # Safety
    /// That of [`Value::over`].
    pub unsafe fn of(&mut self, api: Api, tensor: &Tensor<'_>) -> Result<&Value> {
        Ok(match self.0.entry((api, tensor.path.as_ptr().addr())) {
            Entry::Occupied(known) => known.into_mut(),
            // SAFETY: as the caller promises.
            Entry::Vacant(new) => new.insert(unsafe { Value::over(api, tensor) }?),
        })
    }
}
