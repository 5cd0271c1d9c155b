//! The grid that weights lie on, and the noise that hides it.
//!
//! Weights that were stored in 16 bits, or that were integers, are multiples of a step. Then a
//! combination of rows that gives a class gives multiples of it too, which lattice reduction finds
//! with no data. Noise as wide as the step takes that away. The grid is found from the values,
//! because a tensor of 32-bit floats may have been anything before.

use std::ops::Range;

use chacha20::ChaCha20Rng;

use crate::cores::on_all_cores;
use crate::draw::uniform;
use crate::error::{Error, Result};

/// Bits behind the first one of a significand of 32-bit floats; those of a coarser grid are fewer
/// by far.
const FINE_BITS: u32 = 23;
const MOST_COARSE_BITS: u32 = 16;

/// Fewer would mean noise that changes the answers.
const FEWEST_BITS: u32 = 5;
const FEWEST_STEPS: f64 = 24.0;

/// Steps that the largest weight may be, for one step of all rows and for one of each row, and how
/// finely they are tried.
const STEPS: f64 = 33_000.0;
const STEPS_OF_ROW: f64 = 300.0;
const FIRST_STEPS: f64 = 4.0;
const TRIED_EACH: f64 = 0.1;

/// Values that a grid is looked for in: fewer say nothing, more say no more.
const FEWEST_VALUES: usize = 32;
const MOST_VALUES: usize = 128;
const MOST_OF_ROW: usize = 48;

/// How far from multiples of the step values on a grid are, in steps, on average and at most.
const ON_GRID: f64 = 0.07;

/// How wide the noise of each value must be to hide the grid of `matrix`, `[K, columns]`, of which
/// the first `features` columns are weights and the others biases.
///
/// # Errors
/// [`Error::Usage`] for a grid so coarse that the noise would change the answers.
pub(super) fn widths(matrix: &[f64], columns: usize, features: usize) -> Result<Vec<f64>> {
    let values = |part: &Range<usize>| {
        let (from, n) = (part.start, part.len());
        let rows = matrix.chunks_exact(columns.max(1));
        rows.flat_map(move |row| row.iter().skip(from).take(n).copied())
    };
    let of_weights = significand_bits(values(&(0..features)));
    let mut widths = vec![0.0; matrix.len()];
    for part in [0..features, features..columns] {
        // A few biases may have short significands by chance.
        let is_few = values(&part).filter(|value| *value != 0.0).count() < FEWEST_VALUES;
        let bits = if is_few {
            of_weights
        } else {
            significand_bits(values(&part))
        };
        let found = widths_of(matrix, columns, part.clone(), bits)?;
        let rows = widths.chunks_exact_mut(columns.max(1));
        for (row, found) in rows.zip(found.chunks_exact(part.len().max(1))) {
            let places = row.get_mut(part.clone()).unwrap_or_default();
            for (place, width) in places.iter_mut().zip(found) {
                *place = *width;
            }
        }
    }
    Ok(widths)
}

/// The root mean square of the widths of weights, as a share of that of the weights.
pub(super) fn share(matrix: &[f64], widths: &[f64], columns: usize, features: usize) -> f64 {
    let squares = |values: &[f64]| -> f64 {
        let rows = values.chunks_exact(columns.max(1));
        let weights = rows.flat_map(|row| row.iter().take(features));
        weights.map(|value| value * value).sum()
    };
    match squares(matrix) {
        of_weights if of_weights > 0.0 => (squares(widths) / of_weights).sqrt(),
        _ => 0.0,
    }
}

/// Adds noise of these widths.
pub(super) fn add(matrix: &mut [f64], widths: &[f64], rng: &mut ChaCha20Rng) {
    for (value, width) in matrix.iter_mut().zip(widths) {
        *value += width * (uniform(rng) - 0.5);
    }
}

/// How wide the noise of each value in these columns is, row by row. Significands have `bits`
/// behind the first one.
fn widths_of(matrix: &[f64], columns: usize, part: Range<usize>, bits: u32) -> Result<Vec<f64>> {
    let rows = || {
        let rows = matrix.chunks_exact(columns.max(1));
        rows.map(|row| row.get(part.clone()).unwrap_or_default())
    };
    let of_all = sample(rows().flatten().copied(), MOST_VALUES);
    let common = step(&of_all, STEPS)?;
    let sizes = typical_sizes(rows, part.len(), bits);
    let mut widths = Vec::with_capacity(rows().len() * part.len());
    let all: Vec<&[f64]> = rows().collect();
    let own = on_all_cores(all.len(), |y| {
        let row = all.get(y).copied().unwrap_or_default();
        step(&sample(row.iter().copied(), MOST_OF_ROW), STEPS_OF_ROW)
    })?;
    for (row, own) in rows().zip(own) {
        let step = common.unwrap_or(0.0).max(own.unwrap_or(0.0));
        widths.extend(row.iter().zip(&sizes).map(|(value, size)| {
            let largest = value.abs().max(*size);
            if largest > 0.0 {
                step.max((largest.log2().floor() - f64::from(bits)).exp2())
            } else {
                0.0
            }
        }));
    }
    if bits < FEWEST_BITS {
        return Err(coarse());
    }
    Ok(widths)
}

fn coarse() -> Error {
    Error::Usage(
        "the last layer's weights are multiples of few values, which shares of them would show: label encryption needs weights of 8 bits at least"
            .into(),
    )
}

/// The root mean square of each column over the values that are no zeros: zeros lie on every grid,
/// and need the noise of the others.
fn typical_sizes<'a, I: Iterator<Item = &'a [f64]>>(
    rows: impl Fn() -> I,
    n: usize,
    bits: u32,
) -> Vec<f64> {
    let mut largest = vec![0.0_f64; n];
    for row in rows() {
        for (largest, value) in largest.iter_mut().zip(row) {
            *largest = largest.max(value.abs());
        }
    }
    let mut sums = vec![(0.0, 0_u32); n];
    for row in rows() {
        for ((sum, largest), value) in sums.iter_mut().zip(&largest).zip(row) {
            if value.abs() > largest * (-f64::from(bits)).exp2() {
                sum.0 += value * value;
                sum.1 += 1;
            }
        }
    }
    let mean = |(sum, n): (f64, u32)| (sum / f64::from(n.max(1))).sqrt();
    sums.into_iter().map(mean).collect()
}

/// Bits behind the first one that significands have: the fewest that three in four of the values
/// have.
fn significand_bits(values: impl Iterator<Item = f64>) -> u32 {
    let mut counts = [0_u64; f64::MANTISSA_DIGITS as usize];
    for value in values.filter(|value| *value != 0.0) {
        let significand = value.to_bits() << (u64::BITS - f64::MANTISSA_DIGITS + 1);
        let bits = if significand == 0 {
            0
        } else {
            u64::BITS - significand.trailing_zeros()
        };
        if let Some(count) = counts.get_mut(bits as usize) {
            *count += 1;
        }
    }
    let all: u64 = counts.iter().sum();
    let mut seen = 0;
    for (bits, count) in (0..=MOST_COARSE_BITS).zip(counts) {
        seen += count;
        if all > 0 && 4 * seen >= 3 * all {
            return bits;
        }
    }
    FINE_BITS
}

/// Some of the values that are not zero: `most` of them, or up to twice as many.
fn sample(values: impl Iterator<Item = f64> + Clone, most: usize) -> Vec<f64> {
    let kept = values.filter(|value| *value != 0.0);
    let n = kept.clone().count();
    kept.step_by((n / most).max(1)).collect()
}

/// The step of which all values are multiples, if there is one and the largest value is no more
/// than `most` of them.
///
/// # Errors
/// [`Error::Usage`] where the values are few steps.
fn step(values: &[f64], most: f64) -> Result<Option<f64>> {
    let largest = values
        .iter()
        .fold(0.0_f64, |largest, value| largest.max(value.abs()));
    if values.len() < FEWEST_VALUES || !largest.is_finite() {
        return Ok(None);
    }
    let mut best: Option<(f64, f64)> = None;
    for i in 0..((most - FIRST_STEPS) / TRIED_EACH) as u32 {
        let n = FIRST_STEPS + f64::from(i) * TRIED_EACH;
        let found = distance(values, n / largest);
        match best {
            Some((known, _)) if found >= known => break,
            None if found > ON_GRID => {}
            _ => best = Some((found, n)),
        }
    }
    match best {
        Some((_, n)) if n < FEWEST_STEPS => Err(coarse()),
        Some((_, n)) => Ok(Some(largest / n)),
        None => Ok(None),
    }
}

/// How far values are from multiples of `1 / per_value`, in these, on average: 1/4 where they are
/// no multiples. Values of less than half of one tell nothing, and neither do values that are close
/// to each other.
fn distance(values: &[f64], per_value: f64) -> f64 {
    const NONE: f64 = 0.25;
    let (mut sum, mut n, mut n_others, mut first) = (0.0, 0, 0, None);
    for value in values {
        let steps = value.abs() * per_value;
        if steps < 0.5 {
            continue;
        }
        let whole = steps.round();
        sum += (steps - whole).abs();
        n += 1;
        n_others += usize::from(*first.get_or_insert(whole) != whole);
        // Nearly always, these many are enough to tell that it is no grid.
        if n == FEWEST_VALUES / 2 && sum > 2.0 * ON_GRID * n as f64 {
            return NONE;
        }
    }
    if n < FEWEST_VALUES || 4 * n < values.len() || 4 * n_others < n {
        return NONE;
    }
    sum / n as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chacha20::rand_core::SeedableRng as _;
    use rand_distr::{Distribution as _, StandardNormal};

    use super::*;

    const K: usize = 10;
    const F: usize = 300;

    fn normal(seed: u8) -> Vec<f64> {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let draw = |_| StandardNormal.sample(&mut rng);
        (0..K * F).map(draw).collect()
    }

    /// Rounded to so many bits behind the first.
    fn rounded(value: f64, bits: u32) -> f64 {
        if value == 0.0 {
            return 0.0;
        }
        let step = (value.abs().log2().floor() - f64::from(bits)).exp2();
        (value / step).round() * step
    }

    fn pruned(values: &[f64], share: f64) -> Vec<f64> {
        let mut sizes: Vec<f64> = values.iter().map(|value| value.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let limit = sizes[(share * sizes.len() as f64) as usize];
        let keep = |value: &f64| if value.abs() < limit { 0.0 } else { *value };
        values.iter().map(keep).collect()
    }

    #[test]
    fn grids_of_floats() {
        for bits in [7, 10] {
            let values = normal(1).into_iter().map(|value| rounded(value, bits));
            assert_eq!(significand_bits(values.clone()), bits);
            // Zeros, and a few other values, hide no grid.
            let mut values = pruned(&values.collect::<Vec<_>>(), 0.9);
            values[..20].copy_from_slice(&normal(2)[..20]);
            assert_eq!(significand_bits(values.into_iter()), bits);
        }
        let single = normal(1).into_iter().map(|value| f64::from(value as f32));
        assert_eq!(significand_bits(single), FINE_BITS);
        assert_eq!(significand_bits(normal(1).into_iter()), FINE_BITS);
        assert_eq!(significand_bits([0.0; 9].into_iter()), FINE_BITS);
    }

    #[test]
    fn grids_of_integers() {
        let of_step = |values: &[f64], step: f64| -> Vec<f64> {
            let whole = values.iter().map(|value| (value / step).round() * step);
            whole.map(|value| f64::from(value as f32)).collect()
        };
        let largest = |values: &[f64]| {
            let sizes = values.iter().map(|value| value.abs());
            sizes.fold(0.0, f64::max)
        };
        for steps in [127.0, 255.0, 32_767.0] {
            let scale = largest(&normal(1)) / steps;
            let found = widths(&of_step(&normal(1), scale), F, F).unwrap();
            assert!(found.iter().all(|width| (width / scale - 1.0).abs() < 0.02));
        }
        // Each row has a step of its own, and was stored in 16 bits later; most of it is zero.
        let (mut values, mut scales) = (Vec::new(), Vec::new());
        for row in pruned(&normal(3), 0.7).chunks(F) {
            let scale = largest(row) / 127.0;
            values.extend(of_step(row, scale).iter().map(|value| rounded(*value, 10)));
            scales.push(scale);
        }
        let found = widths(&values, F, F).unwrap();
        for (row, scale) in found.chunks(F).zip(scales) {
            // Columns of zeros need none.
            let mut row = row.iter().filter(|width| **width > 0.0);
            assert!(row.all(|width| (width / scale - 1.0).abs() < 0.02));
        }
        // Values of no grid; one is much larger than all others.
        let mut free = normal(4);
        free[7] = 1000.0;
        assert_eq!(
            step(&sample(free.into_iter(), MOST_VALUES), STEPS).unwrap(),
            None
        );
        for coarse in [of_step(&normal(1), 0.5), vec![-1.0; K * F]] {
            assert!(matches!(widths(&coarse, F, F), Err(Error::Usage(_))));
        }
    }

    #[test]
    fn residues_of_16_bits_are_uniform() {
        for zeros in [0.0, 0.5, 0.95] {
            let values: Vec<f64> = pruned(&normal(5), zeros)
                .into_iter()
                .map(|value| rounded(value, 10))
                .collect();
            let mut noisy = values.clone();
            let mut rng = ChaCha20Rng::from_seed([6; 32]);
            let widths = widths(&noisy, F, F).unwrap();
            let width = share(&noisy, &widths, F, F);
            add(&mut noisy, &widths, &mut rng);
            assert!((2e-4..4e-3).contains(&width), "{width}");
            // Of each column, the step of typical weights.
            let sizes = typical_sizes(|| values.chunks(F), F, 10);
            let mut tenths = [0_u32; 10];
            let mut n = 0;
            for (i, (value, was)) in noisy.iter().zip(&values).enumerate() {
                let size = sizes[i % F];
                if size == 0.0 {
                    assert_eq!(value, was);
                    continue;
                }
                let step = (size.log2().floor() - 10.0).exp2();
                tenths[((value / step).rem_euclid(1.0) * 10.0) as usize] += 1;
                n += 1;
            }
            let wanted = f64::from(n) / 10.0;
            let chi: f64 = tenths
                .iter()
                .map(|count| (f64::from(*count) - wanted).powi(2) / wanted)
                .sum();
            // 9 degrees of freedom: more than 40 in one of 100,000 cases.
            assert!(chi < 40.0, "{zeros}: {tenths:?}");
        }
    }

    #[test]
    fn few_biases_have_the_bits_of_weights() {
        // Weights of bfloat16, and a bias of one bit for each class.
        let mut values: Vec<f64> = normal(7).iter().map(|value| rounded(*value, 7)).collect();
        for row in values.chunks_mut(F) {
            row[F - 1] = 0.5;
        }
        let found = widths(&values, F, F - 1).unwrap();
        for row in found.chunks(F) {
            assert_eq!(row[F - 1], (-8.0_f64).exp2());
        }
    }

    #[test]
    fn no_weights_and_zeros() {
        let zeros = [0.0; 12];
        let found = widths(&zeros, 4, 3).unwrap();
        assert_eq!(found, zeros);
        assert_eq!(share(&zeros, &found, 4, 3), 0.0);
    }
}
