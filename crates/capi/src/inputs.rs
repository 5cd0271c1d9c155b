//! Input keys, and images that are transformed with them.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::path::Path;

use onnxseal_inputs::{ImagesMut, InputKey, Scale};

use crate::arguments::{OutPointer, array, array_mut, bytes, count, given, path};
use crate::error::{Fault, OnnxsealError, Result, guard};
use crate::identities::OnnxsealIdentities;

/// A key that images are transformed with before a rewritten model is fed them. Any number of threads may
/// use it at once. Its seed is zeroized when it is released.
pub struct OnnxsealInputKey(InputKey);

/// Opens a key file. One that is encrypted with age needs `identities`; `NULL` for others.
///
/// On success `*key` is the key; release it with onnxseal_input_key_release().
///
/// Errors: `IO`; `MALFORMED` if the file is no key; `NO_MATCHING_KEY` if no identity opens it.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_input_key_open(
    path: *const c_char,
    identities: Option<&OnnxsealIdentities>,
    key: Option<&mut MaybeUninit<*mut OnnxsealInputKey>>,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let place = OutPointer::new(key, "key")?;
        // SAFETY: the caller gives text that ends with a NUL, or NULL.
        let path = unsafe { self::path(path, "path") }?;
        let identities = identities.map(|identities| &identities.0);
        let key = InputKey::open(Path::new(&path), identities)?;
        place.fill(OnnxsealInputKey(key));
        Ok(())
    })
}

/// Opens an input key in memory: `length_bytes` bytes at `file`, which the caller zeroizes.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_input_key_open_memory(
    file: *const c_void,
    length_bytes: usize,
    identities: Option<&OnnxsealIdentities>,
    key: Option<&mut MaybeUninit<*mut OnnxsealInputKey>>,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let place = OutPointer::new(key, "key")?;
        // SAFETY: the caller gives this many bytes.
        let file = unsafe { bytes(file, length_bytes, "file") }?;
        let identities = identities.map(|identities| &identities.0);
        let key = InputKey::from_bytes(file, identities)?;
        place.fill(OnnxsealInputKey(key));
        Ok(())
    })
}

/// Transforms images where they lie: what an ONNX Runtime session on the original is fed becomes what one on
/// the rewritten model is fed.
///
/// `values` is an array of shape `dims`, of `n_dims` axes: 3 for one image, or 4 for images one after the
/// other. Their order is that of the key's layout. `data_type` is one of ONNX's numbers (TensorProto.DataType):
/// FLOAT 1, UINT8 2, INT8 3, UINT16 4 or FLOAT16 10. The array is aligned for it, and no other thread uses it
/// meanwhile. Floats are pixels in the key's range, or with `is_normalised` they have been through
/// `(x - mean) / std` already, with the key's mean and std.
///
/// Errors: `USAGE` if the shape or the type does not go with the key; the images are then as they were.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_input_key_apply(
    key: Option<&OnnxsealInputKey>,
    dims: *const usize,
    n_dims: usize,
    data_type: i32,
    is_normalised: bool,
    values: *mut c_void,
) -> Option<Box<OnnxsealError>> {
    let kind = (data_type, is_normalised);
    guard(|| transform(key, (dims, n_dims), kind, values, false))
}

/// Makes plain images of keyed ones where they lie. Arguments and errors are those of
/// onnxseal_input_key_apply().
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_input_key_invert(
    key: Option<&OnnxsealInputKey>,
    dims: *const usize,
    n_dims: usize,
    data_type: i32,
    is_normalised: bool,
    values: *mut c_void,
) -> Option<Box<OnnxsealError>> {
    let kind = (data_type, is_normalised);
    guard(|| transform(key, (dims, n_dims), kind, values, true))
}

/// Releases `key`; does nothing for `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_input_key_release(key: Option<Box<OnnxsealInputKey>>) {
    drop(key);
}

fn transform(
    key: Option<&OnnxsealInputKey>,
    (dims, n_dims): (*const usize, usize),
    (data_type, is_normalised): (i32, bool),
    values: *mut c_void,
    is_inverse: bool,
) -> Result<()> {
    let OnnxsealInputKey(key) = given(key, "key")?;
    // SAFETY: the caller gives this many numbers.
    let dims = unsafe { array(dims, n_dims, "dims") }?;
    let cipher = key.cipher_for(dims)?;
    let len = count(dims)?;
    let start = values;
    // SAFETY: the caller gives this many values of this type, which nobody else uses; all bits are a value.
    let images = unsafe {
        match data_type {
            1 => ImagesMut::F32(array_mut(start.cast(), len, "values")?),
            2 => ImagesMut::U8(array_mut(start.cast(), len, "values")?),
            3 => ImagesMut::I8(array_mut(start.cast(), len, "values")?),
            4 => ImagesMut::U16(array_mut(start.cast(), len, "values")?),
            10 => ImagesMut::F16(array_mut(start.cast(), len, "values")?),
            other => {
                return Err(Fault::usage(format!(
                    "images have data type 1, 2, 3, 4 or 10, not {other}"
                )));
            }
        }
    };
    let scale = if is_normalised {
        Scale::Normalised
    } else {
        Scale::Pixels
    };
    if is_inverse {
        cipher.invert_in_place(images, scale)?
    } else {
        cipher.apply_in_place(images, scale)?
    }
    Ok(())
}
