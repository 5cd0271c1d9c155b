//! Models whose bytes change as they are read, so that the result needs neither memory nor a file.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::error::Result;
use crate::location::Location;

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

/// A model that changes as it is read.
#[derive(Clone)]
pub struct Changed {
    pub of: Box<Location>,
    pub by: Arc<dyn Change>,
}

impl Changed {
    /// Two are equal if one change is made to one location.
    fn key(&self) -> (&Location, *const ()) {
        (&self.of, Arc::as_ptr(&self.by).cast())
    }
}

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Changed").field(&self.of).finish()
    }
}

impl PartialEq for Changed {
    fn eq(&self, other: &Changed) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Changed {}

impl PartialOrd for Changed {
    fn partial_cmp(&self, other: &Changed) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Changed {
    fn cmp(&self, other: &Changed) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Changed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}
