//! Image files: PNG and JPEG.

use std::path::Path;

use image::{DynamicImage, ImageError, ImageReader};

use crate::error::{Fault, Result, bad};
use crate::names::extension;

/// Columns or rows of an image, at most.
pub const MAX_SIDE: u32 = 1 << 14;

/// Bytes that decoding one image may take.
const MAX_IMAGE_BYTES: u64 = 1 << 30;

/// The kind of an image file, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Png,
    Jpeg,
}

/// What kind of image a file has by its name; `None` where it is none.
pub fn kind(path: &Path) -> Option<Kind> {
    match extension(path)?.as_str() {
        "png" => Some(Kind::Png),
        "jpg" | "jpeg" => Some(Kind::Jpeg),
        _ => None,
    }
}

/// Decodes an image, whichever of the kinds it is by its content.
///
/// # Errors
/// [`Fault`].
pub fn decode(path: &Path) -> Result<DynamicImage, Fault> {
    let mut reader = ImageReader::open(path)?.with_guessed_format()?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_IMAGE_BYTES);
    reader.limits(limits);
    reader.decode().map_err(|error| match error {
        ImageError::IoError(error) => Fault::Io(error),
        other => {
            let why = other.to_string();
            let why = why.trim_end_matches('.');
            bad(format!(
                "not a PNG or JPEG image that can be decoded ({why})"
            ))
        }
    })
}
