//! What differs between a tensor and its copy, whose elements are in the same places.

use crate::align::Original;

/// Elements that differ by more deviations, by the median, count as this many.
const CLIP: f32 = 4.0;

/// What differs, weighted.
pub struct Fitted {
    pub r: Vec<f32>,
    /// The z that a mark of full strength would have, squared.
    pub quality: f64,
}

/// Compares a copy with the original, row by row, after the scale that fits best.
pub fn residual(original: &Original, copy: &[f32], strength: f64) -> Fitted {
    let columns = original.columns.max(1);
    let mut r = vec![0.0; copy.len()];
    let mut quality = 0.0;
    let rows = original
        .values
        .chunks_exact(columns)
        .zip(copy.chunks_exact(columns));
    for (row, ((wanted, found), r)) in rows.zip(r.chunks_exact_mut(columns)).enumerate() {
        let (mut both, mut square) = (0.0, 0.0);
        for (w, c) in wanted.iter().zip(found) {
            both += f64::from(*w) * f64::from(*c);
            square += f64::from(*c) * f64::from(*c);
        }
        let scale = both / square;
        for ((r, w), c) in r.iter_mut().zip(wanted).zip(found) {
            if *c != 0.0 && scale.is_finite() {
                *r = (scale * f64::from(*c) - f64::from(*w)) as f32;
            }
        }
        quality += weigh(r, original.strength.row(row), strength);
    }
    Fitted { r, quality }
}

/// Clips a row of differences, and weights them by the strength of the mark over the variance.
/// Returns the z that a mark of full strength would have, squared.
fn weigh(r: &mut [f32], strengths: impl Iterator<Item = f32>, strength: f64) -> f64 {
    let mut sizes: Vec<f32> = r.iter().map(|r| r.abs()).filter(|r| *r > 0.0).collect();
    let n = sizes.len();
    if n == 0 {
        return 0.0;
    }
    let (_, median, _) = sizes.select_nth_unstable_by(n / 2, f32::total_cmp);
    let most = CLIP * 1.4826 * *median;
    let (mut variance, mut signal) = (0.0, 0.0);
    for (r, s) in r.iter_mut().zip(strengths) {
        *r = r.clamp(-most, most);
        variance += f64::from(*r).powi(2);
        if *r != 0.0 {
            signal += (strength * f64::from(s)).powi(2);
        }
    }
    variance /= n as f64;
    // What differs less than a mark would is no marked copy, and must not count for more.
    let variance = variance.max(signal / n as f64 / 4.0);
    let weight = (signal / n as f64).sqrt() / variance;
    r.iter_mut()
        .for_each(|r| *r = (f64::from(*r) * weight) as f32);
    signal / variance
}
