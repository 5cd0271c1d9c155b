//! Compiled caches, sealed and opened again by an execution provider that ONNX Runtime runs: the
//! plugin in `stub_provider.c`, as real ones need hardware.
//!
//! Without a library of ONNX Runtime 1.31 or newer most of these tests do nothing, and say so; with
//! one that the environment names and that does not do, they fail.
#![cfg(all(unix, feature = "ep-context"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unsafe_code)]

mod ort;

use std::ffi::{CString, c_void};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, ptr};

use onnxseal_core::{
    Identities, Policy, Preset, ProtectOptions, Recipients, RotateOptions, Silent,
    generate_identity, protect, rekey, rotate,
};
use onnxseal_runtime::ep_context::{EpContextStore, OrtAllocator};
use onnxseal_runtime::{ErrorKind, Model};
use onnxseal_testkit::build::{GraphBuilder, floats, node, weights};
use ort::{Ort, Settings};
use tempfile::TempDir;

const N: usize = 4096;
const CACHES: [&str; 2] = ["stub_0_ctx.bin", "stub_1_ctx.bin"];

/// ONNX Runtime, once for all tests; says so where there is none.
fn onnx_runtime() -> Option<&'static Ort> {
    static ORT: OnceLock<Option<Ort>> = OnceLock::new();
    let ort = ORT.get_or_init(|| {
        let scratch = TempDir::new().unwrap().keep();
        let loaded = Ort::load(&scratch);
        fs::remove_dir_all(&scratch).unwrap();
        if let (Err(reason), Some(path)) = (&loaded, ort::named_library()) {
            panic!("{}: {reason}", path.display());
        }
        loaded.map_err(|reason| eprintln!("skipped: {reason}")).ok()
    });
    ort.as_ref()
}

/// `y = relu(x * a) * b`
fn model() -> Vec<u8> {
    let dims = [N as i64];
    muls()
        .node(node("Mul", &["r", "b"], &["y"]))
        .output("y", &dims)
        .encode()
}

/// `y = relu(x * a) * b + c`, of which the provider does not take the sum.
fn model_with_sum() -> Vec<u8> {
    let dims = [N as i64];
    muls()
        .initializer(weights("c", &dims, 4))
        .node(node("Mul", &["r", "b"], &["m"]))
        .node(node("Add", &["m", "c"], &["y"]))
        .output("y", &dims)
        .encode()
}

fn muls() -> GraphBuilder {
    let dims = [N as i64];
    GraphBuilder::new("g")
        .input("x", &dims)
        .initializer(weights("a", &dims, 1))
        .initializer(weights("b", &dims, 2))
        .node(node("Mul", &["x", "a"], &["h"]))
        .node(node("Relu", &["h"], &["r"]))
}

fn expected(x: &[f32]) -> Vec<f32> {
    let (a, b) = (floats(N, 1), floats(N, 2));
    let y = x.iter().zip(a).zip(b);
    y.map(|((x, a), b)| (x * a).max(0.0) * b).collect()
}

/// A protected model that was opened, with a folder for its caches.
struct Case {
    dir: TempDir,
    recipients: Recipients,
    identities: Identities,
    model: Model,
    store: EpContextStore,
}

impl Case {
    fn new() -> Case {
        Case::of(&model())
    }

    fn of(model: &[u8]) -> Case {
        let dir = TempDir::new().unwrap();
        let (plain, sealed) = (dir.path().join("m.onnx"), dir.path().join("s.onnx"));
        fs::write(&plain, model).unwrap();
        let identity = generate_identity();
        let recipients = Recipients::parse(&[identity.recipient()]).unwrap();
        let options = ProtectOptions::new(Policy::preset(Preset::Full));
        protect(&*plain, &*sealed, &recipients, &options, &Silent).unwrap();
        fs::remove_file(&plain).unwrap();
        let text = identity.to_file_text();
        let identities = Identities::read(text.as_bytes(), "test identity").unwrap();
        let model = Model::open(&*sealed, &identities).unwrap();
        let caches = dir.path().join("caches");
        fs::create_dir(&caches).unwrap();
        let store = model.ep_context(&caches).unwrap();
        Case {
            dir,
            recipients,
            identities,
            model,
            store,
        }
    }

    fn caches(&self) -> PathBuf {
        self.dir.path().join("caches")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.store.path(name).unwrap()
    }

    /// Compiles the model; the compiled model, with its caches in the store.
    fn compile(&self, ort: &Ort) -> Vec<u8> {
        let callbacks = ort.callbacks(&self.store);
        let settings = Settings {
            callbacks: Some(&callbacks),
            config: self.config(),
        };
        let compiled = ort.compile(
            self.model.contents().unwrap().bytes(),
            &self.caches(),
            &settings,
        );
        compiled.unwrap()
    }

    /// Runs a compiled model with the caches of `store`.
    fn run(&self, ort: &Ort, compiled: &[u8], store: &EpContextStore) -> Result<Vec<f32>, String> {
        let callbacks = ort.callbacks(store);
        let settings = Settings {
            callbacks: Some(&callbacks),
            config: self.config(),
        };
        ort.run(compiled, &floats(N, 3), &settings)
    }

    /// Plain files of the provider would come to the same folder.
    fn config(&self) -> Vec<(&'static str, String)> {
        vec![("stub.folder", self.caches().display().to_string())]
    }

    fn assert_refused(&self, ort: &Ort, compiled: &[u8], reason: &str) {
        let fault = self.run(ort, compiled, &self.store).unwrap_err();
        assert!(fault.contains(reason), "{fault}");
    }
}

/// Whether some 16 bytes of the weights stand in `bytes`.
fn holds_weights(bytes: &[u8]) -> bool {
    let of = |seed| onnxseal_testkit::build::le_bytes(&floats(N, seed));
    [1, 2, 4].map(of).iter().any(|weights| {
        let mut samples = weights.chunks(16).step_by(97);
        samples.any(|sample| bytes.windows(16).any(|window| window == sample))
    })
}

/// The files below `folder`, with what is in them.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path))
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()))
        }
    }
    files.sort();
    files
}

#[test]
fn a_provider_compiles_to_sealed_caches_and_loads_them() {
    let Some(ort) = onnx_runtime() else { return };
    let case = Case::new();
    let compiled = case.compile(ort);
    let files = files(case.dir.path());
    let names: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
    let sealed = CACHES.map(|name| case.file(name));
    assert_eq!(
        names,
        [&sealed[..], &[case.dir.path().join("s.onnx")]].concat()
    );
    for (path, bytes) in &files {
        assert!(!holds_weights(bytes), "{}", path.display());
    }
    for path in &sealed {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    // The compiled model does not hold them either: the provider took them all.
    assert!(!holds_weights(&compiled));
    // They are in the caches.
    for name in CACHES {
        assert!(holds_weights(&case.store.read(name).unwrap()), "{name}");
    }
    let y = case.run(ort, &compiled, &case.store).unwrap();
    assert_eq!(y, expected(&floats(N, 3)));

    // The compiled model can be kept with its caches.
    case.store.write("model_ctx.onnx", &compiled).unwrap();
    let compiled = case.store.read("model_ctx.onnx").unwrap();
    let y = case.run(ort, &compiled, &case.store).unwrap();
    assert_eq!(y, expected(&floats(N, 3)));
}

#[test]
fn weights_that_the_provider_does_not_take_stay_in_the_compiled_model() {
    let Some(ort) = onnx_runtime() else { return };
    let case = Case::of(&model_with_sum());
    let compiled = case.compile(ort);
    assert!(holds_weights(&compiled));
    // So it is kept with the caches.
    case.store.write("model_ctx.onnx", &compiled).unwrap();
    for (path, bytes) in files(case.dir.path()) {
        assert!(!holds_weights(&bytes), "{}", path.display());
    }
    let compiled = case.store.read("model_ctx.onnx").unwrap();
    let y = case.run(ort, &compiled, &case.store).unwrap();
    let sums = expected(&floats(N, 3)).into_iter().zip(floats(N, 4));
    assert_eq!(y, sums.map(|(y, c)| y + c).collect::<Vec<_>>());
}

#[test]
fn without_callbacks_the_provider_leaves_plain_files() {
    // What the other tests rest on: the provider does compile weights, and a leak is found.
    let Some(ort) = onnx_runtime() else { return };
    let case = Case::new();
    let settings = Settings {
        callbacks: None,
        config: case.config(),
    };
    let compiled = ort.compile(
        case.model.contents().unwrap().bytes(),
        &case.caches(),
        &settings,
    );
    let compiled = compiled.unwrap();
    let files = files(&case.caches());
    assert_eq!(files.len(), CACHES.len());
    assert!(files.iter().all(|(_, bytes)| holds_weights(bytes)));
    let y = ort.run(&compiled, &floats(N, 3), &settings).unwrap();
    assert_eq!(y, expected(&floats(N, 3)));
    // Nor is a plain file taken for a sealed one.
    for name in CACHES {
        fs::rename(case.caches().join(name), case.file(name)).unwrap();
    }
    case.assert_refused(ort, &compiled, "not a sealed blob");
}

#[test]
fn a_cache_that_was_changed_makes_no_session() {
    let Some(ort) = onnx_runtime() else { return };
    let case = Case::new();
    let compiled = case.compile(ort);
    let path = case.file(CACHES[1]);
    let good = fs::read(&path).unwrap();
    for at in [16, 47, 48, good.len() / 2, good.len() - 1] {
        let mut changed = good.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        case.assert_refused(ort, &compiled, "authentication failed");
    }
    for len in [0, 15, 63] {
        fs::write(&path, &good[..len]).unwrap();
        case.assert_refused(ort, &compiled, "not a sealed blob");
    }
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    case.assert_refused(ort, &compiled, "authentication failed");
    fs::write(&path, [&good[..], &[0]].concat()).unwrap();
    case.assert_refused(ort, &compiled, "authentication failed");

    fs::write(&path, &good).unwrap();
    case.run(ort, &compiled, &case.store).unwrap();
}

#[test]
fn caches_do_not_pass_for_each_other() {
    let Some(ort) = onnx_runtime() else { return };
    let case = Case::new();
    let compiled = case.compile(ort);
    let [one, two] = CACHES.map(|name| case.file(name));
    let aside = case.caches().join("aside");
    fs::rename(&one, &aside).unwrap();
    fs::rename(&two, &one).unwrap();
    fs::rename(&aside, &two).unwrap();
    case.assert_refused(ort, &compiled, "authentication failed");
    assert_eq!(
        case.store.read(CACHES[0]).unwrap_err().kind(),
        ErrorKind::Authentication
    );
}

#[test]
fn a_cache_that_is_missing_makes_no_session() {
    let Some(ort) = onnx_runtime() else { return };
    let case = Case::new();
    let compiled = case.compile(ort);
    fs::remove_file(case.file(CACHES[0])).unwrap();
    case.assert_refused(ort, &compiled, "stub_0_ctx.bin.sealed");
    let missing = case.store.read(CACHES[0]).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
}

#[test]
fn another_models_key_opens_nothing() {
    let Some(ort) = onnx_runtime() else { return };
    let (case, other) = (Case::new(), Case::new());
    let compiled = case.compile(ort);
    // The same model, protected once more: another data key.
    let store = other.model.ep_context(case.caches()).unwrap();
    let fault = case.run(ort, &compiled, &store).unwrap_err();
    assert!(fault.contains("authentication failed"), "{fault}");
    assert_eq!(
        store.read(CACHES[0]).unwrap_err().kind(),
        ErrorKind::Authentication
    );
}

#[test]
fn caches_stay_with_the_data_key() {
    let case = Case::new();
    case.store.write("cache", b"compiled").unwrap();
    let Case {
        recipients,
        identities,
        ..
    } = &case;
    let at = |name| case.dir.path().join(name);
    let caches_of = |model| {
        let model = Model::open(at(model), identities).unwrap();
        model.ep_context(case.caches()).unwrap().read("cache")
    };
    let sealed = at("s.onnx");
    rekey(
        sealed.as_path(),
        at("rekeyed"),
        identities,
        recipients,
        &Silent,
    )
    .unwrap();
    assert_eq!(*caches_of("rekeyed").unwrap(), b"compiled");
    let options = RotateOptions::default();
    rotate(
        sealed.as_path(),
        at("rotated"),
        identities,
        recipients,
        &options,
        &Silent,
    )
    .unwrap();
    let fault = caches_of("rotated").unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::Authentication);
}

#[test]
fn compiling_again_replaces_the_caches() {
    let Some(ort) = onnx_runtime() else { return };
    let case = Case::new();
    case.compile(ort);
    let first = fs::read(case.file(CACHES[0])).unwrap();
    let compiled = case.compile(ort);
    assert_ne!(fs::read(case.file(CACHES[0])).unwrap(), first);
    assert_eq!(files(&case.caches()).len(), CACHES.len());
    case.run(ort, &compiled, &case.store).unwrap();
}

#[test]
fn a_provider_cannot_leave_the_folder() {
    let Some(ort) = onnx_runtime() else { return };
    let case = Case::new();
    let before = files(case.dir.path()).len();
    let callbacks = ort.callbacks(&case.store);
    let elsewhere = case.dir.path().join("elsewhere").display().to_string();
    for name in ["../escaped", "sub/cache", "..", r"sub\cache", &elsewhere] {
        let mut config = case.config();
        config.push(("stub.name", name.to_owned()));
        let settings = Settings {
            callbacks: Some(&callbacks),
            config,
        };
        let compiled = ort.compile(
            case.model.contents().unwrap().bytes(),
            &case.caches(),
            &settings,
        );
        let fault = compiled.unwrap_err();
        assert!(fault.contains("cannot name a compiled cache"), "{fault}");
    }
    assert_eq!(files(case.dir.path()).len(), before);
}

#[test]
fn onnx_runtime_refuses_a_provider_that_would_ignore_the_callbacks() {
    let Some(ort) = onnx_runtime() else { return };
    let case = Case::new();
    let compiled = case.compile(ort);
    let before = files(&case.caches());
    let callbacks = ort.callbacks(&case.store);
    let mut config = case.config();
    config.push(("stub.no_support", "1".to_owned()));
    let settings = Settings {
        callbacks: Some(&callbacks),
        config,
    };
    let refusal = "does not support the registered EPContext data";
    let fault = ort.compile(
        case.model.contents().unwrap().bytes(),
        &case.caches(),
        &settings,
    );
    let fault = fault.unwrap_err();
    assert!(fault.contains(refusal), "{fault}");
    let fault = ort.run(&compiled, &floats(N, 3), &settings).unwrap_err();
    assert!(fault.contains(refusal), "{fault}");
    assert_eq!(files(&case.caches()), before);
}

#[test]
fn names_stay_in_the_folder() {
    let case = Case::new();
    let long = "n".repeat(249);
    for name in [
        "", ".", "..", "a/b", "/a", r"a\b", "c:a", "a\0", "a\nb", &long,
    ] {
        let fault = case.store.write(name, b"cache").unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::Usage, "{name:?}");
        let fault = case.store.read(name).unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::Usage, "{name:?}");
    }
    assert_eq!(files(&case.caches()).len(), 0);
    for name in ["a", "...", ".hidden", "ä b", &long[..248]] {
        case.store.write(name, name.as_bytes()).unwrap();
        assert_eq!(*case.store.read(name).unwrap(), name.as_bytes());
    }
}

/// Whoever can write to the folder decides how large a file in it is.
#[test]
fn files_that_are_too_large_are_not_read() {
    let case = Case::new();
    let store = &case.store;
    store.write("cache", &[7; 1000]).unwrap();
    let path = store.path("large").unwrap();
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let error = store.read("large").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    store.set_max_bytes(999);
    for error in [
        store.read("cache").unwrap_err(),
        store.write("other", &[7; 1000]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    }
    store.set_max_bytes(2000);
    assert_eq!(store.read("cache").unwrap()[..], [7; 1000]);
}

#[test]
fn a_link_in_the_folder_is_replaced_not_followed() {
    let case = Case::new();
    let outside = case.dir.path().join("outside");
    fs::write(&outside, b"as it was").unwrap();
    std::os::unix::fs::symlink(&outside, case.file("cache")).unwrap();
    case.store.write("cache", b"new").unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"as it was");
    assert_eq!(*case.store.read("cache").unwrap(), b"new");
    let fault = case.model.ep_context(&outside).unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::Io);
}

#[test]
fn callbacks_answer_every_call_with_a_status() {
    let Some(ort) = onnx_runtime() else { return };
    let case = Case::new();
    let callbacks = ort.callbacks(&case.store);
    let (write, write_state) = callbacks.write_func();
    let (read, read_state) = callbacks.read_func();
    let allocator: *mut OrtAllocator = ort.allocator().cast();
    let (mut buffer, mut len): (*mut c_void, usize) = (ptr::null_mut(), 1);
    let empty = CString::new("empty").unwrap();

    // Nothing is a cache too, for which no memory is given.
    let status = unsafe { write(write_state, empty.as_ptr(), ptr::null(), 0) };
    ort.check(status).unwrap();
    let status = unsafe { read(read_state, empty.as_ptr(), allocator, &mut buffer, &mut len) };
    ort.check(status).unwrap();
    assert_eq!((buffer, len), (ptr::null_mut(), 0));

    let bad_utf8 = CString::new([0xFF]).unwrap();
    let missing = CString::new("missing").unwrap();
    let outside = CString::new("../outside").unwrap();
    const INVALID_ARGUMENT: i32 = 2;
    const NO_SUCH_FILE: i32 = 3;
    for (name, code) in [
        (ptr::null(), INVALID_ARGUMENT),
        (bad_utf8.as_ptr(), INVALID_ARGUMENT),
        (outside.as_ptr(), INVALID_ARGUMENT),
        (missing.as_ptr(), NO_SUCH_FILE),
    ] {
        (buffer, len) = (ptr::dangling_mut(), 1);
        let status = unsafe { read(read_state, name, allocator, &mut buffer, &mut len) };
        assert_eq!(ort.code(status), code);
        assert_eq!((buffer, len), (ptr::null_mut(), 0));
    }
    for name in [ptr::null(), bad_utf8.as_ptr()] {
        let status = unsafe { write(write_state, name, b"x".as_ptr().cast(), 1) };
        ort.check(status).unwrap_err();
    }
    let status = unsafe { write(write_state, empty.as_ptr(), ptr::null(), 1) };
    let fault = ort.check(status).unwrap_err();
    assert!(fault.starts_with("onnxseal: "), "{fault}");
    let status = unsafe {
        read(
            read_state,
            empty.as_ptr(),
            ptr::null_mut(),
            &mut buffer,
            &mut len,
        )
    };
    ort.check(status).unwrap_err();
    let status = unsafe {
        read(
            read_state,
            empty.as_ptr(),
            allocator,
            ptr::null_mut(),
            &mut len,
        )
    };
    ort.check(status).unwrap_err();
    assert_eq!(files(&case.caches()).len(), 1);
}
