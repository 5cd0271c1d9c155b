//! Sessions with an input key give for plain images what the original gives.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use half::f16;
use onnxseal_core::Preset;
use onnxseal_inputs::rewrite::{self as inputs, Files};
use onnxseal_inputs::{Layout, Normalisation, Order, Spec, Transform};
use onnxseal_runtime::{DataType, Error, ErrorKind, InputKey, KeyedSession, Model};
use onnxseal_testkit::build::{GraphBuilder, int_attribute, ints_attribute, node_with, weights};
use onnxseal_testkit::{Sample, samples};
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor, TensorRef};

use crate::lab::{Lab, builder};

const SIDE: usize = 16;

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/inputs");
    fixtures.join(format!("{name}.onnx"))
}

fn key(channels: u32, layout: Layout, range: (f64, f64)) -> InputKey {
    generate(channels, layout, range, None)
}

fn generate(
    channels: u32,
    layout: Layout,
    range: (f64, f64),
    normalisation: Option<Normalisation>,
) -> InputKey {
    let spec = Spec {
        transforms: vec![Transform::Shuffle, Transform::Negative],
        block: 4,
        channels,
        layout,
        order: Order::Rgb,
        range,
        normalisation,
    };
    InputKey::generate(spec).unwrap()
}

/// The model at `path`, rewritten for `key`.
fn rewrite(lab: &Lab, path: &Path, key: &InputKey) -> PathBuf {
    let files = Files::open(&path.into()).unwrap();
    let rewritten = (files.with(|source| inputs::rewrite(source, key, None))).unwrap();
    let keyed = lab.path(&format!("keyed_{}", path.file_name().unwrap().display()));
    let written = files.write(
        &rewritten.edits,
        &keyed.as_path().into(),
        Default::default(),
    );
    written.unwrap();
    keyed
}

fn session(path: &Path) -> Session {
    builder().unwrap().commit_from_file(path).unwrap()
}

/// The elements of the first output.
fn first(outputs: &SessionOutputs<'_>) -> Vec<f32> {
    let output: &DynValue = &outputs[0];
    match output.try_extract_tensor::<f32>() {
        Ok((_, elements)) => elements.to_vec(),
        Err(_) => {
            let (_, elements) = output.try_extract_tensor::<f16>().unwrap();
            elements.iter().map(|x| x.to_f32()).collect()
        }
    }
}

/// By how much of the largest value two outputs differ.
fn differ(one: &[f32], other: &[f32]) -> f32 {
    assert!(!one.is_empty() && one.len() == other.len());
    let largest = one.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let pairs = one.iter().zip(other);
    pairs.fold(0.0_f32, |max, (a, b)| max.max((a - b).abs())) / largest
}

/// Pixels from 0 to 255 of no order.
fn pixels(n: usize) -> impl Iterator<Item = u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
}

/// Compares the original on plain images with the rewritten model in a session with `key`.
fn compare<T>(path: &Path, key: InputKey, of: impl Fn(u8) -> T, limit: f32)
where
    T: PrimitiveTensorElementType + Clone + Debug + PartialEq + 'static,
{
    let name = path.display();
    let lab = Lab::new();
    let keyed = rewrite(&lab, path, &key);
    let text = key.to_text();
    let (mut original, mut unkeyed) = (session(path), session(&keyed));
    let mut session = KeyedSession::new(session(&keyed), key).unwrap();
    let is_open = |session: &Session| session.inputs()[0].dtype().tensor_shape().unwrap()[0] < 0;
    let batches: &[usize] = if is_open(&original) { &[1, 3] } else { &[1] };
    let spec = InputKey::from_text(&text).unwrap().spec().clone();
    for n in batches {
        let channels = spec.channels as usize;
        let dims = match spec.layout {
            Layout::Nchw => [*n, channels, SIDE, SIDE],
            Layout::Nhwc => [*n, SIDE, SIDE, channels],
        };
        let images: Vec<T> = pixels(dims.iter().product()).map(&of).collect();
        let view = || TensorRef::from_array_view((dims, &images[..])).unwrap();
        let expected = first(&original.run(ort::inputs![view()]).unwrap());
        let found = first(&session.run(ort::inputs![view()]).unwrap());
        let apart = differ(&expected, &found);
        assert!(apart <= limit, "{name}: {apart}");
        let plain = first(&unkeyed.run(ort::inputs![view()]).unwrap());
        assert!(differ(&expected, &plain) > 2.0 * limit, "{name}");
        let unchanged: Vec<T> = pixels(images.len()).map(&of).collect();
        assert_eq!(images, unchanged, "{name}");
    }
}

#[test]
fn every_type_and_layout() {
    if builder().is_none() {
        return;
    }
    let unit = |layout| key(3, layout, (0.0, 1.0));
    let grey = |range| key(1, Layout::Nchw, range);
    let float = |x: u8| f32::from(x) / 255.0;
    let symmetric = |x: u8| f16::from_f32(f32::from(x) / 127.5 - 1.0);
    compare(&fixture("convmixer"), unit(Layout::Nchw), float, 1e-5);
    compare(&fixture("channels_last"), unit(Layout::Nhwc), float, 1e-5);
    compare(&fixture("vit"), grey((0.0, 1.0)), float, 1e-5);
    compare(&fixture("vit_fp16"), grey((-1.0, 1.0)), symmetric, 1e-2);
}

#[test]
fn integers() {
    if builder().is_none() {
        return;
    }
    let lab = Lab::new();
    let path = |of| lab.write(&of_integers(of), of.as_str_name());
    let key = || key(3, Layout::Nchw, (0.0, 255.0));
    compare(&path(DataType::Uint8), key(), |x| x, 1e-4);
    compare(&path(DataType::Int8), key(), |x| x as i8, 1e-4);
    compare(&path(DataType::Uint16), key(), |x| u16::from(x) * 257, 1e-4);
}

/// A model that takes pixels of a type.
fn of_integers(of: DataType) -> Sample {
    let side = SIDE as i64;
    let model = GraphBuilder::new("integers")
        .typed_input("x", of, &[1, 3, side, side])
        .output("y", &[1, 2, 4, 4])
        .initializer(weights("w", &[2, 3, 4, 4], 1))
        .initializer(weights("b", &[2], 2))
        .node(node_with(
            "Cast",
            &["x"],
            &["f"],
            vec![int_attribute("to", 1)],
        ))
        .node(node_with(
            "Conv",
            &["f", "w", "b"],
            &["y"],
            vec![ints_attribute("strides", &[4, 4])],
        ));
    Sample {
        name: "integers",
        model: model.encode(),
        files: Vec::new(),
    }
}

#[test]
fn normalised_images() {
    if builder().is_none() {
        return;
    }
    let normalisation = Normalisation {
        mean: vec![0.485, 0.456, 0.406],
        std: vec![0.229, 0.224, 0.225],
    };
    let key = generate(3, Layout::Nchw, (0.0, 1.0), Some(normalisation));
    let of = |x: u8| (f32::from(x) / 255.0 - 0.456) / 0.224;
    compare(&fixture("convmixer"), key, of, 1e-5);
}

#[test]
fn inputs_by_name_in_a_slice_and_of_a_protected_model() {
    if builder().is_none() {
        return;
    }
    let lab = Lab::new();
    let key = key(3, Layout::Nchw, (0.0, 1.0));
    let keyed = rewrite(&lab, &fixture("convmixer"), &key);
    let protected = lab.protect(&keyed, "protected", Preset::Balanced).unwrap();
    let model = Model::open(&protected, &lab.identities).unwrap();
    let opened = model.into_session(builder().unwrap()).unwrap();
    let name = opened.inputs()[0].name().to_owned();
    let mut session = KeyedSession::with_input(opened, &name, key).unwrap();
    assert_eq!(session.input(), name);
    assert_eq!(session.session().inputs().len(), 1);

    let images: Vec<f32> = pixels(3 * SIDE * SIDE)
        .map(|x| f32::from(x) / 255.0)
        .collect();
    let images = Tensor::from_array(([1, 3, SIDE, SIDE], images)).unwrap();
    let mut original = self::session(&fixture("convmixer"));
    let expected = first(&original.run(ort::inputs![&images]).unwrap());
    let named = first(&session.run(ort::inputs! { name => &images }).unwrap());
    let slice: &[SessionInputValue<'_>] = &[(&images).into()];
    let of_slice = first(&session.run(slice).unwrap());
    let owned = first(&session.run(ort::inputs![images]).unwrap());
    assert!(differ(&expected, &named) < 1e-5);
    assert!(named == of_slice && named == owned);
}

#[test]
fn what_does_not_fit_is_refused() {
    if builder().is_none() {
        return;
    }
    let lab = Lab::new();
    let key = || key(3, Layout::Nchw, (0.0, 1.0));
    let gemm = Sample {
        name: "gemm",
        model: samples::gemm(),
        files: Vec::new(),
    };
    let gemm = lab.write(&gemm, "gemm");
    let error = KeyedSession::new(session(&gemm), key()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let text = error.to_string();
    assert!(text.contains("0 inputs of 4 axes"), "{text}");
    let mixer = || session(&fixture("convmixer"));
    let error = KeyedSession::with_input(mixer(), "none", key()).unwrap_err();
    assert!(error.to_string().contains("\"none\""), "{error}");

    let mut session = KeyedSession::new(mixer(), key()).unwrap();
    let ten = Tensor::from_array(([1, 3, 10, 10], vec![0.0_f32; 300])).unwrap();
    let error = session.run(ort::inputs![ten]).map(drop).unwrap_err();
    assert!(matches!(error, Error::Inputs(_)), "{error}");
    assert_eq!(error.kind(), ErrorKind::Usage);
    let wide = Tensor::from_array(([1, 3, 4, 4], vec![0_i64; 48])).unwrap();
    let error = session.run(ort::inputs![wide]).map(drop).unwrap_err();
    assert!(matches!(error, Error::Usage(_)), "{error}");
    // After an error as before it.
    let images = Tensor::from_array(([1, 3, SIDE, SIDE], vec![0.0_f32; 3 * SIDE * SIDE]));
    assert!(session.run(ort::inputs![images.unwrap()]).is_ok());
}
