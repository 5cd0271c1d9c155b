//! One classifier, protected: its rows, its table, and what the authority keeps.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};

use crate::authority::{Authority, Protected, TraceRow, hex, random_seed};
use crate::error::{Error, Result};
use crate::head::{Head, Rows, Stored};
use crate::shares::split;
use crate::table::{Description, MAX_CODEWORDS, RowKind, Table};
use crate::traces::Trace;

/// Codewords of a class where nobody says otherwise. With fewer of them, unlabelled answers show which belong together.
pub const DEFAULT_CODEWORDS: u32 = 8;

/// What comes in the place of a layer.
#[derive(Debug)]
pub struct Plan {
    /// The new weights.
    pub stored: Stored,
    /// The table.
    pub table: Table,
    /// What the authority keeps; without inputs of traces, which its caller knows.
    pub protected: Protected,
}

/// Splits a layer's classes in shares, adds trace rows, shuffles all, and makes the table.
///
/// # Errors
/// [`Error::Usage`] for numbers that are out of range.
pub fn protect(
    head: &Head,
    authority: &Authority,
    codewords: u32,
    traces: &[Trace],
) -> Result<Plan> {
    if !(2..=MAX_CODEWORDS).contains(&codewords) {
        return Err(Error::Usage(format!(
            "a class has 2 to {MAX_CODEWORDS} codewords"
        )));
    }
    let n = codewords as usize;
    let has_bias = head.bias.is_some() || !traces.is_empty();
    let columns = head.columns + usize::from(has_bias);
    let seed = random_seed()?;
    let shares = match &head.bias {
        None if !has_bias => split(&head.weights, columns, n, &seed),
        bias => {
            let mut matrix = Vec::with_capacity(head.classes * columns);
            for (class, row) in head.weights.chunks_exact(head.columns).enumerate() {
                matrix.extend_from_slice(row);
                let bias = bias.as_ref().and_then(|bias| bias.get(class));
                matrix.push(bias.copied().unwrap_or(0.0));
            }
            split(&matrix, columns, n, &seed)
        }
    };
    let n_rows = shares.weights.len() + traces.len();
    let order = shuffled(n_rows)?;
    let mut rows = Rows {
        weights: Vec::with_capacity(n_rows * head.columns),
        bias: has_bias.then(|| Vec::with_capacity(n_rows)),
    };
    let mut kinds = Vec::with_capacity(n_rows);
    // Of each row of the model, in order; traces come behind all shares.
    let mut of_traces = vec![0u32; traces.len()];
    for (c, from) in (0u32..).zip(&order) {
        let row = shares.rows.get(from * columns..(from + 1) * columns);
        match (row, shares.weights.get(*from)) {
            (Some(row), Some(weight)) => {
                let (features, bias) = row.split_at(head.columns);
                rows.weights.extend_from_slice(features);
                if let Some(all) = &mut rows.bias {
                    all.extend(bias);
                }
                kinds.push(RowKind::Share {
                    class: (from / n) as u32,
                    weight: *weight,
                });
            }
            _ => {
                let which = from - shares.weights.len();
                let trace = traces
                    .get(which)
                    .filter(|trace| trace.weights.len() == head.columns);
                let trace =
                    trace.ok_or_else(|| Error::Usage("a trace is for another layer".into()))?;
                rows.weights
                    .extend(trace.weights.iter().map(|weight| *weight as f32));
                if let Some(all) = &mut rows.bias {
                    all.push(trace.bias as f32);
                }
                if let Some(place) = of_traces.get_mut(which) {
                    *place = c;
                }
                kinds.push(RowKind::Trace);
            }
        }
    }
    drop(shares);
    if !rows
        .weights
        .iter()
        .chain(rows.bias.iter().flatten())
        .all(|value| value.is_finite())
    {
        return Err(Error::Usage(
            "the layer has weights that are no numbers, or too large for floats".into(),
        ));
    }
    let stored = head.stored(&rows);
    drop(rows);
    let about = Description {
        answers: &head.answers,
        logits: &head.logits,
        axis: head.axis,
        outputs: &head.outputs,
        tail: &head.tail,
        stored: &stored,
    };
    let table = Table::build(authority, &about, head.classes as u32, codewords, &kinds)?;
    let kept = of_traces
        .iter()
        .filter_map(|c| Some(TraceRow::new(*c, &table.row(*c)?)));
    let protected = Protected {
        digest: hex(table.digest()),
        file: String::new(),
        classes: table.classes(),
        codewords,
        traces: kept.collect(),
        inputs: Vec::new(),
        firing: None,
        samples: 0,
    };
    Ok(Plan {
        stored,
        table,
        protected,
    })
}

/// The numbers below `n` in random order (Fisher and Yates).
fn shuffled(n: usize) -> Result<Vec<usize>> {
    let mut rng = ChaCha20Rng::from_seed(*random_seed()?);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        // 64 bits for fewer than 2^21 places: the bias is below 2^-43.
        let r = (rng.next_u64() % (i as u64 + 1)) as usize;
        order.swap(i, r);
    }
    Ok(order)
}
