//! Searches for ONNX Runtime's library.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Folders of shared libraries, besides those of the system's loader. On Windows none: the library
/// in `System32` is Windows' own, and older than what this crate needs.
const FOLDERS: &[&str] = if cfg!(windows) { &[] } else { UNIX_FOLDERS };
const UNIX_FOLDERS: &[&str] = &[
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
    let folders = FOLDERS.iter().map(PathBuf::from);
    // Windows' programs bring their libraries.
    let beside = program_folder().filter(|_| cfg!(windows));
    let folders = beside.into_iter().chain(folders);
    let folders = folders.map(|folder| (folder.clone(), folder));
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
    add(program_folder().as_deref().and_then(Path::parent));
    let path = env::var_os("PATH").unwrap_or_default();
    for folder in env::split_paths(&path) {
        for name in ["python3", "python", "python.exe"] {
            let python = folder.join(name);
            if !python.is_file() {
                continue;
            }
            if cfg!(windows) && !folder.ends_with("Scripts") {
                add(Some(&folder));
                continue;
            }
            // Do not resolve the link, which would lead out of a virtual environment.
            add(folder.parent());
            if let Ok(real) = python.canonicalize() {
                add(real.parent().and_then(Path::parent));
            }
        }
    }
    // Packages of this user's; on Windows the installer of Python puts it itself there too.
    for (variable, folder) in [
        ("HOME", ".local"),
        ("APPDATA", "Python"),
        ("LOCALAPPDATA", "Programs/Python"),
    ] {
        let Some(folder) = env::var_os(variable).map(|of| Path::new(&of).join(folder)) else {
            continue;
        };
        match variable {
            "HOME" => add(Some(&folder)),
            _ => names_in(&folder, |name| name.starts_with("Python3"))
                .iter()
                .for_each(|prefix| add(Some(prefix))),
        }
    }
    found
}

fn program_folder() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.to_owned())
}

/// Returns the folders of packages below a prefix.
fn site_packages(prefix: &Path) -> Vec<PathBuf> {
    if cfg!(windows) {
        let packages = ["Lib/site-packages", "site-packages"].map(|of| prefix.join(of));
        return Vec::from_iter(packages.into_iter().filter(|packages| packages.is_dir()));
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
        let (packages, library, others) = if cfg!(windows) {
            let others = [
                "onnxruntime_providers_shared.dll",
                "onnxruntime_pybind11_state.pyd",
            ];
            ("Lib/site-packages", "onnxruntime.dll", others)
        } else {
            let others = [
                "libonnxruntime_providers_shared.so",
                "onnxruntime_pybind11_state.so",
            ];
            (
                "lib/python3.12/site-packages",
                "libonnxruntime.so.1.32.0",
                others,
            )
        };
        let capi = dir.path().join(packages).join("onnxruntime/capi");
        fs::create_dir_all(&capi).unwrap();
        for name in others {
            fs::write(capi.join(name), b"").unwrap();
        }
        let found = site_packages(dir.path());
        assert_eq!(found, [dir.path().join(packages)]);
        let folder = found[0].join("onnxruntime/capi");
        assert_eq!(library_in(&folder), None);
        fs::write(capi.join(library), b"").unwrap();
        assert_eq!(library_in(&folder), Some(folder.join(library)));
        assert_eq!(library_in(dir.path()), None);
    }
}
