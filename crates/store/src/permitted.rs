//! Who may do what with a new file.

use std::fs::Metadata;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Readers {
    /// Its owner alone.
    Owner,
    /// Whom the process lets read new files (`umask`).
    Usual,
}

/// Who may do what with a new file; never more than the process's umask allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permitted {
    /// These may read it, and its owner may write it.
    To(Readers),
    /// What these bits of a mode permit, where the system has modes.
    Mode(u32),
}

impl Permitted {
    pub const OWNER: Permitted = Permitted::To(Readers::Owner);

    pub fn like(metadata: &Metadata) -> Permitted {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            Permitted::Mode(metadata.permissions().mode())
        }
        #[cfg(not(unix))]
        {
            let _ = metadata;
            Permitted::To(Readers::Usual)
        }
    }
}
