//! Moves values, and negates some.

use super::table::{Direction, Table, Work};
use super::value::Value;
use crate::error::Result;

pub(super) struct Moved<'k, T> {
    pub(super) table: &'k Table,
    pub(super) direction: Direction,
    /// The sum of a value and its negative; absent if none is negated.
    pub(super) sum: Option<f64>,
    /// An image, and its negative.
    pub(super) values: Vec<T>,
}

impl<T: Value> Work<T, T> for Moved<'_, T> {
    fn take(&mut self, image: &[T]) -> Result<()> {
        let n = image.len();
        match self.sum {
            None => self.values.resize(n, T::default()),
            Some(sum) => {
                self.values.resize(2 * n, T::default());
                T::negate(image, &mut self.values[n..], sum);
            }
        }
        self.values[..n].copy_from_slice(image);
        Ok(())
    }

    fn give(&mut self, image: &mut [T]) -> Result<()> {
        self.table.look_up(self.direction, &self.values, image);
        Ok(())
    }
}
