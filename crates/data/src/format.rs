//! Formats of data files, recognised by name.

use std::path::Path;

/// The format of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// NumPy's archive of arrays: `.npz`.
    Npz,
    /// An array of NumPy's: `.npy`.
    Npy,
    /// Text, one row per sample: `.csv`.
    Csv,
    /// CIFAR's binary version: `.bin`.
    Cifar,
    /// An image: `.png`.
    Png,
    /// An image: `.jpg`, `.jpeg`.
    Jpeg,
}

impl Format {
    /// Returns the format by the end of a name, in any case. IDX has no such name: it gives `None`,
    /// like all other files.
    pub fn of(path: &Path) -> Option<Format> {
        let end = path.extension()?.to_string_lossy().to_ascii_lowercase();
        match end.as_str() {
            "npz" => Some(Format::Npz),
            "npy" => Some(Format::Npy),
            "csv" => Some(Format::Csv),
            "bin" => Some(Format::Cifar),
            "png" => Some(Format::Png),
            "jpg" | "jpeg" => Some(Format::Jpeg),
            _ => None,
        }
    }

    /// Returns whether a file of this format is one image.
    pub fn is_image(self) -> bool {
        matches!(self, Format::Png | Format::Jpeg)
    }

    /// Returns the extension of its files, without the dot.
    pub fn end(self) -> &'static str {
        match self {
            Format::Npz => "npz",
            Format::Npy => "npy",
            Format::Csv => "csv",
            Format::Cifar => "bin",
            Format::Png => "png",
            Format::Jpeg => "jpg",
        }
    }
}
