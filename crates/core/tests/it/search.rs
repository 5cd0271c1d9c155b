//! Which files a search takes for models.

use std::fs::{self, File};

use onnxseal_core::{Location, is_model};
use onnxseal_store::Input;
use onnxseal_testkit::build::{GraphBuilder, external};
use onnxseal_testkit::wire::{varint, varint_field};

#[test]
fn files_in_formats_of_onnx_runtime_are_found_wherever_their_root_lies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for identifier in ["ORTM", "TORT"] {
        for root in (4..=0x80).step_by(4) {
            let head = [&[root, 0, 0, 0], identifier.as_bytes(), &[0; 200]].concat();
            fs::write(&path, head).unwrap();
            let input = Input::open(&Location::from(&*path)).unwrap();
            assert!(is_model(input).unwrap(), "{identifier} {root}");
        }
    }
}

/// A file counts as a model once telling costs more than a search may read.
#[test]
fn a_search_reads_little_of_a_large_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let is_model_of = |len: u64| {
        let head = [varint_field(1, 8), varint(90 << 3 | 2), varint(len)].concat();
        fs::write(&path, &head).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(head.len() as u64 + len).unwrap();
        is_model(Input::open(&Location::from(&*path)).unwrap()).unwrap()
    };
    assert!(!is_model_of(1 << 20));
    assert!(is_model_of(65 << 20));
}

#[test]
fn models_whose_data_lie_elsewhere_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for location in ["w.bin", "../w.bin", "/w.bin", "a\\w.bin"] {
        let weights = external("w", &[4, 4], location, Some(0), Some(64));
        let model = GraphBuilder::new("g").initializer(weights).encode();
        fs::write(&path, model).unwrap();
        let input = Input::open(&Location::from(&*path)).unwrap();
        assert!(is_model(input).unwrap(), "{location}");
    }
}
