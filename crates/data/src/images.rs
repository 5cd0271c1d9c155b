//! Image files: PNG and JPEG.

use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader};
use onnxseal_store::open_regular;

use crate::error::{Fault, Result, bad};
use crate::room::Room;

/// The most columns or rows of an image.
pub const MAX_SIDE: u32 = 1 << 14;

/// The first bytes of a PNG.
const PNG: [u8; 8] = *b"\x89PNG\r\n\x1A\n";

/// The most bytes that decoding one image may take, and the most of its file.
const MAX_IMAGE_BYTES: u64 = 1 << 30;

/// Decodes an image, and recognises its kind by its content. Ignores EXIF's orientation, as the
/// loaders in training do (PIL's and torchvision's).
pub fn decode(path: &Path) -> Result<DynamicImage, Fault> {
    let file = open_regular(path)?;
    let len = file.metadata()?.len();
    if len > MAX_IMAGE_BYTES {
        return Err(bad(format!(
            "an image file of {len} bytes (limit {MAX_IMAGE_BYTES})"
        )));
    }
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    if bytes.starts_with(&PNG) {
        bytes = pixels_of_png(&bytes);
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_IMAGE_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(undecodable)?;
    Room::of(len).claim(decoder.total_bytes(), "give it fewer pixels")?;
    DynamicImage::from_decoder(decoder).map_err(undecodable)
}

fn undecodable(error: ImageError) -> Fault {
    match error {
        ImageError::IoError(error) => Fault::Io(error),
        other => {
            let why = other.to_string();
            let why = why.trim_end_matches('.');
            bad(format!(
                "not a PNG or JPEG image that can be decoded ({why})"
            ))
        }
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
