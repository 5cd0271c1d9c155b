//! Adds the mark of a customer to the weights of a model, as they are read.

use std::sync::Arc;

use half::{bf16, f16};
use onnxseal_onnx::model::Span;
use onnxseal_rewrite::{DataType, Files, Graph, width};
use onnxseal_store::{Change, Changed, Location, Progress, Result as StoreResult, parallel};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::secret::{Secret, check_customer};
use crate::stream::{DEVIATION, DITHER, MARK, Stream};
use crate::weights::{Strength, weights};

/// The deviation of a mark, as a share of that of the weights: of models with at least
/// [`MANY`] marked elements, and of smaller ones.
const STRENGTHS: [f64; 2] = [0.0035, 0.01];
const MANY: u64 = 100_000;

/// The strongest mark.
const MAX_STRENGTH: f64 = 0.2;

/// The copy of one customer.
#[derive(Debug)]
pub struct Marked {
    /// The marked model, which is made as it is read. It has the names and lengths of the original's
    /// files.
    pub model: Location,
    pub report: Applied,
}

/// The report of a mark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Applied {
    pub customer: String,
    /// The deviation of the mark, as a share of that of the weights.
    pub strength: f64,
    /// Tensors and elements with a mark.
    pub tensors: usize,
    pub elements: u64,
}

/// Marks a model for a customer. Without a strength the mark has a deviation of 0.35 % of that of
/// the weights, or of 1 % if they are fewer than 100,000. Progress counts elements.
///
/// # Errors
/// [`Error::Usage`] if no tensor can be marked, or the strength is not above 0 and at most 0.2.
pub fn apply(
    model: &Location,
    secret: &Secret,
    customer: &str,
    strength: Option<f64>,
    progress: &dyn Progress,
) -> Result<Marked> {
    check_customer(customer)?;
    let (mark, report) = Files::open(model)?.with(|source| {
        let graph = Graph::new(*source);
        let (weights, elements) = weights(&graph, "the model")?;
        let strength = strength.unwrap_or_else(|| default_strength(elements));
        if !(strength > 0.0 && strength <= MAX_STRENGTH) {
            return Err(Error::Usage(format!(
                "the strength of a mark is above 0 and at most {MAX_STRENGTH}"
            )));
        }
        progress.begin(elements);
        let tensors = parallel::map(weights.len(), |i| {
            let weight = &weights[i];
            let (_, digest, strengths) = weight.read(&graph)?;
            progress.advance(weight.tensor.n_elements);
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            Ok(Tensor {
                file: graph.model().location(weight.file).map(str::to_owned),
                span: weight.span,
                data_type: weight.tensor.data_type,
                width: width(weight.tensor.data_type).unwrap_or(1),
                columns: weight.columns,
                key: secret.0.key(&digest, customer, &weight.tensor.path)?,
                strengths,
                by: (strength / DEVIATION) as f32,
            })
        })?;
        let report = Applied {
            customer: customer.to_owned(),
            strength,
            tensors: weights.len(),
            elements,
        };
        Ok((Mark(tensors), report))
    })?;
    let (of, by) = (Box::new(model.clone()), Arc::new(mark));
    Ok(Marked {
        model: Location::Changed(Changed { of, by }),
        report,
    })
}

pub(crate) fn default_strength(n_elements: u64) -> f64 {
    STRENGTHS[usize::from(n_elements < MANY)]
}

/// The tensors with marks.
struct Mark(Vec<Tensor>);

struct Tensor {
    /// The name of external data.
    file: Option<String>,
    span: Span,
    data_type: DataType,
    /// Bytes of an element.
    width: usize,
    columns: usize,
    key: Zeroizing<[u8; 32]>,
    strengths: Strength,
    by: f32,
}

impl Change for Mark {
    fn change(
        &self,
        external: Option<&str>,
        buffer: &mut [u8],
        offset: u64,
        read: &dyn Fn(&mut [u8], u64) -> StoreResult<()>,
    ) -> StoreResult<()> {
        let end = offset + buffer.len() as u64;
        let here = |of: &&Tensor| of.span.start < end && of.span.end() > offset;
        let of_file = self.0.iter().filter(|of| of.file.as_deref() == external);
        for tensor in of_file.filter(here) {
            let (from, to) = (offset.max(tensor.span.start), end.min(tensor.span.end()));
            let part = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            tensor.change(part, from - tensor.span.start, read)?;
        }
        Ok(())
    }
}

impl Tensor {
    /// Marks bytes of the tensor, from `at` on, which may begin and end within an element.
    fn change(
        &self,
        part: &mut [u8],
        at: u64,
        read: &dyn Fn(&mut [u8], u64) -> StoreResult<()>,
    ) -> StoreResult<()> {
        let width = self.width as u64;
        let (first, within) = (at / width, (at % width) as usize);
        let mut whole = vec![0; (within + part.len()).next_multiple_of(self.width)];
        let end = within + part.len();
        if within > 0 {
            read(&mut whole[..self.width], self.span.start + first * width)?;
        }
        if end < whole.len() {
            let last = whole.len() - self.width;
            let from = self.span.start + first * width + last as u64;
            read(&mut whole[last..], from)?;
        }
        whole[within..end].copy_from_slice(part);
        self.mark(&mut whole, first as usize);
        part.copy_from_slice(&whole[within..end]);
        Ok(())
    }

    /// Marks elements, of which the first is given. Those that are zero or not finite stay; a
    /// quantised zero stays only in rows of zeros.
    fn mark(&self, mut raw: &mut [u8], mut element: usize) {
        let mut mark = Stream::new(&self.key, MARK, element);
        let mut dither = Stream::new(&self.key, DITHER, element);
        let is_rounded = !matches!(self.data_type, DataType::Float | DataType::Float16);
        let (mut numbers, mut bits) = (Vec::new(), Vec::new());
        while !raw.is_empty() {
            let (row, column) = (element / self.columns, element % self.columns);
            let n = (self.columns - column).min(raw.len() / self.width);
            let (part, rest) = raw.split_at_mut(n * self.width);
            numbers.resize(n, 0.0);
            mark.numbers(&mut numbers);
            for (number, strength) in numbers.iter_mut().zip(self.strengths.row(row, column)) {
                *number *= self.by * strength;
            }
            bits.resize(n, 0);
            if is_rounded {
                dither.bits(&mut bits);
            }
            let keeps_zeros = self.strengths.sparse.get(row) == Some(&true);
            self.add(part, &numbers, &bits, keeps_zeros);
            (raw, element) = (rest, element + n);
        }
    }

    fn add(&self, raw: &mut [u8], numbers: &[f32], bits: &[u16], keeps_zeros: bool) {
        match self.data_type {
            DataType::Float => each(raw, numbers, bits, |bytes, number, _| {
                add(f32::from_le_bytes(bytes), number).map(f32::to_le_bytes)
            }),
            DataType::Float16 => each(raw, numbers, bits, |bytes, number, _| {
                let new = f16::from_f32(add(f16::from_le_bytes(bytes).to_f32(), number)?);
                new.is_finite().then(|| new.to_le_bytes())
            }),
            DataType::Bfloat16 => each(raw, numbers, bits, |bytes, number, bits| {
                let new = add(bf16::from_le_bytes(bytes).to_f32(), number)?;
                let new = new.to_bits().wrapping_add(bits.into()) >> 16;
                let new = bf16::from_bits(new as u16);
                new.is_finite().then(|| new.to_le_bytes())
            }),
            of => each(raw, numbers, bits, |[byte], number, bits| {
                let (value, low, high) = match of {
                    DataType::Int8 => (f32::from(byte as i8), -128.0, 127.0),
                    _ => (f32::from(byte), 0.0, 255.0),
                };
                if value == 0.0 && keeps_zeros {
                    return None;
                }
                let dither = f32::from(bits) / 65536.0;
                let new = (value + number + dither).floor().clamp(low, high);
                Some([new as i16 as u8])
            }),
        }
    }
}

fn add(value: f32, number: f32) -> Option<f32> {
    let new = value + number;
    (value != 0.0 && value.is_finite() && new.is_finite()).then_some(new)
}

/// Replaces each element by what `change` makes of it, its number and its bits; `None` keeps it.
fn each<const N: usize>(
    raw: &mut [u8],
    numbers: &[f32],
    bits: &[u16],
    change: impl Fn([u8; N], f32, u16) -> Option<[u8; N]>,
) {
    let places = raw.as_chunks_mut::<N>().0.iter_mut();
    for ((place, number), bits) in places.zip(numbers).zip(bits) {
        if let Some(changed) = change(*place, *number, *bits) {
            *place = changed;
        }
    }
}
