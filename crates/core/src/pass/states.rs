//! Rows of a record: the files that a call read and wrote.

use onnxseal_store::Stamp;
use serde::{Deserialize, Serialize};

/// The files that a call read and wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStates {
    /// The files of the model that was read, the model file first.
    pub input: Vec<FileState>,
    /// The files that were written, the model file first; empty if the call wrote nothing.
    pub output: Vec<FileState>,
}

/// Identifies the contents of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// Path relative to the model's folder, `/`-separated; empty for the model file itself.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// BLAKE3 of the file, 64 hexadecimal digits, if the caller asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// Tells later, without reading the file, whether it was changed. Absent if the store has no
    /// such mark, and for a file that was read within two seconds of being written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

/// A length in bytes, and how much of it is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Length in bytes.
    pub bytes: u64,
    /// Bytes of it that are encrypted.
    pub encrypted_bytes: u64,
    /// `encrypted_bytes / bytes`, 0 to 1.
    pub share: f64,
}

impl Volume {
    pub(crate) fn new(bytes: u64, encrypted_bytes: u64) -> Volume {
        let share = match bytes {
            0 => 0.0,
            bytes => encrypted_bytes as f64 / bytes as f64,
        };
        Volume {
            bytes,
            encrypted_bytes,
            share,
        }
    }

    /// Adds up volumes. Sums saturate, because a hostile file may claim any number of bytes.
    pub(crate) fn sum(volumes: impl Iterator<Item = Volume>) -> Volume {
        volumes.fold(Volume::default(), |sum, volume| {
            let encrypted = sum.encrypted_bytes.saturating_add(volume.encrypted_bytes);
            Volume::new(sum.bytes.saturating_add(volume.bytes), encrypted)
        })
    }
}
