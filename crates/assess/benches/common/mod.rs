//! What benches share: the fixtures with labels, and how they are fed.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;

use onnxseal_data::{Array, DataOptions, DataSet, Values};

pub const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/");

/// Models with labels, and how they are fed.
pub const DIGITS: [(&str, &str); 13] = [
    ("digits_cnn", "nchw"),
    ("digits_cnn_fp16", "nchw"),
    ("digits_cnn_qdq", "nchw"),
    ("digits_cnn_qoperator", "nchw"),
    ("digits_embedding", "tokens"),
    ("digits_finetuned", "nchw"),
    ("digits_gru", "rows"),
    ("digits_lstm", "rows"),
    ("digits_mlp_int4", "rows"),
    ("digits_sklearn_forest", "flat"),
    ("digits_sklearn_logistic", "flat"),
    ("digits_sklearn_mlp", "flat"),
    ("digits_tensorflow", "nhwc"),
];

/// Images and labels that the command line names, as `MODEL IMAGES LABELS SCALE`.
pub fn images(model: &[String], limit: Option<usize>) -> DataSet {
    let mut options = DataOptions::default();
    options.limit = limit.or(Some(2000));
    options.scale = Some(model[3].parse().unwrap());
    DataSet::load(Path::new(&model[1]), Some(Path::new(&model[2])), &options).unwrap()
}

/// The test images of the digits, as a model is fed them.
pub fn digits(kind: &str) -> DataSet {
    let path = format!("{FIXTURES}digits_test.csv");
    let mut data = DataSet::load(Path::new(&path), None, &DataOptions::default()).unwrap();
    let Array { dims, values, .. } = &mut data.arrays[0];
    let pixels: Vec<f64> = (0..values.len()).map(|i| values.at(i)).collect();
    let floats = |scale: f64| Values::F32(pixels.iter().map(|p| (p / scale) as f32).collect());
    (*dims, *values) = match kind {
        "tokens" => {
            let token = |(i, pixel): (usize, &f64)| *pixel as i64 + 17 * (i as i64 % 64);
            let tokens = pixels.iter().enumerate().map(token).collect();
            (vec![64], Values::I64(tokens))
        }
        "flat" => (vec![64], floats(1.0)),
        "rows" => (vec![8, 8], floats(16.0)),
        "nhwc" => (vec![8, 8, 1], floats(16.0)),
        _ => (vec![1, 8, 8], floats(16.0)),
    };
    data
}
