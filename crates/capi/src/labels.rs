//! Label keys, and answers that are decoded with them.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr;

use onnxseal_labels::{Decoder, Table, UserKey};

use crate::arguments::{
    OutPointer, array, array_mut, bytes, check_array, count, given, lent, overlap, path, text,
};
use crate::error::{Fault, OnnxsealError, Result, guard};
use crate::identities::OnnxsealIdentities;

/// A table of labels, decrypted with a user's key. Any number of threads may use it at once.
pub struct OnnxsealLabelDecoder {
    decoder: Decoder,
    table: Table,
    answers: CString,
    logits: CString,
}

/// Decrypts the table of labels of a model with a key file, on all cores.
///
/// `table` is what the model's metadata has under "onnxseal-labels", as ONNX Runtime gives it. Nothing but the
/// protection of the whole model tells that its rows are those of the table. A key that is encrypted with age
/// needs `identities`; `NULL` for others.
///
/// On success `*decoder` is the decoder; release it with onnxseal_label_decoder_release().
///
/// Errors: `IO`; `MALFORMED` if the file is no key, or the text no table; `NO_MATCHING_KEY` if no identity opens the
/// file, or the key does not open the table or was revoked; `AUTHENTICATION` if the table was changed.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_label_decoder_open(
    table: *const c_char,
    path: *const c_char,
    identities: Option<&OnnxsealIdentities>,
    decoder: Option<&mut MaybeUninit<*mut OnnxsealLabelDecoder>>,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let place = OutPointer::new(decoder, "decoder")?;
        // SAFETY: the caller gives text that ends with a NUL, or NULL.
        let (table, path) = unsafe { (text(table, "table")?, self::path(path, "path")?) };
        let identities = identities.map(|identities| &identities.0);
        let key = UserKey::open(Path::new(&path), identities)?;
        place.fill(made(table, &key)?);
        Ok(())
    })
}

/// Opens a decoder with a key in memory: `length_bytes` bytes at `file`, which the caller zeroizes.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_label_decoder_open_memory(
    table: *const c_char,
    file: *const c_void,
    length_bytes: usize,
    identities: Option<&OnnxsealIdentities>,
    decoder: Option<&mut MaybeUninit<*mut OnnxsealLabelDecoder>>,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let place = OutPointer::new(decoder, "decoder")?;
        // SAFETY: the caller gives text that ends with a NUL, or NULL.
        let table = unsafe { text(table, "table") }?;
        // SAFETY: the caller gives this many bytes.
        let file = unsafe { bytes(file, length_bytes, "file") }?;
        let identities = identities.map(|identities| &identities.0);
        place.fill(made(table, &UserKey::from_bytes(file, identities)?)?);
        Ok(())
    })
}

fn made(table: &str, key: &UserKey) -> Result<OnnxsealLabelDecoder> {
    let table = Table::parse(table)?;
    // ONNX Runtime's names are C's too.
    let name = |name: &str| {
        CString::new(name)
            .map_err(|_| Fault::usage("an output's name has a NUL, which C cannot have"))
    };
    Ok(OnnxsealLabelDecoder {
        decoder: Decoder::new(&table, key)?,
        answers: name(table.answers())?,
        logits: name(table.logits())?,
        table,
    })
}

/// The name of the model's output that has the answers. It stays as long as the decoder; `NULL` if `decoder` is `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_label_decoder_answers(
    decoder: Option<&OnnxsealLabelDecoder>,
) -> *const c_char {
    decoder.map_or(ptr::null(), |decoder| decoder.answers.as_ptr())
}

/// The name that the logits have: that of an output of the original, or of the input of the tail. It stays as long as
/// the decoder; `NULL` if `decoder` is `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_label_decoder_logits(
    decoder: Option<&OnnxsealLabelDecoder>,
) -> *const c_char {
    decoder.map_or(ptr::null(), |decoder| decoder.logits.as_ptr())
}

/// What followed the layer in the original, such as Softmax: an ONNX model of `*length_bytes` bytes that takes logits.
/// It has no bytes if the original gave logits. It stays as long as the decoder; `NULL` if `decoder` or `length_bytes`
/// is `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_label_decoder_tail(
    decoder: Option<&OnnxsealLabelDecoder>,
    length_bytes: Option<&mut MaybeUninit<usize>>,
) -> *const c_void {
    lent(decoder.map(|decoder| decoder.table.tail()), length_bytes)
}

/// Makes logits of answers: what the original's layer gives.
///
/// `answers` is an array of float32 of shape `dims`, of `n_dims` axes, which the model gave. `logits` is one of the same
/// shape, but for the axis of answers: there it has one for each class. `n_logits` is how many floats it has room for.
/// With `answers` and `logits` of `NULL`, nothing is decoded. `logit_dims`, if it is not `NULL`, gets the shape of the
/// logits, `n_dims` numbers.
///
/// The arrays are aligned for what they hold; `logits` shares no memory with `answers`.
///
/// Errors: `USAGE` if the shape is not that of the model's answers, or `n_logits` is another number than that of the
/// logits; these are then as they were.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_label_decoder_decode(
    decoder: Option<&OnnxsealLabelDecoder>,
    dims: *const usize,
    n_dims: usize,
    answers: *const f32,
    logit_dims: *mut usize,
    logits: *mut f32,
    n_logits: usize,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let OnnxsealLabelDecoder { decoder, .. } = given(decoder, "decoder")?;
        // SAFETY: the caller gives this many numbers.
        let dims = unsafe { array(dims, n_dims, "dims") }?;
        let shape = decoder.shape(dims)?;
        let (n_answers, wanted) = (count(dims)?, count(&shape)?);
        if !logit_dims.is_null() {
            // Before the logits change. It may be `dims`, so it is written to last.
            check_array(logit_dims, n_dims, "logit_dims")?;
        }
        if !answers.is_null() || !logits.is_null() {
            if n_logits != wanted {
                return Err(Fault::usage(format!(
                    "logits have {wanted} floats, not {n_logits}"
                )));
            }
            if overlap((answers, n_answers), (logits, n_logits)) {
                return Err(Fault::usage("answers and logits share memory"));
            }
            // SAFETY: the caller gives so many floats of each, which are apart, and nobody else uses
            // the second ones.
            let (answers, logits) = unsafe {
                (
                    array(answers, n_answers, "answers")?,
                    array_mut(logits, n_logits, "logits")?,
                )
            };
            decoder.decode_into(answers, dims, logits)?;
        }
        if !logit_dims.is_null() {
            // SAFETY: the caller has room for so many numbers.
            unsafe { array_mut(logit_dims, n_dims, "logit_dims") }?.copy_from_slice(&shape);
        }
        Ok(())
    })
}

/// Releases `decoder`; does nothing for `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_label_decoder_release(decoder: Option<Box<OnnxsealLabelDecoder>>) {
    drop(decoder);
}
