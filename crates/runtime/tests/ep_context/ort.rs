//! As much of ONNX Runtime's C API as the test needs, by the slots of its tables.
//!
//! Every call passes pointers that the functions below own or were given alive; tables are static.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, ptr};

use libloading::Library;
use onnxseal_runtime::ep_context::{EpContextCallbacks, EpContextStore, OrtApiBase, OrtStatus};

const API_VERSION: u32 = 31;
pub const PROVIDER: &str = "OnnxsealStubProvider";

const GET_ERROR_CODE: usize = 1;
const GET_ERROR_MESSAGE: usize = 2;
const CREATE_ENV: usize = 3;
const CREATE_SESSION_FROM_ARRAY: usize = 8;
const RUN: usize = 9;
const CREATE_SESSION_OPTIONS: usize = 10;
const CREATE_TENSOR_WITH_DATA: usize = 49;
const GET_TENSOR_MUTABLE_DATA: usize = 51;
const CREATE_CPU_MEMORY_INFO: usize = 69;
const GET_ALLOCATOR_WITH_DEFAULT_OPTIONS: usize = 78;
const RELEASE_STATUS: usize = 93;
const RELEASE_MEMORY_INFO: usize = 94;
const RELEASE_SESSION: usize = 95;
const RELEASE_VALUE: usize = 96;
const RELEASE_SESSION_OPTIONS: usize = 100;
const ADD_SESSION_CONFIG_ENTRY: usize = 130;
const GET_COMPILE_API: usize = 294;
const REGISTER_PROVIDER_LIBRARY: usize = 301;
const GET_EP_DEVICES: usize = 303;
const APPEND_PROVIDER_V2: usize = 304;
const EP_DEVICE_EP_NAME: usize = 312;
const GET_TENSOR_SIZE_IN_BYTES: usize = 318;

const RELEASE_COMPILATION_OPTIONS: usize = 0;
const CREATE_COMPILATION_OPTIONS: usize = 1;
const SET_INPUT_MODEL_FROM_BUFFER: usize = 3;
const SET_OUTPUT_MODEL_BUFFER: usize = 6;
const SET_EMBED_MODE: usize = 7;
const COMPILE_MODEL: usize = 8;
const SET_BINARY_INFORMATION: usize = 10;

const FLOAT: c_int = 1;

/// Calls the function in a slot of a table.
macro_rules! call {
    ($table:expr, $slot:expr, ($($argument:expr),* $(,)?) : ($($kind:ty),* $(,)?) -> $result:ty) => {{
        type Function = unsafe extern "system" fn($($kind),*) -> $result;
        let function = unsafe { *$table.cast::<Function>().add($slot) };
        unsafe { function($($argument),*) }
    }};
    ($table:expr, $slot:expr, ($($argument:expr),* $(,)?) : ($($kind:ty),* $(,)?)) => {
        call!($table, $slot, ($($argument),*) : ($($kind),*) -> *mut OrtStatus)
    };
}

type Pointer = *mut c_void;
type Table = *const c_void;

/// A loaded ONNX Runtime with the stub provider. It is never unloaded.
pub struct Ort {
    base: *const OrtApiBase,
    api: Table,
    env: Pointer,
}

unsafe impl Sync for Ort {}
unsafe impl Send for Ort {}

/// What a compilation or session is to be made with.
#[derive(Default)]
pub struct Settings<'a> {
    /// Whose callbacks are set.
    pub callbacks: Option<&'a EpContextCallbacks>,
    /// Session config entries.
    pub config: Vec<(&'static str, String)>,
}

impl Ort {
    /// Loads the library, compiles the provider with `cc` and registers it; says why not.
    pub fn load(scratch: &Path) -> Result<Ort, String> {
        let path = library().ok_or(
            "no ONNX Runtime: set ONNXSEAL_ORT_LIB to its library, or install the wheel in .venv",
        )?;
        let library = unsafe { Library::new(&path) }.map_err(|error| error.to_string())?;
        let get_api_base = unsafe {
            *library
                .get::<unsafe extern "system" fn() -> *const OrtApiBase>(b"OrtGetApiBase\0")
                .map_err(|error| error.to_string())?
        };
        std::mem::forget(library);
        let base = unsafe { get_api_base() };
        let api = call!(base, 0, (API_VERSION): (u32) -> Table);
        if api.is_null() {
            return Err(format!("{} is older than 1.31", path.display()));
        }
        let mut env = ptr::null_mut();
        let mut ort = Ort { base, api, env };
        const ERRORS_ONLY: c_int = 4;
        let created = call!(api, CREATE_ENV, (ERRORS_ONLY, c"test".as_ptr(), &mut env):
            (c_int, *const c_char, *mut Pointer));
        ort.check(created).unwrap();
        ort.env = env;

        let provider = build_provider(scratch);
        let (name, provider) = (string(PROVIDER), string(provider.to_str().unwrap()));
        let registered = call!(api, REGISTER_PROVIDER_LIBRARY, (env, name.as_ptr(), provider.as_ptr()):
            (Pointer, *const c_char, *const c_char));
        ort.check(registered).unwrap();
        Ok(ort)
    }

    /// The callbacks over a store.
    pub fn callbacks(&self, store: &EpContextStore) -> EpContextCallbacks {
        unsafe { EpContextCallbacks::new(store.clone(), self.base) }.unwrap()
    }

    /// Compiles a model; the compiled model, in memory. Caches are not embedded, and named as if
    /// the model lay in `folder`.
    pub fn compile(
        &self,
        model: &[u8],
        folder: &Path,
        settings: &Settings<'_>,
    ) -> Result<Vec<u8>, String> {
        let mut options = self.options(settings);
        let compile_api = call!(self.api, GET_COMPILE_API, (): () -> Table);
        let mut compilation = ptr::null_mut();
        let created = call!(compile_api, CREATE_COMPILATION_OPTIONS, (self.env, options.pointer, &mut compilation):
            (Pointer, Pointer, *mut Pointer));
        self.check(created)?;
        let compilation = Owned {
            pointer: compilation,
            table: compile_api,
            release: RELEASE_COMPILATION_OPTIONS,
        };
        let allocator = self.allocator();
        let (mut output, mut output_len) = (ptr::null_mut(), 0);
        self.check(call!(compile_api, SET_INPUT_MODEL_FROM_BUFFER,
            (compilation.pointer, model.as_ptr().cast(), model.len()): (Pointer, *const c_void, usize)))?;
        self.check(call!(compile_api, SET_OUTPUT_MODEL_BUFFER,
            (compilation.pointer, allocator, &mut output, &mut output_len):
            (Pointer, Pointer, *mut Pointer, *mut usize)))?;
        self.check(
            call!(compile_api, SET_EMBED_MODE, (compilation.pointer, false): (Pointer, bool)),
        )?;
        let folder = string(&format!("{}/", folder.display()));
        self.check(call!(compile_api, SET_BINARY_INFORMATION,
            (compilation.pointer, folder.as_ptr(), c"model.onnx".as_ptr()):
            (Pointer, *const c_char, *const c_char)))?;
        if let Some(callbacks) = settings.callbacks {
            unsafe { callbacks.set_on_compilation(compilation.pointer.cast()) }.unwrap();
        }
        let compiled =
            call!(compile_api, COMPILE_MODEL, (self.env, compilation.pointer): (Pointer, Pointer));
        drop(compilation);
        options.release();
        self.check(compiled)?;
        let bytes = unsafe { std::slice::from_raw_parts(output.cast::<u8>(), output_len) }.to_vec();
        const FREE: usize = 2;
        call!(allocator, FREE, (allocator, output): (Pointer, Pointer) -> ());
        Ok(bytes)
    }

    /// Makes a session of a model with the stub provider, and runs it once: `x` to `y`.
    pub fn run(
        &self,
        model: &[u8],
        x: &[f32],
        settings: &Settings<'_>,
    ) -> Result<Vec<f32>, String> {
        let options = self.options(settings);
        let mut session = ptr::null_mut();
        self.check(call!(self.api, CREATE_SESSION_FROM_ARRAY,
            (self.env, model.as_ptr().cast(), model.len(), options.pointer, &mut session):
            (Pointer, *const c_void, usize, Pointer, *mut Pointer)))?;
        let session = self.owned(session, RELEASE_SESSION);
        let mut info = ptr::null_mut();
        self.check(call!(self.api, CREATE_CPU_MEMORY_INFO, (0, 0, &mut info): (c_int, c_int, *mut Pointer)))?;
        let info = self.owned(info, RELEASE_MEMORY_INFO);
        let (mut input, dims) = (ptr::null_mut(), [x.len() as i64]);
        self.check(call!(self.api, CREATE_TENSOR_WITH_DATA,
            (info.pointer, x.as_ptr().cast_mut().cast(), size_of_val(x), dims.as_ptr(), 1, FLOAT, &mut input):
            (Pointer, Pointer, usize, *const i64, usize, c_int, *mut Pointer)))?;
        let input = self.owned(input, RELEASE_VALUE);
        let mut output: Pointer = ptr::null_mut();
        self.check(call!(self.api, RUN,
            (session.pointer, ptr::null_mut(), &c"x".as_ptr(), &input.pointer, 1, &c"y".as_ptr(), 1, &mut output):
            (Pointer, Pointer, *const *const c_char, *const Pointer, usize, *const *const c_char, usize, *mut Pointer)))?;
        let output = self.owned(output, RELEASE_VALUE);
        let (mut data, mut len) = (ptr::null_mut(), 0);
        self.check(call!(self.api, GET_TENSOR_MUTABLE_DATA, (output.pointer, &mut data): (Pointer, *mut *mut f32)))?;
        self.check(call!(self.api, GET_TENSOR_SIZE_IN_BYTES, (output.pointer, &mut len): (Pointer, *mut usize)))?;
        Ok(unsafe { std::slice::from_raw_parts(data, len / size_of::<f32>()) }.to_vec())
    }

    /// ONNX Runtime's default allocator: an `OrtAllocator`.
    pub fn allocator(&self) -> Pointer {
        let mut allocator = ptr::null_mut();
        let given =
            call!(self.api, GET_ALLOCATOR_WITH_DEFAULT_OPTIONS, (&mut allocator): (*mut Pointer));
        self.check(given).unwrap();
        allocator
    }

    /// The `OrtErrorCode` of a status that is no success; the status is released.
    pub fn code(&self, status: *mut OrtStatus) -> c_int {
        assert!(!status.is_null());
        let code = call!(self.api, GET_ERROR_CODE, (status): (*const OrtStatus) -> c_int);
        self.check(status).unwrap_err();
        code
    }

    /// The message of a status, which is released.
    pub fn check(&self, status: *mut OrtStatus) -> Result<(), String> {
        if status.is_null() {
            return Ok(());
        }
        let message =
            call!(self.api, GET_ERROR_MESSAGE, (status): (*const OrtStatus) -> *const c_char);
        let message = unsafe { CStr::from_ptr(message) }
            .to_string_lossy()
            .into_owned();
        call!(self.api, RELEASE_STATUS, (status): (*mut OrtStatus) -> ());
        Err(message)
    }

    /// Session options with the stub provider.
    fn options(&self, settings: &Settings<'_>) -> Owned {
        let mut options = ptr::null_mut();
        self.check(call!(self.api, CREATE_SESSION_OPTIONS, (&mut options): (*mut Pointer)))
            .unwrap();
        for (key, value) in &settings.config {
            let (key, value) = (string(key), string(value));
            self.check(
                call!(self.api, ADD_SESSION_CONFIG_ENTRY, (options, key.as_ptr(), value.as_ptr()):
                (Pointer, *const c_char, *const c_char)),
            )
            .unwrap();
        }
        let device = self.device();
        self.check(call!(self.api, APPEND_PROVIDER_V2,
            (options, self.env, &device, 1, ptr::null(), ptr::null(), 0):
            (Pointer, Pointer, *const Pointer, usize, *const c_void, *const c_void, usize)))
            .unwrap();
        if let Some(callbacks) = settings.callbacks {
            unsafe { callbacks.set_on_session(options.cast()) }.unwrap();
        }
        self.owned(options, RELEASE_SESSION_OPTIONS)
    }

    /// The stub provider's device.
    fn device(&self) -> Pointer {
        let (mut devices, mut n): (*const Pointer, usize) = (ptr::null(), 0);
        self.check(
            call!(self.api, GET_EP_DEVICES, (self.env, &mut devices, &mut n):
            (Pointer, *mut *const Pointer, *mut usize)),
        )
        .unwrap();
        let devices = unsafe { std::slice::from_raw_parts(devices, n) };
        let is_ours = |device: &&Pointer| {
            let name = call!(self.api, EP_DEVICE_EP_NAME, (**device): (Pointer) -> *const c_char);
            unsafe { CStr::from_ptr(name) }.to_str() == Ok(PROVIDER)
        };
        *devices
            .iter()
            .find(is_ours)
            .expect("the stub provider has a device")
    }

    fn owned(&self, pointer: Pointer, release: usize) -> Owned {
        let table = self.api;
        Owned {
            pointer,
            table,
            release,
        }
    }
}

/// Something that ONNX Runtime made for us, with the function that releases it.
struct Owned {
    pointer: Pointer,
    table: Table,
    release: usize,
}

impl Owned {
    fn release(&mut self) {
        let pointer = std::mem::replace(&mut self.pointer, ptr::null_mut());
        if !pointer.is_null() {
            call!(self.table, self.release, (pointer): (Pointer) -> ());
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.release();
    }
}

fn string(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// The library that the environment names.
pub fn named_library() -> Option<PathBuf> {
    let mut named = ["ONNXSEAL_ORT_LIB", "ORT_DYLIB_PATH"]
        .iter()
        .filter_map(env::var_os);
    named.find(|path| !path.is_empty()).map(PathBuf::from)
}

/// The library that is named, or that of the wheel in `.venv`.
fn library() -> Option<PathBuf> {
    if let Some(path) = named_library() {
        return Some(path);
    }
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/lib");
    let pythons = venv.read_dir().ok()?.flatten();
    let folders = pythons.map(|python| python.path().join("site-packages/onnxruntime/capi"));
    let files = folders
        .filter_map(|folder| folder.read_dir().ok())
        .flatten()
        .flatten();
    files.map(|file| file.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libonnxruntime.so.") || name == "libonnxruntime.dylib"
    })
}

fn build_provider(scratch: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ep_context/stub_provider.c");
    let library = scratch.join("libstub_provider.so");
    let mut cc = Command::new(env::var_os("CC").unwrap_or("cc".into()));
    let arguments = [
        "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-fPIC", "-shared", "-o",
    ];
    let built = cc.args(arguments).arg(&library).arg(&source).status();
    assert!(built.expect("a C compiler, cc").success());
    library
}
