//! External data files: which paths are followed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use onnxseal_onnx::external::{check_extent, normalise, open, open_all};
use onnxseal_onnx::{Error, Fault, FileFault, Model};
use onnxseal_testkit::build::{GraphBuilder, external};
use onnxseal_testkit::samples;
use support::{located, tensor};
use tempfile::TempDir;

#[test]
fn plain_relative_locations_are_normalised() {
    for (location, normal) in [
        ("w.bin", "w.bin"),
        ("./w.bin", "w.bin"),
        ("a/./b//w.bin", "a/b/w.bin"),
        ("..w", "..w"),
        ("w..", "w.."),
        ("...", "..."),
        ("a/...b/w", "a/...b/w"),
        ("onnx::MatMul_12", "onnx::MatMul_12"),
        ("gewichte für alle.bin", "gewichte für alle.bin"),
    ] {
        assert_eq!(normalise(location).as_deref(), Ok(normal), "{location:?}");
    }
}

#[test]
fn other_locations_are_refused() {
    for (location, why) in [
        ("", "is empty"),
        ("/etc/passwd", "is absolute"),
        ("//host/share", "is absolute"),
        ("..", "has a part \"..\""),
        ("../w.bin", "has a part \"..\""),
        ("a/../w.bin", "has a part \"..\""),
        ("a/..", "has a part \"..\""),
        (".", "names a folder"),
        ("./", "names a folder"),
        ("a/", "names a folder"),
        ("a/.", "names a folder"),
        ("a\\w.bin", "has a backslash"),
        ("\\\\host\\share", "has a backslash"),
        ("C:w.bin", "has a drive letter"),
        ("z:/w.bin", "has a drive letter"),
        ("w\0.bin", "has a NUL"),
        ("*/_ORT_MEM_ADDR_/*", "stands for an address in memory"),
    ] {
        match normalise(location) {
            Err(Fault::Location { reason, found }) => {
                assert_eq!((reason, found.as_str()), (why, location));
            }
            other => panic!("{location:?}: {other:?}"),
        }
    }
}

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
        Err(Error::ExternalFile { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// The path that is opened.
fn resolve(dir: &Path, location: &str) -> Result<PathBuf, Error> {
    open(dir, location).map(|(path, _)| path)
}

/// The paths that are opened.
fn resolve_all(model_path: &Path, model: &Model<'_>) -> Result<Vec<PathBuf>, Error> {
    let files = open_all(model_path, model)?;
    Ok(files.into_iter().map(|(path, _)| path).collect())
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
        Err(Error::Io { path, source }) => (path, source.kind()),
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

#[cfg(unix)]
#[test]
fn two_locations_must_not_lead_to_one_file() {
    use std::os::unix::fs::symlink;

    let dir = folder_with(&["model.onnx", "w.bin"]);
    symlink("w.bin", dir.path().join("link.bin")).unwrap();
    let model_path = dir.path().join("model.onnx");
    let resolve_with = |second: &str| {
        let bytes = GraphBuilder::new("g")
            .initializer(external("a", &[1], "w.bin", None, None))
            .initializer(external("b", &[1], second, None, None))
            .encode();
        resolve_all(&model_path, &located(&bytes))
    };
    assert_eq!(resolve_with("./w.bin").unwrap().len(), 1);
    let owner = |result: Result<Vec<PathBuf>, Error>| match result {
        Err(Error::ExternalFile {
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
    let dir = TempDir::new().unwrap();
    let sample = samples::external_data();
    let path = sample.write(dir.path()).unwrap();
    let paths = resolve_all(&path, &located(&sample.model)).unwrap();
    assert!(paths[0].ends_with("weights/w.bin") && paths[1].ends_with("b.bin"));
    let opened = open_all(&path, &located(&sample.model)).unwrap();
    for ((opened, file), path) in opened.into_iter().zip(paths) {
        assert_eq!(opened, path);
        assert_eq!(
            file.metadata().unwrap().len(),
            fs::metadata(path).unwrap().len()
        );
    }
    let gemm = samples::gemm();
    assert!(
        resolve_all(Path::new("no/such.onnx"), &located(&gemm))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn tensors_must_lie_within_their_file() {
    let sample = samples::external_data();
    let model = located(&sample.model);
    let w = tensor(&model, "w");
    assert!(check_extent(&model, w, 112).is_ok());
    let error = check_extent(&model, w, 111).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "tensor \"w\", graph.initializer[0], TensorProto.external_data, offset {}: expected \
             48 bytes at offset 64 of external data file \"weights/w.bin\", found a file of 111 \
             bytes",
            w.offset
        )
    );
    let gemm = samples::gemm();
    let model = located(&gemm);
    assert!(check_extent(&model, &model.tensors[0], 0).is_ok());
}
