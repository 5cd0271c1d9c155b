//! Secret keys that open models.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::sync::Arc;

use onnxseal_core::{Identities, NoPrompt, Passphrase, Prompt, open_named};

use crate::arguments::{bytes, given, optional_text, path, text};
use crate::error::{OnnxsealError, Result, guard};

/// A set of secret keys, to open models with; empty at first.
///
/// Add keys from one thread at a time, while no other thread uses the handle. Then any number of
/// threads may open models with it. The keys are zeroized when the handle is released.
#[derive(Default)]
pub struct OnnxsealIdentities(pub(crate) Identities);

/// Makes an empty set of identities. Release it with onnxseal_identities_release(). Never `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_identities_new() -> Box<OnnxsealIdentities> {
    Box::default()
}

/// Adds the keys of an identity file: age's, with keys of its own and of plugins, or an OpenSSH
/// private key.
///
/// `passphrase`, in UTF-8, opens a file that is encrypted with one; `NULL` for other files. Neither text
/// is kept, except a passphrase that plugins may ask for.
///
/// Errors: `IO`; `USAGE` if the file is no identity file, or if a passphrase is missing;
/// `NO_MATCHING_KEY` if the passphrase is wrong.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_identities_add_file(
    identities: Option<&mut OnnxsealIdentities>,
    path: *const c_char,
    passphrase: *const c_char,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let identities = given(identities, "identities")?;
        // SAFETY: the caller gives text that ends with a NUL, or NULL.
        let path = unsafe { self::path(path, "path") }?;
        // SAFETY: as above.
        let passphrase = unsafe { optional_text(passphrase, PASSPHRASE) }?;
        let (file, name) = open_named(Path::new(&path), "path")?;
        let more = Identities::read_with(file, &name, answering(passphrase)?)?;
        identities.0.merge(more);
        Ok(())
    })
}

/// Adds the keys of an identity file that is in memory: `length_bytes` bytes at `file`. The caller
/// zeroizes them.
///
/// `passphrase` and errors are as for onnxseal_identities_add_file().
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_identities_add_memory(
    identities: Option<&mut OnnxsealIdentities>,
    file: *const c_void,
    length_bytes: usize,
    passphrase: *const c_char,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let identities = given(identities, "identities")?;
        // SAFETY: the caller gives this many bytes.
        let file = unsafe { bytes(file, length_bytes, "file") }?;
        // SAFETY: the caller gives text that ends with a NUL, or NULL.
        let passphrase = unsafe { optional_text(passphrase, PASSPHRASE) }?;
        let more = Identities::read_with(file, "the identity", answering(passphrase)?)?;
        identities.0.merge(more);
        Ok(())
    })
}

/// Adds the passphrase, in UTF-8, of models that are protected with one. The caller zeroizes the text.
///
/// Errors: `USAGE` if the passphrase is empty or longer than 1024 bytes.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_identities_add_passphrase(
    identities: Option<&mut OnnxsealIdentities>,
    passphrase: *const c_char,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let identities = given(identities, "identities")?;
        // SAFETY: the caller gives text that ends with a NUL, or NULL.
        let passphrase = unsafe { text(passphrase, PASSPHRASE) }?;
        let passphrase = Passphrase::new(passphrase, PASSPHRASE)?;
        identities.0.merge(Identities::passphrase(&passphrase));
        Ok(())
    })
}

/// Releases `identities`; does nothing for `NULL`. Models that were opened with them stay open.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_identities_release(identities: Option<Box<OnnxsealIdentities>>) {
    drop(identities);
}

const PASSPHRASE: &str = "passphrase";

/// Answers questions for a passphrase with the one that the caller gave, if any.
fn answering(passphrase: Option<&str>) -> Result<Arc<dyn Prompt>> {
    Ok(match passphrase {
        None => Arc::new(NoPrompt),
        Some(passphrase) => Arc::new(Passphrase::new(passphrase, PASSPHRASE)?),
    })
}
