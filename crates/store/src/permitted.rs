//! Who may do what with a new file.

use std::fs::Metadata;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Readers {
    /// Its owner alone.
    Owner,
    /// Whom the process lets read new files (`umask`).
    Usual,
}

/// Who may do what with a new file; never more than the process's umask allows.
#[derive(Clone, Debug)]
pub enum Permitted {
    /// These may read it, and its owner may write it.
    To(Readers),
    /// All that this file permits.
    Like(Metadata),
}

impl Permitted {
    /// Its owner alone may read and write it.
    pub const OWNER: Permitted = Permitted::To(Readers::Owner);
}
