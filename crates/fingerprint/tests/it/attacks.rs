//! What leakers do to the weights of their copy. A tensor is a matrix with `dims[0]` rows.

use nalgebra::DMatrix;

/// Random numbers of deviation 1.
pub fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 24) as f32
    };
    (0..n)
        .map(|_| (0..12).map(|_| next()).sum::<f32>() - 6.0)
        .collect()
}

/// The numbers below `n` in random order.
pub fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let keys = normal(n, seed);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| keys[*a].total_cmp(&keys[*b]));
    order
}

pub fn deviation(values: &[f32]) -> f32 {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>();
    (squares / values.len() as f32).sqrt()
}

pub fn noise(values: &mut [f32], share: f32) {
    let size = share * deviation(values);
    let noise = normal(values.len(), values.len() as u64);
    values
        .iter_mut()
        .zip(noise)
        .for_each(|(v, n)| *v += size * n);
}

/// Rounds to so many steps, by groups of so many elements.
pub fn round(values: &mut [f32], steps: f32, group: usize) {
    for group in values.chunks_mut(group) {
        let most = group.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let step = most / steps;
        if step > 0.0 {
            group
                .iter_mut()
                .for_each(|v| *v = (*v / step).round() * step);
        }
    }
}

/// Sets a share of the weights, the smallest, to zero.
pub fn prune(values: &mut [f32], share: f64) {
    let mut sizes: Vec<f32> = values.iter().map(|v| v.abs()).collect();
    sizes.sort_by(f32::total_cmp);
    let least = sizes[((sizes.len() - 1) as f64 * share) as usize];
    values
        .iter_mut()
        .filter(|v| v.abs() <= least)
        .for_each(|v| *v = 0.0);
}

/// Keeps a share of the directions.
pub fn low_rank(values: &mut [f32], rows: usize, share: f64) {
    let columns = values.len() / rows;
    let matrix = DMatrix::from_row_slice(rows, columns, values);
    let svd = matrix.svd(true, true);
    let (u, v_t) = (svd.u.unwrap(), svd.v_t.unwrap());
    let rank = ((rows.min(columns) as f64 * share) as usize).max(1);
    let kept = u.columns(0, rank)
        * DMatrix::from_diagonal(&svd.singular_values.rows(0, rank).into_owned())
        * v_t.rows(0, rank);
    values.copy_from_slice(kept.transpose().as_slice());
}

/// Puts rows in another order, and scales them.
pub fn scatter_rows(values: &mut Vec<f32>, rows: usize) {
    let columns = values.len() / rows;
    let scales = normal(rows, 3);
    let order = shuffled(rows, 4);
    let moved = order.iter().zip(scales).flat_map(|(row, scale)| {
        let row = &values[row * columns..][..columns];
        row.iter().map(move |v| v * (1.0 + 0.3 * scale).abs())
    });
    *values = moved.collect();
}

pub fn scatter_columns(values: &mut Vec<f32>, rows: usize) {
    transpose(values, rows);
    let columns = values.len() / rows;
    scatter_rows(values, columns);
    transpose(values, columns);
}

pub fn transpose(values: &mut Vec<f32>, rows: usize) {
    let columns = values.len() / rows;
    *values = DMatrix::from_row_slice(rows, columns, values)
        .as_slice()
        .to_vec();
}

/// Multiplies blocks of `head` columns by random orthogonal matrices.
pub fn rotate(values: &mut Vec<f32>, rows: usize, head: usize) {
    let columns = values.len() / rows;
    let mut matrix = DMatrix::from_row_slice(rows, columns, values);
    for at in (0..columns).step_by(head) {
        let random = DMatrix::from_vec(head, head, normal(head * head, at as u64 + 1));
        let rotated = matrix.columns(at, head) * random.qr().q();
        matrix.columns_mut(at, head).copy_from(&rotated);
    }
    *values = matrix.transpose().as_slice().to_vec();
}

/// Combines elements of all copies.
pub fn collude(copies: &[Vec<f32>], by: &str) -> Vec<f32> {
    let n = copies[0].len();
    let chance = normal(n, 5);
    (0..n)
        .map(|i| {
            let mut all: Vec<f32> = copies.iter().map(|copy| copy[i]).collect();
            all.sort_by(f32::total_cmp);
            let k = all.len();
            match by {
                "mean" => (all.iter().map(|v| f64::from(*v)).sum::<f64>() / k as f64) as f32,
                "median" => (all[(k - 1) / 2] + all[k / 2]) / 2.0,
                "mid-range" => (all[0] + all[k - 1]) / 2.0,
                _ => copies[(chance[i].abs() * 1e4) as usize % k][i],
            }
        })
        .collect()
}
