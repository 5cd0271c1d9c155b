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

#[cfg(test)]
mod of_changed {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::change::Change;
    use crate::location::Changed;

    /// Adds 1 to each byte of a file, except where it is 9.
    struct More(Option<&'static str>);

    impl Change for More {
        fn change(
            &self,
            external: Option<&str>,
            buffer: &mut [u8],
            offset: u64,
            read: &dyn Fn(&mut [u8], u64) -> Result<()>,
        ) -> Result<()> {
            let mut before = vec![0; buffer.len()];
            read(&mut before, offset)?;
            assert_eq!(before, buffer);
            if external == self.0 {
                buffer
                    .iter_mut()
                    .filter(|byte| **byte != 9)
                    .for_each(|byte| *byte += 1);
            }
            Ok(())
        }
    }

    #[test]
    fn a_model_and_its_external_data_change_as_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        fs::write(&path, [1, 2, 9]).unwrap();
        fs::write(folder.path().join("w.bin"), [4, 5, 6]).unwrap();
        for (of, model, external) in [
            (None, [2, 3, 9], [4, 5, 6]),
            (Some("w.bin"), [1, 2, 9], [5, 6, 7]),
        ] {
            let (by, other): (Arc<dyn Change>, Arc<dyn Change>) =
                (Arc::new(More(of)), Arc::new(More(of)));
            let at = |by: &Arc<dyn Change>| {
                let of = Box::new(Location::from(&path));
                Location::from(Changed {
                    of,
                    by: Arc::clone(by),
                })
            };
            let changed = at(&by);
            assert!(changed == at(&by) && changed != at(&other));
            let input = Input::open(&changed).unwrap();
            assert_eq!(input.read_all().unwrap(), model);
            assert_eq!(
                input.open_beside("w.bin").unwrap().read_all().unwrap(),
                external
            );
            assert!(!input.is_file() && input.file().unwrap().is_none() && input.held().is_none());
            assert_eq!(
                input.location(),
                Some(Location::File(path.canonicalize().unwrap()))
            );
            assert!(create(&changed, 0, false, 3).is_err());
            let edited = input.edited(vec![8].into());
            assert_eq!(edited.read_all().unwrap(), [8]);
            assert_eq!(edited.before_edit().unwrap().read_all().unwrap(), model);
        }
        assert_eq!(fs::read(&path).unwrap(), [1, 2, 9]);
    }
}
