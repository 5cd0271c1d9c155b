//! Computes new weights and a new bias, with which a consumer computes from transformed pixels what
//! it computed from plain ones.
//!
//! A block of n values, flattened (row, column, channel), is `v`; the map gives `y`. The consumer
//! reads `(v - m) / s`, with m and s of the channel. For `y[t] = o[t] + g[t] v[a(t)]`:
//!
//! ```text
//! W'[d,t] = g[t] (s[t] / s[a(t)]) W[d,a(t)]
//! b'[d]   = b[d] + sum over t of W[d,a(t)] (g[t] m[t] + o[t] - m[a(t)]) / s[a(t)]
//! ```
//!
//! For `y = A v`, `A` orthogonal:
//!
//! ```text
//! W'[d,t] = s[t] (sum over j of W[d,j] A[t,j] / s[j])
//! b'[d]   = b[d] + sum over j of (W[d,j] / s[j]) ((A^T m)[j] - m[j])
//! ```
//!
//! A consumer's window contains several blocks, each with weights of its own.

mod bias;

use onnxseal_onnx::proto::tensor_proto::DataType;

use crate::key::BlockMap;
use crate::rewrite::consumer::{Consumer, check_block, through_identity};
use crate::rewrite::{advise, at, train};
use bias::add_bias;
use onnxseal_rewrite::{Changes, Elements, Graph, Refusal, Result};

/// How far from zero the required padding may be, relative to the range of a pixel.
const NEARLY_ZERO: f64 = 1e-7;
/// The transform of the pixels.
pub(super) struct Task<'k> {
    pub(super) map: &'k BlockMap,
    pub(super) block: u64,
    /// The sum of a pixel and its negative.
    pub(super) sum: f64,
    /// The least and the greatest pixel.
    pub(super) range: (f64, f64),
}

/// For each value of a block, the factors of its weights and the bias.
enum Factors {
    Signed {
        places: Vec<usize>,
        factors: Vec<f64>,
        /// `g m + o - m`, divided by s.
        shifts: Vec<f64>,
    },
    Orthogonal {
        /// `[n, n]`, transposed, with the deviations multiplied in.
        matrix: Vec<f64>,
        shifts: Vec<f64>,
    },
}

/// Changes the weights and the biases of consumers. Returns whether the result is equal by
/// construction: only the order of products changes, or the numbers have 32 bits or more.
pub(super) fn solve(
    graph: &Graph<'_>,
    consumers: &[Consumer],
    task: &Task<'_>,
    changes: &mut Changes,
) -> Result<bool> {
    let mut is_exact = true;
    for consumer in consumers {
        let node = graph.node(consumer.node)?;
        is_exact &= one(graph, consumer, task, changes).map_err(at(node))?;
    }
    Ok(is_exact)
}

fn one(
    graph: &Graph<'_>,
    consumer: &Consumer,
    task: &Task<'_>,
    changes: &mut Changes,
) -> Result<bool> {
    check_block(consumer, task.block)?;
    let factors = factors(consumer, task)?;
    normalise(graph, consumer, task, &factors, changes)?;
    let mut weights = graph.load(consumer.weight.tensor)?;
    let shifts = change(consumer, task, &factors, &mut weights)?;
    let data_type = weights.data_type();
    changes.replace(graph, consumer.weight.tensor, weights)?;
    let is_still = match &factors {
        Factors::Signed {
            factors, shifts, ..
        } => shifts.iter().all(|s| *s == 0.0) && factors.iter().all(|f| f.abs() == 1.0),
        Factors::Orthogonal { .. } => false,
    };
    if !is_still && shifts.iter().any(|shift| *shift != 0.0) {
        add_bias(graph, consumer, &shifts, changes)?;
    }
    // The equations hold, and these types have enough digits, unlike a bias of 16 bits.
    let is_precise = matches!(data_type, DataType::Float | DataType::Double);
    Ok(is_still || is_precise)
}

fn factors(consumer: &Consumer, task: &Task<'_>) -> Result<Factors> {
    let of_channels = consumer.value.statistics();
    let statistics = |t: usize| of_channels[t % of_channels.len()];
    let tolerance = NEARLY_ZERO * (task.range.1 - task.range.0).abs();
    // Padding stays zero, so zeros have to be what the map makes of them.
    let shift = |offset: f64, s: f64| match consumer.is_padded {
        false => Ok(offset / s),
        true if offset.abs() <= tolerance => Ok(0.0),
        true => advise(
            "it pads the image, and the transformed zero is not zero",
            "use `shuffle` alone with the same normalisation of all channels, feed images whose range has 0 in its middle (`--range -1..1` of `onnxseal inputs keygen`), or train the model on transformed images",
        ),
    };
    match task.map {
        BlockMap::Signed { places, negated } => {
            let (mut factors, mut shifts) = (vec![], vec![]);
            for (t, (from, negated)) in places.iter().zip(negated).enumerate() {
                let ((m, s), (m_from, s_from)) = (statistics(t), statistics(*from as usize));
                let (g, o) = if *negated {
                    (-1.0, task.sum)
                } else {
                    (1.0, 0.0)
                };
                // Exactly 1 or -1 for equal deviations.
                let factor = if s == s_from { 1.0 } else { s / s_from };
                factors.push(g * factor);
                shifts.push(shift(g * m + o - m_from, s_from)?);
            }
            Ok(Factors::Signed {
                places: places.iter().map(|from| *from as usize).collect(),
                factors,
                shifts,
            })
        }
        BlockMap::Orthogonal(map) => {
            let n = map.nrows();
            let mut matrix = vec![0.0; n * n];
            let mut shifts = vec![0.0; n];
            for (t, row) in map.row_iter().enumerate() {
                let (m, s) = statistics(t);
                for (j, a) in row.iter().enumerate() {
                    let (_, s_from) = statistics(j);
                    matrix[t * n + j] = s * a / s_from;
                    shifts[j] += a * m;
                }
            }
            for (j, sum) in shifts.iter_mut().enumerate() {
                let (m, s) = statistics(j);
                *sum = shift(*sum - m, s)?;
            }
            Ok(Factors::Orthogonal { matrix, shifts })
        }
    }
}

/// Moves scale and bias of a normalisation before the weights to the places of their pixels.
fn normalise(
    graph: &Graph<'_>,
    consumer: &Consumer,
    task: &Task<'_>,
    factors: &Factors,
    changes: &mut Changes,
) -> Result<()> {
    let Some(norm) = consumer.value.norm else {
        return Ok(());
    };
    let places = match factors {
        Factors::Signed {
            places,
            factors,
            shifts,
        } if factors.iter().all(|f| *f == 1.0) && shifts.iter().all(|s| *s == 0.0) => places,
        _ => {
            return train(
                "patches are normalised before, which only another order of their pixels leaves as it is: `shuffle` alone, with the same normalisation of all channels",
            );
        }
    };
    let n = consumer.features.len();
    let node = graph.node(norm)?;
    for name in node.inputs.iter().skip(1).filter(|name| !name.is_empty()) {
        let refused = |reason: &str| Refusal::new(reason).at(node);
        let Some((tensor, is_alone)) = through_identity(graph, norm, name)? else {
            return Err(refused("its scale or its bias is not constant").into());
        };
        let old = graph.load(tensor)?;
        if old.len() != n {
            return Err(refused("it has not one number for each pixel of a patch").into());
        }
        if (1..n).all(|i| old.get(i) == old.get(0)) {
            continue;
        }
        if !is_alone {
            return Err(refused("another node reads its scale or its bias too").into());
        }
        let mut new = old.clone();
        for block in consumer.blocks(task.block) {
            for (t, from) in places.iter().enumerate() {
                let to = consumer.features[block[t]];
                if !new.put(to, old.get(consumer.features[block[*from]])) {
                    return Err(overflow().into());
                }
            }
        }
        changes.replace(graph, tensor, new)?;
    }
    Ok(())
}

fn overflow() -> Refusal {
    Refusal::new("a rewritten weight is out of its type's range").advise("use `shuffle` alone")
}

/// Changes the weights, and returns what that adds to each output.
fn change(
    consumer: &Consumer,
    task: &Task<'_>,
    factors: &Factors,
    weights: &mut Elements,
) -> Result<Vec<f64>> {
    let mut all = vec![0.0; consumer.n_outputs];
    for block in consumer.blocks(task.block) {
        let places: Vec<usize> = block.iter().map(|i| consumer.places[*i]).collect();
        let n = places.len();
        let (mut old, mut new) = (vec![0.0; n], vec![0.0; n]);
        for (d, sum) in all.iter_mut().enumerate() {
            let first = d * consumer.stride;
            for (old, place) in old.iter_mut().zip(&places) {
                *old = weights.get(first + place);
            }
            match factors {
                Factors::Signed {
                    places,
                    factors,
                    shifts,
                    ..
                } => {
                    for (t, from) in places.iter().enumerate() {
                        new[t] = factors[t] * old[*from];
                        *sum += old[*from] * shifts[t];
                    }
                }
                Factors::Orthogonal { matrix, shifts } => {
                    for (new, row) in new.iter_mut().zip(matrix.chunks_exact(n)) {
                        *new = dot(row, &old);
                    }
                    *sum += dot(shifts, &old);
                }
            }
            for (new, place) in new.iter().zip(&places) {
                if !weights.put(first + place, *new) {
                    return Err(overflow().into());
                }
            }
        }
    }
    Ok(all)
}

/// Computes a dot product with four sums at once, since one alone waits for each addition.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (a4, a_rest) = a.as_chunks::<4>();
    let (b4, b_rest) = b.as_chunks::<4>();
    for (a, b) in a4.iter().zip(b4) {
        for i in 0..4 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
