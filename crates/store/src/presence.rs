//! What is at a location, be it a file's or an object's.

use std::fs;
use std::io::ErrorKind;

use crate::error::{Result, io};
#[cfg(not(feature = "object-store"))]
use crate::input::unreachable_object;
use crate::location::Location;
#[cfg(feature = "object-store")]
use crate::object::remote::Object;

impl Location {
    /// Fails where this build has no way to reach it.
    ///
    /// # Errors
    /// [`Error::NoObjectStores`](crate::Error::NoObjectStores).
    pub fn check_reachable(&self) -> Result<()> {
        match self {
            #[cfg(not(feature = "object-store"))]
            Location::Object(_) => Err(unreachable_object(self)),
            _ => Ok(()),
        }
    }

    /// Whether it is a folder. In an object store that is what ends in `/`, and what names no object.
    ///
    /// # Errors
    /// `Io` where the store does not answer.
    pub fn is_folder(&self) -> Result<bool> {
        match self {
            Location::File(path) => Ok(path.is_dir()),
            Location::Object(url) => Ok(url.names_folder() || !self.exists()?),
            Location::Memory(_) => Ok(false),
        }
    }

    /// Whether there is such a file, if only a link to nowhere, or such an object.
    pub fn exists(&self) -> Result<bool> {
        match self {
            Location::File(path) => Ok(fs::symlink_metadata(path).is_ok()),
            #[cfg(feature = "object-store")]
            Location::Object(url) => Object::at(url)?.exists(),
            Location::Memory(_) => Ok(true),
            #[cfg(not(feature = "object-store"))]
            Location::Object(_) => Err(unreachable_object(self)),
        }
    }

    /// Length in bytes, if it is there.
    pub fn len_bytes(&self) -> Option<u64> {
        match self {
            Location::File(path) => fs::metadata(path).ok().map(|metadata| metadata.len()),
            #[cfg(feature = "object-store")]
            Location::Object(url) => Some(Object::at(url).ok()?.open().ok()?.len_bytes()),
            Location::Memory(model) => Some(model.model.len() as u64),
            #[cfg(not(feature = "object-store"))]
            Location::Object(_) => None,
        }
    }

    /// Removes what is there, if anything is.
    pub fn remove(&self) -> Result<()> {
        match self {
            Location::File(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(io("remove", path)(error)),
                _ => Ok(()),
            },
            #[cfg(feature = "object-store")]
            Location::Object(url) => Object::at(url)?.delete(),
            Location::Memory(_) => Err(self.not_an_output()),
            #[cfg(not(feature = "object-store"))]
            Location::Object(_) => Err(unreachable_object(self)),
        }
    }
}
