//! Which files are found, by what, and under which path.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use onnxseal_batch::{Discovery, Error, Found, Unreadable, discover};
use onnxseal_core::{Error as CoreError, ErrorKind, Location, StoreError};
use onnxseal_testkit::samples;
use tempfile::TempDir;

const NONE: &[PathBuf] = &[];

/// A folder with files; those whose names say so are models.
fn folder(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        put(dir.path(), name);
    }
    dir
}

fn put(folder: &Path, name: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if name.contains("model") {
        fs::write(path, samples::gemm()).unwrap()
    } else {
        fs::write(path, "no such thing").unwrap()
    }
}

#[test]
fn a_model_that_is_half_written_is_found() {
    let dir = folder(&["half", "other"]);
    // As `crates/store/src/splice.rs` draws it.
    let mut journal = b"onnxseal journal 1\n".to_vec();
    for number in [0u64, 0, 3] {
        journal.extend_from_slice(&number.to_be_bytes());
    }
    journal.extend_from_slice(b"oldnew");
    let hash = blake3::hash(&journal);
    journal.extend_from_slice(hash.as_bytes());
    fs::write(dir.path().join(".half.onnxseal-journal"), journal).unwrap();
    assert_eq!(found(&dir, &["."]), [("half".into(), "half".into())]);
}

/// What is found from sources below `dir`: paths below it, and where they go.
fn found(dir: &TempDir, sources: &[&str]) -> Vec<(String, String)> {
    let sources: Vec<_> = sources.iter().map(|name| dir.path().join(name)).collect();
    let found = discover(&sources, NONE).unwrap();
    assert_eq!(unreadable(dir, &found), [""; 0]);
    shown(dir, found.models)
}

/// What could not be looked at, as paths below `dir`.
fn unreadable(dir: &TempDir, found: &Discovery) -> Vec<String> {
    let path = |row: &Unreadable| {
        assert_eq!(row.error.kind(), ErrorKind::Io);
        shown(dir, vec![row.found.clone()]).remove(0).0
    };
    found.unreadable.iter().map(path).collect()
}

fn shown(dir: &TempDir, found: Vec<Found>) -> Vec<(String, String)> {
    // With / on Windows too.
    let text = |path: &Path| match path.to_str().unwrap() {
        path if cfg!(windows) => path.replace('\\', "/"),
        path => path.to_owned(),
    };
    let show = |found: Found| {
        let Location::File(path) = &found.location else {
            panic!("{} is no file", found.location);
        };
        let path = path.strip_prefix(dir.path()).unwrap();
        (text(path), text(&found.relative))
    };
    found.into_iter().map(show).collect()
}

/// Rows whose paths are the same below the folder and below the output.
fn same(names: &[&str]) -> Vec<(String, String)> {
    let both = |name: &&str| (name.to_string(), name.to_string());
    names.iter().map(both).collect()
}

fn refused(dir: &TempDir, source: &str) -> (ErrorKind, String) {
    let error = discover(&[dir.path().join(source)], NONE).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn folders_are_searched_by_content_and_suffix() {
    let names = [
        "a/model",
        "a/.hidden/model.bin",
        ".model",
        "a/README.md",
        "broken.onnx",
        "UPPER.ONNX",
        "a/.git/model",
        "z.txt",
    ];
    let dir = folder(&names);
    fs::write(dir.path().join("empty"), "").unwrap();
    // A malformed model is found by its name alone.
    let model = samples::gemm();
    fs::write(dir.path().join("cut"), &model[..model.len() / 2]).unwrap();
    fs::write(
        dir.path().join("lora.onnx_adapter"),
        b"\x0c\0\0\0TORT\0\0\0\0",
    )
    .unwrap();
    let expected = [
        ".model",
        "UPPER.ONNX",
        "a/.hidden/model.bin",
        "a/model",
        "broken.onnx",
        "lora.onnx_adapter",
    ];
    assert_eq!(found(&dir, &[""]), same(&expected));
    // Where a source is below another, each file is still found once, by the first.
    assert_eq!(found(&dir, &["", "a", "a/model"]), same(&expected));
    assert_eq!(
        found(&dir, &["a/README.md", "a/.git"]),
        [
            ("a/.git/model".into(), "model".into()),
            // What is named is taken for what it should be.
            ("a/README.md".into(), "README.md".into())
        ]
    );
}

#[test]
fn external_data_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    samples::external_data().write(dir.path()).unwrap();
    assert_eq!(found(&dir, &[""]), same(&["model.onnx"]));
}

#[test]
fn globs_match_names_and_folders() {
    let dir = folder(&[
        "a/model1",
        "a/model2",
        "a/b/model1",
        "a/b/text",
        "c/model1",
        "d/[x]/model",
    ]);
    let (one, two, deep) = (
        ("a/model1", "model1"),
        ("a/model2", "model2"),
        ("a/b/model1", "b/model1"),
    );
    let rows = |rows: &[(&str, &str)]| -> Vec<(String, String)> {
        let owned = |(path, relative): &(&str, &str)| (path.to_string(), relative.to_string());
        rows.iter().map(owned).collect()
    };
    assert_eq!(found(&dir, &["a/model?"]), rows(&[one, two]));
    assert_eq!(found(&dir, &["a/*"]), rows(&[deep, one, two]));
    assert_eq!(found(&dir, &["a/**/*1"]), rows(&[deep, one]));
    assert_eq!(found(&dir, &["a/{model2,b/*1}"]), rows(&[deep, two]));
    assert_eq!(found(&dir, &["?/model1"]), same(&["a/model1", "c/model1"]));
    // A file of that very name comes first.
    assert_eq!(found(&dir, &["d/[x]"]), rows(&[("d/[x]/model", "model")]));

    for (source, kind, says) in [
        ("a/x*", ErrorKind::Usage, "matches nothing"),
        ("a/[", ErrorKind::Usage, "no pattern"),
        ("x/*", ErrorKind::Io, "x"),
        ("a/x", ErrorKind::Io, "a/x"),
    ] {
        let (found, message) = refused(&dir, source);
        assert_eq!(found, kind, "{message}");
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn lists_name_sources_relative_to_themselves() {
    let dir = folder(&[
        "l[1]/a/model",
        "l[1]/b/model",
        "l[1]/c/x/model",
        "other/y/model",
    ]);
    let list = "\u{feff}# these\r\n\r\n  a/model\r\n./b\n c/*/mod* \n../other\n";
    fs::write(dir.path().join("l[1]/list"), list).unwrap();
    let path = |name: &str| dir.path().join("l[1]").join(name);
    let found = discover(NONE, &[path("list")]).unwrap().models;
    let expected = [
        (path("a/model"), "a/model"),
        (path("b/model"), "b/model"),
        (path("c/x/model"), "c/x/model"),
        (path("../other/y/model"), "y/model"),
    ];
    let mut expected = expected.map(|(path, relative)| Found {
        location: path.into(),
        relative: relative.into(),
    });
    expected.sort();
    assert_eq!(found, expected);

    fs::write(path("list"), "a/model\nabsent\n").unwrap();
    let error = discover(NONE, &[path("list")]).unwrap_err();
    assert!(
        matches!(&error, Error::Core(CoreError::Store(StoreError::Io { path, .. })) if path.ends_with("absent"))
    );
    fs::write(path("list"), "a/model\nhttp://x/y\n").unwrap();
    let error = discover(NONE, &[path("list")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    fs::write(path("list"), "# nothing\n").unwrap();
    assert_eq!(discover(NONE, &[path("list")]).unwrap().models, []);
    let error = discover(NONE, &[path("no list")]).unwrap_err();
    assert!(error.to_string().contains("no list"));
}

#[cfg(unix)]
#[test]
fn a_folder_is_searched_once_and_each_name_in_it_is_a_model() {
    use std::os::unix::fs::symlink;

    let dir = folder(&["a/model", "b/c/model"]);
    let outside = folder(&["model"]);
    let link = |to: &Path, name: &str| symlink(to, dir.path().join(name)).unwrap();
    link(Path::new("../a/model"), "b/model.onnx");
    link(Path::new(".."), "a/up");
    link(Path::new("../.."), "b/c/up");
    link(outside.path(), "out");
    // Other data may lie beside the link than beside the file.
    let expected = ["a/model", "b/c/model", "b/model.onnx", "out/model"];
    assert_eq!(found(&dir, &[""]), same(&expected));
    let link_name = ("b/model.onnx".to_owned(), "model.onnx".to_owned());
    assert_eq!(
        found(&dir, &["b/model.onnx", "a/model"]),
        [("a/model".into(), "model".into()), link_name.clone()]
    );
    // The same name, however it is spelled, is one model.
    assert_eq!(
        found(&dir, &["b/model.onnx", "a/up/b/../b/model.onnx"]),
        [link_name]
    );
    assert_eq!(
        found(&dir, &["*/model*"]),
        same(&["a/model", "b/model.onnx", "out/model"])
    );
    // A fan of links doubles the paths with every level.
    fs::create_dir(dir.path().join("f30")).unwrap();
    for level in 0..30 {
        fs::create_dir(dir.path().join(format!("f{level}"))).unwrap();
        for name in ["x", "y"] {
            let to = format!("../f{}", level + 1);
            link(Path::new(&to), &format!("f{level}/{name}"));
        }
    }
    assert_eq!(found(&dir, &[""]), same(&expected));
}

#[cfg(unix)]
#[test]
fn links_to_nowhere_and_in_circles_are_told_of() {
    use std::os::unix::fs::symlink;

    let dir = folder(&["a/model", "b/model"]);
    let link = |to: &str, name: &str| symlink(to, dir.path().join(name)).unwrap();
    link("nowhere", "a/gone.onnx");
    link("itself", "b/itself");
    link("two", "one");
    link("one", "two");
    let bad = ["a/gone.onnx", "b/itself", "one", "two"];
    for sources in [&[""][..], &["*"], &["a", "b", "one", "two"]] {
        let sources: Vec<_> = sources.iter().map(|name| dir.path().join(name)).collect();
        let found = discover(&sources, NONE).unwrap();
        assert_eq!(unreadable(&dir, &found), bad, "{sources:?}");
        assert_eq!(found.models.len(), 2, "{sources:?}");
    }
    // What is named and not there is a mistake.
    assert!(discover(&[dir.path().join("a/gone.onnx")], NONE).is_err());
}

#[test]
fn unfinished_files_are_no_models() {
    let dir = folder(&["a/model", "a/.model"]);
    fs::write(dir.path().join("a/.onnxseal-aB3xYz"), samples::gemm()).unwrap();
    fs::write(dir.path().join("a/.onnxseal-mine.onnx"), samples::gemm()).unwrap();
    for source in ["", "a/*", "a/.*"] {
        let found = discover(&[dir.path().join(source)], NONE).unwrap();
        assert_eq!(found.unfinished, [dir.path().join("a/.onnxseal-aB3xYz")]);
        assert!(found.models.len() >= 2, "{source}");
    }
    // What is named is wanted.
    let named = found(&dir, &["a/.onnxseal-aB3xYz"]);
    assert_eq!(named.len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn pipes_do_not_block() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    let dir = folder(&["model"]);
    let pipe = dir.path().join("pipe.onnx");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(found(&dir, &[""]), same(&["model"]));
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_not_passed_over() {
    use std::os::unix::fs::PermissionsExt;

    let dir = folder(&["file", "folder/model"]);
    let forbid = |name: &str| {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o000)).unwrap();
    };
    forbid("file");
    if File::open(dir.path().join("file")).is_ok() {
        eprintln!("skipped: this user can read everything");
        return;
    }
    assert_eq!(found(&dir, &[""]), same(&["file", "folder/model"]));
    forbid("folder");
    let found = discover(&[dir.path()], NONE).unwrap();
    assert_eq!(unreadable(&dir, &found), ["folder"]);
    assert!(found.unreadable[0].error.to_string().contains("folder"));
    assert_eq!(shown(&dir, found.models), same(&["file"]));
    // A source of that kind is no end of the search either.
    let sources = ["folder", "file"].map(|name| dir.path().join(name));
    let found = discover(&sources, NONE).unwrap();
    assert_eq!((found.models.len(), found.unreadable.len()), (1, 1));
    fs::set_permissions(dir.path().join("folder"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn all_fixtures_are_found() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models");
    let found = discover(&[&models], NONE).unwrap();
    let mut expected = Vec::new();
    for folder in [models.clone(), models.join("tiny")] {
        let entries = fs::read_dir(folder).unwrap();
        expected.extend(entries.map(|entry| entry.unwrap().path()));
    }
    expected.retain(|path| path.extension().is_some_and(|name| name == "onnx"));
    expected.sort();
    let expected: Vec<Location> = expected.into_iter().map(Location::from).collect();
    let paths: Vec<_> = found
        .models
        .into_iter()
        .map(|found| found.location)
        .collect();
    assert_eq!(paths, expected);
}
