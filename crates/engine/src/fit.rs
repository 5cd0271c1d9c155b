//! Fits data sets to the inputs of a model.

use onnxseal_data::random::{gaussian, rng};
use onnxseal_data::{Array, DataOptions, DataSet, Layout, Values};
use rand::RngExt;

use crate::error::{Error, Result};
use crate::net::InputSpec;
use crate::values::{Batch, Samples};

/// The length of a random sample along an axis of any length.
const ANY_LENGTH: usize = 16;

/// Assigns the arrays of a data set to the inputs of a model by name. A single array without a name
/// goes to a single input.
pub fn fit(data: &DataSet, inputs: &[InputSpec], options: &DataOptions) -> Result<Vec<Samples>> {
    let is_whole = takes_whole_samples(inputs);
    let given = || {
        let name = |array: &Array| match &array.name {
            Some(name) => format!("{name:?}"),
            None => "one array without a name".to_owned(),
        };
        data.arrays.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    let of_input = |input: &InputSpec| {
        let mut arrays = data.arrays.iter();
        let array = match (inputs, &data.arrays[..]) {
            ([_], [array]) if array.name.is_none() => Some(array),
            _ => arrays.find(|array| array.name.as_deref() == Some(&input.name)),
        };
        let array = array.ok_or_else(|| Error::MissingInput {
            input: input.name.clone(),
            given: given(),
        })?;
        fit_one(array, input, is_whole, options)
    };
    inputs.iter().map(of_input).collect()
}

/// Returns whether a sample fills the inputs wholly, because their first axes do not count samples,
/// as in the states of a recurrent model.
fn takes_whole_samples(inputs: &[InputSpec]) -> bool {
    let first = inputs.iter();
    let first = first.map(|input| input.dims.first().copied().unwrap_or(1));
    let mut fixed: Vec<i64> = first.filter(|n| *n >= 0).collect();
    fixed.sort_unstable();
    fixed.dedup();
    fixed.len() > 1
}

fn fit_one(
    array: &Array,
    input: &InputSpec,
    is_whole: bool,
    options: &DataOptions,
) -> Result<Samples> {
    let array = arranged(array, input, options);
    let refused = || Error::Fit {
        input: input.name.clone(),
        wanted: input.to_string(),
        given: format!(
            "{} {:?}",
            match array.values {
                Values::F32(_) => "f32",
                Values::F64(_) => "f64",
                Values::I64(_) => "whole numbers",
            },
            array.dims
        ),
    };
    let (low, high) = input.element.range();
    let fits = |value: f64| value.fract() == 0.0 && (low..=high).contains(&value);
    let mut indices = 0..array.values.len();
    if input.element.is_whole() && !indices.all(|i| fits(array.values.at(i))) {
        return Err(refused());
    }
    let n_elements: usize = array.dims.iter().product();
    let shaped = |wanted: &[i64], batch| Some((batch, shaped(&array.dims, n_elements, wanted)?));
    let whole = || shaped(&input.dims, Batch::None);
    // Either the first axis is the batch axis, or one sample fills the input.
    let found = match input.dims.split_first() {
        Some((n, rest)) if !is_whole => shaped(rest, Batch::of(*n)).or_else(whole),
        _ => whole(),
    };
    let (batch, dims) = found.ok_or_else(refused)?;
    Ok(Samples {
        name: input.name.clone(),
        element: input.element,
        dims,
        batch,
        values: array.values,
    })
}

/// Returns the shape of a sample for the input: its own if that agrees; or the input's, if the
/// sample's elements fill it with at most one unknown length.
fn shaped(dims: &[usize], n_elements: usize, wanted: &[i64]) -> Option<Vec<usize>> {
    let agrees = |(dim, wanted): (&usize, &i64)| *wanted < 0 || *wanted == *dim as i64;
    if dims.len() == wanted.len() && dims.iter().zip(wanted).all(agrees) {
        return Some(dims.to_vec());
    }
    let mut known = wanted.iter().filter(|dim| **dim >= 0);
    let known = known.try_fold(1_usize, |product, dim| product.checked_mul(*dim as usize))?;
    let open = wanted.iter().filter(|dim| **dim < 0).count();
    let fits = match open {
        0 => known == n_elements,
        1 => known > 0 && n_elements.is_multiple_of(known),
        _ => false,
    };
    let length = |dim: &i64| {
        if *dim < 0 {
            n_elements / known.max(1)
        } else {
            *dim as usize
        }
    };
    fits.then(|| wanted.iter().map(length).collect())
}

/// Arranges the axes of images in the input's order.
fn arranged(array: &Array, input: &InputSpec, options: &DataOptions) -> Array {
    let (Some(has), [a, b, c]) = (array.layout, &array.dims[..]) else {
        return array.clone();
    };
    let (rows, columns, channels) = match has {
        Layout::Nchw => (*b, *c, *a),
        Layout::Nhwc => (*a, *b, *c),
    };
    let wanted = options.layout.unwrap_or(match input.dims[..] {
        [_, _, _, last] if last == channels as i64 && input.dims[1] != channels as i64 => {
            Layout::Nhwc
        }
        [_, first, ..] if first == channels as i64 => Layout::Nchw,
        _ => has,
    });
    // Formats other than folders have channels in the order red, green, blue.
    let mut array = array.clone();
    if options.bgr && has == Layout::Nchw && channels == 3 {
        array.values = moved(&array.values, rows * columns * channels, |i| {
            let (channel, place) = (i / (rows * columns), i % (rows * columns));
            (2 - channel) * rows * columns + place
        });
    }
    let n = rows * columns;
    let (dims, inner, outer) = match wanted {
        Layout::Nchw => (vec![channels, rows, columns], n, channels),
        Layout::Nhwc => (vec![rows, columns, channels], channels, n),
    };
    if wanted != has && channels != 1 {
        let from = |i: usize| (i % inner) * outer + i / inner;
        array.values = moved(&array.values, n * channels, from);
    }
    (array.dims, array.layout) = (dims, Some(wanted));
    array
}

/// Reorders the elements of each sample.
fn moved(values: &Values, width: usize, from: impl Fn(usize) -> usize) -> Values {
    let at = |i: usize| i / width.max(1) * width + from(i % width.max(1));
    match values {
        Values::F32(values) => Values::F32((0..values.len()).map(|i| values[at(i)]).collect()),
        Values::F64(values) => Values::F64((0..values.len()).map(|i| values[at(i)]).collect()),
        Values::I64(values) => Values::I64((0..values.len()).map(|i| values[at(i)]).collect()),
    }
}

/// Draws random numbers for a model's inputs: normal ones, or 0 and 1 for whole numbers.
pub fn random(inputs: &[InputSpec], n: usize, seed: u64) -> Vec<Samples> {
    let is_whole = takes_whole_samples(inputs);
    let of_input = |input: &InputSpec| {
        let mut random = rng(seed, &input.name);
        // A whole sample has length 1 along axes of any length.
        let any_length = if is_whole { 1 } else { ANY_LENGTH };
        let (batch, dims) = match input.dims.split_first() {
            None => (Batch::None, &[][..]),
            Some(_) if is_whole => (Batch::None, &input.dims[..]),
            Some((n, rest)) => (Batch::of(*n), rest),
        };
        let long = |dim: &i64| usize::try_from(*dim).unwrap_or(any_length);
        let dims: Vec<usize> = dims.iter().map(long).collect();
        let elements = 0..n * dims.iter().product::<usize>();
        let values = if input.element.is_whole() {
            let bit = |_| i64::from(random.random::<bool>());
            Values::I64(elements.map(bit).collect())
        } else {
            Values::F32(elements.map(|_| gaussian(&mut random)).collect())
        };
        Samples {
            name: input.name.clone(),
            element: input.element,
            dims,
            batch,
            values,
        }
    };
    inputs.iter().map(of_input).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_agree_or_are_filled() {
        assert_eq!(shaped(&[1, 8, 8], 64, &[1, 8, 8]), Some(vec![1, 8, 8]));
        assert_eq!(shaped(&[64], 64, &[1, 8, 8]), Some(vec![1, 8, 8]));
        assert_eq!(shaped(&[64], 64, &[-1, 8]), Some(vec![8, 8]));
        assert_eq!(shaped(&[9, 3], 27, &[-1, 3]), Some(vec![9, 3]));
        assert_eq!(shaped(&[64], 64, &[-1, -1]), None);
        assert_eq!(shaped(&[64], 64, &[8, 9]), None);
    }

    #[test]
    fn elements_move_between_layouts() {
        let values = Values::I64(vec![1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16]);
        // Two samples of two pixels with three channels, from channels first to channels last.
        let last = moved(&values, 6, |i| (i % 3) * 2 + i / 3);
        assert_eq!(
            last,
            Values::I64(vec![1, 3, 5, 2, 4, 6, 11, 13, 15, 12, 14, 16])
        );
        assert_eq!(moved(&last, 6, |i| (i % 2) * 3 + i / 2), values);
    }
}
