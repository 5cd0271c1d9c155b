//! Tells what exists at a location, for files and objects.

use std::fs;
use std::io::ErrorKind;

use crate::error::{Result, io};
#[cfg(not(feature = "object-store"))]
use crate::input::unreachable_object;
use crate::location::Location;
#[cfg(feature = "object-store")]
use crate::object::remote::{self, Object};
#[cfg(feature = "object-store")]
use crate::object::upload;
use crate::object_url::ObjectUrl;
#[cfg(feature = "object-store")]
use crate::parallel::N_REQUESTS;
use crate::version::Version;

impl Location {
    /// Fails if this build cannot reach it.
    pub fn check_reachable(&self) -> Result<()> {
        match self {
            #[cfg(not(feature = "object-store"))]
            Location::Object(_) => Err(unreachable_object(self)),
            _ => Ok(()),
        }
    }

    /// Returns whether it is a folder. In an object store, that is a URL that ends in `/` or names
    /// no object.
    ///
    /// # Errors
    /// `Io` if the store does not answer.
    pub fn is_folder(&self) -> Result<bool> {
        match self {
            Location::File(path) => Ok(path.is_dir()),
            Location::Object(url) => Ok(url.names_folder() || !self.exists()?),
            Location::Memory(_) => Ok(false),
        }
    }

    /// Returns whether the file, even a dangling link, or the object exists.
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

    /// Returns the length in bytes, if it exists.
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

    /// Removes the file or object, if it exists.
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

    /// Returns the most memory that writing one model's outputs, of `lens` bytes, holds here.
    pub fn bytes_held(&self, lens: &[u64]) -> u64 {
        #[cfg(not(feature = "object-store"))]
        let _ = lens;
        match self {
            #[cfg(feature = "object-store")]
            Location::Object(_) => upload::held_bytes(lens, N_REQUESTS as u64),
            _ => 0,
        }
    }
}

impl ObjectUrl {
    /// Lists the keys of all objects in this folder, in order. Leaves out empty objects, which
    /// stores use to represent folders.
    ///
    /// # Errors
    /// `Io` if the store does not answer; [`Error::NoObjectStores`](crate::Error::NoObjectStores).
    pub fn list(&self) -> Result<Vec<String>> {
        #[cfg(feature = "object-store")]
        return remote::list(self);
        #[cfg(not(feature = "object-store"))]
        Err(unreachable_object(&self.into()))
    }

    /// Writes `bytes` in one request, in place of the object with this `version`, or without a
    /// version only if no object exists. Returns the new version, if the store supports such
    /// conditions.
    ///
    /// # Errors
    /// [`Error::Replaced`](crate::Error::Replaced) if another object is there by now, which stores
    /// without conditions do not report; [`Error::NoObjectStores`](crate::Error::NoObjectStores).
    pub fn put_after(&self, bytes: Vec<u8>, version: Option<&Version>) -> Result<Option<Version>> {
        #[cfg(feature = "object-store")]
        return Object::at(self)?.put_after(bytes, version);
        #[cfg(not(feature = "object-store"))]
        {
            let _ = (bytes, version);
            Err(unreachable_object(&self.into()))
        }
    }
}

#[cfg(all(test, not(feature = "object-store")))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::error::Error;

    #[test]
    fn objects_are_out_of_reach_without_the_feature() {
        for text in ["s3://b/m", "s3://b/m/", "s3://b"] {
            let folder = Location::parse_folder(text).unwrap();
            let Location::Object(url) = &folder else {
                panic!("{text} is no object");
            };
            for refused in [
                folder.check_reachable(),
                folder.exists().map(drop),
                url.list().map(drop),
                url.put_after(Vec::new(), None).map(drop),
            ] {
                assert!(matches!(refused, Err(Error::NoObjectStores { .. })));
            }
        }
    }
}
