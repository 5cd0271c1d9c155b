//! Reaches what lies at a location: a file, memory or an object.

use std::fs;
use std::io::{Error as IoError, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Result, io};
use crate::input::{Backing, Input, copy_at};
use crate::location::{Location, folder_of};
use crate::memory::InMemory;
use crate::new_file::create_file;
use crate::object::remote::Object;
use crate::object_url::ObjectUrl;
use crate::output::{Output, Permitted};
use crate::regular::open_regular;
use crate::stamp::Version;

impl Input {
    pub fn open(location: &Location) -> Result<Input> {
        match location {
            Location::File(path) => Input::of(path, open_regular(path).map_err(io("open", path))?),
            Location::Object(url) => Object::at(url)?.open(),
            Location::Memory(model) => Ok(of_memory(model.clone())),
            Location::Changed(changed) => {
                Ok(Input::open(&changed.of)?.changed(Arc::clone(&changed.by)))
            }
        }
    }
}

/// Begins a file or an object of about `len` bytes. A model named the last `below` folders above a
/// file: none of them may be a link.
pub fn create(
    location: &Location,
    below: usize,
    replace: bool,
    len: u64,
) -> Result<Box<dyn Output>> {
    match location {
        Location::File(path) => create_file(path, below, replace),
        Location::Memory(_) | Location::Changed(_) => Err(location.not_an_output()),
        Location::Object(url) => Object::at(url)?.create(replace, len),
    }
}

fn of_memory(model: InMemory) -> Input {
    let (name, len) = (model.name.clone(), model.model.len() as u64);
    Input::new(name, len, Arc::new(model))
}

impl Backing for InMemory {
    fn read_exact_at(&self, path: &Path, buffer: &mut [u8], offset: u64) -> Result<()> {
        copy_at(&self.model, buffer, offset).map_err(io("read", path))
    }

    fn open_beside(&self, path: &Path, name: &str) -> Result<Input> {
        let path = folder_of(path).join(name);
        let Some(bytes) = self.external.get(name) else {
            let text = "the model is in memory and has no folder: give this file's bytes with it, or the path of the model";
            return Err(io("open", &path)(IoError::new(ErrorKind::NotFound, text)));
        };
        let mut beside = InMemory::new(path, bytes.clone());
        beside.permitted = self.permitted;
        Ok(of_memory(beside))
    }

    fn permitted(&self) -> Permitted {
        self.permitted
    }
}

impl Location {
    pub fn check_reachable(&self) -> Result<()> {
        match self {
            Location::Object(url) if cfg!(not(feature = "object-store")) => {
                Object::at(url).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Returns whether it is a folder. In an object store, that is a URL that ends in `/` or names
    /// no object.
    pub fn is_folder(&self) -> Result<bool> {
        match self {
            Location::File(path) => Ok(path.is_dir()),
            Location::Object(url) => Ok(url.names_folder() || !self.exists()?),
            Location::Memory(_) | Location::Changed(_) => Ok(false),
        }
    }

    /// Returns whether the file, even a dangling link, or the object exists.
    pub fn exists(&self) -> Result<bool> {
        match self {
            Location::File(path) => Ok(fs::symlink_metadata(path).is_ok()),
            Location::Object(url) => Object::at(url)?.exists(),
            Location::Memory(_) => Ok(true),
            Location::Changed(changed) => changed.of.exists(),
        }
    }

    pub fn len_bytes(&self) -> Option<u64> {
        match self {
            Location::File(path) => fs::metadata(path).ok().map(|metadata| metadata.len()),
            Location::Object(url) => Some(Object::at(url).ok()?.open().ok()?.len),
            Location::Memory(model) => Some(model.model.len() as u64),
            Location::Changed(changed) => changed.of.len_bytes(),
        }
    }

    pub fn remove(&self) -> Result<()> {
        match self {
            Location::File(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(io("remove", path)(error)),
                _ => Ok(()),
            },
            Location::Object(url) => Object::at(url)?.delete(),
            Location::Memory(_) | Location::Changed(_) => Err(self.not_an_output()),
        }
    }

    /// Returns the most memory that writing one model's outputs, of `lens` bytes, holds here.
    pub fn bytes_held(&self, lens: &[u64]) -> u64 {
        match self {
            Location::Object(_) => Object::held_bytes(lens),
            _ => 0,
        }
    }
}

impl ObjectUrl {
    /// Lists the keys of all objects in this folder, in order. Leaves out empty objects, which
    /// stores use to represent folders.
    pub fn list(&self) -> Result<Vec<String>> {
        Object::at(self)?.list()
    }

    /// Writes `bytes` in one request, in place of the object with this `version`, or without a
    /// version only if no object exists. Returns the new version, if the store supports such
    /// conditions.
    ///
    /// # Errors
    /// [`Error::Replaced`](crate::Error::Replaced) if another object is there by now, which stores
    /// without conditions do not report.
    pub fn put_after(&self, bytes: Vec<u8>, version: Option<&Version>) -> Result<Option<Version>> {
        Object::at(self)?.put_after(bytes, version)
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
