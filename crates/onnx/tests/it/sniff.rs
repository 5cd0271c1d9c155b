//! What is a model by its content, and what is none.

use std::fs;
use std::path::{Path, PathBuf};

use onnxseal_onnx::proto::ModelProto;
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::{Limits, locate, may_be_model, unprotectable};
use onnxseal_testkit::build::{
    GraphBuilder, bare_tensor, function, int64s, node, raw_tensor, weights,
};
use onnxseal_testkit::samples;
use onnxseal_testkit::shared::{shared_dir, shared_models_in};
use onnxseal_testkit::wire::{field, varint_field};
use prost::Message;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// What a search finds by the contents of a file.
fn sniff(bytes: &[u8]) -> bool {
    let located = || locate(bytes, &Limits::default());
    unprotectable(bytes).is_some()
        || may_be_model(bytes) && located().is_ok_and(|model| model.has_content())
}

#[test]
fn a_model_does_not_begin_with_a_long_text() {
    for head in [
        &b"\x12\x00\x08\x08"[..],
        b"\x12\xff\x7f",
        b"\x3a\xff\xff\xff\x7f",
    ] {
        assert!(may_be_model(head), "{head:x?}");
    }
    for head in [
        &b"\x12\xfc\xff\x3f"[..],
        b"\x12",
        b"",
        b"\x0a\x01a",
        b"PK\x03\x04",
    ] {
        assert!(!may_be_model(head), "{head:x?}");
    }
}

/// Regular files below `folder`, but for what was built.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_symlink() || name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            files(&path, found)
        } else {
            found.push(path)
        }
    }
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let found = path.extension().map(|found| found.to_str().unwrap());
    found.is_some_and(|found| extensions.contains(&found))
}

#[test]
fn all_models_are_found_and_what_lies_beside_them_is_not() {
    for sample in samples::all() {
        assert!(sniff(&sample.model), "{}", sample.name);
        for (name, content) in sample.files {
            assert!(!sniff(&content), "{name}");
        }
    }
    let mut paths = Vec::new();
    files(&project("fixtures/models"), &mut paths);
    files(&project("fixtures/sealed/valid"), &mut paths);
    for kind in ["real", "edge"] {
        if shared_models_in(kind).is_some() {
            files(&shared_dir().join(kind), &mut paths);
        }
    }
    let mut n_models = 0;
    for path in paths {
        let is_model = has_extension(&path, &["onnx"]);
        n_models += usize::from(is_model);
        let found = sniff(&fs::read(&path).unwrap());
        assert_eq!(found, is_model, "{}", path.display());
    }
    assert!(n_models > 20, "{n_models}");
}

#[test]
fn other_files_are_no_models() {
    let mut paths = Vec::new();
    for folder in ["crates", "docs", "fixtures", "proto", "src", "tests"] {
        files(&project(folder), &mut paths);
    }
    let text = ["rs", "md", "toml", "py", "json", "csv", "txt", "proto"];
    paths.retain(|path| has_extension(path, &text));
    assert!(paths.len() > 100);
    if shared_models_in("real").is_some() {
        files(&shared_dir().join("data"), &mut paths);
    }
    for folder in ["/usr/bin", "/usr/share/locale/de"] {
        if Path::new(folder).is_dir() {
            files(Path::new(folder), &mut paths);
        }
    }
    for path in paths {
        // Some programs may be run, but not read.
        if let Ok(bytes) = fs::read(&path) {
            assert!(!sniff(&bytes), "{}", path.display());
        }
    }
    let npy = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";
    let tflite = b"\x1c\0\0\0TFL3\0\0\x12\0\x1c\0\x04\0\x08\0\x0c\0\x10\0\x14\0\0\0\x18\0\x12\0";
    let safetensors =
        b"\x40\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}} ";
    for other in [
        &b""[..],
        b"\x08",
        b"PK\x03\x04",
        npy,
        png,
        tflite,
        safetensors,
    ] {
        assert!(!sniff(other), "{other:?}");
    }
    for fill in 0..=u8::MAX {
        assert!(!sniff(&[fill; 4096]), "{fill}");
    }
}

#[test]
fn parts_of_models_are_no_models() {
    let graph = GraphBuilder::new("g")
        .input("x", &[2])
        .output("y", &[2])
        .initializer(weights("w", &[2], 1))
        .node(node("Add", &["x", "w"], &["y"]))
        .graph();
    assert!(!sniff(&graph.encode_to_vec()));
    assert!(!sniff(&graph.node[0].encode_to_vec()));
    assert!(!sniff(&graph.input[0].encode_to_vec()));
    assert!(!sniff(
        &function("d", "f", &["x"], &["y"], graph.node).encode_to_vec()
    ));
    // Tensors begin as models do, and int64_data is where a model has its graph. The names are such
    // that they are messages as well.
    for name in ["", "w", "x1", "00", "input"] {
        let raw = raw_tensor(name, DataType::Float, &[1], vec![0; 4]);
        assert!(!sniff(&raw.encode_to_vec()));
        assert!(!sniff(&int64s(name, &[2], &[8, 1]).encode_to_vec()));
        for seed in 0..20_000u64 {
            let values = (0..3).map(|i| (seed >> (5 * i) & 31) as i64 * 2);
            let mut tensor = bare_tensor(name, DataType::Int64, &[3]);
            tensor.int64_data = values.collect();
            assert!(!sniff(&tensor.encode_to_vec()), "{name} {seed}");
        }
    }
}

#[test]
fn a_model_has_versions_and_a_graph_with_content() {
    let model = ModelProto::decode(&*samples::gemm()).unwrap();
    let graph = model.graph.as_ref().unwrap().encode_to_vec();
    let (ir, opset, whole) = (varint_field(1, 8), field(8, &[0x10, 17]), field(7, &graph));
    let yes: [&[&[u8]]; 5] = [
        &[&ir, &whole, &opset],
        &[&opset, &whole, &ir],
        &[&whole, &varint_field(1, 2)],
        &[&ir, &opset, &field(7, &field(12, &field(1, b"y")))],
        &[&ir, &opset, &whole, &field(90, b"\xff\xff")],
    ];
    for (i, parts) in yes.into_iter().enumerate() {
        assert!(sniff(&parts.concat()), "{i}");
    }
    let nameless = [field(1, b""), field(5, b""), field(11, b""), field(12, b"")].concat();
    let no: [&[&[u8]]; 8] = [
        &[&whole, &opset],
        &[&whole, &ir],
        &[&ir, &opset],
        &[&ir, &opset, &field(7, b"")],
        &[&ir, &opset, &field(7, &nameless)],
        &[&ir, &opset, &whole, b"\0"],
        &[
            &ir,
            &opset,
            &field(7, &[&graph[..], b"\x0a\x01\xff"].concat()),
        ],
        &[&field(90, b"other"), &ir, &whole, &opset],
    ];
    for (i, parts) in no.into_iter().enumerate() {
        assert!(!sniff(&parts.concat()), "{i}");
    }
}

#[test]
fn models_and_adapters_in_onnx_runtimes_own_formats_are_found() {
    let is_ort_format = |bytes: &[u8]| unprotectable(bytes).is_some();
    let ort = [&b"\x38\0\0\0ORTM"[..], &[0; 100]].concat();
    assert!(is_ort_format(&ort) && sniff(&ort));
    // A producer of that name makes no such model, and what is shorter is none.
    let named = b"\x08\x08\x12\x04ORTM";
    assert!(!is_ort_format(named) && !sniff(named));
    for sample in samples::all() {
        let model = [&varint_field(5, 1)[..], b"\x1a\x04ORTM", &sample.model].concat();
        assert!(!is_ort_format(&model), "{}", sample.name);
    }
    assert!(!is_ort_format(&ort[..7]) && !sniff(&ort[..7]));
    let adapter = [&b"\x0c\0\0\0TORT"[..], &[0; 100]].concat();
    let kinds = [&ort, &adapter].map(|bytes| unprotectable(bytes).unwrap().what);
    assert!(sniff(&adapter) && kinds[0].contains(".ort") && kinds[1].contains(".onnx_adapter"));
    assert!(!sniff(&[&b"\x18\0\0\0TFL3"[..], &[0; 100]].concat()));
}
