//! Sessions of the crate `ort`.
//!
//! The place with `unsafe` in this crate: memory is handed to ONNX Runtime.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::c_void;
use std::path::PathBuf;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::AsPointer;
use ort::environment::EnvironmentBuilder;
use ort::memory::{Allocator, MemoryInfo};
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::sys::{
    ONNXTensorElementDataType as ElementType, OrtAllocator, OrtMemoryInfo, OrtStatusPtr, OrtValue,
};
use ort::value::DynValue;

use crate::DataType;
use crate::error::{Error, Result};
use crate::model::{Model, Tensor};
use crate::sharing::Sharing;

/// Loads ONNX Runtime's library: the one that `ORT_DYLIB_PATH` names, or else the one the system finds.
///
/// `ort` does so by itself when it is first used, and panics where it cannot; this says why.
///
/// # Errors
/// [`Error::Library`].
pub fn load() -> Result<EnvironmentBuilder> {
    let path = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty());
    let path = path.map_or_else(|| crate::error::LIBRARY_NAME.into(), PathBuf::from);
    ort::init_from(path).map_err(Error::Library)
}

impl Model {
    /// Makes a session of the model, with the options of `builder`.
    ///
    /// Weights that ONNX Runtime uses where they lie stay in memory until it has released them, which is
    /// at the end of the session; if there are none, all of the model is released here. If ONNX Runtime
    /// refuses the model with shared weights, it is tried without: so what it logs may have an error
    /// that is none.
    ///
    /// # Errors
    /// [`Error::Session`]; `Io` where the model's files were changed meanwhile.
    pub fn into_session(self, builder: SessionBuilder) -> Result<Session> {
        let model = Arc::new(self);
        let session = match model.commit(builder.clone(), Sharing::WherePossible)? {
            Ok(session) => session,
            Err(refused) if refused.had_shared => model
                .commit(builder, Sharing::Never)?
                .map_err(|refused| model.refused(refused.source))?,
            Err(refused) => return Err(model.refused(refused.source)),
        };
        model.check_unchanged()?;
        Ok(session)
    }

    fn refused(&self, source: ort::Error) -> Error {
        Error::Session {
            path: self.path.clone(),
            source,
        }
    }

    /// Makes a session; the inner error is ONNX Runtime's.
    fn commit(
        self: &Arc<Model>,
        builder: SessionBuilder,
        sharing: Sharing,
    ) -> Result<std::result::Result<Session, Refused>> {
        let prepared = self.prepare(sharing)?;
        let had_shared = !prepared.shared().is_empty();
        let commit = || -> ort::Result<Session> {
            let mut builder = builder;
            for (key, value) in prepared.config() {
                builder = builder.with_config_entry(key, value)?;
            }
            // `ort` holds its initializers as long as the session lives, and so the one that keeps the
            // model. ONNX Runtime takes no shared value that does: so an injected one must be it.
            let (keeper, shared) = match (prepared.shared(), prepared.injected()) {
                ([], _) => (None, &[][..]),
                (shared, [injected, ..]) => (Some(injected), shared),
                ([first, shared @ ..], []) => (Some(first), shared),
            };
            if let Some(tensor) = keeper {
                builder =
                    builder.with_external_initializer(tensor.name, keeper_of(self, tensor)?)?;
            }
            for tensor in shared {
                builder = builder.with_initializer(tensor.name, value_of(tensor)?)?;
            }
            let injected = prepared
                .injected()
                .iter()
                .skip(usize::from(!shared.is_empty()));
            let injected = injected.map(|tensor| Ok((tensor.name, value_of(tensor)?)));
            let injected: Vec<(&str, DynValue)> = injected.collect::<ort::Result<_>>()?;
            for (name, value) in &injected {
                inject(&mut builder, name, value)?;
            }
            builder.commit_from_memory(prepared.skeleton())
        };
        Ok(commit().map_err(|source| Refused { had_shared, source }))
    }
}

/// ONNX Runtime does not make a session.
struct Refused {
    had_shared: bool,
    source: ort::Error,
}

/// Adds an initializer for ONNX Runtime to copy.
///
/// Not by `SessionBuilder::with_external_initializer`, which keeps the value as long as the session.
fn inject(builder: &mut SessionBuilder, name: &str, value: &DynValue) -> ort::Result<()> {
    let name =
        std::ffi::CString::new(name).map_err(|_| ort::Error::new("a tensor's name has a NUL"))?;
    // SAFETY: one name and one value, which ONNX Runtime copies (the value by reference).
    let status = unsafe {
        (ort::api().AddExternalInitializers)(builder.ptr_mut(), &name.as_ptr(), &value.ptr(), 1)
    };
    // SAFETY: a status that ONNX Runtime has just returned.
    unsafe { ort::Error::result_from_status(status) }
}

/// A value over the memory of a tensor, which must outlive it.
fn value_of(tensor: &Tensor<'_>) -> ort::Result<DynValue> {
    let memory_info = MemoryInfo::default();
    make(tensor, |data, dims, element_type, value| {
        // SAFETY: see `make`; the pointers and lengths are those of slices.
        unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                memory_info.ptr(),
                data,
                tensor.bytes.len(),
                dims.as_ptr(),
                dims.len(),
                element_type,
                value,
            )
        }
    })
}

/// The same, and it keeps its `model` alive.
fn keeper_of(model: &Arc<Model>, tensor: &Tensor<'_>) -> ort::Result<DynValue> {
    let data = tensor.bytes.as_ptr();
    let allocator = allocator();
    keep(data, Arc::clone(model));
    let made = make(tensor, |data, dims, element_type, value| {
        // SAFETY: as above; `free` is called with the data once the value is no more.
        unsafe {
            (ort::api().CreateTensorWithDataAndDeleterAsOrtValue)(
                allocator,
                data,
                tensor.bytes.len(),
                dims.as_ptr(),
                dims.len(),
                element_type,
                value,
            )
        }
    });
    made.inspect_err(|_| release(data))
}

/// Calls `create` for a value over the memory of a tensor.
///
/// Nobody writes to that: not ONNX Runtime either, to which initializers are constant. It need not be
/// aligned, as that of external data which ONNX Runtime maps is not.
fn make(
    tensor: &Tensor<'_>,
    create: impl FnOnce(*mut c_void, &[i64], ElementType, &mut *mut OrtValue) -> OrtStatusPtr,
) -> ort::Result<DynValue> {
    let element_type = element_type(tensor.data_type)
        .ok_or_else(|| ort::Error::new("a tensor of a type that is not shared"))?;
    let dims: Vec<i64> = tensor.dims.iter().map(|dim| *dim as i64).collect();
    let data = tensor.bytes.as_ptr().cast_mut().cast();
    let mut value = ptr::null_mut();
    let status = create(data, &dims, element_type, &mut value);
    // SAFETY: a status that ONNX Runtime has just returned.
    unsafe { ort::Error::result_from_status(status) }?;
    let value = NonNull::new(value).ok_or_else(|| ort::Error::new("a value that is none"))?;
    // SAFETY: a value that is ours. Of the allocator nothing is asked but what kind of memory it has.
    Ok(unsafe { DynValue::from_ptr(value, Some(&Allocator::default())) })
}

/// What ONNX Runtime calls the types that are shared.
fn element_type(data_type: DataType) -> Option<ElementType> {
    use ElementType as E;
    Some(match data_type {
        DataType::Float => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        DataType::Double => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        DataType::Float16 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        DataType::Int8 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        DataType::Int16 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
        DataType::Int32 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        DataType::Int64 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        DataType::Uint8 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        DataType::Uint16 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        DataType::Uint32 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        DataType::Uint64 => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        DataType::Bool => E::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        _ => return None,
    })
}

/// Models that a value keeps, by the address of its data: several values may begin at one.
static KEPT: Mutex<BTreeMap<usize, Vec<Arc<Model>>>> = Mutex::new(BTreeMap::new());

fn keep(data: *const u8, model: Arc<Model>) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.entry(data.addr()).or_default().push(model);
}

fn release(data: *const u8) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let released = match kept.entry(data.addr()) {
        Entry::Vacant(_) => None,
        Entry::Occupied(mut models) => {
            let model = models.get_mut().pop();
            if models.get().is_empty() {
                models.remove();
            }
            model
        }
    };
    // Zeroizing it may take a while.
    drop(kept);
    drop(released);
}

/// An allocator that frees the memory of models, and does nothing else.
struct Deleter {
    allocator: OrtAllocator,
}

// SAFETY: nothing in it changes.
unsafe impl Sync for Deleter {}

static DELETER: Deleter = Deleter {
    allocator: OrtAllocator {
        Alloc: Some(alloc),
        Free: Some(free),
        Info: Some(info),
        Reserve: Some(reserve),
        // SAFETY: fills a plain struct.
        ..unsafe { OrtAllocator::default() }
    },
};

fn allocator() -> *mut OrtAllocator {
    (&raw const DELETER.allocator).cast_mut()
}

unsafe extern "system" fn alloc(_: *mut OrtAllocator, _: usize) -> *mut c_void {
    ptr::null_mut()
}

unsafe extern "system" fn reserve(_: *const OrtAllocator, _: usize) -> *mut c_void {
    ptr::null_mut()
}

unsafe extern "system" fn free(_: *mut OrtAllocator, data: *mut c_void) {
    release(data.cast());
}

/// What kind of memory that is: the CPU's.
unsafe extern "system" fn info(_: *const OrtAllocator) -> *const OrtMemoryInfo {
    static INFO: OnceLock<Info> = OnceLock::new();
    INFO.get_or_init(|| Info(MemoryInfo::default())).0.ptr()
}

struct Info(MemoryInfo<'static>);

// SAFETY: nothing in it changes.
unsafe impl Send for Info {}
// SAFETY: nothing in it changes.
unsafe impl Sync for Info {}
