//! Image files: PNG and JPEG.

use std::fmt::Display;
use std::io::{self, Cursor, Read};
use std::path::Path;

use onnxseal_store::open_regular;
use png::{BitDepth, ColorType, Transformations};
use zerocopy::IntoBytes;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::error::{Fault, Result, bad};
use crate::room::Room;

pub const MAX_SIDE: u32 = 1 << 14;

const PNG: [u8; 8] = *b"\x89PNG\r\n\x1A\n";

/// The most bytes that decoding one image may take, and the most of its file.
const MAX_IMAGE_BYTES: u64 = 1 << 30;

/// An image, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub rows: u32,
    pub columns: u32,
    /// 1 for grey, 3 for red, green and blue; 2 and 4 for these and alpha.
    pub channels: usize,
    pub samples: Samples,
}

/// Numbers for brightness, from 0 to the type's greatest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
}

/// Decodes an image, and recognises its kind by its content. Ignores EXIF's orientation, as the
/// loaders in training do (PIL's and torchvision's).
pub fn decode(path: &Path) -> Result<Image, Fault> {
    let file = open_regular(path)?;
    let len = file.metadata()?.len();
    if len > MAX_IMAGE_BYTES {
        return Err(bad(format!(
            "an image file of {len} bytes (limit {MAX_IMAGE_BYTES})"
        )));
    }
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    match &bytes[..] {
        [0xFF, 0xD8, 0xFF, ..] => decode_jpeg(&bytes, Room::of(len)),
        _ if bytes.starts_with(&PNG) => decode_png(&bytes, Room::of(len)),
        _ => Err(undecodable("it begins like neither")),
    }
}

fn decode_png(bytes: &[u8], room: Room) -> Result<Image, Fault> {
    let fault = |error| match error {
        png::DecodingError::IoError(error) => Fault::Io(error),
        error => undecodable(error),
    };
    let limits = png::Limits {
        bytes: MAX_IMAGE_BYTES as usize,
    };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(pixels_of_png(bytes)), limits);
    let (columns, rows) = decoder.read_header_info().map_err(fault)?.size();
    check_size(rows, columns)?;
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(fault)?;
    let (colours, bits) = reader.output_color_type();
    let n_bytes = reader.output_buffer_size().unwrap_or(usize::MAX);
    claim(room, n_bytes)?;
    let samples = if bits == BitDepth::Sixteen {
        let mut samples = vec![0_u16; n_bytes / 2];
        reader.next_frame(samples.as_mut_bytes()).map_err(fault)?;
        for sample in &mut samples {
            *sample = u16::from_be(*sample);
        }
        Samples::U16(samples)
    } else {
        let mut samples = vec![0; n_bytes];
        reader.next_frame(&mut samples).map_err(fault)?;
        Samples::U8(samples)
    };
    Ok(Image {
        rows,
        columns,
        channels: colours.samples(),
        samples,
    })
}

fn decode_jpeg(bytes: &[u8], room: Room) -> Result<Image, Fault> {
    let options = DecoderOptions::default().set_strict_mode(false);
    let options = options.set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(undecodable)?;
    let (colours, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    let (columns, rows) = decoder.dimensions().unwrap_or_default();
    let (rows, columns) = (rows as u32, columns as u32);
    check_size(rows, columns)?;
    claim(room, rows as usize * columns as usize * channels)?;
    decoder.set_options(options.jpeg_set_out_colorspace(colours));
    Ok(Image {
        rows,
        columns,
        channels,
        samples: Samples::U8(decoder.decode().map_err(undecodable)?),
    })
}

fn undecodable(why: impl Display) -> Fault {
    let why = why.to_string();
    let why = why.trim_end_matches('.');
    bad(format!(
        "not a PNG or JPEG image that can be decoded ({why})"
    ))
}

fn check_size(rows: u32, columns: u32) -> Result<(), Fault> {
    if rows.max(columns) <= MAX_SIDE {
        return Ok(());
    }
    Err(bad(format!(
        "an image of {columns} x {rows} pixels (limit {MAX_SIDE} x {MAX_SIDE})"
    )))
}

fn claim(mut room: Room, n_bytes: usize) -> Result<(), Fault> {
    room.claim(n_bytes as u64, "give it fewer pixels")
}

impl Image {
    /// Appends the image as a PNG.
    ///
    /// # Errors
    /// If `samples` are not `channels` for each pixel, or one of the numbers is 0.
    pub fn encode(&self, to: &mut Vec<u8>) -> io::Result<()> {
        let mut encoder = png::Encoder::new(to, self.columns, self.rows);
        encoder.set_color(match self.channels {
            1 => ColorType::Grayscale,
            2 => ColorType::GrayscaleAlpha,
            3 => ColorType::Rgb,
            _ => ColorType::Rgba,
        });
        encoder.set_compression(png::Compression::Fast);
        encoder.set_filter(png::Filter::Adaptive);
        match &self.samples {
            Samples::U8(samples) => {
                encoder.set_depth(BitDepth::Eight);
                encoder.write_header()?.write_image_data(samples)?;
            }
            Samples::U16(samples) => {
                encoder.set_depth(BitDepth::Sixteen);
                let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_be_bytes()).collect();
                encoder.write_header()?.write_image_data(&bytes)?;
            }
        }
        Ok(())
    }
}

/// Drops the chunks of a PNG that do not describe its pixels: profiles and texts may be packed, and
/// unpack to any size.
///
/// ```text
/// signature (8)  chunks: length of its bytes (u32, big-endian)  type (4)  bytes  CRC (4)
/// ```
fn pixels_of_png(bytes: &[u8]) -> Vec<u8> {
    let (signature, mut rest) = bytes.split_at(PNG.len());
    let mut kept = signature.to_vec();
    while let Some(&[a, b, c, d, kind @ ..]) = rest.first_chunk::<8>() {
        let len = 12_usize.saturating_add(u32::from_be_bytes([a, b, c, d]) as usize);
        let (chunk, next) = rest.split_at(len.min(rest.len()));
        // A capital letter marks chunks that a decoder must know. Among the others, only
        // transparency changes pixels.
        if kind[0].is_ascii_uppercase() || kind == *b"tRNS" {
            kept.extend(chunk);
        }
        rest = next;
    }
    kept
}
