//! Memory of an open model as Python's buffers, and Python's buffers as images.
//!
//! The place with `unsafe` in this crate: the buffer protocol.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use onnxseal_inputs::{Images, ImagesMut, ValueType};
use onnxseal_runtime::Model;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use zeroize::Zeroizing;

/// A part of a file of an open model. It keeps the model in memory.
#[pyclass(frozen)]
pub struct View(Part);

enum Part {
    Of {
        /// Keeps the memory.
        _model: Arc<Model>,
        bytes: &'static [u8],
    },
    Whole(Arc<Zeroizing<Vec<u8>>>),
}

impl View {
    /// `bytes`, which are in the memory of `model`; none, if they are not.
    pub fn new(model: &Arc<Model>, bytes: &[u8]) -> View {
        let bytes = match model.holds(bytes) {
            // SAFETY: they live as long as the model, which the view keeps, and never move.
            true => unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) },
            false => &[],
        };
        let _model = Arc::clone(model);
        View(Part::Of { _model, bytes })
    }

    /// All bytes of a model in one file.
    pub fn of_whole(bytes: Arc<Zeroizing<Vec<u8>>>) -> View {
        View(Part::Whole(bytes))
    }

    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Part::Of { bytes, .. } => bytes,
            Part::Whole(bytes) => bytes,
        }
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

/// The images in a buffer. The caller holds the interpreter for as long as it reads them, so no
/// Python code writes to them meanwhile.
pub fn images<'b>(buffer: &'b PyBuffer<u8>, of: ValueType) -> PyResult<Images<'b>> {
    let len = check(buffer, of)?;
    let start = buffer.buf_ptr();
    // SAFETY: `check` made sure of a contiguous buffer of `len` values, aligned for them, of a type of which all bits are
    // a value. It stays while `buffer` is borrowed.
    unsafe {
        Ok(match of {
            ValueType::U8 => Images::U8(slice(start.cast(), len)),
            ValueType::U16 => Images::U16(slice(start.cast(), len)),
            ValueType::I8 => Images::I8(slice(start.cast(), len)),
            ValueType::F16 => Images::F16(slice(start.cast(), len)),
            ValueType::F32 => Images::F32(slice(start.cast(), len)),
        })
    }
}

/// The images in a buffer, to be written.
pub fn images_mut<'b>(buffer: &'b mut PyBuffer<u8>, of: ValueType) -> PyResult<ImagesMut<'b>> {
    let len = check(buffer, of)?;
    if buffer.readonly() {
        return Err(PyBufferError::new_err("the array cannot be written to"));
    }
    let start = buffer.buf_ptr();
    // SAFETY: as in `images`; it can be written to. Of two buffers over the same memory, `check_apart` tells.
    unsafe {
        Ok(match of {
            ValueType::U8 => ImagesMut::U8(slice_mut(start.cast(), len)),
            ValueType::U16 => ImagesMut::U16(slice_mut(start.cast(), len)),
            ValueType::I8 => ImagesMut::I8(slice_mut(start.cast(), len)),
            ValueType::F16 => ImagesMut::F16(slice_mut(start.cast(), len)),
            ValueType::F32 => ImagesMut::F32(slice_mut(start.cast(), len)),
        })
    }
}

/// Fails if the two buffers overlap.
pub fn check_apart(one: &PyBuffer<u8>, other: &PyBuffer<u8>) -> PyResult<()> {
    let range = |buffer: &PyBuffer<u8>| {
        let start = buffer.buf_ptr() as usize;
        start..start.saturating_add(buffer.len_bytes())
    };
    let (one, other) = (range(one), range(other));
    if one.start < other.end && other.start < one.end {
        Err(PyBufferError::new_err("the arrays have memory in common"))
    } else {
        Ok(())
    }
}

/// Returns how many values of a type a buffer has. Fails if it is not contiguous, or not aligned
/// for them.
fn check(buffer: &PyBuffer<u8>, of: ValueType) -> PyResult<usize> {
    let width = of.len_bytes();
    let is_aligned = (buffer.buf_ptr() as usize).is_multiple_of(width);
    let is_whole = buffer.len_bytes().is_multiple_of(width);
    if buffer.is_c_contiguous() && is_aligned && is_whole {
        Ok(buffer.len_bytes() / width)
    } else {
        Err(PyBufferError::new_err(
            "the array is not contiguous, or not aligned",
        ))
    }
}

/// # Safety
/// As for [`std::slice::from_raw_parts`]; with a `len` of 0, `start` may be anything.
unsafe fn slice<'b, T>(start: *const T, len: usize) -> &'b [T] {
    match len {
        0 => &[],
        // SAFETY: the caller's promise.
        _ => unsafe { std::slice::from_raw_parts(start, len) },
    }
}

/// # Safety
/// As for [`std::slice::from_raw_parts_mut`]; with a `len` of 0, `start` may be anything.
unsafe fn slice_mut<'b, T>(start: *mut T, len: usize) -> &'b mut [T] {
    match len {
        0 => &mut [],
        // SAFETY: the caller's promise.
        _ => unsafe { std::slice::from_raw_parts_mut(start, len) },
    }
}
