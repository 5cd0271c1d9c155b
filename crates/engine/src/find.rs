//! Searches for ONNX Runtime's library.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Folders of shared libraries, besides those of the system's loader.
const FOLDERS: [&str; 8] = [
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/opt/homebrew/lib",
    "/opt/onnxruntime/lib",
];

/// The variable that names the library.
pub(crate) const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The folders of [`look_first_in`].
static FIRST: RwLock<Vec<PathBuf>> = RwLock::new(Vec::new());

/// Makes [`Engine::load`](crate::Engine::load) look for the Python package `onnxruntime` in these
/// folders of packages before any others, in their order. An interpreter knows where it finds
/// packages.
pub fn look_first_in(folders: Vec<PathBuf>) {
    *FIRST.write().unwrap_or_else(PoisonError::into_inner) = folders;
}

/// Returns the library's file, or a text that says where it was searched.
pub(crate) fn find() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let first = FIRST.read().unwrap_or_else(PoisonError::into_inner).clone();
    let others = prefixes();
    let others = others.iter().flat_map(|prefix| site_packages(prefix));
    let packages = first.into_iter().chain(others);
    let packages = packages.map(|packages| (packages.join("onnxruntime").join("capi"), packages));
    let folders = FOLDERS.map(|folder| (folder.into(), folder.into()));
    let mut looked: Vec<String> = Vec::new();
    for (folder, shown) in packages.chain(folders) {
        if let Some(found) = library_in(&folder) {
            return Ok(found);
        }
        let name = shown.display().to_string();
        // Whoever looks where Python does comes by a folder twice.
        if shown.is_dir() && !looked.contains(&name) {
            looked.push(name);
        }
    }
    Err(format!(
        "{VARIABLE} is not set, and there is no library in {}. Install it with `pip install onnxruntime`, or set {VARIABLE} to the \
         file of the library",
        if looked.is_empty() {
            "any usual folder".to_owned()
        } else {
            looked.join(", ")
        }
    ))
}

/// Returns the places of Python: the active virtual environment, the one that contains this
/// program, then that of each `python3` on the path.
fn prefixes() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut add = |prefix: Option<&Path>| {
        if let Some(prefix) = prefix
            && !found.iter().any(|known| known == prefix)
        {
            found.push(prefix.to_owned());
        }
    };
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        let prefix = env::var_os(variable).filter(|prefix| !prefix.is_empty());
        add(prefix.as_ref().map(Path::new));
    }
    let program = env::current_exe().ok();
    let folder = program.as_deref().and_then(Path::parent);
    add(folder.and_then(Path::parent));
    let path = env::var_os("PATH").unwrap_or_default();
    for folder in env::split_paths(&path) {
        for name in ["python3", "python", "python.exe"] {
            let python = folder.join(name);
            if !python.is_file() {
                continue;
            }
            // Do not resolve the link, which would lead out of a virtual environment.
            add(if cfg!(windows) {
                python.parent()
            } else {
                folder.parent()
            });
            if let Ok(real) = python.canonicalize() {
                add(real.parent().and_then(Path::parent));
            }
        }
    }
    if let Some(home) = env::var_os("HOME") {
        add(Some(&Path::new(&home).join(".local")));
    }
    found
}

/// Returns the folders of packages below a prefix.
fn site_packages(prefix: &Path) -> Vec<PathBuf> {
    if cfg!(windows) {
        let packages = prefix.join("Lib").join("site-packages");
        return Vec::from_iter(packages.is_dir().then_some(packages));
    }
    let mut found = Vec::new();
    for lib in ["lib", "lib64"] {
        let lib = prefix.join(lib);
        for python in names_in(&lib, |name| name.starts_with("python3")) {
            let packages = ["site-packages", "dist-packages"].map(|of| python.join(of));
            found.extend(packages.into_iter().filter(|packages| packages.is_dir()));
        }
    }
    found
}

/// Returns ONNX Runtime's library in `folder`, the last by name if there are several.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let is_library = |name: &str| {
        name.starts_with("libonnxruntime.so")
            || (name.starts_with("libonnxruntime.") && name.ends_with(".dylib"))
            || name == "onnxruntime.dll"
    };
    names_in(folder, is_library).pop()
}

/// Returns the entries of `folder` with suitable names, in order.
fn names_in(folder: &Path, suits: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let name = |path: &PathBuf| path.file_name().and_then(OsStr::to_str).is_some_and(&suits);
    let mut found: Vec<PathBuf> = paths.filter(name).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn libraries_are_known_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let capi = dir
            .path()
            .join("lib/python3.12/site-packages/onnxruntime/capi");
        fs::create_dir_all(&capi).unwrap();
        for name in [
            "libonnxruntime_providers_shared.so",
            "libonnxruntime.so.1.32.0",
            "onnxruntime_pybind11_state.so",
        ] {
            fs::write(capi.join(name), b"").unwrap();
        }
        if cfg!(unix) {
            let packages = site_packages(dir.path());
            assert_eq!(packages.len(), 1);
            let folder = packages[0].join("onnxruntime/capi");
            assert!(
                library_in(&folder)
                    .unwrap()
                    .ends_with("libonnxruntime.so.1.32.0")
            );
        }
        assert_eq!(library_in(dir.path()), None);
    }
}
