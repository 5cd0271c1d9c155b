//! Models whose bytes change as they are read, so that the result needs neither memory nor a file.

use crate::error::Result;

/// Changes bytes of a model's files, but not how many there are, as they are read.
pub trait Change: Send + Sync {
    /// Changes `buffer`, which has the bytes of a file from `offset` on: of external data by its
    /// normalised name, or of the model file. `read` reads bytes of the file as they were.
    fn change(
        &self,
        external: Option<&str>,
        buffer: &mut [u8],
        offset: u64,
        read: &dyn Fn(&mut [u8], u64) -> Result<()>,
    ) -> Result<()>;
}
