//! Marks of all types of elements.

use onnxseal_fingerprint::{Error, Secret, apply, check_customer};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_store::{ErrorKind, Silent};
use onnxseal_testkit::build::*;

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
