//! Matches keyed positions to plain ones by their relations to all others.

use nalgebra::DMatrix;

use super::assignment::assign;
use super::relations::Relations;

/// Rounds of assigning all positions, each based on the previous places of the others.
const ROUNDS: usize = 60;

/// Rounds without a gain after which to stop.
const PATIENCE: usize = 5;

/// Returns the plain position of each keyed one.
pub(super) fn places(keyed: &Relations, plain: &Relations) -> Vec<usize> {
    // At first by the sorted relations of a position, whatever their partners.
    let sorted = |relations: &Relations| {
        profile(relations, |mut row| {
            row.sort_by(f64::total_cmp);
            row
        })
    };
    let mut places = assign(&distances(&sorted(keyed), &sorted(plain)));
    let of_keyed = profile(keyed, |row| row);
    let (mut best, mut best_places, mut idle) =
        (objective(keyed, plain, &places), places.clone(), 0);
    for _ in 0..ROUNDS {
        let moved = |row: Vec<f64>| {
            let at = |place: &usize| row.get(*place).copied().unwrap_or_default();
            places.iter().map(at).collect()
        };
        let next = assign(&distances(&of_keyed, &profile(plain, moved)));
        if next == places {
            break;
        }
        places = next;
        let objective = objective(keyed, plain, &places);
        if objective < best - 1e-9 {
            (best, best_places, idle) = (objective, places.clone(), 0);
        } else {
            idle += 1;
            if idle > PATIENCE {
                break;
            }
        }
    }
    exchange(keyed, plain, best_places)
}

/// Returns, for each position, its relations to all others, as the first and as the second of a
/// pair.
fn profile(relations: &Relations, change: impl Fn(Vec<f64>) -> Vec<f64>) -> DMatrix<f64> {
    let [own, right, below] = relations;
    let all = [
        own.clone(),
        right.clone(),
        right.transpose(),
        below.clone(),
        below.transpose(),
    ];
    let n = own.nrows();
    // Column by column, so that a position's numbers are adjacent.
    let mut profiles = Vec::with_capacity(5 * n * n);
    for t in 0..n {
        for matrix in &all {
            profiles.extend(change(matrix.row(t).iter().copied().collect()));
        }
    }
    DMatrix::from_vec(5 * n, n, profiles)
}

/// Returns the squared distances between columns.
fn distances(one: &DMatrix<f64>, other: &DMatrix<f64>) -> DMatrix<f64> {
    let squares = |matrix: &DMatrix<f64>| -> Vec<f64> {
        matrix
            .column_iter()
            .map(|column| column.norm_squared())
            .collect()
    };
    let (of_one, of_other) = (squares(one), squares(other));
    let mut distances = one.tr_mul(other);
    for (u, mut column) in distances.column_iter_mut().enumerate() {
        for (t, value) in column.iter_mut().enumerate() {
            *value = of_one[t] + of_other[u] - 2.0 * *value;
        }
    }
    distances
}

/// Returns the squared differences of all relations.
fn objective(keyed: &Relations, plain: &Relations, places: &[usize]) -> f64 {
    let of = |(keyed, plain): (&DMatrix<f64>, &DMatrix<f64>)| {
        (keyed - placed(plain, places)).norm_squared()
    };
    keyed.iter().zip(plain).map(of).sum()
}

/// Returns the relations between the positions at these places.
fn placed(plain: &DMatrix<f64>, places: &[usize]) -> DMatrix<f64> {
    let n = places.len();
    DMatrix::from_fn(n, n, |t, u| plain[(places[t], places[u])])
}

/// Exchanges pairs of positions as long as that lowers the objective, several independent pairs at
/// once.
fn exchange(keyed: &Relations, plain: &Relations, mut places: Vec<usize>) -> Vec<usize> {
    let n = places.len();
    let mut least = objective(keyed, plain, &places);
    for _ in 0..200 {
        let gains = gains(keyed, plain, &places);
        let mut order: Vec<(usize, usize)> = (0..n)
            .flat_map(|j| (0..j).map(move |i| (i, j)))
            .filter(|at| gains[*at] < -1e-9)
            .collect();
        order.sort_by(|a, b| gains[*a].total_cmp(&gains[*b]));
        let Some(first) = order.first().copied() else {
            break;
        };
        let before = places.clone();
        let mut is_used = vec![false; n];
        for (i, j) in order {
            if !is_used[i] && !is_used[j] {
                (is_used[i], is_used[j]) = (true, true);
                places.swap(i, j);
            }
        }
        let mut now = objective(keyed, plain, &places);
        if now >= least {
            // Together they raised the objective: exchange only the best pair.
            places.clone_from(&before);
            places.swap(first.0, first.1);
            now = objective(keyed, plain, &places);
        }
        if now >= least {
            return before;
        }
        least = now;
    }
    places
}

/// Returns what exchanging two positions adds to the objective, without the terms between the two,
/// which nearly cancel.
fn gains(keyed: &Relations, plain: &Relations, places: &[usize]) -> DMatrix<f64> {
    let n = places.len();
    let mut gains = DMatrix::zeros(n, n);
    for (keyed, plain) in keyed.iter().zip(plain) {
        let plain = placed(plain, places);
        for (k, q) in [
            (keyed.clone(), plain.clone()),
            (keyed.transpose(), plain.transpose()),
        ] {
            let products = &k * q.transpose();
            for (i, j) in (0..n).flat_map(|j| (0..n).map(move |i| (i, j))) {
                let all = 2.0
                    * (products[(i, i)] + products[(j, j)] - products[(i, j)] - products[(j, i)]);
                // Only positions other than these two count.
                let of = |u: usize| -2.0 * (k[(i, u)] - k[(j, u)]) * (q[(j, u)] - q[(i, u)]);
                gains[(i, j)] += all - of(i) - of(j);
            }
        }
        let (k, q) = (keyed, &plain);
        for (i, j) in (0..n).flat_map(|j| (0..n).map(move |i| (i, j))) {
            let own = (k[(i, i)] - k[(j, j)]) * (q[(j, j)] - q[(i, i)]);
            let each = (k[(i, j)] - k[(j, i)]) * (q[(j, i)] - q[(i, j)]);
            gains[(i, j)] -= 2.0 * (own + each);
        }
    }
    gains
}
