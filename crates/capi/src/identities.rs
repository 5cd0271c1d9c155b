//! Secret keys that open models.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use onnxseal_core::{Error, Identities, Passphrase, Prompt, StoreError};
use zeroize::Zeroizing;

use crate::arguments::{bytes, given, optional_text, path, text, utf8};
use crate::error::{OnnxsealError, Result, guard};

/// Secret keys of which one opens a model; none at first.
///
/// Keys are added by one thread at a time, while no other uses the handle; then any number of threads
/// may open models with it. What it holds is zeroized when it is released.
#[derive(Default)]
pub struct OnnxsealIdentities(pub(crate) Identities);

/// Makes an empty set of identities, to be released with onnxseal_identities_release(). Never `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_identities_new() -> Box<OnnxsealIdentities> {
    Box::default()
}

/// Adds the keys of an identity file: age's, with keys of its own and of plugins, or an OpenSSH
/// private key.
///
/// `passphrase`, in UTF-8, is that of a file that is encrypted with one; `NULL` otherwise. Neither
/// text is kept, but for a passphrase that plugins may ask for.
///
/// Errors: `IO`; `USAGE` for what is no identity file, and where a passphrase is missing;
/// `NO_MATCHING_KEY` where it is another.
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
        let passphrase = unsafe { optional_text(passphrase) };
        let (file, name) = open(Path::new(&path))?;
        let more = Identities::read_with(file, &name, Given::answering(passphrase)?)?;
        identities.0.merge(more);
        Ok(())
    })
}

/// Adds the keys of an identity file that is in memory: `length_bytes` bytes at `file`, which the
/// caller zeroizes.
///
/// `passphrase` and errors are those of onnxseal_identities_add_file().
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
        let passphrase = unsafe { optional_text(passphrase) };
        let more = Identities::read_with(file, "the identity", Given::answering(passphrase)?)?;
        identities.0.merge(more);
        Ok(())
    })
}

/// Adds the passphrase, in UTF-8, of models that are protected with one. The caller zeroizes the text.
///
/// Errors: `USAGE` for an empty one, and for more than 1024 bytes.
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
        identities.0.merge(Identities::passphrase(passphrase));
        Ok(())
    })
}

/// Releases `identities`; does nothing for `NULL`. Models that were opened with them stay open.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_identities_release(identities: Option<Box<OnnxsealIdentities>>) {
    drop(identities);
}

const PASSPHRASE: &str = "passphrase";

/// Answers with the passphrase that the caller gave, if any.
struct Given(Option<Zeroizing<String>>);

impl Given {
    fn answering(passphrase: Option<&CStr>) -> Result<Arc<dyn Prompt>> {
        let passphrase = passphrase.map(|text| utf8(text, PASSPHRASE)).transpose()?;
        // One that cannot be used is the caller's mistake, not an answer that was not given.
        let usable = passphrase.map(|text| Passphrase::new(text, PASSPHRASE));
        usable.transpose()?;
        let passphrase = passphrase.map(|text| Zeroizing::new(text.to_owned()));
        Ok(Arc::new(Given(passphrase)))
    }
}

impl Prompt for Given {
    fn passphrase(&self, description: &str) -> Option<Passphrase> {
        Passphrase::new(self.0.as_ref()?, description).ok()
    }

    fn text(&self, _: &str) -> Option<String> {
        None
    }

    fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Option<bool> {
        None
    }

    fn show(&self, _: &str) {}
}

/// Opens a file of keys, with its name for messages.
pub(crate) fn open(path: &Path) -> Result<(File, String)> {
    let file = File::open(path).map_err(|source| {
        Error::Store(StoreError::Io {
            action: "open",
            path: path.to_owned(),
            source,
        })
    })?;
    Ok((file, path.display().to_string()))
}
