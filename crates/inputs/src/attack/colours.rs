//! Finds the order of channels, and the negated half of the positions, by the likelihood of
//! restored colours.

use super::grid::{Grid, Pictures};

/// Steps of each channel.
const BINS: usize = 8;

/// Returns the positions with channels in the most likely order, and whether the other half is
/// negated.
pub(super) fn order(
    grid: &Grid,
    places: &[usize],
    public: &Pictures<'_>,
    sum: f64,
) -> (Vec<usize>, bool) {
    let channels = grid.channels;
    // One pixel per block tells enough about colours if blocks are small, and cells of 2 x 2 if
    // they are large.
    let cell = grid.block.min(2);
    let likely = likelihoods(public, cell, sum);
    let mut best = (f64::NEG_INFINITY, places.to_vec(), false);
    for order in permutations(channels) {
        let placed = |place: &usize| place / channels * channels + order[place % channels];
        let places: Vec<usize> = places.iter().map(placed).collect();
        for is_opposite in [false, true] {
            let score = score(grid, &places, is_opposite, cell, &likely, sum);
            if score > best.0 {
                best = (score, places.clone(), is_opposite);
            }
        }
    }
    (best.1, best.2)
}

/// Returns the mean log-likelihood of cells of restored images.
fn score(
    grid: &Grid,
    places: &[usize],
    is_opposite: bool,
    cell: usize,
    likely: &[f64],
    sum: f64,
) -> f64 {
    let (block, channels) = (grid.block, grid.channels);
    let (mut total, mut count) = (0.0, 0.0);
    let mut plain = vec![0.0; grid.n_values];
    for values in grid.values.chunks_exact(grid.n_values) {
        for (value, place) in values.iter().zip(places) {
            if let Some(plain) = plain.get_mut(*place) {
                *plain = if is_opposite { sum - value } else { *value };
            }
        }
        for (y, x) in (0..block / cell).flat_map(|y| (0..block / cell).map(move |x| (y, x))) {
            let at = |channel, r, c| plain.get((r * block + c) * channels + channel).copied();
            let mean = mean_of(cell, (y, x), at);
            total += likely
                .get(bin(channels, mean, sum))
                .copied()
                .unwrap_or_default();
            count += 1.0;
        }
    }
    total / f64::max(count, 1.0)
}

/// Returns the log-likelihood of each colour, from means of cells.
fn likelihoods(public: &Pictures<'_>, cell: usize, sum: f64) -> Vec<f64> {
    let &Pictures {
        values,
        n: _,
        channels,
        rows,
        columns,
    } = public;
    let mut counts = vec![0.0; BINS.pow(channels as u32)];
    for image in values.chunks_exact((channels * rows * columns).max(1)) {
        for (y, x) in (0..rows / cell).flat_map(|y| (0..columns / cell).map(move |x| (y, x))) {
            let at = |channel, r, c| image.get((channel * rows + r) * columns + c).copied();
            let mean = mean_of(cell, (y, x), at);
            if let Some(count) = counts.get_mut(bin(channels, mean, sum)) {
                *count += 1.0;
            }
        }
    }
    // Neighbouring colours are about equally likely: smooth by [1 2 1] / 4 along each channel.
    for channel in 0..channels {
        let stride = BINS.pow((channels - 1 - channel) as u32);
        let before = counts.clone();
        for (i, count) in counts.iter_mut().enumerate() {
            let place = i / stride % BINS;
            let at = |place: usize| before.get(i - i / stride % BINS * stride + place * stride);
            let (low, high) = (place.saturating_sub(1), (place + 1).min(BINS - 1));
            let of = |place| at(place).copied().unwrap_or_default();
            *count = (of(low) + 2.0 * of(place) + of(high)) / 4.0;
        }
    }
    let total: f64 = counts.iter().map(|count| count + 0.01).sum();
    counts
        .iter()
        .map(|count| ((count + 0.01) / total).ln())
        .collect()
}

/// Returns the mean of a channel over a cell. `at` returns the value of a channel in a row and a
/// column.
fn mean_of(
    cell: usize,
    (y, x): (usize, usize),
    at: impl Fn(usize, usize, usize) -> Option<f64>,
) -> impl Fn(usize) -> f64 {
    move |channel| {
        let pixels = (0..cell).flat_map(|r| (0..cell).map(move |c| (y * cell + r, x * cell + c)));
        let values = pixels.filter_map(|(r, c)| at(channel, r, c));
        values.sum::<f64>() / (cell * cell) as f64
    }
}

fn bin(channels: usize, mean: impl Fn(usize) -> f64, sum: f64) -> usize {
    let step =
        |value: f64| (value / (sum + 1.0) * BINS as f64).clamp(0.0, (BINS - 1) as f64) as usize;
    (0..channels).fold(0, |bin, channel| bin * BINS + step(mean(channel)))
}

/// Returns all permutations of `n` things.
fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let with_last = |order: Vec<usize>| {
        (0..n).map(move |at| {
            let mut order = order.clone();
            order.insert(at, n - 1);
            order
        })
    };
    permutations(n - 1)
        .into_iter()
        .flat_map(with_last)
        .collect()
}
