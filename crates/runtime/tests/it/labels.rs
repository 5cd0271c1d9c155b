//! Sessions with a label key give what the original gives.

use std::path::{Path, PathBuf};

use half::f16;
use onnxseal_core::Preset;
use onnxseal_labels::head::Head;
use onnxseal_labels::{Authority, protect};
use onnxseal_rewrite::Files;
use onnxseal_runtime::{Error, ErrorKind, Model, SessionLabels, UserKey};
use ort::session::Session;
use ort::value::{DynValue, TensorElementType, TensorRef};

use crate::lab::{Lab, builder};

const N: usize = 5;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

fn session(path: &Path) -> Session {
    builder().unwrap().commit_from_file(path).unwrap()
}

/// Images of the digits, of no order.
fn images() -> Vec<f32> {
    let values = (0..(N * 64) as u32).map(|i| i.wrapping_mul(2_654_435_761) >> 28);
    values.map(|value| value as f32 / 16.0).collect()
}

fn values(value: &DynValue) -> Vec<f32> {
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float16) => {
            let (_, values) = value.try_extract_tensor::<f16>().unwrap();
            values.iter().map(|value| value.to_f32()).collect()
        }
        Some(TensorElementType::Int64) => {
            let (_, values) = value.try_extract_tensor::<i64>().unwrap();
            values.iter().map(|value| *value as f32).collect()
        }
        _ => value.try_extract_tensor::<f32>().unwrap().1.to_vec(),
    }
}

/// Runs a session on the images, whatever shape and type it takes them in.
fn run<T>(session: &mut Session, of: impl FnOnce(ort::session::SessionOutputs<'_>) -> T) -> T {
    let input = session.inputs()[0].dtype();
    let mut dims: Vec<i64> = input.tensor_shape().unwrap().to_vec();
    dims[0] = N as i64;
    let pixels = images();
    match input.tensor_type() {
        Some(TensorElementType::Float16) => {
            let pixels: Vec<f16> = pixels.iter().map(|value| f16::from_f32(*value)).collect();
            let view = TensorRef::from_array_view((dims, &pixels[..])).unwrap();
            of(session.run(ort::inputs![view]).unwrap())
        }
        _ => {
            let view = TensorRef::from_array_view((dims, &pixels[..])).unwrap();
            of(session.run(ort::inputs![view]).unwrap())
        }
    }
}

#[test]
fn outputs_are_those_of_the_original() {
    if builder().is_none() {
        return;
    }
    let mut authority = Authority::generate(1, None).unwrap();
    authority.add_user("acme").unwrap();
    let key = authority.user_key("acme").unwrap();
    for name in [
        "digits_cnn",
        "digits_cnn_fp16",
        "digits_lstm",
        "digits_tensorflow",
        "digits_sklearn_mlp",
    ] {
        let path = fixture(&format!("models/{name}.onnx"));
        let lab = Lab::new();
        let files = Files::open(&path.as_path().into()).unwrap();
        let head = files.with(|source| Head::find(source, None)).unwrap();
        let plan = protect(&head, &authority, 8, &[]).unwrap();
        let text = plan.table.to_text();
        let edits = files
            .with(|source| head.edits(source, &plan.stored, &text))
            .unwrap();
        let labelled = lab.path("labelled.onnx");
        files
            .write(&edits, &labelled.as_path().into(), Default::default())
            .unwrap();
        let sealed = lab.protect(&labelled, "sealed", Preset::Balanced).unwrap();

        let mut original = session(&path);
        let names: Vec<String> = original
            .outputs()
            .iter()
            .map(|output| output.name().to_owned())
            .collect();
        let wanted = run(&mut original, |outputs| {
            outputs
                .values()
                .map(|value| values(&value))
                .collect::<Vec<_>>()
        });
        let model = Model::open(&sealed, &lab.identities).unwrap();
        let mut opened = model.into_session(builder().unwrap()).unwrap();
        let mut labels = SessionLabels::new(&opened, &key, builder().unwrap()).unwrap();
        assert_eq!(labels.names(), names, "{name}");
        let found = run(&mut opened, |outputs| labels.decode(outputs).unwrap());
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().map(values).zip(wanted) {
            let largest = wanted
                .iter()
                .fold(0.0_f32, |largest, value| value.abs().max(largest));
            let limit = if name.ends_with("fp16") { 2e-3 } else { 2e-6 };
            assert_eq!(found.len(), wanted.len(), "{name}");
            for (found, wanted) in found.iter().zip(&wanted) {
                assert!(
                    (found - wanted).abs() <= limit * largest,
                    "{name}: {found} {wanted}"
                );
            }
        }
    }
}

#[test]
fn the_fixture_and_keys_that_do_not_fit() {
    if builder().is_none() {
        return;
    }
    let folder = fixture("labels");
    let opened = session(&folder.join("digits_cnn.onnx"));
    let key = |name: &str| UserKey::open(&folder.join(name), None).unwrap();
    SessionLabels::new(&opened, &key("mueller.key"), builder().unwrap()).unwrap();
    let kind = |session: &Session, key: &UserKey| -> ErrorKind {
        let refused = SessionLabels::new(session, key, builder().unwrap());
        refused.unwrap_err().kind()
    };
    assert_eq!(kind(&opened, &key("gone.key")), ErrorKind::NoMatchingKey);
    let mut other = Authority::generate(1, None).unwrap();
    other.add_user("acme").unwrap();
    assert_eq!(
        kind(&opened, &other.user_key("acme").unwrap()),
        ErrorKind::NoMatchingKey
    );
    let plain = session(&fixture("models/digits_cnn.onnx"));
    assert_eq!(kind(&plain, &key("acme.key")), ErrorKind::Malformed);
    // A run for some outputs only.
    let mut opened = opened;
    let mut labels = SessionLabels::new(&opened, &key("acme.key"), builder().unwrap()).unwrap();
    let mut plain = plain;
    let error = run(&mut plain, |outputs| labels.decode(outputs).unwrap_err());
    assert!(matches!(error, Error::Labels(_)), "{error}");
    assert_eq!(error.kind(), ErrorKind::Usage);
    run(&mut opened, |outputs| labels.decode(outputs).unwrap());
}
