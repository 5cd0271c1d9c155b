//! Formats of data files, recognised by name.

use std::path::Path;

/// The format of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Npz,
    Npy,
    Csv,
    /// CIFAR's binary version.
    Cifar,
    Png,
    Jpeg,
}

/// The extensions of each format's files, the usual one first.
const ENDS: [(&str, Format); 7] = [
    ("npz", Format::Npz),
    ("npy", Format::Npy),
    ("csv", Format::Csv),
    ("bin", Format::Cifar),
    ("png", Format::Png),
    ("jpg", Format::Jpeg),
    ("jpeg", Format::Jpeg),
];

impl Format {
    /// Returns the format by the end of a name, in any case. IDX has no such name: it gives `None`,
    /// like all other files.
    pub fn of(path: &Path) -> Option<Format> {
        let end = path.extension()?;
        let found = ENDS.iter().find(|(name, _)| end.eq_ignore_ascii_case(name));
        found.map(|(_, format)| *format)
    }

    /// Returns whether a file of this format is one image.
    pub fn is_image(self) -> bool {
        matches!(self, Format::Png | Format::Jpeg)
    }

    /// Returns the extension of its files, without the dot.
    pub fn end(self) -> &'static str {
        let found = ENDS.iter().find(|(_, format)| *format == self);
        found.map_or("", |(name, _)| name)
    }
}
