//! What C hands in: text, arrays, places for results.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsString, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use crate::error::{Fault, Result};

/// A place where a call leaves what it has made: `NULL` from the start, so that a caller who looks
/// at it after an error finds nothing to release.
pub(crate) struct OutPointer<'a, T>(&'a mut MaybeUninit<*mut T>);

impl<'a, T> OutPointer<'a, T> {
    pub fn new(
        place: Option<&'a mut MaybeUninit<*mut T>>,
        name: &str,
    ) -> Result<OutPointer<'a, T>> {
        let place = given(place, name)?;
        place.write(ptr::null_mut());
        Ok(OutPointer(place))
    }

    /// Leaves a handle, which the caller releases.
    pub fn fill(self, made: T) {
        self.fill_raw(Box::into_raw(Box::new(made)));
    }

    pub fn fill_raw(self, made: *mut T) {
        self.0.write(made);
    }
}

/// What must not be `NULL`.
pub(crate) fn given<T>(argument: Option<T>, name: &str) -> Result<T> {
    argument.ok_or_else(|| Fault::usage(format!("{name} is NULL")))
}

/// Text that need not be there.
///
/// # Safety
/// `text` is null, or ends with a NUL and stays as it is for `'a`.
pub(crate) unsafe fn c_text<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: as the caller promises.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// Text that must be UTF-8 if it is there.
///
/// # Safety
/// That of [`c_text`].
pub(crate) unsafe fn optional_text<'a>(text: *const c_char, name: &str) -> Result<Option<&'a str>> {
    // SAFETY: as the caller promises.
    let text = unsafe { c_text(text) }.map(CStr::to_str).transpose();
    text.map_err(|_| Fault::usage(format!("{name} is not UTF-8")))
}

/// Text that must be UTF-8.
///
/// # Safety
/// That of [`c_text`].
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: as the caller promises.
    given(unsafe { optional_text(text, name) }?, name)
}

/// A path or a URL: bytes as the system has them where it has bytes, UTF-8 elsewhere.
///
/// # Safety
/// That of [`c_text`].
pub(crate) unsafe fn path(path: *const c_char, name: &str) -> Result<OsString> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt as _;
        // SAFETY: as the caller promises.
        let path = given(unsafe { c_text(path) }, name)?;
        Ok(OsString::from_vec(path.to_bytes().to_vec()))
    }
    #[cfg(not(unix))]
    {
        // SAFETY: as the caller promises.
        unsafe { text(path, name) }.map(OsString::from)
    }
}

/// Bytes; `NULL` only if there are none.
///
/// # Safety
/// `bytes` is null, or points to `len_bytes` bytes that stay as they are for `'a`.
pub(crate) unsafe fn bytes<'a>(
    bytes: *const c_void,
    len_bytes: usize,
    name: &str,
) -> Result<&'a [u8]> {
    // SAFETY: as the caller promises.
    unsafe { array(bytes.cast(), len_bytes, name) }
}

/// An array; `NULL` only if it is empty.
///
/// # Safety
/// `array` is null, or points to `len` elements that stay as they are for `'a`.
pub(crate) unsafe fn array<'a, T>(array: *const T, len: usize, name: &str) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    check_array(array, len, name)?;
    // SAFETY: as the caller promises; what a slice may be.
    Ok(unsafe { std::slice::from_raw_parts(array, len) })
}

/// Fails for an array that no slice may be: `NULL`, not aligned, or of too many elements.
pub(crate) fn check_array<T>(array: *const T, len: usize, name: &str) -> Result<()> {
    let fault = if array.is_null() {
        "is NULL"
    } else if !array.is_aligned() {
        "is not aligned"
    } else if len > isize::MAX as usize / size_of::<T>().max(1) {
        "is longer than memory"
    } else {
        return Ok(());
    };
    Err(Fault::usage(format!("{name} {fault}")))
}

/// Whether two arrays, each with its length, have bytes in common.
#[cfg(feature = "labels")]
pub(crate) fn overlap<T>((a, a_len): (*const T, usize), (b, b_len): (*const T, usize)) -> bool {
    let end = |array: *const T, len: usize| {
        array
            .addr()
            .saturating_add(len.saturating_mul(size_of::<T>()))
    };
    a.addr() < end(b, b_len) && b.addr() < end(a, a_len)
}

/// An array to be written; `NULL` only if it is empty.
///
/// # Safety
/// `array` is null, or points to `len` elements that nobody else uses for `'a`.
#[cfg(any(feature = "inputs", feature = "labels"))]
pub(crate) unsafe fn array_mut<'a, T>(
    array: *mut T,
    len: usize,
    name: &str,
) -> Result<&'a mut [T]> {
    if len == 0 {
        return Ok(&mut []);
    }
    check_array(array, len, name)?;
    // SAFETY: as the caller promises; what a slice may be.
    Ok(unsafe { std::slice::from_raw_parts_mut(array, len) })
}

/// How many values an array of this shape has.
#[cfg(any(feature = "inputs", feature = "labels"))]
pub(crate) fn count(dims: &[usize]) -> Result<usize> {
    let product = dims.iter().try_fold(1_usize, |n, dim| n.checked_mul(*dim));
    product.ok_or_else(|| Fault::usage("dims have more values than memory has"))
}

/// Bytes that stay their owner's, and their number in the caller's place; `NULL` without an owner or a place.
pub(crate) fn lent(
    bytes: Option<&[u8]>,
    length_bytes: Option<&mut MaybeUninit<usize>>,
) -> *const c_void {
    let (Some(bytes), Some(length_bytes)) = (bytes, length_bytes) else {
        return ptr::null();
    };
    length_bytes.write(bytes.len());
    bytes.as_ptr().cast()
}
