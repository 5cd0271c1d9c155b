//! Adds the mark of a customer to the weights of a model.

use half::{bf16, f16};
use onnxseal_crypto::labels::sha256;
use onnxseal_rewrite::{Changes, DataType, Edit, Elements, Files, Graph};
use onnxseal_store::Progress;
use serde::Serialize;

use crate::cores::on_all_cores;
use crate::error::{Error, Result};
use crate::numbers::{change, floats};
use crate::secret::{Secret, check_customer};
use crate::stream::{DEVIATION, Stream};
use crate::weights::{Strength, Weight, weights};

/// The deviation of a mark, as a share of that of the weights: of models with at least
/// [`MANY`] marked elements, and of smaller ones.
pub const STRENGTHS: [f64; 2] = [0.0035, 0.01];
pub const MANY: u64 = 100_000;

/// The strongest mark.
const MAX_STRENGTH: f64 = 0.2;

/// The copy of one customer.
#[derive(Debug)]
pub struct Marked {
    /// Ranges of the model's files and their replacements, for [`Files::write`] and [`Files::read`].
    pub edits: Vec<Edit>,
    pub report: Applied,
}

/// What was marked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Applied {
    pub customer: String,
    /// The deviation of the mark, as a share of that of the weights.
    pub strength: f64,
    /// Tensors and elements with a mark.
    pub tensors: usize,
    pub elements: u64,
    /// Elements that changed: a weak mark leaves many small integers as they are.
    pub changed: u64,
}

/// Marks a model for a customer. Without a strength it is one of [`STRENGTHS`].
///
/// # Errors
/// [`Error::Usage`] if no tensor can be marked, or the strength is not above 0 and at most 0.2.
pub fn apply(
    files: &Files,
    secret: &Secret,
    customer: &str,
    strength: Option<f64>,
    progress: &dyn Progress,
) -> Result<Marked> {
    check_customer(customer)?;
    files.with(|source| {
        let graph = Graph::new(*source);
        let weights = weights(&graph);
        let n_elements = weights.iter().map(|weight| weight.tensor.n_elements).sum();
        let strength = strength.unwrap_or_else(|| default_strength(n_elements));
        if !(strength > 0.0 && strength <= MAX_STRENGTH) {
            return Err(Error::Usage(format!(
                "the strength of a mark is above 0 and at most {MAX_STRENGTH}"
            )));
        }
        if weights.is_empty() {
            return Err(Error::Usage(
                "the model has no weights that can be marked: they are float32, float16, bfloat16 or quantised 8-bit tensors of two or more dimensions and at least 256 elements".into(),
            ));
        }
        progress.begin(n_elements);
        let marked = on_all_cores(&weights, |weight| {
            let mut elements = graph.load(weight.id)?;
            let key = secret.key(&sha256(elements.raw()), customer, &weight.tensor.path)?;
            let changed = mark(&mut elements, weight, &key, strength);
            progress.advance(weight.tensor.n_elements);
            match progress.is_cancelled() {
                true => Err(Error::Cancelled),
                false => Ok((elements, changed)),
            }
        })?;
        let mut changes = Changes::default();
        let mut changed = 0;
        for (weight, (elements, n)) in weights.iter().zip(marked) {
            changes.replace(&graph, weight.id, elements)?;
            changed += n;
        }
        Ok(Marked {
            edits: changes.edits(&graph)?,
            report: Applied {
                customer: customer.to_owned(),
                strength,
                tensors: weights.len(),
                elements: n_elements,
                changed,
            },
        })
    })
}

pub(crate) fn default_strength(n_elements: u64) -> f64 {
    STRENGTHS[usize::from(n_elements < MANY)]
}

/// Marks a tensor. Returns how many elements changed. Elements that are zero or not finite stay; a
/// quantised zero stays only in rows of zeros.
fn mark(elements: &mut Elements, weight: &Weight<'_>, key: &[u8; 32], strength: f64) -> u64 {
    let columns = weight.columns;
    let scales = Strength::new(&floats(elements), columns);
    let data_type = elements.data_type();
    let mut raw = std::mem::replace(elements, Elements::new(data_type, Vec::new())).into_raw();
    let (mut mark, mut dither) = (Stream::mark(key), Stream::dither(key));
    let (mut numbers, mut bits) = (vec![0.0; columns], vec![0; columns]);
    let width = raw.len() / (weight.rows * columns).max(1);
    let is_rounded = !matches!(data_type, DataType::Float | DataType::Float16);
    let by = (strength / DEVIATION) as f32;
    let mut changed = 0;
    for (row, raw) in raw.chunks_exact_mut((width * columns).max(1)).enumerate() {
        mark.numbers(&mut numbers);
        for (number, scale) in numbers.iter_mut().zip(scales.row(row)) {
            *number *= by * scale;
        }
        if is_rounded {
            dither.bits(&mut bits);
        }
        let keeps_zeros = scales.sparse.get(row) == Some(&true);
        let (numbers, bits, n) = (&numbers, &bits, &mut changed);
        let mut count = |is_changed: bool| *n += u64::from(is_changed);
        match data_type {
            DataType::Float => change(raw, |i, bytes| {
                let value = f32::from_le_bytes(bytes);
                let new = add(value, numbers[i])?.to_le_bytes();
                count(new != bytes);
                Some(new)
            }),
            DataType::Float16 => change(raw, |i, bytes| {
                let new = f16::from_f32(add(f16::from_le_bytes(bytes).to_f32(), numbers[i])?);
                let new = new.is_finite().then_some(new)?.to_le_bytes();
                count(new != bytes);
                Some(new)
            }),
            DataType::Bfloat16 => change(raw, |i, bytes| {
                let value = add(bf16::from_le_bytes(bytes).to_f32(), numbers[i])?;
                let new =
                    bf16::from_bits((value.to_bits().wrapping_add(bits[i].into()) >> 16) as u16);
                let new = new.is_finite().then_some(new)?.to_le_bytes();
                count(new != bytes);
                Some(new)
            }),
            of => change(raw, |i, [byte]| {
                let (value, low, high) = match of {
                    DataType::Int8 => (f32::from(byte as i8), -128.0, 127.0),
                    _ => (f32::from(byte), 0.0, 255.0),
                };
                if value == 0.0 && keeps_zeros {
                    return None;
                }
                let dither = f32::from(bits[i]) / 65536.0;
                let new = (value + numbers[i] + dither).floor().clamp(low, high);
                let new = [(new as i16) as u8];
                count(new != [byte]);
                Some(new)
            }),
        }
    }
    *elements = Elements::new(data_type, raw);
    changed
}

fn add(value: f32, number: f32) -> Option<f32> {
    let new = value + number;
    (value != 0.0 && value.is_finite() && new.is_finite()).then_some(new)
}
