//! Checks that a rewritten model computes from keyed images what the original computes from plain
//! ones.

use onnxseal_data::Values as Numbers;
use onnxseal_engine::{Agreement, Fed, Files as InMemory, Pair, pixels};
use onnxseal_rewrite::{DataType, Files, bounds};

use crate::apply::{Scale, ValueType};
use crate::error::{Error, Result};
use crate::key::{InputKey, Layout};
use crate::rewrite::report::{Entry, inspect};
use crate::rewrite::work::Rewritten;
use crate::values::Values;

/// Images per run.
const N: usize = 8;

/// Rows and columns if a model takes any number.
const ANY_SIDE: u64 = 224;

/// Runs the original and the rewritten model on random images on ONNX Runtime. The rewritten
/// one gets images made with `new`; the original gets images made with `old` if it takes keyed
/// images too.
///
/// # Errors
/// [`Error::Differs`] if outputs differ by more than rounding; [`Error::Engine`] if a model
/// does not run.
pub fn check(
    files: &Files,
    rewritten: &Rewritten,
    (old, new): (Option<&InputKey>, &InputKey),
) -> Result<Agreement> {
    let entry = entry(files, &rewritten.input)?;
    let memory = |edits: &[_]| -> Result<InMemory> {
        let (model, external) = files.read(edits)?;
        Ok(InMemory::new(&model, external))
    };
    let (original, changed) = (memory(&[])?, memory(&rewritten.edits)?);
    let mut pair = Pair::new(&original, &changed)?;
    let fed = fed(&rewritten.input, &entry, (old, new))?;
    let agreement = pair.compare(&fed, N, 0)?;
    let (limit, why) = limit(&entry, agreement.own);
    if agreement.changed.is_nan() || agreement.changed > limit {
        return Err(Error::Differs {
            output: agreement.output,
            difference: agreement.changed,
            limit,
            why,
        });
    }
    Ok(agreement)
}

/// Returns how the model takes images at this input.
fn entry(files: &Files, input: &str) -> Result<Entry> {
    let found = files.with(inspect)?;
    let found = found.into_iter().find(|of| of.input == input);
    let missing = || Error::Usage(format!("input {input:?} takes no images"));
    let found = found.ok_or_else(missing)?.found;
    found.map_err(|refusal| Error::Usage(refusal.to_string()))
}

/// Makes random images for both models.
fn fed(input: &str, entry: &Entry, (old, new): (Option<&InputKey>, &InputKey)) -> Result<Fed> {
    let block = u64::from(new.spec().block);
    let side = |side: Option<u64>| side.unwrap_or(ANY_SIDE.next_multiple_of(block)) as usize;
    let (rows, columns) = (side(entry.size.0), side(entry.size.1));
    let channels = entry.channels as usize;
    let dims = match entry.layout {
        Layout::Nchw => vec![channels, rows, columns],
        Layout::Nhwc => vec![rows, columns, channels],
    };
    let of = value_type(entry.data_type).ok_or_else(|| {
        Error::Usage(format!(
            "the input takes values of type {:?}, which cannot be fed keyed images",
            entry.data_type
        ))
    })?;
    let n = N * dims.iter().product::<usize>();
    let plain = random(new, entry.data_type, of, n);
    let keyed = |key: &InputKey| -> Result<Numbers> {
        let scale = match of.is_float() && key.spec().normalisation.is_some() {
            true => Scale::Normalised,
            false => Scale::Pixels,
        };
        let mut keyed = Values::zeros(of, n);
        let cipher = key.cipher(rows, columns)?;
        cipher.apply(plain.values(), keyed.values_mut(), scale)?;
        Ok(Numbers::F64(keyed.to_numbers()))
    };
    let changed = keyed(new)?;
    let original = match old {
        None => Numbers::F64(plain.to_numbers()),
        Some(old) => keyed(old)?,
    };
    Ok(Fed {
        input: input.to_owned(),
        dims,
        original,
        changed,
    })
}

/// Returns how far outputs may differ, and the reason.
fn limit(entry: &Entry, own: f64) -> (f64, &'static str) {
    match entry.data_type {
        DataType::Float16 => (5e-3_f64.max(4.0 * own), "rounding to 16 bits"),
        _ => (2e-6_f64.max(4.0 * own), "rounding"),
    }
}

fn value_type(of: DataType) -> Option<ValueType> {
    Some(match of {
        DataType::Float => ValueType::F32,
        DataType::Float16 => ValueType::F16,
        DataType::Uint8 => ValueType::U8,
        DataType::Int8 => ValueType::I8,
        DataType::Uint16 => ValueType::U16,
        _ => return None,
    })
}

/// Draws random pixels of a type; floats within the key's range.
fn random(key: &InputKey, data_type: DataType, of: ValueType, n: usize) -> Values {
    let spec = key.spec();
    // The channel of a value hardly matters: any mean and deviation give numbers of the right size.
    let (mean, std) = spec.statistics().first().copied().unwrap_or((0.0, 1.0));
    let range = bounds(data_type).map_or(spec.range, |(low, high)| (low as f64, high as f64));
    let value = |x: f64| match of.is_float() {
        true => (x - mean) / std,
        false => x.round(),
    };
    Values::of_numbers(of, pixels(n, range, 1).map(value))
}
