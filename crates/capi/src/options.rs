//! What is demanded of a model, and how it is held.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::path::Path;

use onnxseal_core::{Licence, licence_of_environment, open_named, read_licence};
use onnxseal_runtime::{AllowedSigners, Edition, PlaintextOnDisk, Requirements, SignedBy};

use crate::arguments::{given, optional_text, path, text};
use crate::error::{OnnxsealError, Result, guard};

/// Demands on a model, and what sessions may do with it. At first there are no demands.
///
/// Set options from one thread at a time, while no other thread uses the handle. Then any number of
/// threads may open models with it.
#[derive(Default)]
pub struct OnnxsealOptions {
    pub(crate) signed_by: Option<SignedBy>,
    pub(crate) claims: Vec<String>,
    pub(crate) plaintext_on_disk: PlaintextOnDisk,
    tier: Option<String>,
    licence: Option<Licence>,
}

impl OnnxsealOptions {
    /// The edition that is accepted.
    pub(crate) fn edition(&self) -> Edition<'_> {
        self.tier.as_deref().map_or(Edition::Whole, Edition::named)
    }

    /// The licence, or the one that the environment names.
    pub(crate) fn licence(&self) -> Result<Option<Licence>> {
        match &self.licence {
            Some(licence) => Ok(Some(licence.clone())),
            None => Ok(licence_of_environment()?),
        }
    }
}

/// Makes options without demands. Release them with onnxseal_options_release(). Never `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_options_new() -> Box<OnnxsealOptions> {
    Box::default()
}

/// Refuses models that do not make this claim. `"customer=acme"` demands this value, `"customer"` any
/// value, `"not-after"` a date or time that has not passed, `"not-before"` one that has come. The
/// demands of several calls add up.
///
/// Errors: `USAGE`.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_options_require_claim(
    options: Option<&mut OnnxsealOptions>,
    claim: *const c_char,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let options = given(options, "options")?;
        // SAFETY: the caller gives text that ends with a NUL, or NULL.
        let claim = unsafe { text(claim, "claim") }?;
        // At the mistake, not when a model is opened.
        Requirements::parse(&[claim])?;
        options.claims.push(claim.to_owned());
        Ok(())
    })
}

/// Refuses models that are not signed by a key of this OpenSSH allowed_signers file, which is read now.
///
/// `signer` is the signer in that file who must have signed, such as `"release@example.com"`; `NULL` for
/// any. Another call replaces this demand.
///
/// Errors: `IO`; `USAGE` if the file is no allowed_signers file.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_options_set_allowed_signers(
    options: Option<&mut OnnxsealOptions>,
    allowed_signers: *const c_char,
    signer: *const c_char,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let options = given(options, "options")?;
        // SAFETY: the caller gives text that ends with a NUL, or NULL.
        let path = unsafe { path(allowed_signers, "allowed_signers") }?;
        // SAFETY: as above.
        let signer = unsafe { optional_text(signer, "signer") }?;
        let (file, name) = open_named(Path::new(&path), "allowed_signers")?;
        let allowed = AllowedSigners::read(file, &name)?;
        let signer = signer.map(str::to_owned);
        options.signed_by = Some(SignedBy { allowed, signer });
        Ok(())
    })
}

/// Opens this tier of models that have tiers, such as `"trial"`: exactly this edition, by its own key or by
/// that of a higher tier. `"any"` is the highest that an identity opens, and `NULL` the original, as at
/// first. Another call replaces this demand.
///
/// Tiers below the highest are not the original: see onnxseal_model_is_original(). Without this call they
/// are refused with `NO_MATCHING_KEY`. A tier that a model does not have, and every tier of a model
/// without tiers, is refused with `POLICY_NOT_MET`; `"any"` is not.
///
/// Errors: `USAGE`.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_options_set_tier(
    options: Option<&mut OnnxsealOptions>,
    tier: *const c_char,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let options = given(options, "options")?;
        // SAFETY: the caller gives text that ends with a NUL, or NULL.
        let tier = unsafe { optional_text(tier, "tier") }?;
        options.tier = tier.map(str::to_owned);
        Ok(())
    })
}

/// Opens models with this licence, a file that is read now, instead of their own keys; `NULL` for the one
/// that the environment variable `ONNXSEAL_LICENCE` names, or that lies beside the model as
/// `MODEL.licence`, as at first. Another call replaces it.
///
/// A model that it does not list is refused with `NO_MATCHING_KEY`, and every model before its first or
/// after its last day with `NOT_IN_FORCE`.
///
/// Errors: `IO`; `USAGE`; `MALFORMED` if the file is no licence.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_options_set_licence(
    options: Option<&mut OnnxsealOptions>,
    licence: *const c_char,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let options = given(options, "options")?;
        options.licence = if licence.is_null() {
            None
        } else {
            // SAFETY: the caller gives text that ends with a NUL.
            let path = unsafe { path(licence, "licence") }?;
            Some(read_licence(Path::new(&path), "licence")?)
        };
        Ok(())
    })
}

/// With `allowed`, ONNX Runtime may write models that are opened with these options to files, in clear,
/// if its session options say so: an optimized model, compiled models. Otherwise it writes no optimized
/// model, and session options with `ep.context_enable` or `session.debug_layout_transformation` are
/// refused.
///
/// Errors: `USAGE`.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_options_allow_plaintext_on_disk(
    options: Option<&mut OnnxsealOptions>,
    allowed: bool,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        given(options, "options")?.plaintext_on_disk = if allowed {
            PlaintextOnDisk::Allowed
        } else {
            PlaintextOnDisk::Refused
        };
        Ok(())
    })
}

/// Releases `options`; does nothing for `NULL`. Models that were opened with them stay open.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_options_release(options: Option<Box<OnnxsealOptions>>) {
    drop(options);
}
