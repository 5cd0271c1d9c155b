//! Whether a rewritten model computes from keyed images what the original computes from plain ones.

use anyhow::Result;
use half::f16;
use onnxseal_data::Values;
use onnxseal_engine::{Agreement, Fed, Files as InMemory, Pair, pixels};
use onnxseal_inputs::rewrite::Entry;
use onnxseal_inputs::{Images, ImagesMut, InputKey, Layout, Scale, ValueType};

use crate::exit::Usage;

/// Images of a run.
const N: usize = 8;

/// Rows and columns where a model takes any.
const ANY_SIDE: u64 = 224;

/// Runs both models on random images, those of the changed one made with `new`, and those of the original with `old`
/// if it takes keyed images too.
pub fn run(
    (original, changed): (&InMemory, &InMemory),
    input: &str,
    entry: &Entry,
    (old, new): (Option<&InputKey>, &InputKey),
) -> Result<Agreement> {
    let mut pair = Pair::new(original, changed)?;
    let block = u64::from(new.spec().block);
    let side = |side: Option<u64>| side.unwrap_or(ANY_SIDE.next_multiple_of(block)) as usize;
    let (rows, columns) = (side(entry.size.0), side(entry.size.1));
    let channels = entry.channels as usize;
    let dims = match entry.layout {
        Layout::Nchw => vec![channels, rows, columns],
        Layout::Nhwc => vec![rows, columns, channels],
    };
    let n_values = N * dims.iter().product::<usize>();
    let of = value_type(entry).ok_or_else(|| {
        Usage(format!(
            "the input takes values of type {:?}, which cannot be fed keyed images",
            entry.data_type
        ))
    })?;
    let values = Fill::random(new, of, n_values);
    let cipher = new.cipher(rows, columns)?;
    let changed = values.keyed(&cipher, new)?;
    let original = match old {
        None => values,
        Some(old) => values.keyed(&old.cipher(rows, columns)?, old)?,
    };
    let fed = Fed {
        input: input.to_owned(),
        dims,
        original: original.into_values(),
        changed: changed.into_values(),
    };
    Ok(pair.compare(&fed, N, 0)?)
}

/// How far outputs may differ, and why so far.
pub fn limit(entry: &Entry, own: f64) -> (f64, &'static str) {
    use onnxseal_inputs::rewrite::DataType;
    match entry.data_type {
        // A sum that is taken in another order may fall on the other side of a rounding step behind it.
        _ if entry.is_integer => (0.05, "a step of quantised layers"),
        DataType::Float16 => (5e-3_f64.max(4.0 * own), "rounding to 16 bits"),
        _ => (2e-6_f64.max(4.0 * own), "rounding"),
    }
}

fn value_type(entry: &Entry) -> Option<ValueType> {
    use onnxseal_inputs::rewrite::DataType;
    Some(match entry.data_type {
        DataType::Float => ValueType::F32,
        DataType::Float16 => ValueType::F16,
        DataType::Uint8 => ValueType::U8,
        DataType::Int8 => ValueType::I8,
        DataType::Uint16 => ValueType::U16,
        _ => return None,
    })
}

/// Random images of a type.
enum Fill {
    U8(Vec<u8>),
    U16(Vec<u16>),
    I8(Vec<i8>),
    F16(Vec<f16>),
    F32(Vec<f32>),
}

impl Fill {
    fn random(key: &InputKey, of: ValueType, n: usize) -> Fill {
        let spec = key.spec();
        let statistics = spec.statistics();
        // Which channel a value has matters little: any mean and deviation give numbers of the right size.
        let (mean, std) = statistics.first().copied().unwrap_or((0.0, 1.0));
        let floats = || {
            let values = pixels(n, spec.range, 1);
            let normalised = values.map(move |x| (x - mean) / std);
            normalised.collect::<Vec<f64>>()
        };
        match of {
            ValueType::U8 => Fill::U8(
                pixels(n, (0.0, 255.0), 1)
                    .map(|x| x.round() as u8)
                    .collect(),
            ),
            ValueType::U16 => Fill::U16(
                pixels(n, (0.0, 65535.0), 1)
                    .map(|x| x.round() as u16)
                    .collect(),
            ),
            ValueType::I8 => Fill::I8(
                pixels(n, (-128.0, 127.0), 1)
                    .map(|x| x.round() as i8)
                    .collect(),
            ),
            ValueType::F16 => Fill::F16(floats().into_iter().map(f16::from_f64).collect()),
            ValueType::F32 => Fill::F32(floats().into_iter().map(|x| x as f32).collect()),
        }
    }

    fn keyed(&self, cipher: &onnxseal_inputs::Cipher, key: &InputKey) -> Result<Fill> {
        let is_float = matches!(self, Fill::F16(_) | Fill::F32(_));
        let scale = match is_float && key.spec().normalisation.is_some() {
            true => Scale::Normalised,
            false => Scale::Pixels,
        };
        macro_rules! keyed {
            ($variant:ident, $values:expr, $zero:expr) => {{
                let mut keyed = vec![$zero; $values.len()];
                cipher.apply(
                    Images::$variant($values),
                    ImagesMut::$variant(&mut keyed),
                    scale,
                )?;
                Fill::$variant(keyed)
            }};
        }
        Ok(match self {
            Fill::U8(values) => keyed!(U8, values, 0),
            Fill::U16(values) => keyed!(U16, values, 0),
            Fill::I8(values) => keyed!(I8, values, 0),
            Fill::F16(values) => keyed!(F16, values, f16::ZERO),
            Fill::F32(values) => keyed!(F32, values, 0.0),
        })
    }

    fn into_values(self) -> Values {
        match self {
            Fill::U8(values) => Values::I64(values.into_iter().map(i64::from).collect()),
            Fill::U16(values) => Values::I64(values.into_iter().map(i64::from).collect()),
            Fill::I8(values) => Values::I64(values.into_iter().map(i64::from).collect()),
            Fill::F16(values) => Values::F32(values.into_iter().map(f16::to_f32).collect()),
            Fill::F32(values) => Values::F32(values),
        }
    }
}
