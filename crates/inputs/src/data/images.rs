//! Image files, one by one.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ColorType, DynamicImage};
use onnxseal_data::Format;
use onnxseal_data::images::decode;

use crate::apply::{Cipher, ImagesMut, Scale, ValueType};
use crate::data::arrays::{begin, check_channels, publish};
use crate::data::run::{Fault, Run, refused};
use crate::data::sources::Task;
use crate::key::Layout;

/// Transforms images one by one.
#[derive(Default)]
pub(super) struct Worker {
    /// The cipher for the last image's rows and columns, which the next one often shares.
    cipher: Option<(u32, u32, Cipher)>,
    encoded: Vec<u8>,
}

impl Worker {
    pub(super) fn run(&mut self, run: &Run, task: &Task) -> Result<(), Fault> {
        if run.options.decrypt && Format::of(&task.source) == Some(Format::Jpeg) {
            return refused("keyed images are never JPEG, which would lose what the key made");
        }
        let mut image = decode(&task.source)?;
        let (channels, of) = match image.color() {
            ColorType::L8 => (1, ValueType::U8),
            ColorType::L16 => (1, ValueType::U16),
            ColorType::Rgb8 => (3, ValueType::U8),
            ColorType::Rgb16 => (3, ValueType::U16),
            ColorType::La8 | ColorType::La16 | ColorType::Rgba8 | ColorType::Rgba16 => {
                return refused(
                    "it has an alpha channel, which models do not take: save it without",
                );
            }
            other => return refused(format!("its colours are {other:?}, not grey or RGB")),
        };
        run.stays(of, "PNG")?;
        check_channels(run.key, channels)?;
        let (rows, columns) = (image.height(), image.width());
        let cipher = match &self.cipher {
            Some((r, c, cipher)) if (*r, *c) == (rows, columns) => cipher,
            _ => {
                let cipher =
                    run.key
                        .cipher_of_files(Layout::Nhwc, rows as usize, columns as usize)?;
                &self.cipher.insert((rows, columns, cipher)).2
            }
        };
        let values = match &mut image {
            DynamicImage::ImageLuma8(image) => ImagesMut::U8(image),
            DynamicImage::ImageRgb8(image) => ImagesMut::U8(image),
            DynamicImage::ImageLuma16(image) => ImagesMut::U16(image),
            DynamicImage::ImageRgb16(image) => ImagesMut::U16(image),
            _ => return refused("its colours are not grey or RGB"),
        };
        if run.options.decrypt {
            cipher.invert_in_place(values, Scale::Pixels)?
        } else {
            cipher.apply_in_place(values, Scale::Pixels)?
        }
        self.encoded.clear();
        let encoder = PngEncoder::new_with_quality(
            &mut self.encoded,
            CompressionType::Fast,
            FilterType::Adaptive,
        );
        image
            .write_with_encoder(encoder)
            .map_err(|error| Fault::Refused(format!("it does not become PNG: {error}")))?;
        let output = begin(run, &task.target)?;
        output.write_all_at(&self.encoded, 0)?;
        publish(run, task, output)?;
        run.transformed(1);
        Ok(())
    }
}
