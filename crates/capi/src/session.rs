//! ONNX Runtime sessions of opened models.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::PoisonError;

use onnxseal_runtime::{
    Error, OnLoss, PlaintextOnDisk, Prepared, Sharing, WEIGHTS_ENTRY, WRITING_ENTRIES,
};
use ort_sys::{OrtApiBase, OrtEnv, OrtSession, OrtSessionOptions};
use zeroize::Zeroizing;

use crate::arguments::{OutPointer, given, lent};
use crate::error::{OnnxsealError, Result, guard};
use crate::model::OnnxsealModel;
use crate::ort::{Api, SessionOptions};

/// A model without the weights that session options give to ONNX Runtime.
pub struct OnnxsealSkeleton(Zeroizing<Vec<u8>>);

/// Creates an ONNX Runtime session of `model`.
///
/// `ort_api_base` is the result of the application's `OrtGetApiBase()`, of ONNX Runtime 1.21 or newer.
/// `env` is an environment of it. `options` has the session's settings: providers, threads, custom
/// operators. It may be `NULL` and is not changed. On success the caller releases `*session` with ONNX
/// Runtime's `ReleaseSession`; on failure it is `NULL`.
///
/// Keep `model` until the session is released: if ONNX Runtime can, it uses weights where they lie in
/// `model`, without a copy. It can if its library has providers for the processor alone. Otherwise all
/// weights are copied, and onnxseal_prepare_session() lets the application choose. If optimizers have
/// to read a weight that is not copied, the session is created a second time, with copies. ONNX Runtime
/// then logs a harmless error for the first attempt.
///
/// ONNX Runtime writes no optimized model, whatever `options` say. Options that make it write the model
/// in other ways are refused: see onnxseal_options_allow_plaintext_on_disk().
///
/// Several threads may create sessions of a model at once, and use them.
///
/// Weights are authenticated and decrypted while ONNX Runtime goes through them, and all of them before
/// the session is returned. If the system allows that, the session takes the memory of a plain model's:
/// weights that ONNX Runtime has packed are given back, and decrypted anew from the file if they are
/// needed again. If the file was overwritten meanwhile, the process aborts with a message; so it does
/// while a second session of `model` is created.
///
/// Errors: `AUTHENTICATION` if the model was changed; `RUNTIME` if ONNX Runtime is too old or refuses
/// the model; `IO`; `USAGE`, also for options that onnxseal_prepare_session() has given the weights of a
/// model.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_create_session(
    model: Option<&OnnxsealModel>,
    ort_api_base: Option<&OrtApiBase>,
    env: *const OrtEnv,
    options: *const OrtSessionOptions,
    session: Option<&mut MaybeUninit<*mut OrtSession>>,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let place = OutPointer::new(session, "session")?;
        let model = given(model, "model")?;
        let api = Api::of(ort_api_base)?;
        given((!env.is_null()).then_some(()), "env")?;
        // Fails twice: where the options do not take the model's weights, and where ONNX Runtime does
        // not take the model with them.
        let create = |prepared: &Prepared| -> Result<Result<*mut OrtSession>> {
            // SAFETY: the caller gives options of this library, or NULL.
            let mut options = unsafe { SessionOptions::copy_of(api, options) }?;
            // SAFETY: the caller keeps the model for as long as the session.
            unsafe { model.fill(api, &mut options, prepared) }?;
            // SAFETY: the caller gives an environment of this library.
            Ok(unsafe { api.create_session(env, prepared.skeleton(), &options) })
        };
        let is_for_processors = api.is_for_processors()?;
        // What writes to files, or copies to devices, cannot wait for weights that are not there.
        let is_on_demand =
            is_for_processors && model.model.plaintext_on_disk() == PlaintextOnDisk::Refused;
        let prepared = match (is_on_demand, is_for_processors) {
            (true, _) => model.model.begin()?,
            (false, true) => model.model.prepare(Sharing::WherePossible)?,
            (false, false) => model.model.prepare(Sharing::Never)?,
        };
        let created = create(&prepared);
        if is_on_demand && let Err(changed) = model.model.finish(OnLoss::Abort) {
            if let Ok(Ok(session)) = created {
                // SAFETY: a session of this library, which nobody has seen.
                unsafe { api.release_session(session) };
            }
            // What ONNX Runtime says of such weights does not matter.
            return Err(changed.into());
        }
        let created = match created? {
            Err(_) if !prepared.shared().is_empty() => {
                create(&model.model.prepare(Sharing::Never)?)??
            }
            created => created?,
        };
        place.fill_raw(created);
        Ok(())
    })
}

/// Prepares session options for a session that the application creates itself, and gives the bytes to
/// create it from.
///
/// `options` gets weights of `model` and configuration entries. Create sessions with it only from the
/// bytes of `*skeleton`. Make new options for another model: options that have weights already are
/// refused. The path of an optimized model is taken out of `options`, see
/// onnxseal_options_allow_plaintext_on_disk(). The caller releases the skeleton with
/// onnxseal_skeleton_release() as soon as the session is there. On failure it is `NULL`, and the
/// options must not be used.
///
/// With `share_memory`, weights are used where they lie in `model`: where ONNX Runtime's optimizers
/// have to look into one, creating the session fails; do it again with new options and `false`. Keep
/// `model` until options and session are released.
///
/// Errors: as for onnxseal_create_session().
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_prepare_session(
    model: Option<&OnnxsealModel>,
    ort_api_base: Option<&OrtApiBase>,
    options: *mut OrtSessionOptions,
    share_memory: bool,
    skeleton: Option<&mut MaybeUninit<*mut OnnxsealSkeleton>>,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let place = OutPointer::new(skeleton, "skeleton")?;
        let model = given(model, "model")?;
        let api = Api::of(ort_api_base)?;
        given((!options.is_null()).then_some(()), "options")?;
        let sharing = if share_memory {
            Sharing::WherePossible
        } else {
            Sharing::Never
        };
        let prepared = model.model.prepare(sharing)?;
        // SAFETY: the caller gives options of this library that nobody else uses meanwhile.
        let mut options = unsafe { SessionOptions::borrowed(api, options) };
        // SAFETY: the caller keeps the model for as long as options and sessions.
        unsafe { model.fill(api, &mut options, &prepared) }?;
        place.fill(OnnxsealSkeleton(prepared.into_skeleton()));
        Ok(())
    })
}

/// The bytes of `skeleton`, which belong to it. `*length_bytes` is their number. `NULL` if `skeleton`
/// or `length_bytes` is `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_skeleton_bytes(
    skeleton: Option<&OnnxsealSkeleton>,
    length_bytes: Option<&mut MaybeUninit<usize>>,
) -> *const c_void {
    lent(
        skeleton.map(|OnnxsealSkeleton(bytes)| &bytes[..]),
        length_bytes,
    )
}

/// Releases `skeleton`; does nothing for `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_skeleton_release(skeleton: Option<Box<OnnxsealSkeleton>>) {
    drop(skeleton);
}

impl OnnxsealModel {
    /// Gives `options` what a session of `prepared` needs.
    ///
    /// # Safety
    /// The model outlives the options and their sessions.
    unsafe fn fill(
        &self,
        api: Api,
        options: &mut SessionOptions,
        prepared: &Prepared,
    ) -> Result<()> {
        if options.configured(WEIGHTS_ENTRY.0)?.is_some() {
            return Err(Error::UsedOptions.into());
        }
        if self.model.plaintext_on_disk() == PlaintextOnDisk::Refused {
            for (key, on) in WRITING_ENTRIES {
                if options.configured(key)?.is_some_and(|value| value == on) {
                    return Err(Error::WritesPlaintext { key }.into());
                }
            }
            // Whether the options have a path for it, ONNX Runtime does not say.
            options.write_no_optimized_model()?;
        }
        for (key, value) in prepared.config() {
            options.configure(key, value)?;
        }
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        for tensor in prepared.shared() {
            // SAFETY: the caller keeps the model, and with it the value.
            unsafe { options.share(values.of(api, tensor)?) }?;
        }
        for tensor in prepared.injected() {
            // SAFETY: as above.
            unsafe { options.inject(values.of(api, tensor)?) }?;
        }
        Ok(())
    }
}
