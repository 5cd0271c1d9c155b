//! Protects one classifier: makes its rows, its table, and the authority's record.

use onnxseal_crypto::labels::digest;

use crate::authority::{Authority, Protected, TraceRow, hex, random_seed};
use crate::draw::{shuffle, stream};
use crate::error::{Error, Result};
use crate::head::{Head, Rows, Stored};
use crate::shares::{Matrix, are_weights, draw_weights, split};
use crate::table::{Description, MAX_CODEWORDS, MAX_ROWS, RowKind, Table};
use crate::traces::Trace;

/// The default number of codewords of a class. Another number makes other shares of a layer, and
/// two sets of shares show its classes.
pub const DEFAULT_CODEWORDS: u32 = 8;

/// The replacement of a layer.
#[derive(Debug)]
pub struct Plan {
    /// The new weights.
    pub stored: Stored,
    /// The table.
    pub table: Table,
    /// The authority's record, without the inputs of traces, which the caller adds.
    pub protected: Protected,
    /// The width of the noise that hides the grid of the layer's weights, as a share of their mean
    /// size; see [`crate::shares::Shares`].
    pub width: f64,
}

/// Splits a layer's classes into shares, adds trace rows, shuffles all, and makes the table.
///
/// # Errors
/// [`Error::Usage`] for numbers that are out of range.
pub fn protect(
    head: &Head,
    authority: &Authority,
    codewords: u32,
    traces: &[Trace],
) -> Result<Plan> {
    check_codewords(codewords)?;
    let n = codewords as usize;
    let has_bias = head.bias.is_some() || !traces.is_empty();
    let matrix = matrix(head)?;
    let columns = matrix.columns;
    let seed = authority.of_layer(&digest_of(&matrix, codewords))?;
    let shares = split(matrix, n, &seed)?;
    let n_rows = shares.weights.len() + traces.len();
    let mut order: Vec<usize> = (0..n_rows).collect();
    shuffle(&mut order, &mut stream(&*random_seed()?, 0));
    let mut rows = Rows {
        weights: Vec::with_capacity(n_rows * head.columns),
        bias: has_bias.then(|| Vec::with_capacity(n_rows)),
    };
    let mut kinds = Vec::with_capacity(n_rows);
    // For each row of the model, in order; traces come after all shares.
    let mut of_traces = vec![0u32; traces.len()];
    for (c, from) in (0u32..).zip(&order) {
        let row = shares.rows.get(from * columns..(from + 1) * columns);
        match (row, shares.weights.get(*from)) {
            (Some(row), Some(weight)) => {
                let (features, bias) = row.split_at(head.columns);
                rows.weights.extend_from_slice(features);
                if let Some(all) = &mut rows.bias {
                    all.push(bias.first().copied().unwrap_or(0.0));
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
    let (width, is_centred) = (shares.width, shares.is_centred);
    drop(shares);
    let made = Made {
        classes: head.classes as u32,
        codewords,
        rows,
        is_centred,
    };
    let plan = finish(head, authority, made, &kinds, &of_traces)?;
    Ok(Plan { width, ..plan })
}

/// Joins weights and biases of a layer.
fn matrix(head: &Head) -> Result<Matrix> {
    let columns = head.columns + usize::from(head.bias.is_some());
    let mut values = Vec::with_capacity(head.classes * columns);
    for (class, row) in head.weights.chunks_exact(head.columns.max(1)).enumerate() {
        values.extend_from_slice(row);
        values.extend(head.bias.as_ref().and_then(|bias| bias.get(class)));
    }
    if !values.iter().all(|value| value.is_finite()) {
        return Err(no_numbers());
    }
    Ok(Matrix {
        values,
        columns,
        features: head.columns,
    })
}

/// Computes the digest that, with the authority's secret, determines a layer's shares.
fn digest_of(matrix: &Matrix, codewords: u32) -> [u8; 32] {
    let values: Vec<u8> = matrix
        .values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let number = |n: usize| (n as u32).to_le_bytes();
    let parts: [&[u8]; 4] = [
        &codewords.to_le_bytes(),
        &number(matrix.columns),
        &number(matrix.features),
        &values,
    ];
    digest("layer", &parts)
}

fn no_numbers() -> Error {
    Error::Usage("the layer has weights that are no numbers, or too large for floats".into())
}

/// Draws random rows for a model to be trained to answer with shares: `codewords` of each class, in
/// random order.
///
/// # Errors
/// [`Error::Usage`] for numbers that are out of range.
pub fn targets(classes: u32, codewords: u32) -> Result<Vec<RowKind>> {
    check_codewords(codewords)?;
    let n_rows = u64::from(classes) * u64::from(codewords);
    if classes < 2 || n_rows > u64::from(MAX_ROWS) {
        return Err(Error::Usage(format!(
            "there are 2 classes at least, and {MAX_ROWS} rows at most"
        )));
    }
    let mut rng = stream(&*random_seed()?, 0);
    let mut rows = Vec::with_capacity(n_rows as usize);
    for class in 0..classes {
        let mut weights = vec![0; codewords as usize];
        draw_weights(&mut weights, &mut rng);
        rows.extend(
            weights
                .into_iter()
                .map(|weight| RowKind::Share { class, weight }),
        );
    }
    shuffle(&mut rows, &mut rng);
    Ok(rows)
}

/// Makes the table of a model that was trained to answer with shares, whose rows stay as they are.
/// `kinds` come from [`targets`].
///
/// # Errors
/// [`Error::Usage`] if the layer has other rows than these, or classes have different numbers of
/// rows.
pub fn attach(head: &Head, authority: &Authority, classes: u32, kinds: &[RowKind]) -> Result<Plan> {
    let codewords = kinds.len() as u32 / classes.max(1);
    check_codewords(codewords)?;
    let usage = |reason: String| Err(Error::Usage(reason));
    if !head.tail.is_empty() {
        return usage(format!(
            "something follows {}: a model that was trained on targets ends with the layer that answers",
            head.node
        ));
    }
    if head.classes != kinds.len() {
        return usage(format!(
            "{} answers with {} rows, and the targets are for {}",
            head.node,
            head.classes,
            kinds.len()
        ));
    }
    let mut of_classes = vec![Vec::new(); classes as usize];
    for kind in kinds {
        if let RowKind::Share { class, weight } = kind
            && let Some(weights) = of_classes.get_mut(*class as usize)
        {
            weights.push(*weight);
        }
    }
    let n = codewords as usize;
    if of_classes.iter().any(|weights| weights.len() != n) {
        return usage("the targets have not the same number of rows for each class".into());
    }
    if !of_classes.iter().all(|weights| are_weights(weights)) {
        return usage("the targets have other weights than those that were drawn".into());
    }
    let floats = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
    let rows = Rows {
        weights: floats(&head.weights),
        bias: head.bias.as_deref().map(floats),
    };
    let made = Made {
        classes,
        codewords,
        rows,
        is_centred: false,
    };
    finish(head, authority, made, kinds, &[])
}

fn check_codewords(codewords: u32) -> Result<()> {
    if (2..=MAX_CODEWORDS).contains(&codewords) {
        Ok(())
    } else {
        Err(Error::Usage(format!(
            "a class has 2 to {MAX_CODEWORDS} codewords"
        )))
    }
}

/// The new rows of a layer.
struct Made {
    classes: u32,
    codewords: u32,
    rows: Rows,
    is_centred: bool,
}

/// Makes the table of rows, and the record of those that are `traces`.
fn finish(
    head: &Head,
    authority: &Authority,
    Made {
        classes,
        codewords,
        rows,
        is_centred,
    }: Made,
    kinds: &[RowKind],
    traces: &[u32],
) -> Result<Plan> {
    let mut values = rows.weights.iter().chain(rows.bias.iter().flatten());
    if !values.all(|value| value.is_finite()) {
        return Err(no_numbers());
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
        is_centred,
    };
    let table = Table::build(authority, &about, classes, codewords, kinds)?;
    let kept = traces
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
        width: 0.0,
    })
}
