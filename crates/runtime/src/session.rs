//! Sessions of the crate `ort`.
//!
//! The place with `unsafe` in this crate: memory is handed to ONNX Runtime.
#![allow(unsafe_code)]

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
use ort::sys::ONNXTensorElementDataType as ElementType;
use ort::value::{DynValue, TensorElementType};

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
fn value(tensor: &Tensor<'_>) -> ort::Result<DynValue> {
    let element_type = element_type(tensor.data_type)
        .ok_or_else(|| ort::Error::new("a tensor of a type that is not shared"))?;
    let dims: Vec<i64> = tensor.dims.iter().map(|dim| *dim as i64).collect();
    let memory_info = MemoryInfo::default();
    let mut value = ptr::null_mut();
    // SAFETY: pointers and lengths are those of slices. Nobody writes to the elements: not ONNX Runtime
    // either, to which initializers are constant. They need not be aligned, as those of external data
    // that ONNX Runtime maps are not.
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

/// An operator that no graph has: `ort` holds operators until ONNX Runtime has released the session,
/// whatever else of the application's holds on to that, and so the model whose memory it shares.
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
