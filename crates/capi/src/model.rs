//! Protected models, opened, and what is in them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Mutex, OnceLock};

use onnxseal_runtime::{
    Access, Bytes, InMemory, Location, Model, Opening, Options, Requirements, Silent,
};

use crate::arguments::{OutPointer, array, bytes, c_text, given, lent, path, text};
use crate::error::{Fault, OnnxsealError, Result, guard};
use crate::identities::OnnxsealIdentities;
use crate::options::OnnxsealOptions;
use crate::ort::{Values, c_dims, c_name};

/// A protected model, opened. Its graph and claims are authenticated.
///
/// Its weights are authenticated and decrypted when they are needed: by onnxseal_create_session(), or
/// all at once by the first function that gives bytes of the model, see onnxseal_model_authenticate().
/// Until the model is released its files stay open, and must not be overwritten.
///
/// It may be used from any number of threads. Pointers that it hands out belong to it and are valid
/// until it is released. Bytes that were encrypted are zeroized then.
pub struct OnnxsealModel {
    pub(crate) model: Model,
    /// What ONNX Runtime was given of this model's memory.
    pub(crate) values: Mutex<Values>,
    tier: *const c_char,
    claims: Vec<OnnxsealClaim>,
    /// Keeps the texts of tier and claims.
    _texts: Vec<CString>,
    contents: OnceLock<Contents>,
}

/// The bytes of a model.
struct Contents {
    files: Vec<OnnxsealFile>,
    tensors: Vec<OnnxsealTensor>,
    /// Keeps the texts of files and tensors.
    _texts: Vec<CString>,
}

// SAFETY: its pointers are to its own memory, which does not change.
unsafe impl Send for OnnxsealModel {}
// SAFETY: as above; what changes is behind a mutex.
unsafe impl Sync for OnnxsealModel {}

/// An authentic statement of the publisher about the model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OnnxsealClaim {
    /// Such as `"customer"`.
    pub key: *const c_char,
    /// Such as `"acme"`.
    pub value: *const c_char,
}

/// A file of external data.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OnnxsealFile {
    /// Relative to the model's folder, with `/` between folders, in UTF-8.
    pub path: *const c_char,
    /// Its content.
    pub bytes: *const c_void,
    /// Its length in bytes.
    pub length_bytes: usize,
}

/// A weight tensor of a model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OnnxsealTensor {
    /// Its name in the graph.
    pub name: *const c_char,
    /// The number of its type in ONNX's `TensorProto.DataType`: 1 is float.
    pub data_type: i32,
    /// How many dimensions it has.
    pub n_dims: usize,
    /// Its dimensions.
    pub dims: *const i64,
    /// Its elements in the layout of ONNX's `raw_data`: little endian, row by row. They may be
    /// unaligned.
    pub bytes: *const c_void,
    /// The length of the elements in bytes.
    pub length_bytes: usize,
}

/// Opens a protected model: authenticates its graph and claims. Its weights are authenticated and
/// decrypted when they are needed; at once if the model has less than 16 MiB, or if the system does not
/// let the process do that.
///
/// `location` is a path, or a URL: `file://`, and in builds with object stores `s3://`, `gs://`
/// and `az://`. `options` may be `NULL`. On success the caller releases `*model` with
/// onnxseal_model_release(); on failure it is `NULL`. Identities and options may be released
/// afterwards.
///
/// Errors: all kinds except `RUNTIME`.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_open(
    location: *const c_char,
    identities: Option<&OnnxsealIdentities>,
    options: Option<&OnnxsealOptions>,
    model: Option<&mut MaybeUninit<*mut OnnxsealModel>>,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let place = OutPointer::new(model, "model")?;
        // SAFETY: the caller gives text that ends with a NUL, or NULL.
        let location = Location::parse(unsafe { path(location, "location") }?)?;
        place.fill(open(location, identities, options)?);
        Ok(())
    })
}

/// Like onnxseal_model_open(), for a model that is in memory: `length_bytes` bytes at `bytes`, and its
/// `n_files` files of external data, each under the path that the model has for it. All of it is copied.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_open_memory(
    bytes: *const c_void,
    length_bytes: usize,
    files: *const OnnxsealFile,
    n_files: usize,
    identities: Option<&OnnxsealIdentities>,
    options: Option<&OnnxsealOptions>,
    model: Option<&mut MaybeUninit<*mut OnnxsealModel>>,
) -> Option<Box<OnnxsealError>> {
    guard(|| {
        let place = OutPointer::new(model, "model")?;
        // SAFETY: the caller gives this many bytes.
        let bytes = unsafe { self::bytes(bytes, length_bytes, "bytes") }?;
        // SAFETY: the caller gives this many files.
        let files = unsafe { array(files, n_files, "files") }?;
        let mut in_memory = InMemory::new("the model", copy_of(bytes)?);
        for file in files {
            // SAFETY: the caller gives text that ends with a NUL, or NULL.
            let path = unsafe { text(file.path, "path of a file") }?;
            // SAFETY: the caller gives this many bytes.
            let bytes = unsafe { self::bytes(file.bytes, file.length_bytes, "bytes of a file") }?;
            let bytes = Bytes::from(copy_of(bytes)?);
            if in_memory.external.insert(path.to_owned(), bytes).is_some() {
                return Err(Fault::usage(format!("files has {path} twice")));
            }
        }
        place.fill(open(in_memory, identities, options)?);
        Ok(())
    })
}

/// The model file, decrypted; it names external data as the protected model does. `*length_bytes` is its length.
/// `NULL` if `model` or `length_bytes` is `NULL`, or if onnxseal_model_authenticate() fails.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_bytes(
    model: Option<&OnnxsealModel>,
    length_bytes: Option<&mut MaybeUninit<usize>>,
) -> *const c_void {
    let contents = model.and_then(|model| model.model.contents().ok());
    lent(contents.map(|contents| contents.bytes()), length_bytes)
}

/// Authenticates and decrypts all of `model` that was not needed yet. It then stays in memory until the
/// model is released.
///
/// The functions that give bytes, files and tensors do this themselves; where it fails, they give
/// `NULL`, or 0 for a number. Call this function first to learn why.
///
/// Errors: `AUTHENTICATION` if a byte of the model was changed; `IO`.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_authenticate(
    model: Option<&OnnxsealModel>,
) -> Option<Box<OnnxsealError>> {
    guard(|| given(model, "model")?.contents().map(drop))
}

/// The name of the tier that was opened; `NULL` for a model without tiers, or if `model` is `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_tier(model: Option<&OnnxsealModel>) -> *const c_char {
    model.map_or(ptr::null(), |model| model.tier)
}

/// Whether `model` is the original, and not the edition of a tier below the highest; `false` if it is
/// `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_is_original(model: Option<&OnnxsealModel>) -> bool {
    model.is_some_and(|model| model.model.is_original())
}

/// How many files of external data the model has.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_n_external_files(model: Option<&OnnxsealModel>) -> usize {
    contents(model).map_or(0, |contents| contents.files.len())
}

/// The file of external data at `index`, decrypted; `NULL` beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_external_file(
    model: Option<&OnnxsealModel>,
    index: usize,
) -> Option<&OnnxsealFile> {
    contents(model)?.files.get(index)
}

/// How many claims the model makes.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_n_claims(model: Option<&OnnxsealModel>) -> usize {
    model.map_or(0, |model| model.claims.len())
}

/// The claim at `index`, in the order of keys; `NULL` beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_claim(
    model: Option<&OnnxsealModel>,
    index: usize,
) -> Option<&OnnxsealClaim> {
    model?.claims.get(index)
}

/// The value of the claim `key`; `NULL` if the model does not make it.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_find_claim(
    model: Option<&OnnxsealModel>,
    key: *const c_char,
) -> *const c_char {
    let found = model.and_then(|model| {
        let is_it = |claim: &&OnnxsealClaim| same_text(claim.key, key);
        model.claims.iter().find(is_it)
    });
    found.map_or(ptr::null(), |claim| claim.value)
}

/// How many weight tensors the model has.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_n_tensors(model: Option<&OnnxsealModel>) -> usize {
    contents(model).map_or(0, |contents| contents.tensors.len())
}

/// The weight tensor at `index`; `NULL` beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_tensor(
    model: Option<&OnnxsealModel>,
    index: usize,
) -> Option<&OnnxsealTensor> {
    contents(model)?.tensors.get(index)
}

/// The first weight tensor called `name`; `NULL` if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_find_tensor(
    model: Option<&OnnxsealModel>,
    name: *const c_char,
) -> Option<&OnnxsealTensor> {
    let is_it = |tensor: &&OnnxsealTensor| same_text(tensor.name, name);
    contents(model)?.tensors.iter().find(is_it)
}

/// Releases `model`. Release all sessions that were made of it first. Does nothing for `NULL`.
#[unsafe(no_mangle)]
pub extern "C" fn onnxseal_model_release(model: Option<Box<OnnxsealModel>>) {
    drop(model);
}

/// The bytes of a model, if all of them are authentic.
fn contents(model: Option<&OnnxsealModel>) -> Option<&Contents> {
    model.and_then(|model| model.contents().ok())
}

/// A copy of what may be larger than there is memory.
fn copy_of(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    let reserved = copy.try_reserve_exact(bytes.len());
    reserved.map_err(|_| Fault::memory(bytes.len()))?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// Whether both are text, and the same.
fn same_text(ours: *const c_char, theirs: *const c_char) -> bool {
    // SAFETY: a pointer of ours to text of ours.
    let ours = unsafe { c_text(ours) };
    // SAFETY: the caller gives text that ends with a NUL, or NULL.
    let theirs: Option<&CStr> = unsafe { c_text(theirs) };
    ours.is_some() && ours == theirs
}

/// Opens a model with what the caller demands of it.
fn open(
    model: impl Into<Location>,
    identities: Option<&OnnxsealIdentities>,
    options: Option<&OnnxsealOptions>,
) -> Result<OnnxsealModel> {
    let defaults = OnnxsealOptions::default();
    let options = options.unwrap_or(&defaults);
    let licence = options.licence()?;
    let access = Access {
        identities: &given(identities, "identities")?.0,
        signed_by: options.signed_by.as_ref(),
        edition: options.edition(),
        licence: licence.as_ref(),
    };
    let how = Options {
        require: Requirements::parse(&options.claims)?,
        plaintext_on_disk: options.plaintext_on_disk,
        opening: Opening::Auto,
    };
    OnnxsealModel::of(Model::open_with(model, access, &how, &Silent)?)
}

/// A copy of `text` for C, which `texts` keeps.
fn kept(texts: &mut Vec<CString>, text: &str) -> Result<*const c_char> {
    let text = c_name(text)?;
    let place = text.as_ptr();
    texts.push(text);
    Ok(place)
}

impl OnnxsealModel {
    /// The handle of `model`: with everything that C wants otherwise than Rust has it.
    fn of(model: Model) -> Result<OnnxsealModel> {
        let mut texts = Vec::new();
        let mut c_text = |text: &str| kept(&mut texts, text);
        let tier = model.tier().map_or(Ok(ptr::null()), &mut c_text)?;
        let claims = model.claims().iter().map(|(key, value)| {
            let (key, value) = (c_text(key)?, c_text(value)?);
            Ok(OnnxsealClaim { key, value })
        });
        let claims = claims.collect::<Result<_>>()?;
        Ok(OnnxsealModel {
            model,
            values: Mutex::default(),
            tier,
            claims,
            _texts: texts,
            contents: OnceLock::new(),
        })
    }

    /// All bytes of the model, authenticated.
    fn contents(&self) -> Result<&Contents> {
        let opened = self.model.contents()?;
        if let Some(contents) = self.contents.get() {
            return Ok(contents);
        }
        let (mut files, mut tensors, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        let mut c_text = |text: &str| kept(&mut texts, text);
        for (path, bytes) in opened.external_files() {
            files.push(OnnxsealFile {
                path: c_text(path)?,
                bytes: bytes.as_ptr().cast(),
                length_bytes: bytes.len(),
            });
        }
        for tensor in opened.tensors() {
            tensors.push(OnnxsealTensor {
                name: c_text(tensor.name)?,
                data_type: tensor.data_type as i32,
                n_dims: tensor.dims.len(),
                dims: c_dims(tensor.dims)?.as_ptr(),
                bytes: tensor.bytes.as_ptr().cast(),
                length_bytes: tensor.bytes.len(),
            });
        }
        let contents = Contents {
            files,
            tensors,
            _texts: texts,
        };
        Ok(self.contents.get_or_init(|| contents))
    }
}
