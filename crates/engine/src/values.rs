//! The inputs and outputs of models, as numbers.

use std::fmt;

use half::{bf16, f16};
use onnxseal_data::Values;
use ort::value::{DynValue, Tensor, TensorElementType as T, ValueType};

/// The element type of an input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element(T);

impl Element {
    pub const F32: Element = Element(T::Float32);

    pub fn is_whole(self) -> bool {
        use T::{Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
        matches!(
            self.0,
            Bool | Int8 | Int16 | Int32 | Int64 | Uint8 | Uint16 | Uint32 | Uint64
        )
    }

    /// Returns the least and the largest number that an input may have.
    pub fn range(self) -> (f64, f64) {
        match self.0 {
            T::Bool => (0.0, 1.0),
            T::Int8 => (-128.0, 127.0),
            T::Uint8 => (0.0, 255.0),
            T::Int16 => (-32768.0, 32767.0),
            T::Uint16 => (0.0, 65535.0),
            T::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            T::Uint32 => (0.0, f64::from(u32::MAX)),
            T::Uint64 => (0.0, 9.0e15),
            T::Int64 => (-9.0e15, 9.0e15),
            _ => (f64::MIN, f64::MAX),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The values for one input.
#[derive(Clone, Debug)]
pub struct Samples {
    pub name: String,
    pub element: Element,
    /// Shape of one sample, without the batch axis.
    pub dims: Vec<usize>,
    pub batch: Batch,
    /// All samples.
    pub values: Values,
}

impl Samples {
    /// Returns the first `n` samples as one table.
    pub fn table(&self, n: usize) -> Table {
        let width = self.dims.iter().product();
        let values = (0..n * width).map(|i| self.values.at(i) as f32);
        Table {
            dims: self.dims.clone(),
            width,
            values: values.collect(),
        }
    }
}

/// How many samples one run takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Any number.
    Any,
    /// Exactly this many.
    Just(usize),
    /// One, since the input has no batch axis.
    None,
}

impl Batch {
    /// Returns what an input takes whose batch axis has this length, negative for any.
    pub(crate) fn of(len: i64) -> Batch {
        match len {
            ..0 => Batch::Any,
            len => Batch::Just(len.max(1) as usize),
        }
    }

    /// Returns the number of samples, unless it may be any.
    pub fn n(self) -> Option<usize> {
        match self {
            Batch::Any => None,
            Batch::Just(n) => Some(n),
            Batch::None => Some(1),
        }
    }
}

/// An output of all samples.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Shape of one sample's output.
    pub dims: Vec<usize>,
    /// Numbers of one sample's output.
    pub width: usize,
    /// One row per sample.
    pub values: Vec<f32>,
}

impl Table {
    pub fn row(&self, row: usize) -> &[f32] {
        let start = row.saturating_mul(self.width);
        self.values.get(start..start + self.width).unwrap_or(&[])
    }

    /// Returns the outputs of some samples.
    pub fn picked(&self, rows: &[usize]) -> Table {
        let values = rows.iter().flat_map(|row| self.row(*row));
        Table {
            dims: self.dims.clone(),
            width: self.width,
            values: values.copied().collect(),
        }
    }

    pub fn n_rows(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }
}

/// Returns the element type and the shape of a tensor.
pub(crate) fn tensor_type(value: &ValueType) -> (Option<Element>, Vec<i64>) {
    match value {
        ValueType::Tensor { ty, shape, .. } => (Some(Element(*ty)), shape.to_vec()),
        _ => (None, Vec::new()),
    }
}

/// Makes the value of an input for the samples `rows`.
pub(crate) fn feed(input: &Samples, rows: &[usize]) -> ort::Result<DynValue> {
    let width: usize = input.dims.iter().product();
    let mut dims: Vec<i64> = input.dims.iter().map(|dim| *dim as i64).collect();
    if input.batch != Batch::None {
        dims.insert(0, rows.len() as i64);
    }
    let (values, element) = (&input.values, input.element);
    macro_rules! fed {
        ($cast:expr) => {{
            let cast = $cast;
            let (low, high) = element.range();
            let mut data = Vec::with_capacity(rows.len() * width);
            for row in rows {
                let of_row = row * width..(row + 1) * width;
                data.extend(of_row.map(|i| cast(values.at(i).clamp(low, high))));
            }
            Tensor::from_array((dims, data))?.into_dyn()
        }};
    }
    Ok(match element.0 {
        T::Float32 => fed!(|x: f64| x as f32),
        T::Float64 => fed!(|x: f64| x),
        T::Float16 => fed!(f16::from_f64),
        T::Bfloat16 => fed!(bf16::from_f64),
        T::Int8 => fed!(|x: f64| x.round() as i8),
        T::Uint8 => fed!(|x: f64| x.round() as u8),
        T::Int16 => fed!(|x: f64| x.round() as i16),
        T::Uint16 => fed!(|x: f64| x.round() as u16),
        T::Int32 => fed!(|x: f64| x.round() as i32),
        T::Uint32 => fed!(|x: f64| x.round() as u32),
        T::Int64 => fed!(|x: f64| x.round() as i64),
        T::Uint64 => fed!(|x: f64| x.round() as u64),
        T::Bool => fed!(|x: f64| x != 0.0),
        other => {
            return Err(ort::Error::new(format!(
                "input {:?} is of type {other}, which cannot be fed",
                input.name
            )));
        }
    })
}

/// Returns the shape and the numbers of a value, or `None` if it is not a tensor of numbers.
pub(crate) fn numbers(value: &DynValue) -> Option<(Vec<usize>, Vec<f32>)> {
    macro_rules! of {
        ($type:ty, $cast:expr) => {{
            let (shape, values) = value.try_extract_tensor::<$type>().ok()?;
            let dims = shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(0));
            (dims.collect(), values.iter().copied().map($cast).collect())
        }};
    }
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return None;
    };
    Some(match ty {
        T::Float32 => of!(f32, |x| x),
        T::Float64 => of!(f64, |x| x as f32),
        T::Float16 => of!(f16, f16::to_f32),
        T::Bfloat16 => of!(bf16, bf16::to_f32),
        T::Int8 => of!(i8, f32::from),
        T::Uint8 => of!(u8, f32::from),
        T::Int16 => of!(i16, f32::from),
        T::Uint16 => of!(u16, f32::from),
        T::Int32 => of!(i32, |x| x as f32),
        T::Uint32 => of!(u32, |x| x as f32),
        T::Int64 => of!(i64, |x| x as f32),
        T::Uint64 => of!(u64, |x| x as f32),
        T::Bool => of!(bool, |x| f32::from(u8::from(x))),
        _ => return None,
    })
}
