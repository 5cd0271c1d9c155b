//! Protects one classifier: makes its rows, its table, and the authority's record.

use base16ct::lower::encode_string;

use crate::authority::{Authority, Protected, TraceRow, random_seed};
use crate::draw::{shuffle, stream};
use crate::error::{Error, Result};
use crate::group::is_weight;
use crate::head::{Head, Rows, Stored};
use crate::shares::{NewRow, draw_weights, split};
use crate::table::{Description, MAX_CODEWORDS, MAX_ROWS, RowKind, Table};
use crate::traces::Trace;

pub const DEFAULT_CODEWORDS: u32 = 8;

/// The stream of the order of rows; the classes have those from 0 on.
const ORDER: u64 = u64::MAX;

/// The replacement of a layer.
#[derive(Debug)]
pub struct Plan {
    pub stored: Stored,
    pub table: Table,
    /// The authority's record, without the inputs of traces, which the caller adds.
    pub protected: Protected,
}

/// Splits a layer's classes into shares, adds trace rows, shuffles all, and makes the table.
pub fn protect(
    head: &Head,
    authority: &Authority,
    codewords: u32,
    traces: &[Trace],
) -> Result<Plan> {
    check_codewords(codewords)?;
    // Traces have a bias, and so all rows.
    let has_bias = head.bias.is_some() || !traces.is_empty();
    let columns = head.columns + usize::from(has_bias);
    let mut matrix = Vec::with_capacity(head.classes * columns);
    for (class, row) in head.weights.chunks_exact(head.columns.max(1)).enumerate() {
        let bias = head.bias.as_ref().and_then(|bias| bias.get(class));
        matrix.extend_from_slice(row);
        matrix.extend(has_bias.then_some(bias.unwrap_or(&0.0)));
    }
    let seed = random_seed()?;
    let mut all = split(&matrix, columns, codewords as usize, &seed)?;
    drop(matrix);
    let n_shares = all.len();
    for trace in traces {
        if trace.weights.len() != head.columns {
            return Err(Error::Usage("a trace is for another layer".into()));
        }
        let row = trace.weights.iter().chain([&trace.bias]);
        all.push((RowKind::Trace, row.map(|value| *value as f32).collect()));
    }
    let mut all: Vec<(usize, NewRow)> = all.into_iter().enumerate().collect();
    shuffle(&mut all, &mut stream(&seed, ORDER));
    let kinds: Vec<RowKind> = all.iter().map(|(_, (kind, _))| *kind).collect();
    let places = all.iter().map(|(n, _)| *n).zip(0u32..);
    let mut of_traces: Vec<(usize, u32)> = places.filter(|(n, _)| *n >= n_shares).collect();
    of_traces.sort_unstable();
    let mut rows = Rows {
        weights: Vec::with_capacity(all.len() * head.columns),
        bias: has_bias.then(Vec::new),
    };
    for (_, (_, row)) in all {
        rows.weights.extend(row.iter().take(head.columns));
        if let Some(bias) = &mut rows.bias {
            bias.extend(row.iter().skip(head.columns));
        }
    }
    let mut plan = finish(head, authority, head.classes as u32, &rows, &kinds)?;
    let record = |(_, place): &(usize, u32)| Some(TraceRow::new(*place, &plan.table.row(*place)?));
    plan.protected.traces = of_traces.iter().filter_map(record).collect();
    Ok(plan)
}

/// Draws random rows for a model to be trained to answer with shares: `codewords` of each class, in
/// random order.
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
        let weights = draw_weights(codewords as usize, &mut rng).into_iter();
        rows.extend(weights.map(|weight| RowKind::Share { class, weight }));
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
    let mut n_rows = vec![0; classes as usize];
    for kind in kinds {
        if let RowKind::Share { class, weight } = kind
            && let Some(n) = n_rows.get_mut(*class as usize)
        {
            if !is_weight(*weight) {
                return usage("the targets have other weights than those that were drawn".into());
            }
            *n += 1;
        }
    }
    if n_rows.iter().any(|n| *n != kinds.len() / n_rows.len()) {
        return usage("the targets have not the same number of rows for each class".into());
    }
    let floats = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
    let rows = Rows {
        weights: floats(&head.weights),
        bias: head.bias.as_deref().map(floats),
    };
    finish(head, authority, classes, &rows, kinds)
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

/// Makes the table of rows, of which the authority notes no traces yet.
fn finish(
    head: &Head,
    authority: &Authority,
    classes: u32,
    rows: &Rows,
    kinds: &[RowKind],
) -> Result<Plan> {
    let mut values = rows.weights.iter().chain(rows.bias.iter().flatten());
    if !values.all(|value| value.is_finite()) {
        let text = "the layer has weights that are no numbers, or too large for floats";
        return Err(Error::Usage(text.into()));
    }
    let n_shares = kinds.iter().filter(|kind| **kind != RowKind::Trace).count();
    let codewords = n_shares as u32 / classes.max(1);
    check_codewords(codewords)?;
    let stored = head.stored(rows);
    let about = Description {
        answers: &head.answers,
        logits: &head.logits,
        axis: head.axis,
        outputs: &head.outputs,
        tail: &head.tail,
        stored: &stored,
    };
    let table = Table::build(authority, &about, classes, codewords, kinds)?;
    let protected = Protected {
        digest: encode_string(table.digest()),
        file: String::new(),
        classes,
        codewords,
        traces: Vec::new(),
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
