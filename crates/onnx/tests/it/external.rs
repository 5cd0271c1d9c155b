//! External data files: which paths are followed.

use onnxseal_onnx::Fault;
use onnxseal_onnx::external::{check_extent, normalise};
use onnxseal_onnx::model::{Payload, Span};
use onnxseal_testkit::build::{GraphBuilder, external};
use onnxseal_testkit::samples;

use crate::support::{located, tensor};

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
        ("./c:w.bin", "has a drive letter"),
        (".//./z:/w.bin", "has a drive letter"),
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
            w.message.start
        )
    );
    let gemm = samples::gemm();
    let model = located(&gemm);
    assert!(check_extent(&model, &model.tensors[0], 0).is_ok());
}

/// As ONNX Runtime takes it, which writes such models.
#[test]
fn a_length_of_0_is_none() {
    for length in [None, Some(0), Some(48)] {
        let tensor = external("w", &[3, 4], "w.bin", Some(64), length);
        let bytes = GraphBuilder::new("g").initializer(tensor).encode();
        let Payload::Dense { span, .. } = located(&bytes).tensors[0].payload else {
            panic!("{length:?}");
        };
        assert_eq!(span, Span { start: 64, len: 48 });
    }
}
