//! Checks that a rewritten model computes from keyed images what the original computes from plain
//! ones.

use half::f16;
use onnxseal_data::Values as Numbers;
use onnxseal_engine::{Agreement, Fed, Files as InMemory, Pair, pixels};
use onnxseal_rewrite::{DataType, Files};

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
    let plain = random(new, of, N * dims.iter().product::<usize>());
    let keyed = |key: &InputKey| -> Result<Values> {
        let is_float = matches!(of, ValueType::F16 | ValueType::F32);
        let scale = if is_float && key.spec().normalisation.is_some() {
            Scale::Normalised
        } else {
            Scale::Pixels
        };
        let mut keyed = Values::zeros(of, N * dims.iter().product::<usize>());
        let cipher = key.cipher(rows, columns)?;
        cipher.apply(plain.values(), keyed.values_mut(), scale)?;
        Ok(keyed)
    };
    let changed = numbers(&keyed(new)?);
    let original = match old {
        None => numbers(&plain),
        Some(old) => numbers(&keyed(old)?),
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
fn random(key: &InputKey, of: ValueType, n: usize) -> Values {
    let spec = key.spec();
    // The channel of a value hardly matters: any mean and deviation give numbers of the right size.
    let (mean, std) = spec.statistics().first().copied().unwrap_or((0.0, 1.0));
    let floats = || pixels(n, spec.range, 1).map(|x| (x - mean) / std);
    let whole = |low, high| pixels(n, (low, high), 1).map(f64::round);
    match of {
        ValueType::U8 => Values::U8(whole(0.0, 255.0).map(|x| x as u8).collect()),
        ValueType::U16 => Values::U16(whole(0.0, 65535.0).map(|x| x as u16).collect()),
        ValueType::I8 => Values::I8(whole(-128.0, 127.0).map(|x| x as i8).collect()),
        ValueType::F16 => Values::F16(floats().map(f16::from_f64).collect()),
        ValueType::F32 => Values::F32(floats().map(|x| x as f32).collect()),
    }
}

/// Converts the values to ONNX Runtime's.
fn numbers(values: &Values) -> Numbers {
    match values {
        Values::U8(values) => Numbers::I64(values.iter().copied().map(i64::from).collect()),
        Values::U16(values) => Numbers::I64(values.iter().copied().map(i64::from).collect()),
        Values::I8(values) => Numbers::I64(values.iter().copied().map(i64::from).collect()),
        Values::F16(values) => Numbers::F32(values.iter().copied().map(f16::to_f32).collect()),
        Values::F32(values) => Numbers::F32(values.clone()),
    }
}
