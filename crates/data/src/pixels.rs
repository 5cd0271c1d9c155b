//! Pixels as numbers: resized, cropped, in grey or colours.

use crate::images::{Image, Samples};

/// The shares of sRGB's red, green and blue in brightness.
const LUMA: [f32; 3] = [0.212_639, 0.715_169, 0.072_192];

/// The pixels of an image, row by row.
pub(crate) struct Pixels {
    rows: usize,
    columns: usize,
    channels: usize,
    /// The value of full brightness.
    most: f32,
    values: Vec<f32>,
}

impl Pixels {
    /// Takes the pixels of `image`, resized to so many rows and columns.
    pub(crate) fn of(image: &Image, rows: u32, columns: u32) -> Pixels {
        let (most, values) = match &image.samples {
            Samples::U8(samples) => (u8::MAX.into(), scaled(image, samples, rows, columns)),
            Samples::U16(samples) => (u16::MAX.into(), scaled(image, samples, rows, columns)),
        };
        Pixels {
            rows: rows as usize,
            columns: columns as usize,
            channels: image.channels,
            most,
            values,
        }
    }

    /// Keeps the middle.
    pub(crate) fn crop(&mut self, rows: u32, columns: u32) {
        let (rows, columns) = (
            self.rows.min(rows as usize),
            self.columns.min(columns as usize),
        );
        let (top, left) = ((self.rows - rows) / 2, (self.columns - columns) / 2);
        let lines = self.values.chunks_exact(self.columns * self.channels);
        let (first, n) = (left * self.channels, columns * self.channels);
        let lines = lines.skip(top).take(rows);
        self.values = lines
            .flat_map(|line| line.iter().skip(first).take(n))
            .copied()
            .collect();
        (self.rows, self.columns) = (rows, columns);
    }

    /// Returns rows and columns.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Appends the pixels in 8 bits without alpha: one channel (grey) or three.
    pub(crate) fn append(&self, channels: usize, to: &mut Vec<f32>) {
        let byte = |value: f32| (value / self.most * 255.0).round();
        for pixel in self.values.chunks_exact(self.channels) {
            match *pixel {
                [red, green, blue, ..] if channels == 1 => {
                    to.push(byte(LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue));
                }
                [red, green, blue, ..] => to.extend([red, green, blue].map(byte)),
                [grey, ..] => to.extend(std::iter::repeat_n(byte(grey), channels)),
                [] => {}
            }
        }
    }
}

/// Resizes an image: bilinear, over all pixels that become one (PIL's `BILINEAR`). Rows come first.
fn scaled<T>(image: &Image, samples: &[T], rows: u32, columns: u32) -> Vec<f32>
where
    T: Copy + Into<f32>,
{
    if (rows, columns) == (image.rows, image.columns) {
        return samples.iter().map(|&sample| sample.into()).collect();
    }
    let width = image.columns as usize * image.channels;
    let mut tall = vec![0.0; rows as usize * width];
    let lines = tall.chunks_exact_mut(width);
    for (line, (first, weights)) in lines.zip(windows(image.rows, rows)) {
        let rows = samples.chunks_exact(width).skip(first);
        for (weight, row) in weights.into_iter().zip(rows) {
            for (sum, &sample) in line.iter_mut().zip(row) {
                *sum += sample.into() * weight;
            }
        }
    }
    let windows = windows(image.columns, columns);
    let mut values = Vec::with_capacity(rows as usize * windows.len() * image.channels);
    for line in tall.chunks_exact(width) {
        for (first, weights) in &windows {
            for channel in 0..image.channels {
                let samples = line.iter().skip(first * image.channels + channel);
                let parts = samples.step_by(image.channels).zip(weights);
                let sum: f32 = parts.map(|(sample, weight)| sample * weight).sum();
                values.push(sum.round());
            }
        }
    }
    values
}

/// Returns for each of `to` pixels the first of `from` that it is made of, and their weights.
fn windows(from: u32, to: u32) -> Vec<(usize, Vec<f32>)> {
    let ratio = from as f32 / to as f32;
    let reach = ratio.max(1.0);
    let window = |i: u32| {
        let centre = (i as f32 + 0.5) * ratio;
        let first = ((centre - reach).floor() as i64).clamp(0, i64::from(from) - 1);
        let end = ((centre + reach).ceil() as i64).clamp(first + 1, i64::from(from));
        let weight = |i: i64| 1.0 - ((i as f32 - (centre - 0.5)) / reach).abs();
        let mut weights: Vec<f32> = (first..end).map(|i| weight(i).max(0.0)).collect();
        let sum: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        (first as usize, weights)
    };
    (0..to).map(window).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::images::decode;

    fn image(rows: u32, channels: usize, samples: &[u16]) -> Image {
        Image {
            rows,
            columns: (samples.len() / channels) as u32 / rows,
            channels,
            samples: Samples::U16(samples.to_vec()),
        }
    }

    fn resized(samples: &[u16], columns: u32) -> Vec<f32> {
        let row = Pixels::of(&image(1, 1, samples), 1, columns).values;
        let column = image(samples.len() as u32, 1, samples);
        assert_eq!(Pixels::of(&column, columns, 1).values, row);
        row
    }

    /// Computed by hand.
    #[test]
    fn pixels_are_resized_by_a_triangle() {
        assert_eq!(resized(&[0, 100], 4), [0.0, 25.0, 75.0, 100.0]);
        // Weights of 3/4, 3/4 and 1/4.
        assert_eq!(resized(&[0, 7, 14, 7000], 2), [5.0, 3007.0]);
        assert_eq!(resized(&[1, 2, 3], 3), [1.0, 2.0, 3.0]);
        assert_eq!(resized(&[9], 2), [9.0, 9.0]);
        let two = image(1, 2, &[0, 50, 100, 50]);
        let four = [0.0, 50.0, 25.0, 50.0, 75.0, 50.0, 100.0, 50.0];
        assert_eq!(Pixels::of(&two, 1, 4).values, four);
    }

    #[test]
    fn channels_and_bits_become_those_wanted() {
        let of = |samples: &[u16], wanted| {
            let mut values = Vec::new();
            let image = image(1, samples.len(), samples);
            Pixels::of(&image, 1, 1).append(wanted, &mut values);
            values
        };
        // 257 of 16 bits are one of 8.
        assert_eq!(of(&[384], 3), [1.0; 3]);
        assert_eq!(of(&[386, 9], 1), [2.0]);
        assert_eq!(of(&[257, 514, 65535, 9], 3), [1.0, 2.0, 255.0]);
        assert_eq!(of(&[65535, 0, 0], 1), [54.0]);
        assert_eq!(of(&[0, 65535, 0, 9], 1), [182.0]);
        assert_eq!(of(&[0, 0, 65535], 1), [18.0]);
    }

    #[test]
    fn a_jpeg_of_another_encoder_has_its_colours() {
        let path = "../../fixtures/inputs/photo.jpg".as_ref();
        let image = decode(path).unwrap();
        assert_eq!((image.rows, image.columns, image.channels), (8, 16, 3));
        let mut values = Vec::new();
        Pixels::of(&image, 8, 16).append(3, &mut values);
        for (i, pixel) in values.chunks_exact(3).enumerate() {
            let (row, column) = ((i / 16) as f32, (i % 16) as f32);
            let wanted = [16.0 * column, 32.0 * row, 255.0 - 16.0 * column];
            let near = pixel.iter().zip(wanted).all(|(v, w)| (v - w).abs() < 6.0);
            assert!(near, "{row}, {column}: {pixel:?}");
        }
    }
}
