//! Marks of all types of elements.

use std::path::{Path, PathBuf};

use onnxseal_core::{Identities, Policy, ProtectOptions, Recipients, generate_identity, protect};
use onnxseal_fingerprint::{Secret, apply, check_customer};
use onnxseal_store::{ErrorKind, Input, OutputOptions, Silent};
use onnxseal_testkit::build::external;

use crate::*;

#[test]
fn a_secret_survives_its_file() {
    let secret = Secret::generate().unwrap();
    let text = secret.to_text();
    assert_eq!(*Secret::from_text(&text).unwrap().to_text(), *text);
    for wrong in [
        "",
        "version = 1\n",
        "version = 2\nseed = \"00\"\n",
        "version = 1\nseed = \"00\"\n",
        "seed = \"00\"\nversion = 1\n",
        &text.replace("seed", "sead"),
        &text.to_uppercase(),
    ] {
        let error = Secret::from_text(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{wrong}: {error}");
    }
}

#[test]
fn odd_names_are_refused() {
    for name in ["", " a", "a\n", "a\u{202e}b", &"a".repeat(129)] {
        assert!(check_customer(name).is_err(), "{name:?}");
    }
    check_customer("Société Générale, \"A\" 你好").unwrap();
}

#[test]
fn a_mark_is_small_the_same_each_time_and_another_for_each_customer() {
    let model = network();
    let (a, b) = (marked(&model, "a"), marked(&model, "b"));
    assert_eq!(a, marked(&model, "a"));
    assert_ne!(a, b);
    assert_eq!(a.len(), model.len());
    let mut of_original = Vec::new();
    changed(&model, |_, _, values| of_original.push(values.clone()));
    changed(&a, |name, _, values| {
        let original = of_original.remove(0);
        let sum = |of: &mut dyn Iterator<Item = f32>| of.map(|v| f64::from(v * v)).sum::<f64>();
        let moved = sum(&mut values.iter().zip(&original).map(|(a, b)| a - b));
        let share = (moved / sum(&mut original.iter().copied())).sqrt();
        assert!((0.002..0.0035).contains(&share), "{name}: {share}");
    });
}

#[test]
fn marks_do_not_depend_on_how_a_model_is_read() {
    let model = network();
    let marked = apply(&location(&model), &secret(1), "a", None, &Silent).unwrap();
    let whole = read(&marked.model);
    let input = Input::open(&marked.model).unwrap();
    for piece in [4099, 100_000, 999_999] {
        let mut pieces = vec![0; model.len()];
        for (piece, at) in pieces.chunks_mut(piece).zip((0..).step_by(piece)) {
            input.read_exact_at(piece, at).unwrap();
        }
        assert!(pieces == whole, "{piece}");
    }
    // Single bytes, which are parts of elements.
    for at in (0..model.len()).step_by(997) {
        let mut byte = [0];
        input.read_exact_at(&mut byte, at as u64).unwrap();
        assert_eq!(byte[0], whole[at], "{at}");
    }
}

/// Writes a model with elements of a tensor in `w.bin`, between as many other bytes. Returns its
/// path, and all these bytes.
fn with_external_data(folder: &Path, (before, after): (usize, usize)) -> (PathBuf, Vec<u8>) {
    let mut proto = ModelProto::decode(&*network()).unwrap();
    let tensor = &mut proto.graph.as_mut().unwrap().initializer[3];
    let raw = tensor.raw_data.clone().unwrap();
    let data = [&vec![7; before], &raw[..], &vec![9; after]].concat();
    let (dims, len) = (tensor.dims.clone(), raw.len() as u64);
    *tensor = external("m2", &dims, "w.bin", Some(before as u64), Some(len));
    let model = folder.join("m.onnx");
    std::fs::write(&model, proto.encode_to_vec()).unwrap();
    std::fs::write(folder.join("w.bin"), &data).unwrap();
    (model, data)
}

#[test]
fn a_marked_model_is_protected_as_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (model, _) = with_external_data(folder.path(), (0, 0));
    let marked = apply(&(&model).into(), &secret(1), "a", None, &Silent).unwrap();
    let identity = generate_identity();
    let recipients = Recipients::parse(&[identity.recipient()]).unwrap();
    let sealed = folder.path().join("sealed.onnx");
    let options = ProtectOptions::new(Policy::default());
    protect(&marked.model, &sealed, &recipients, &options, &Silent).unwrap();

    let identities = Identities::from(identity);
    let opened = onnxseal_core::open(&sealed, &identities, &Silent).unwrap();
    let wanted = Input::open(&marked.model).unwrap();
    let wanted = wanted.open_beside("w.bin").unwrap().read_all().unwrap();
    assert!(opened.external_files().next().unwrap().1 == wanted);
    assert_eq!(*opened.original_model(), read(&marked.model));
}

#[test]
fn external_data_is_marked_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = with_external_data(folder.path(), (5, 11));
    let marked = apply(&(&model).into(), &secret(1), "a", None, &Silent).unwrap();
    let output = folder.path().join("marked.onnx");
    let options = OutputOptions::default();
    let files = Files::open(&marked.model).unwrap();
    let written = files.write(&[], &(&output).into(), options).unwrap();
    assert_eq!(written.files.len(), 2);
    let copy = std::fs::read(folder.path().join("marked.onnx.data")).unwrap();
    assert_eq!(
        (&copy[..5], &copy[copy.len() - 11..]),
        (&[7; 5][..], &[9; 11][..])
    );
    assert_ne!(copy, data);
    assert_eq!(std::fs::read(folder.path().join("w.bin")).unwrap(), data);
    let (original, leak) = (
        Files::open(&(&model).into()),
        Files::open(&(&output).into()),
    );
    let customers = ["a".to_owned(), "b".to_owned()];
    let traced = trace(
        &original.unwrap(),
        &leak.unwrap(),
        &secret(1),
        &customers,
        &Silent,
    );
    let traced = traced.unwrap();
    assert!(traced.suspects[0].customer == "a" && traced.suspects[0].z > 400.0);
    assert!(!traced.suspects[1].accused);
}
