//! Memory of an open model as Python's buffers.
//!
//! The place with `unsafe` in this crate: the buffer protocol.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::Arc;

use onnxseal_runtime::Model;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// A part of a file of an open model, which it keeps in memory.
#[pyclass(frozen)]
pub struct View {
    model: Arc<Model>,
    /// 0 for the model file, then the external files.
    file: usize,
    range: Range<usize>,
}

impl View {
    /// The bytes at `range` of a file; none, if there are none.
    pub fn new(model: Arc<Model>, file: usize, range: Range<usize>) -> View {
        View { model, file, range }
    }

    fn bytes(&self) -> &[u8] {
        let file = match self.file.checked_sub(1) {
            None => Some(self.model.bytes()),
            Some(index) => (self.model.external_files().nth(index)).map(|(_, bytes)| bytes),
        };
        file.and_then(|file| file.get(self.range.clone()))
            .unwrap_or_default()
    }
}

#[pymethods]
impl View {
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let bytes = slf.get().bytes();
        let len = ffi::Py_ssize_t::try_from(bytes.len());
        let len = len.map_err(|_| PyBufferError::new_err("too long"))?;
        let (start, readonly) = (bytes.as_ptr().cast::<c_void>().cast_mut(), 1);
        // SAFETY: the interpreter gives a view to fill in. It keeps `slf`, which keeps the model, whose
        // memory never moves; and nobody writes to it, because it is said to be read-only.
        let filled =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, len, readonly, flags) };
        match filled {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}
