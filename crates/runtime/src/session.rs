//! Sessions of the crate `ort`.
//!
//! This module has `unsafe` code: it hands memory to ONNX Runtime.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::path::PathBuf;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use ort::AsPointer;
use ort::environment::EnvironmentBuilder;
use ort::memory::{Allocator, MemoryInfo};
use ort::operator::{
    BoxedKernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
};
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::{DynValue, TensorElementType};

use crate::OnLoss;
use crate::error::{Error, Result};
use crate::model::{Model, PlaintextOnDisk, Tensor};
use crate::prepare::Prepared;
use crate::sharing::{PROCESSORS, Sharing, WEIGHTS_ENTRY, WRITING_ENTRIES, element_type};

/// Loads ONNX Runtime's library: the one that `ORT_DYLIB_PATH` names, or else the one that the
/// system finds.
///
/// Without this call, `ort` loads it on first use, and panics on failure; this call returns the
/// reason.
///
/// # Errors
/// [`Error::Library`].
pub fn load() -> Result<EnvironmentBuilder> {
    let path = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty());
    let path = path.map_or_else(|| crate::error::library_name().into(), PathBuf::from);
    ort::init_from(path).map_err(Error::Library)
}

impl Model {
    /// Makes a session of the model, with the options of `builder`.
    ///
    /// Weights are shared if all execution providers of the library run on the processor. For
    /// providers of other devices, see [`into_session_with`](Self::into_session_with). Shared
    /// weights stay in memory until ONNX Runtime releases them, at the end of the session. Without
    /// any, this call releases the whole model.
    ///
    /// Weights that ONNX Runtime packs are given back meanwhile. If the session needs one again, and
    /// its file was overwritten in place, the process aborts: `docs/RUNTIME.md` says more.
    ///
    /// # Errors
    /// `Authentication` if the model was changed; [`Error::Session`]; `Io`; `Usage` if the options
    /// are another model's ([`Error::UsedOptions`]), or make ONNX Runtime write the model to a file
    /// ([`Error::WritesPlaintext`]).
    pub fn into_session(self, builder: SessionBuilder) -> Result<Session> {
        let sharing = if is_for_processors() {
            Sharing::WherePossible
        } else {
            Sharing::Never
        };
        self.into_session_with(builder, sharing)
    }

    /// Makes a session as [`into_session`](Self::into_session) does, with weights shared as
    /// `sharing` says.
    ///
    /// With [`Sharing::WherePossible`], the call tries again without shared weights if ONNX Runtime
    /// refuses them; its log then has a harmless error. Providers for devices other than the
    /// processor refuse shared weights.
    ///
    /// # Errors
    /// As [`into_session`](Self::into_session).
    pub fn into_session_with(self, builder: SessionBuilder, sharing: Sharing) -> Result<Session> {
        let mut builder = builder;
        self.check_options(&mut builder)?;
        let model = Arc::new(self);
        // What writes to files, or copies to devices, cannot wait for weights that are not there.
        let is_on_demand = sharing == Sharing::WherePossible
            && is_for_processors()
            && model.plaintext_on_disk == PlaintextOnDisk::Refused;
        let prepared = match is_on_demand {
            true => model.begin()?,
            false => model.prepare(sharing)?,
        };
        let made = model.commit(builder.clone(), &prepared);
        if is_on_demand {
            // If weights were changed, nothing that ONNX Runtime says matters.
            model.finish(OnLoss::Abort)?;
        }
        let had_shared = !prepared.shared().is_empty();
        match made? {
            Ok(session) => Ok(session),
            Err(_) if had_shared => model
                .commit(builder, &model.prepare(Sharing::Never)?)?
                .map_err(|refused| model.refused(refused)),
            Err(refused) => Err(model.refused(refused)),
        }
    }

    /// Refuses options that have weights already, or a file for the decrypted model.
    fn check_options(&self, builder: &mut SessionBuilder) -> Result<()> {
        let entry = |builder: &mut SessionBuilder, key| {
            config_entry(builder, key).map_err(|source| self.refused(source))
        };
        if entry(builder, WEIGHTS_ENTRY.0)?.is_some() {
            return Err(Error::UsedOptions);
        }
        if self.plaintext_on_disk == PlaintextOnDisk::Allowed {
            return Ok(());
        }
        for (key, on) in WRITING_ENTRIES {
            if entry(builder, key)?.is_some_and(|value| value == on) {
                return Err(Error::WritesPlaintext { key });
            }
        }
        // ONNX Runtime cannot tell whether the options have such a path, so clear it. These are a
        // copy of the caller's.
        set_no_optimized_model(builder).map_err(|source| self.refused(source))
    }

    fn refused(&self, source: ort::Error) -> Error {
        Error::Session {
            path: self.path.clone(),
            source,
        }
    }

    /// Makes a session. The inner error is ONNX Runtime's refusal.
    fn commit(
        self: &Arc<Model>,
        builder: SessionBuilder,
        prepared: &Prepared<'_>,
    ) -> Result<ort::Result<Session>> {
        let had_shared = !prepared.shared().is_empty();
        let fill = || -> ort::Result<SessionBuilder> {
            let mut builder = builder;
            for (key, value) in prepared.config() {
                builder = builder.with_config_entry(key, value)?;
            }
            if had_shared {
                builder = builder.with_operators(keeper(Arc::clone(self))?)?;
            }
            for tensor in prepared.shared() {
                builder = builder.with_initializer(tensor.name, value(tensor)?)?;
            }
            let injected = prepared.injected().iter();
            let injected = injected.map(|tensor| Ok((tensor.name, value(tensor)?)));
            let injected: Vec<(&str, DynValue)> = injected.collect::<ort::Result<_>>()?;
            for (name, value) in &injected {
                inject(&mut builder, name, value)?;
            }
            Ok(builder)
        };
        // Options that refuse the weights have others already, so sharing is not the cause.
        let mut builder = fill().map_err(|source| self.refused(source))?;
        Ok(builder.commit_from_memory(prepared.skeleton()))
    }
}

/// Returns the value of a configuration entry, or `None` if the options lack it.
fn config_entry(builder: &mut SessionBuilder, key: &str) -> ort::Result<Option<String>> {
    let key = CString::new(key).map_err(|_| ort::Error::new("a key has a NUL"))?;
    let mut has_it = 0;
    // SAFETY: options that are alive, a key that ends with a NUL, and a place of ours.
    let status =
        unsafe { (ort::api().HasSessionConfigEntry)(builder.ptr(), key.as_ptr(), &mut has_it) };
    // SAFETY: a status that ONNX Runtime has just returned.
    unsafe { ort::Error::result_from_status(status) }?;
    if has_it == 0 {
        return Ok(None);
    }
    let get = |place: *mut std::ffi::c_char, len: &mut usize| {
        // SAFETY: as above; `place` has `len` bytes, or is null to ask for their number.
        let status =
            unsafe { (ort::api().GetSessionConfigEntry)(builder.ptr(), key.as_ptr(), place, len) };
        // SAFETY: a status that ONNX Runtime has just returned.
        unsafe { ort::Error::result_from_status(status) }
    };
    let mut len = 0;
    get(ptr::null_mut(), &mut len)?;
    let mut value = vec![0_u8; len];
    get(value.as_mut_ptr().cast(), &mut len)?;
    let value = std::ffi::CStr::from_bytes_until_nul(&value);
    Ok(value.ok().map(|value| value.to_string_lossy().into_owned()))
}

/// Stops ONNX Runtime from writing an optimized model, whatever the options said.
fn set_no_optimized_model(builder: &mut SessionBuilder) -> ort::Result<()> {
    // An empty path, as wide as on systems with 16-bit characters.
    let none = [0_u16; 1];
    // SAFETY: options of ours, and an empty path, which ONNX Runtime copies.
    let status =
        unsafe { (ort::api().SetOptimizedModelFilePath)(builder.ptr_mut(), none.as_ptr().cast()) };
    // SAFETY: a status that ONNX Runtime has just returned.
    unsafe { ort::Error::result_from_status(status) }
}

/// Returns whether all execution providers of the library use the memory of the process.
fn is_for_processors() -> bool {
    let (mut names, mut n) = (ptr::null_mut(), 0);
    // SAFETY: places of ours.
    let status = unsafe { (ort::api().GetAvailableProviders)(&mut names, &mut n) };
    // SAFETY: a status that ONNX Runtime has just returned.
    if unsafe { ort::Error::result_from_status(status) }.is_err() {
        return false;
    }
    let all = (0..usize::try_from(n).unwrap_or_default()).all(|i| {
        // SAFETY: ONNX Runtime returned `n` strings.
        let name = unsafe { std::ffi::CStr::from_ptr(*names.add(i)) };
        PROCESSORS.contains(&&*name.to_string_lossy())
    });
    // SAFETY: the list that ONNX Runtime returned, not used again.
    let status = unsafe { (ort::api().ReleaseAvailableProviders)(names, n) };
    // SAFETY: a status that ONNX Runtime has just returned.
    unsafe { ort::Error::result_from_status(status) }.is_ok() && all
}

/// Adds an initializer for ONNX Runtime to copy.
///
/// `SessionBuilder::with_external_initializer` would keep the value for the life of the session.
fn inject(builder: &mut SessionBuilder, name: &str, value: &DynValue) -> ort::Result<()> {
    let name = CString::new(name).map_err(|_| ort::Error::new("a tensor's name has a NUL"))?;
    // SAFETY: one name and one value, which ONNX Runtime copies (the value by reference).
    let status = unsafe {
        (ort::api().AddExternalInitializers)(builder.ptr_mut(), &name.as_ptr(), &value.ptr(), 1)
    };
    // SAFETY: a status that ONNX Runtime has just returned.
    unsafe { ort::Error::result_from_status(status) }
}

/// Makes a value over the memory of a tensor, which must outlive it.
fn value(tensor: &Tensor<'_>) -> ort::Result<DynValue> {
    let element_type = element_type(tensor.data_type)
        .ok_or_else(|| ort::Error::new("a tensor of a type that is not shared"))?;
    let dims: Vec<i64> = tensor.dims.iter().map(|dim| *dim as i64).collect();
    let memory_info = MemoryInfo::default();
    let mut value = ptr::null_mut();
    // SAFETY: pointers and lengths come from slices. Nothing writes to the elements, as
    // initializers are constant to ONNX Runtime. They may be unaligned, as in external data that it
    // maps.
    let status = unsafe {
        (ort::api().CreateTensorWithDataAsOrtValue)(
            memory_info.ptr(),
            tensor.bytes.as_ptr().cast_mut().cast(),
            tensor.bytes.len(),
            dims.as_ptr(),
            dims.len(),
            element_type,
            &mut value,
        )
    };
    // SAFETY: a status that ONNX Runtime has just returned.
    unsafe { ort::Error::result_from_status(status) }?;
    let value =
        NonNull::new(value).ok_or_else(|| ort::Error::new("ONNX Runtime returned no value"))?;
    // SAFETY: the value is ours. The allocator only serves to tell its kind of memory.
    Ok(unsafe { DynValue::from_ptr(value, Some(&Allocator::default())) })
}

/// Makes an unused operator that keeps `model` alive: `ort` holds operators until ONNX Runtime has
/// released the session, and the session shares the model's memory.
fn keeper(model: Arc<Model>) -> ort::Result<OperatorDomain> {
    OperatorDomain::new("onnxseal")?.add(Keeper { _model: model })
}

struct Keeper {
    _model: Arc<Model>,
}

impl Operator for Keeper {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        "Keeper"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        []
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<BoxedKernel<'attr>> {
        Err(ort::Error::new("an operator that no graph has"))
    }
}
