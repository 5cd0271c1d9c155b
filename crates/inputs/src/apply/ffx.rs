//! Format-preserving encryption: replaces the pixels 0 to 255 at the masked places by other
//! numbers.

use super::places::Direction;
use crate::error::{Error, Result};

/// Numbers of three digits.
const N_NUMBERS: usize = 1000;

/// How far a float may be from the whole number for which it stands, after scaling to pixels or
/// FFX's numbers.
const NEAR_PIXEL: f64 = 1e-3;
const NEAR_NUMBER: f64 = 0.1;

/// The replacements of pixels at the masked places.
pub(super) struct Ffx {
    forwards: [u16; 256],
    /// NaN for a number that FFX never makes.
    backwards: Box<[f64; N_NUMBERS]>,
    /// The greatest replacement of a pixel, by which floats are divided.
    greatest: f64,
    /// The least and the greatest pixel among floats.
    range: (f64, f64),
}

impl Ffx {
    pub(super) fn new(forwards: &[u16; 256], range: (f64, f64)) -> Ffx {
        let mut backwards = Box::new([f64::NAN; N_NUMBERS]);
        for (pixel, number) in forwards.iter().enumerate() {
            if let Some(place) = backwards.get_mut(usize::from(*number)) {
                *place = pixel as f64;
            }
        }
        let greatest = forwards.iter().max().copied().unwrap_or(1);
        Ffx {
            forwards: *forwards,
            backwards,
            greatest: f64::from(greatest.max(1)),
            range,
        }
    }

    /// Returns the integer for which a value stands.
    pub(super) fn number(&self, direction: Direction, is_float: bool, value: f64) -> Result<f64> {
        let (low, high) = self.range;
        let (scaled, near, most) = match direction {
            Direction::Forwards if is_float => {
                (255.0 * (value - low) / (high - low), NEAR_PIXEL, 255.0)
            }
            Direction::Forwards => (value, 0.0, 255.0),
            Direction::Backwards if is_float => (value * self.greatest, NEAR_NUMBER, 999.0),
            Direction::Backwards => (value, 0.0, 999.0),
        };
        let whole = scaled.round();
        // This refuses NaN too.
        if (scaled - whole).abs() <= near && (0.0..=most).contains(&whole) {
            return Ok(whole);
        }
        let reason = match direction {
            Direction::Backwards => format!("{value} is nothing that ffx makes"),
            Direction::Forwards if is_float => {
                format!("{value} is none of the 256 pixels from {low} to {high}, which ffx takes")
            }
            Direction::Forwards => format!("{value} is no pixel that ffx takes: 0 to 255"),
        };
        Err(Error::Array { reason })
    }

    /// Returns what replaces an integer at a masked place.
    pub(super) fn masked(&self, direction: Direction, number: f64) -> f64 {
        let found = match direction {
            Direction::Forwards => self.forwards.get(number as usize).copied().map(f64::from),
            Direction::Backwards => self.backwards.get(number as usize).copied(),
        };
        found.unwrap_or(f64::NAN)
    }

    /// Returns the value that stands for an integer.
    pub(super) fn value(&self, direction: Direction, is_float: bool, number: f64) -> Result<f64> {
        let (low, high) = self.range;
        match direction {
            // NaN is no pixel.
            Direction::Backwards if !(0.0..=255.0).contains(&number) => Err(Error::Array {
                reason: "a value is nothing that ffx makes".into(),
            }),
            _ if !is_float => Ok(number),
            Direction::Forwards => Ok(number / self.greatest),
            Direction::Backwards => Ok(low + number * (high - low) / 255.0),
        }
    }
}
