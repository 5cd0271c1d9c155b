//! Objects in stores, through blocking calls.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use futures_util::StreamExt as _;
use object_store::multipart::PartId;
use object_store::{
    Error as StoreError, GetOptions, MultipartId, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload, UpdateVersion,
};
use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Result};
use crate::object::answer::failed;
use crate::object::bucket::Store;
use crate::object::{fault, listing};
use crate::object_url::ObjectUrl;
use crate::parallel::{self, lock};
use crate::version::Version;

/// How long to wait for a store to abort an upload, before leaving that to the store's own rules.
const ABORT_PATIENCE: Duration = Duration::from_secs(10);

/// An object, existing or not, in a reachable store.
#[derive(Clone)]
pub struct Object {
    /// Its URL, for messages.
    pub name: PathBuf,
    store: Store,
    path: object_store::path::Path,
}

/// An object that is being read, as it was when it was opened.
#[derive(Debug)]
pub struct Remote {
    object: Object,
    meta: ObjectMeta,
}

impl Object {
    /// Returns the object at `url`, existing or not, in a store for which the environment has
    /// credentials.
    ///
    /// # Errors
    /// [`Error::Io`] if the store cannot use the environment's settings.
    pub fn at(url: &ObjectUrl) -> Result<Object> {
        let name = PathBuf::from(url.to_string());
        let failed = |error| failed("open", &name, error);
        let path = object_store::path::Path::parse(url.key()).map_err(|e| failed(e.into()))?;
        let store = Store::of(url).map_err(failed)?;
        Ok(Object { name, store, path })
    }

    /// Makes an object in a store of its own, in memory.
    #[cfg(test)]
    pub fn in_memory() -> Object {
        Object {
            name: PathBuf::from("memory"),
            store: Store::new(std::sync::Arc::new(object_store::memory::InMemory::new())),
            path: "object".into(),
        }
    }

    /// Returns the object with another URL in this bucket.
    pub fn sibling(&self, url: &ObjectUrl) -> Result<Object> {
        let name = PathBuf::from(url.to_string());
        let path = object_store::path::Path::parse(url.key());
        let path = path.map_err(|error| failed("open", &name, error.into()))?;
        let store = self.store.clone();
        Ok(Object { name, store, path })
    }

    /// Opens the object for reading.
    pub fn open(self) -> Result<Remote> {
        let meta = self.head().map_err(|e| failed("open", &self.name, e))?;
        Ok(Remote { object: self, meta })
    }

    /// Returns whether the object exists. With permission only to write, the store does not tell:
    /// this returns `false`, and the store itself refuses to replace an object.
    pub fn exists(&self) -> Result<bool> {
        match self.head() {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. } | StoreError::PermissionDenied { .. }) => Ok(false),
            Err(error) => Err(failed("look for", &self.name, error)),
        }
    }

    /// Writes the object in one request.
    pub(crate) fn put(&self, payload: PutPayload, replace: bool) -> Result<()> {
        let mode = if replace {
            PutMode::Overwrite
        } else {
            self.check_absent()?;
            if self.store.creates {
                PutMode::Create
            } else {
                PutMode::Overwrite
            }
        };
        let (objects, path) = (self.store.objects.clone(), self.path.clone());
        let options = PutOptions::from(mode);
        let put = wait(async move { objects.put_opts(&path, payload, options).await });
        put.map(drop).map_err(|error| self.not_created(error))
    }

    /// See [`ObjectUrl::put_after`].
    pub(crate) fn put_after(
        &self,
        bytes: Vec<u8>,
        version: Option<&Version>,
    ) -> Result<Option<Version>> {
        let bytes = bytes::Bytes::from(bytes);
        let mode = match (self.store.creates, version) {
            (false, _) => PutMode::Overwrite,
            (true, None) => PutMode::Create,
            (true, Some(Version(at))) if at.e_tag.is_none() && at.version.is_none() => {
                PutMode::Overwrite
            }
            (true, Some(Version(version))) => PutMode::Update(version.clone()),
        };
        let (objects, path) = (self.store.objects.clone(), self.path.clone());
        let (options, payload) = (PutOptions::from(mode), bytes.clone().into());
        let put = wait(async move { objects.put_opts(&path, payload, options).await });
        match put {
            Ok(result) => {
                let version = UpdateVersion::from(result);
                Ok((self.store.creates && version.e_tag.is_some()).then_some(Version(version)))
            }
            Err(
                StoreError::AlreadyExists { .. }
                | StoreError::Precondition { .. }
                | StoreError::NotFound { .. },
            ) => match self.has(&bytes) {
                // We wrote it: only the answer to the first request was lost.
                true => Ok(None),
                false => Err(Error::Replaced {
                    path: self.name.clone(),
                    by: "it has written this meanwhile".into(),
                }),
            },
            Err(error) => Err(failed("write", &self.name, error)),
        }
    }

    /// Returns whether the object contains `bytes`.
    fn has(&self, bytes: &[u8]) -> bool {
        let read = || -> Result<bool> {
            let remote = self.clone().open()?;
            let mut there = vec![0; bytes.len()];
            let is_as_long = remote.len_bytes() == bytes.len() as u64;
            if is_as_long {
                remote.read_exact_at(&mut there, 0)?;
            }
            Ok(is_as_long && there == bytes)
        };
        read().unwrap_or(false)
    }

    /// Begins an upload in parts, which stays invisible until it is completed.
    pub(crate) fn begin_parts(&self) -> Result<MultipartId> {
        let (parts, path) = (self.store.parts.clone(), self.path.clone());
        let id = wait(async move { parts.create_multipart(&path).await });
        id.map_err(|error| failed("write", &self.name, error))
    }

    pub(crate) fn put_part(
        &self,
        id: &MultipartId,
        index: usize,
        payload: PutPayload,
    ) -> Result<PartId> {
        let (parts, path, id) = (self.store.parts.clone(), self.path.clone(), id.clone());
        let part = wait(async move { parts.put_part(&path, &id, index, payload).await });
        part.map_err(|error| failed("write", &self.name, error))
    }

    /// Puts the parts together to the object.
    pub(crate) fn complete(
        &self,
        id: &MultipartId,
        parts: Vec<PartId>,
        replace: bool,
    ) -> Result<()> {
        let store = match &self.store.creating {
            Some(creating) if !replace => creating,
            _ => &self.store.parts,
        };
        if !replace {
            self.check_absent()?;
        }
        let (store, path, id) = (store.clone(), self.path.clone(), id.clone());
        let completed = wait(async move { store.complete_multipart(&path, &id, parts).await });
        completed.map(drop).map_err(|error| self.not_created(error))
    }

    /// Aborts an upload. On failure, the store's own rules remove it later.
    pub(crate) fn abort(&self, id: MultipartId) {
        let (parts, path) = (self.store.parts.clone(), self.path.clone());
        let _ = wait(async move {
            let abort = parts.abort_multipart(&path, &id);
            let _ = tokio::time::timeout(ABORT_PATIENCE, abort).await;
            Ok(())
        });
    }

    /// Removes the object, if possible.
    pub fn remove(&self) {
        let _ = self.try_remove();
    }

    /// Removes the object, if it exists.
    pub fn delete(&self) -> Result<()> {
        match self.try_remove() {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("remove", &self.name, error)),
        }
    }

    fn try_remove(&self) -> object_store::Result<()> {
        let (objects, path) = (self.store.objects.clone(), self.path.clone());
        wait(async move { objects.delete(&path).await })
    }

    fn head(&self) -> object_store::Result<ObjectMeta> {
        let (objects, path) = (self.store.objects.clone(), self.path.clone());
        wait(async move { objects.head(&path).await })
    }

    fn check_absent(&self) -> Result<()> {
        if self.exists()? {
            Err(Error::OutputExists {
                path: self.name.clone(),
            })
        } else {
            Ok(())
        }
    }

    /// Makes the error for an object that was not created.
    fn not_created(&self, error: StoreError) -> Error {
        match error {
            StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => {
                let path = self.name.clone();
                Error::OutputExists { path }
            }
            error => failed("create", &self.name, error),
        }
    }
}

/// See [`ObjectUrl::list`].
pub(crate) fn list(folder: &ObjectUrl) -> Result<Vec<String>> {
    let name = PathBuf::from(folder.to_string());
    let failed = |error| failed("list", &name, error);
    let path = folder.key().trim_end_matches('/');
    object_store::path::Path::parse(path).map_err(|e| failed(e.into()))?;
    let prefix = (!path.is_empty()).then(|| format!("{path}/"));
    let lists = Store::of(folder).map_err(failed)?.lists;
    let mut keys = wait(async move {
        match lists {
            Some(lists) => listing::all(&*lists, prefix.as_deref(), &listing::LIMITS).await,
            None => Err(StoreError::NotImplemented {
                operation: "list".into(),
                implementer: "this store".into(),
            }),
        }
    })
    .map_err(failed)?;
    keys.sort_unstable();
    Ok(keys)
}

impl Remote {
    /// Length in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.meta.size
    }

    /// Fills `buffer` with the bytes at `offset` of the version that was opened.
    ///
    /// # Errors
    /// [`Error::InputChanged`] if the object was replaced.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let range = offset..offset.saturating_add(buffer.len() as u64);
        let options = GetOptions {
            if_match: self.meta.e_tag.clone(),
            range: Some(range.into()),
            ..GetOptions::default()
        };
        let (objects, path) = (self.object.store.objects.clone(), self.object.path.clone());
        let wanted = buffer.len();
        let read = wait(async move {
            let found = objects.get_opts(&path, options).await?;
            let meta = found.meta.clone();
            let mut bytes = Vec::with_capacity(wanted);
            let mut parts = found.into_stream();
            // A store may answer with more than it was asked for, even endlessly.
            while bytes.len() <= wanted
                && let Some(part) = parts.next().await
            {
                bytes.extend_from_slice(&part?);
            }
            Ok((meta, bytes))
        });
        let (meta, bytes) = read.map_err(|error| self.not_read(error))?;
        if !self.is_as_opened(&meta) {
            return Err(self.changed());
        }
        if bytes.len() != buffer.len() {
            let source = io::ErrorKind::UnexpectedEof.into();
            let (action, path) = ("read", self.object.name.clone());
            return Err(Error::Io {
                action,
                path,
                source,
            });
        }
        buffer.copy_from_slice(&bytes);
        Ok(())
    }

    /// Returns the version of the object, as far as the store tells.
    pub fn version(&self) -> Version {
        let ObjectMeta { e_tag, version, .. } = &self.meta;
        let (e_tag, version) = (e_tag.clone(), version.clone());
        Version(UpdateVersion { e_tag, version })
    }

    /// Fails if the object was replaced or removed.
    pub fn check_unchanged(&self) -> Result<()> {
        let meta = self.object.head().map_err(|error| self.not_read(error))?;
        if self.is_as_opened(&meta) {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    /// Returns the object at `url` in this bucket.
    pub fn sibling(&self, url: &ObjectUrl) -> Result<Object> {
        self.object.sibling(url)
    }

    fn is_as_opened(&self, meta: &ObjectMeta) -> bool {
        let ours = &self.meta;
        meta.size == ours.size
            && match (&meta.e_tag, &ours.e_tag) {
                (Some(tag), Some(our_tag)) => tag == our_tag,
                (tag, our_tag) => tag == our_tag && meta.last_modified == ours.last_modified,
            }
    }

    fn not_read(&self, error: StoreError) -> Error {
        match error {
            StoreError::Precondition { .. } | StoreError::NotFound { .. } => self.changed(),
            error => failed("read", &self.object.name, error),
        }
    }

    fn changed(&self) -> Error {
        let path = self.object.name.clone();
        Error::InputChanged { path }
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Leave out the store, which contains credentials.
        let Object {
            name,
            store: _,
            path: _,
        } = self;
        write!(f, "Object({})", name.display())
    }
}

/// Makes the threads that wait for stores.
fn make_runtime() -> io::Result<Runtime> {
    let n_threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(4);
    // The runtime panics where the system gives it no threads. So start as many first.
    let gate = Mutex::new(());
    std::thread::scope(|scope| {
        let _closed = lock(&gate);
        for _ in 0..n_threads {
            parallel::start(scope, || drop(lock(&gate)))?;
        }
        Ok::<_, io::Error>(())
    })?;
    Builder::new_multi_thread()
        .worker_threads(n_threads)
        .thread_name("onnxseal-store")
        .enable_all()
        .build()
}

/// Runs `future` to completion, from any thread, even one that runs futures itself.
fn wait<T: Send + 'static>(
    future: impl Future<Output = object_store::Result<T>> + Send + 'static,
) -> object_store::Result<T> {
    static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);
    let runtime = {
        let mut runtime = lock(&RUNTIME);
        let made = match runtime.take() {
            Some(made) => Ok(made),
            None => make_runtime(),
        };
        let made = made.map_err(|error| fault(format!("no threads: {error}")))?;
        runtime.insert(made).handle().clone()
    };
    let (done, outcome) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        let _ = done.send(future.await);
    });
    let stopped = |_| Err(fault("the request was stopped".to_owned()));
    outcome.recv().unwrap_or_else(stopped)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn objects_that_change_are_noticed() {
        let object = Object::in_memory();
        let put = |bytes: &[u8]| object.put(bytes.to_vec().into(), true).unwrap();
        put(b"before");
        let remote = object.clone().open().unwrap();
        let mut read = [0; 3];
        remote.read_exact_at(&mut read, 2).unwrap();
        remote.check_unchanged().unwrap();
        assert_eq!(&read, b"for");
        assert!(remote.read_exact_at(&mut read, 4).is_err());

        put(b"behind");
        let changed = |result| matches!(result, Err(Error::InputChanged { .. }));
        assert!(changed(remote.read_exact_at(&mut read, 2)));
        assert!(changed(remote.check_unchanged()));
        object.remove();
        assert!(changed(remote.check_unchanged()));
        assert!(object.open().is_err());
    }
    #[test]
    fn of_two_that_write_a_record_the_second_fails() {
        let object = Object::in_memory();
        let version = || object.clone().open().unwrap().version();
        let in_use = |result| matches!(result, Err(Error::Replaced { .. }));
        let put = |text: &str, version: Option<&Version>| {
            object.put_after(text.as_bytes().to_vec(), version)
        };
        let version_of = put("one", None).unwrap().unwrap();
        assert_eq!(version_of.stamp(), version().stamp());
        assert!(in_use(put("two", None)));
        // As if the answer to the first request was lost.
        assert!(put("one", None).unwrap().is_none());
        let first = version();
        put("two", Some(&first)).unwrap();
        assert!(in_use(put("three", Some(&first))));
        put("three", Some(&version())).unwrap();
        object.remove();
        assert!(in_use(put("four", Some(&first))));
    }

    #[test]
    fn requests_wait_on_threads_that_run_futures_too() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let there = runtime.block_on(async { Object::in_memory().exists() });
        assert!(!there.unwrap());
    }
}
