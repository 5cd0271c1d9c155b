//! Formats of data files, which their names tell.

use std::path::Path;

/// The format of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// NumPy's archive of arrays: `.npz`.
    Npz,
    /// An array of NumPy's: `.npy`.
    Npy,
    /// Text, one row a sample: `.csv`.
    Csv,
    /// CIFAR's binary version: `.bin`.
    Cifar,
    /// An image: `.png`.
    Png,
    /// An image: `.jpg`, `.jpeg`.
    Jpeg,
}

impl Format {
    /// Tells the format by the end of a name, in small letters or capitals. No name tells IDX: it is
    /// `None`, as all other files are.
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

    /// Whether a file of it is one image.
    pub fn is_image(self) -> bool {
        matches!(self, Format::Png | Format::Jpeg)
    }

    /// What names of its files end in, without the dot.
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
