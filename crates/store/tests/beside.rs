//! External data files: which paths are followed.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use onnxseal_store::{Error, FileFault, Input, beside};
use tempfile::TempDir;

fn folder_with(files: &[&str]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"weights").unwrap();
    }
    dir
}

fn file_fault<T: std::fmt::Debug>(result: Result<T, Error>) -> FileFault {
    match result {
        Err(Error::External { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// Opens a file of a model in `dir`.
fn open(dir: &Path, location: &str) -> Result<(PathBuf, File), Error> {
    beside::open(&dir.join("model.onnx"), location)
}

/// The path that is opened.
fn resolve(dir: &Path, location: &str) -> Result<PathBuf, Error> {
    open(dir, location).map(|(path, _)| path)
}

/// The paths that are opened.
fn resolve_all(model_path: &Path, locations: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let locations: Vec<String> = locations.iter().map(|&text| text.to_owned()).collect();
    let inputs = Input::open(&model_path.into())?.open_all_beside(&locations)?;
    Ok(inputs.into_iter().map(|input| input.path).collect())
}

#[test]
fn regular_files_below_the_folder_resolve() {
    let dir = folder_with(&["w.bin", "a/b/w.bin"]);
    for location in ["w.bin", "a/b/w.bin"] {
        let path = resolve(dir.path(), location).unwrap();
        assert_eq!(path, fs::canonicalize(dir.path().join(location)).unwrap());
        let (opened, file) = open(dir.path(), location).unwrap();
        assert_eq!((opened, text(file)), (path, "weights".to_owned()));
    }
}

fn text(mut file: File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn absent_files_are_an_io_error() {
    let dir = folder_with(&["w.bin"]);
    let missing = |result| match result {
        Err(Error::Io { path, source, .. }) => (path, source.kind()),
        other => panic!("{other:?}"),
    };
    let (path, kind) = missing(resolve(dir.path(), "v.bin"));
    assert!(path.ends_with("v.bin"));
    assert_eq!(kind, ErrorKind::NotFound);
    let (_, kind) = missing(resolve(&dir.path().join("nowhere"), "w.bin"));
    assert_eq!(kind, ErrorKind::NotFound);
}

#[test]
fn locations_that_are_not_normalised_do_not_resolve() {
    let dir = folder_with(&["w.bin", "a/w.bin"]);
    for location in [
        "./w.bin",
        "a/../w.bin",
        "../w.bin",
        "",
        "/w.bin",
        "a//w.bin",
    ] {
        assert_eq!(
            file_fault(resolve(dir.path(), location)),
            FileFault::NotNormalised
        );
        assert_eq!(
            file_fault(open(dir.path(), location)),
            FileFault::NotNormalised
        );
    }
}

#[test]
fn folders_do_not_resolve() {
    let dir = folder_with(&["a/w.bin"]);
    assert_eq!(file_fault(resolve(dir.path(), "a")), FileFault::NotRegular);
    assert_eq!(file_fault(open(dir.path(), "a")), FileFault::NotRegular);
}

#[cfg(target_os = "linux")]
#[test]
fn pipes_do_not_open_or_block() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    let dir = folder_with(&["w.bin"]);
    let pipe = dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(file_fault(open(dir.path(), "pipe")), FileFault::NotRegular);
}

#[cfg(unix)]
#[test]
fn symbolic_links_must_stay_in_the_folder() {
    use std::os::unix::fs::symlink;

    let outside = folder_with(&["secret.bin"]);
    let secret = fs::canonicalize(outside.path().join("secret.bin")).unwrap();
    let dir = folder_with(&["w.bin", "a/w.bin"]);
    let at = |name: &str| dir.path().join(name);
    symlink(&secret, at("file")).unwrap();
    symlink(outside.path(), at("folder")).unwrap();
    symlink(at("file"), at("twice")).unwrap();
    symlink("../w.bin", at("a/inside")).unwrap();
    symlink("loop", at("loop")).unwrap();

    for location in ["file", "folder/secret.bin", "twice"] {
        let fault = file_fault(resolve(dir.path(), location));
        assert_eq!(fault, FileFault::Outside(secret.clone()));
        let fault = file_fault(open(dir.path(), location));
        assert_eq!(fault, FileFault::Outside(secret.clone()));
    }
    let inside = resolve(dir.path(), "a/inside").unwrap();
    assert_eq!(inside, fs::canonicalize(at("w.bin")).unwrap());
    let (opened, file) = open(dir.path(), "a/inside").unwrap();
    assert_eq!((opened, text(file)), (inside, "weights".to_owned()));
    assert!(matches!(resolve(dir.path(), "loop"), Err(Error::Io { .. })));
    // A model in a folder that is itself a link is where the link leads.
    let link = outside.path().join("model_dir");
    symlink(dir.path(), &link).unwrap();
    assert!(resolve(&link, "w.bin").is_ok());
}

/// As the cache of Hugging Face has them: `snapshots/1/onnx` has links, `blobs` the files.
#[cfg(unix)]
#[test]
fn a_model_that_is_a_link_has_the_folder_that_it_leads_to_as_well() {
    use std::os::unix::fs::symlink;

    let files = [
        "blobs/m",
        "blobs/w",
        "blobs/below/w",
        "other/w",
        "w",
        "snapshots/1/onnx/config",
    ];
    let dir = folder_with(&files);
    let snapshot = dir.path().join("snapshots/1/onnx");
    for (to, name) in [
        ("blobs/m", "model.onnx"),
        ("blobs/w", "w"),
        ("blobs/below/w", "below"),
    ] {
        symlink(Path::new("../../..").join(to), snapshot.join(name)).unwrap();
    }
    for (to, name) in [
        ("other/w", "out"),
        ("w", "above"),
        ("snapshots/1/onnx/w", "again"),
    ] {
        symlink(dir.path().join(to), snapshot.join(name)).unwrap();
    }
    let root = fs::canonicalize(dir.path()).unwrap();
    for (location, file) in [
        ("w", "blobs/w"),
        ("below", "blobs/below/w"),
        ("again", "blobs/w"),
    ] {
        assert_eq!(resolve(&snapshot, location).unwrap(), root.join(file));
    }
    for (location, file) in [("out", "other/w"), ("above", "w")] {
        let fault = FileFault::Outside(root.join(file));
        assert_eq!(file_fault(resolve(&snapshot, location)), fault);
    }
    // Names count in the folder of the path that was given, as in ONNX Runtime.
    symlink("model.onnx", snapshot.join("second.onnx")).unwrap();
    assert!(beside::open(&snapshot.join("second.onnx"), "w").is_ok());
    symlink(snapshot.join("model.onnx"), dir.path().join("third.onnx")).unwrap();
    let third = beside::open(&dir.path().join("third.onnx"), "below/w");
    assert!(matches!(third, Err(Error::Io { .. })));
    // A model that is no link has its own folder alone.
    fs::remove_file(snapshot.join("model.onnx")).unwrap();
    fs::write(snapshot.join("model.onnx"), "model").unwrap();
    let fault = FileFault::Outside(root.join("blobs/w"));
    assert_eq!(file_fault(resolve(&snapshot, "w")), fault);
}

#[cfg(unix)]
#[test]
fn two_locations_must_not_lead_to_one_file() {
    use std::os::unix::fs::symlink;

    let dir = folder_with(&["model.onnx", "w.bin"]);
    symlink("w.bin", dir.path().join("link.bin")).unwrap();
    let model_path = dir.path().join("model.onnx");
    let resolve_with = |second: &str| resolve_all(&model_path, &["w.bin", second]);
    let owner = |result: Result<Vec<PathBuf>, Error>| match result {
        Err(Error::External {
            location,
            fault: FileFault::Shared(other),
        }) => (location, other),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        owner(resolve_with("link.bin")),
        ("link.bin".to_owned(), "w.bin".to_owned())
    );
    assert_eq!(
        owner(resolve_with("model.onnx")),
        ("model.onnx".to_owned(), "the model".to_owned())
    );
}

#[test]
fn all_files_of_a_model_resolve_in_order() {
    let dir = folder_with(&["model.onnx", "weights/w.bin", "b.bin"]);
    let path = dir.path().join("model.onnx");
    let paths = resolve_all(&path, &["weights/w.bin", "b.bin"]).unwrap();
    assert!(paths[0].ends_with("weights/w.bin") && paths[1].ends_with("b.bin"));
    assert!(resolve_all(&path, &[]).unwrap().is_empty());
}
