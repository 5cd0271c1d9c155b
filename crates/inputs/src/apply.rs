//! Applies keys to arrays of images.
//!
//! A [`Cipher`] is made once for a size of images, and has the source of each value. Where values are
//! masked, it copies an image to a buffer, followed by its masked values, and looks up the result there.

mod cipher;
mod ffx;
mod places;
mod real;
mod value;

pub use cipher::Cipher;
pub(crate) use places::{Direction, blockwise};
pub(crate) use value::Value;
pub use value::{Images, ImagesMut, ValueType};

use std::borrow::Cow;
use std::sync::{Arc, PoisonError};

use ffx::Ffx;

use crate::error::{Error, Result};
use crate::key::{BlockMap, InputKey, Layout, Spec, Transform};

/// The meaning of an array of floats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Pixels, in units of the key's range.
    #[default]
    Pixels,
    /// Pixels after `(x - mean) / std`, with the mean and std of the key, as a model takes them.
    Normalised,
}

impl InputKey {
    /// Prepares the key for images of `rows` times `columns` pixels. The key keeps the last cipher,
    /// since most images repeat a size.
    ///
    /// # Errors
    /// [`Error::Array`] if the key's blocks do not divide them.
    pub fn cipher(&self, rows: usize, columns: usize) -> Result<Arc<Cipher>> {
        self.cipher_by((self.spec().layout, false), rows, columns)
    }

    /// Prepares the key for images of another layout, or with their channels reversed.
    pub(crate) fn cipher_by(
        &self,
        order: (Layout, bool),
        rows: usize,
        columns: usize,
    ) -> Result<Arc<Cipher>> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let cipher = last()
            .clone()
            .and_then(|last| last.downcast::<Cipher>().ok());
        if let Some(cipher) = cipher
            && (cipher.order, cipher.rows, cipher.columns) == (order, rows, columns)
        {
            return Ok(cipher);
        }
        let spec = self.spec();
        let blockwise = blockwise(spec, order, rows, columns)?;
        let (n, block_values) = (blockwise.len(), spec.block_values());
        let (places, negated, matrix) = match self.map()? {
            BlockMap::Signed { places, negated } => (places.clone(), negated.clone(), None),
            BlockMap::Orthogonal(matrix) => {
                let places = (0..block_values as u32).collect();
                (places, vec![false; block_values], Some(matrix.clone()))
            }
        };
        let (ffx, masked) = match self.ffx()? {
            Some((table, mask)) => (Some(Ffx::new(&table, spec.range)), mask),
            None => (None, negated),
        };
        let mut sources = vec![0; n];
        for block in blockwise.chunks_exact(block_values) {
            for ((to, from), masked) in block.iter().zip(&places).zip(&masked) {
                let from = block[*from as usize];
                sources[*to as usize] = from + u32::from(*masked) * n as u32;
            }
        }
        let mut statistics = spec.statistics();
        if order.1 {
            statistics.reverse();
        }
        let cipher = Arc::new(Cipher {
            spec: spec.clone(),
            order,
            rows,
            columns,
            n,
            sources,
            ffx,
            matrix: matrix.map(|matrix| (matrix, blockwise)),
            statistics,
        });
        *last() = Some(cipher.clone());
        Ok(cipher)
    }

    /// Prepares the key for an array of this shape: `[channels, rows, columns]` or
    /// `[rows, columns, channels]`, as the key's layout says, or with one more axis in front, which
    /// counts images.
    ///
    /// # Errors
    /// [`Error::Array`] if the shape does not fit.
    pub fn cipher_for(&self, shape: &[usize]) -> Result<Arc<Cipher>> {
        let spec = self.spec();
        let misfit = |reason: String| Error::Array { reason };
        let ([_, a, b, c] | [a, b, c]) = *shape else {
            return Err(misfit(format!(
                "an array of shape {shape:?} has {} axes, not 3 (one image) or 4 (images)",
                shape.len()
            )));
        };
        let (channels, rows, columns, axes) = match spec.layout {
            Layout::Nchw => (a, b, c, "channels, rows, columns"),
            Layout::Nhwc => (c, a, b, "rows, columns, channels"),
        };
        if channels != spec.channels as usize {
            return Err(misfit(format!(
                "an array of shape {shape:?} has {channels} channel{}, and the key is for {} (its layout: {axes})",
                if channels == 1 { "" } else { "s" },
                spec.channels
            )));
        }
        self.cipher(rows, columns)
    }

    /// Returns the types of results of [`Cipher::apply`] for values of a type, the usual one first;
    /// empty if the key cannot be applied to them.
    pub fn keyed_types(&self, of: ValueType) -> &'static [ValueType] {
        types(self.spec(), Direction::Forwards, of)
    }

    /// Returns the types of results of [`Cipher::invert`] for keyed values of a type, the usual one
    /// first.
    pub fn plain_types(&self, of: ValueType) -> &'static [ValueType] {
        types(self.spec(), Direction::Backwards, of)
    }
}

/// Returns the types of a key's results for values of a type.
fn types(spec: &Spec, direction: Direction, of: ValueType) -> &'static [ValueType] {
    use ValueType::{F16, F32, I8, U8, U16};
    if spec.has(Transform::Ffx) {
        return match (direction, of) {
            (Direction::Forwards, U8 | U16) => &[U16, F32],
            (Direction::Forwards, F32) => &[F32],
            (Direction::Backwards, U16) => &[U8, U16],
            (Direction::Backwards, F32) => &[F32, U8, U16],
            _ => &[],
        };
    }
    match of {
        F32 => &[F32],
        F16 => &[F16],
        U8 | U16 | I8 if spec.has(Transform::Orthogonal) => &[],
        U8 => &[U8],
        U16 => &[U16],
        I8 => &[I8],
    }
}

impl Cipher {
    pub fn image_values(&self) -> usize {
        self.n
    }

    /// Makes keyed images, any number of them.
    ///
    /// FFX turns u8 into u16 or f32, and f32 into f32; all else keeps the type.
    ///
    /// # Errors
    /// [`Error::Array`] if lengths or types do not fit, or FFX finds a value that is not a pixel.
    /// `keyed` may then be partly written.
    pub fn apply<'i>(
        &self,
        images: impl Into<Images<'i>>,
        keyed: impl Into<ImagesMut<'i>>,
        scale: Scale,
    ) -> Result<()> {
        self.convert(Direction::Forwards, images.into(), keyed.into(), scale)
    }

    /// Makes plain images from keyed ones. Floats come back exactly if they were only moved, and up
    /// to rounding otherwise.
    pub fn invert<'i>(
        &self,
        keyed: impl Into<Images<'i>>,
        images: impl Into<ImagesMut<'i>>,
        scale: Scale,
    ) -> Result<()> {
        self.convert(Direction::Backwards, keyed.into(), images.into(), scale)
    }

    /// Makes images keyed in place. On failure they stay as they were.
    pub fn apply_in_place<'i>(&self, images: impl Into<ImagesMut<'i>>, scale: Scale) -> Result<()> {
        self.replace(Direction::Forwards, images.into(), scale)
    }

    /// Makes keyed images plain in place. On failure they stay as they were.
    pub fn invert_in_place<'i>(&self, keyed: impl Into<ImagesMut<'i>>, scale: Scale) -> Result<()> {
        self.replace(Direction::Backwards, keyed.into(), scale)
    }

    pub(crate) fn convert(
        &self,
        way: Direction,
        from: Images,
        to: ImagesMut,
        scale: Scale,
    ) -> Result<()> {
        use {Images as I, ImagesMut as M};
        let (of, into) = (from.value_type(), to.value_type());
        self.check(way, (of, into), from.len(), scale)?;
        if from.len() != to.len() {
            let reason = format!("{} values do not become {}", from.len(), to.len());
            return Err(Error::Array { reason });
        }
        match (from, to) {
            // Orthogonal does not accept these, and FFX does not make them.
            (I::U8(from), M::U8(to)) => self.of_one_type(way, from, to, scale),
            (I::U16(from), M::U16(to)) => self.of_one_type(way, from, to, scale),
            (I::I8(from), M::I8(to)) => self.of_one_type(way, from, to, scale),
            (I::F16(from), M::F16(to)) => self.of_one_type(way, from, to, scale),
            (I::F32(from), M::F32(to)) => self.of_one_type(way, from, to, scale),
            // Only FFX changes types.
            (I::U8(from), M::U16(to)) => self.real(way, from, to, scale),
            (I::U8(from), M::F32(to)) => self.real(way, from, to, scale),
            (I::U16(from), M::U8(to)) => self.real(way, from, to, scale),
            (I::U16(from), M::F32(to)) => self.real(way, from, to, scale),
            (I::F32(from), M::U8(to)) => self.real(way, from, to, scale),
            (I::F32(from), M::U16(to)) => self.real(way, from, to, scale),
            _ => Ok(()),
        }
    }

    pub(crate) fn replace(&self, way: Direction, images: ImagesMut, scale: Scale) -> Result<()> {
        use ImagesMut as M;
        let of = images.value_type();
        self.check(way, (of, of), images.len(), scale)?;
        match images {
            M::U8(images) => self.in_place(way, images, scale),
            M::U16(images) => self.in_place(way, images, scale),
            M::I8(images) => self.in_place(way, images, scale),
            M::F16(images) => self.in_place(way, images, scale),
            M::F32(images) => self.in_place(way, images, scale),
        }
    }

    /// Checks that an array of `len` values of a type can be transformed into values of another.
    fn check(
        &self,
        way: Direction,
        (of, into): (ValueType, ValueType),
        len: usize,
        scale: Scale,
    ) -> Result<()> {
        let misfit = |reason: String| Err(Error::Array { reason });
        let possible = types(&self.spec, way, of);
        if possible.is_empty() {
            let takes = |of: &ValueType| !types(&self.spec, way, *of).is_empty();
            let possible: Vec<_> = ValueType::ALL.into_iter().filter(takes).collect();
            let transform = if self.spec.has(Transform::Ffx) {
                Transform::Ffx
            } else {
                Transform::Orthogonal
            };
            return misfit(format!(
                "{} does not go with values of type {of}, only with {}",
                transform.name(),
                any_of(&possible)
            ));
        }
        if !possible.contains(&into) {
            let possible = any_of(possible);
            return misfit(format!("values of type {of} become {possible}, not {into}"));
        }
        if scale == Scale::Normalised {
            if self.spec.normalisation.is_none() {
                return misfit("the key has no mean and std, so nothing is normalised".into());
            }
            if !of.is_float() {
                return misfit(format!("values of type {of} are not normalised ones"));
            }
        }
        // Images without pixels have no values.
        if !len.is_multiple_of(self.n) {
            return misfit(format!(
                "{len} values are no whole images of {} x {} x {}",
                self.rows, self.columns, self.spec.channels
            ));
        }
        Ok(())
    }

    fn of_one_type<T: Value>(
        &self,
        way: Direction,
        from: &[T],
        to: &mut [T],
        scale: Scale,
    ) -> Result<()> {
        if self.ffx.is_some() || self.matrix.is_some() || scale == Scale::Normalised {
            return self.real(way, from, to, scale);
        }
        self.between(from, to, || {
            // An image, and its negative.
            let mut values = Vec::new();
            move |image: &[T], moved: &mut [T]| {
                let Some(sum) = self.sum() else {
                    self.look_up(way, image, moved);
                    return Ok(());
                };
                values.resize(2 * image.len(), T::default());
                let (same, negative) = values.split_at_mut(image.len());
                same.copy_from_slice(image);
                T::negate(image, negative, sum);
                self.look_up(way, &values, moved);
                Ok(())
            }
        })
    }

    fn in_place<T: Value>(&self, way: Direction, images: &mut [T], scale: Scale) -> Result<()> {
        let from = images.to_vec();
        let done = self.of_one_type(way, &from, images, scale);
        // FFX may find a value that is not a pixel, which must leave everything unchanged.
        if done.is_err() {
            images.copy_from_slice(&from);
        }
        done
    }

    fn real<A: Value, B: Value>(
        &self,
        way: Direction,
        from: &[A],
        to: &mut [B],
        scale: Scale,
    ) -> Result<()> {
        let matrix = self.matrix.as_ref().map(|(matrix, _)| match way {
            Direction::Forwards => Cow::Borrowed(matrix),
            // The inverse of an orthogonal matrix is its transpose.
            Direction::Backwards => Cow::Owned(matrix.transpose()),
        });
        let is_normalised = scale == Scale::Normalised;
        let worker = || real::worker(self, way, matrix.as_deref(), is_normalised);
        self.between(from, to, worker)
    }
}

pub(crate) fn any_of(types: &[ValueType]) -> String {
    let names: Vec<String> = types.iter().map(ValueType::to_string).collect();
    names.join(" or ")
}

#[cfg(test)]
mod tests;
