//! Traces on made-up features, and the statistics of accusing.

use onnxseal_labels::Error;
use onnxseal_labels::traces::{Features, innocent, make, threshold};
use onnxseal_testkit::build::floats;

const D: usize = 12;

/// Samples whose features go together, as those of networks do.
fn samples(n: usize, seed: u32) -> Vec<f64> {
    let noise: Vec<f64> = floats(n * D, seed)
        .iter()
        .map(|value| f64::from(*value))
        .collect();
    let mixed = noise.chunks_exact(D).flat_map(|row| {
        (0..D).map(move |i| row[i] + 0.8 * row[(i + 1) % D] + 0.3 * row[i / 2] + 1.0)
    });
    mixed.collect()
}

fn features(values: &[f64]) -> Features<'_> {
    Features { values, columns: D }
}

/// Inputs that are far from all samples.
fn candidates(n: usize) -> Vec<f64> {
    let all = samples(n, 77);
    all.iter()
        .enumerate()
        .map(|(i, value)| {
            if i % 3 == 0 {
                4.0 * value
            } else {
                -3.0 * value
            }
        })
        .collect()
}

fn answer(weights: &[f64], bias: f64, sample: &[f64]) -> f64 {
    bias + weights.iter().zip(sample).map(|(w, x)| w * x).sum::<f64>()
}

#[test]
fn traces_answer_to_their_own_input_alone() {
    let (calibration, candidates) = (samples(1500, 1), candidates(400));
    let traces = make(features(&calibration), features(&candidates), 10.0, 6).unwrap();
    assert_eq!(traces.all.len(), 6);
    assert!(traces.firing <= 0.002, "{}", traces.firing);
    let input = |candidate: usize| &candidates[candidate * D..][..D];
    for trace in &traces.all {
        let own = answer(&trace.weights, trace.bias, input(trace.candidate));
        assert!((own - 30.0).abs() < 1e-6, "{own}");
        for sample in calibration.chunks_exact(D) {
            assert!(answer(&trace.weights, trace.bias, sample) < 0.0);
        }
        for other in traces.all.iter().filter(|other| *other != trace) {
            assert!(answer(&trace.weights, trace.bias, input(other.candidate)) <= 0.0);
        }
    }
    // Samples that nobody has seen.
    let fresh = samples(5000, 9);
    let fires = fresh.chunks_exact(D).filter(|sample| {
        traces
            .all
            .iter()
            .any(|trace| answer(&trace.weights, trace.bias, sample) > 0.0)
    });
    assert!(fires.count() <= 10);
}

/// What is told of firing is what samples that nobody has seen do, or more: also of inputs that are
/// near to samples.
#[test]
fn firing_is_not_told_too_low() {
    // With far outliers.
    let samples = |n, seed| -> Vec<f64> {
        let values = samples(n, seed);
        values.iter().map(|value| value.powi(5)).collect()
    };
    let near: Vec<f64> = samples(400, 77).iter().map(|value| 1.6 * value).collect();
    let (mut told, mut fired) = (0.0, 0.0);
    for seed in 1..=8 {
        let calibration = samples(1000, seed);
        let traces = make(features(&calibration), features(&near), 10.0, 6).unwrap();
        let fresh = samples(2000, 100 + seed);
        let fires = fresh.chunks_exact(D).filter(|sample| {
            traces
                .all
                .iter()
                .any(|trace| answer(&trace.weights, trace.bias, sample) > 0.0)
        });
        told += traces.firing / 8.0;
        fired += fires.count() as f64 / 2000.0 / 8.0;
    }
    assert!(fired > 0.0 && told > 0.8 * fired, "{told} {fired}");
}

#[test]
fn too_few_samples_are_refused() {
    let calibration = samples(999, 1);
    let candidates = candidates(400);
    let error = make(features(&calibration), features(&candidates), 1.0, 4).unwrap_err();
    assert!(matches!(error, Error::Usage(text) if text.contains("1000") && text.contains("999")));
    // Candidates that are samples themselves cannot be told from them.
    let calibration = samples(1200, 1);
    let error = make(
        features(&calibration),
        features(&calibration[..40 * D]),
        1.0,
        4,
    )
    .unwrap_err();
    assert!(matches!(error, Error::Usage(text) if text.contains("of 4 traces")));
    let mut broken = samples(1200, 1);
    broken[7] = f64::NAN;
    assert!(make(features(&broken), features(&candidates), 1.0, 4).is_err());
}

#[test]
fn thresholds_of_the_binomial_tail() {
    assert_eq!(threshold(1000, 32, 10), Some(18));
    assert_eq!(threshold(1000, 32, 1000), Some(5));
    assert_eq!(threshold(1000, 4, 10), None);
    assert!((innocent(1, 3, 2, 2) - 0.5).abs() < 1e-12);
    assert!((innocent(1, 3, 2, 0) - 1.0).abs() < 1e-12);
    assert!((innocent(10, 2, 10, 2) - 0.1).abs() < 1e-12);
    assert_eq!(innocent(5, 3, 1, 3), 1.0);
}
