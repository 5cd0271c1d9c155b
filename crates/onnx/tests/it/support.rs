//! What several tests of this crate need.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use onnxseal_onnx::model::{FileId, Payload, Span, Tensor};
use onnxseal_onnx::{Error, Limits, Model, locate};

pub fn located(bytes: &[u8]) -> Model<'_> {
    locate(bytes, &Limits::default()).unwrap()
}

/// The fault for which a file is refused, in words, with the offset.
pub fn fault(bytes: &[u8]) -> (String, u64) {
    match locate(bytes, &Limits::default()) {
        Err(Error::Malformed { at, fault }) => (fault.to_string(), at.offset),
        other => panic!("expected a malformed model, found {other:?}"),
    }
}

pub fn tensor<'m, 'a>(model: &'m Model<'a>, name: &str) -> &'m Tensor<'a> {
    model
        .tensors
        .iter()
        .find(|tensor| tensor.name == name)
        .unwrap()
}

/// The elements of a tensor in the model file, one after the other; `None` where they lie elsewhere
/// or cannot be replaced.
pub fn elements(bytes: &[u8], tensor: &Tensor<'_>) -> Option<Vec<u8>> {
    match tensor.payload {
        Payload::Empty => Some(Vec::new()),
        Payload::Dense {
            file: FileId::MODEL,
            span,
            ..
        } => Some(slice(bytes, span).to_vec()),
        Payload::Dense { .. } | Payload::Unpatchable(_) => None,
        Payload::Strided {
            start,
            stride,
            element_bits,
            ..
        } => {
            let len = u64::from(element_bits / 8);
            let mut out = Vec::new();
            for i in 0..tensor.n_elements {
                let start = start + i * u64::from(stride);
                out.extend_from_slice(slice(bytes, Span { start, len }));
            }
            Some(out)
        }
    }
}

pub fn slice(bytes: &[u8], span: Span) -> &[u8] {
    &bytes[span.start as usize..span.end() as usize]
}

/// Locates, whatever the bytes; where that works, all elements must be in the file.
pub fn probe(bytes: &[u8]) -> bool {
    let Ok(model) = locate(bytes, &Limits::default()) else {
        return false;
    };
    for tensor in &model.tensors {
        elements(bytes, tensor);
    }
    true
}
