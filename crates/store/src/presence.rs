//! What is at a location, be it a file's or an object's.

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

    /// Memory that writing outputs of so many bytes here holds at most, of one model.
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
    /// The keys of all objects in this folder, in their order, but for empty ones: to stores that show
    /// folders those are what keeps a folder there.
    ///
    /// # Errors
    /// `Io` where the store does not answer; [`Error::NoObjectStores`](crate::Error::NoObjectStores).
    pub fn list(&self) -> Result<Vec<String>> {
        #[cfg(feature = "object-store")]
        return remote::list(self);
        #[cfg(not(feature = "object-store"))]
        Err(unreachable_object(&self.into()))
    }

    /// Puts `bytes` there in one request, in place of the object that had this `version`; without
    /// one, where there was none. Returns its version, if the store refuses what does not fit one.
    ///
    /// # Errors
    /// [`Error::Replaced`](crate::Error::Replaced) where there is another object by now. Stores without
    /// conditions do not tell. [`Error::NoObjectStores`](crate::Error::NoObjectStores).
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
