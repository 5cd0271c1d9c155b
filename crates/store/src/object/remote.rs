//! Objects in stores, through blocking calls.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use futures_util::StreamExt as _;
use object_store::{
    Error as StoreError, GetOptions, ObjectMeta, ObjectStoreExt, PutMode, PutPayload, UpdateVersion,
};
use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, FileFault, Result, io as io_error};
use crate::input::{Backing, Input};
use crate::object::answer::failed;
use crate::object::bucket::Store;
use crate::object::{fault, listing};
use crate::object_url::ObjectUrl;
use crate::parallel::{self, lock};
use crate::stamp::{Stamp, Version};

/// An object, existing or not, in a reachable store.
#[derive(Clone)]
pub struct Object {
    url: ObjectUrl,
    store: Store,
    path: object_store::path::Path,
}

struct Remote {
    object: Object,
    meta: ObjectMeta,
}

// The store contains credentials.
opaque!(Object);

impl Object {
    /// Returns the object or folder at `url`, existing or not, in a store for which the environment
    /// has credentials.
    pub fn at(url: &ObjectUrl) -> Result<Object> {
        let failed = |error| failed("open", url, error);
        let path = object_store::path::Path::parse(url.key().trim_end_matches('/'));
        Ok(Object {
            url: url.clone(),
            store: Store::of(url).map_err(failed)?,
            path: path.map_err(|error| failed(error.into()))?,
        })
    }

    pub fn open(&self) -> Result<Input> {
        let meta = self.head().map_err(|error| self.failed("open", error))?;
        let (name, len, object) = (self.name(), meta.size, self.clone());
        Ok(Input::new(name, len, Arc::new(Remote { object, meta })))
    }

    /// Returns whether the object exists. With permission only to write, the store does not tell:
    /// this returns `false`, and the store itself refuses to replace an object.
    pub fn exists(&self) -> Result<bool> {
        match self.head() {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. } | StoreError::PermissionDenied { .. }) => Ok(false),
            Err(error) => Err(self.failed("look for", error)),
        }
    }

    pub(super) fn put(&self, payload: PutPayload, replace: bool) -> Result<()> {
        let mode = match self.store.creates && !replace {
            true => PutMode::Create,
            false => PutMode::Overwrite,
        };
        self.create_by(replace, |store, path| async move {
            store.objects.put_opts(&path, payload, mode.into()).await
        })
    }

    /// Makes a request that creates the object, or with `replace` also replaces it.
    pub(super) fn create_by<T: Send + 'static, R>(
        &self,
        replace: bool,
        request: impl FnOnce(Store, object_store::path::Path) -> R,
    ) -> Result<()>
    where
        R: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        if !replace {
            self.check_absent()?;
        }
        match self.on(request) {
            Ok(_) => Ok(()),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                Err(Error::OutputExists(self.name()))
            }
            Err(error) => Err(self.failed("create", error)),
        }
    }

    pub fn put_after(&self, bytes: Vec<u8>, version: Option<&Version>) -> Result<Option<Version>> {
        let (bytes, creates) = (bytes::Bytes::from(bytes), self.store.creates);
        let mode = match version {
            None if creates => PutMode::Create,
            Some(Version(at)) if creates && (at.e_tag.is_some() || at.version.is_some()) => {
                PutMode::Update(at.clone())
            }
            _ => PutMode::Overwrite,
        };
        let payload = bytes.clone().into();
        let put = self.on(|store, path| async move {
            let put = store.objects.put_opts(&path, payload, mode.into()).await;
            put.map(UpdateVersion::from)
        });
        match put {
            Ok(version) => Ok((creates && version.e_tag.is_some()).then_some(Version(version))),
            // We wrote it: only the answer to the first request was lost.
            Err(error) if is_refused(&error) && self.has(&bytes) => Ok(None),
            Err(error) if is_refused(&error) => Err(Error::Replaced {
                path: self.name(),
                by: "it has written this meanwhile".into(),
            }),
            Err(error) => Err(self.failed("write", error)),
        }
    }

    fn has(&self, bytes: &[u8]) -> bool {
        let is_it = |there: Input| {
            there.len == bytes.len() as u64 && there.read_all().is_ok_and(|there| there == bytes)
        };
        self.open().is_ok_and(is_it)
    }

    pub fn delete(&self) -> Result<()> {
        match self.on(|store, path| async move { store.objects.delete(&path).await }) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", error)),
        }
    }

    pub fn list(&self) -> Result<Vec<String>> {
        let listed = self.on(|store, path| async move {
            let prefix = Some(path.as_ref()).filter(|path| !path.is_empty());
            let prefix = prefix.map(|path| format!("{path}/"));
            let lists = store.lists.ok_or(StoreError::NotImplemented {
                operation: "list".into(),
                implementer: "this store".into(),
            })?;
            listing::all(&*lists, prefix.as_deref(), &listing::LIMITS).await
        });
        let mut keys = listed.map_err(|error| self.failed("list", error))?;
        keys.sort_unstable();
        Ok(keys)
    }

    fn head(&self) -> object_store::Result<ObjectMeta> {
        self.on(|store, path| async move { store.objects.head(&path).await })
    }

    pub(super) fn on<T: Send + 'static, R>(
        &self,
        request: impl FnOnce(Store, object_store::path::Path) -> R,
    ) -> object_store::Result<T>
    where
        R: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        wait(request(self.store.clone(), self.path.clone()))
    }

    pub(super) fn check_absent(&self) -> Result<()> {
        match self.exists()? {
            true => Err(Error::OutputExists(self.name())),
            false => Ok(()),
        }
    }

    pub(super) fn failed(&self, action: &'static str, error: StoreError) -> Error {
        failed(action, &self.url, error)
    }

    fn name(&self) -> PathBuf {
        self.url.to_string().into()
    }
}

fn is_refused(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::AlreadyExists { .. }
            | StoreError::Precondition { .. }
            | StoreError::NotFound { .. }
    )
}

impl Backing for Remote {
    fn read_exact_at(&self, path: &Path, buffer: &mut [u8], offset: u64) -> Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let wanted = buffer.len();
        let options = GetOptions {
            if_match: self.meta.e_tag.clone(),
            range: Some((offset..offset.saturating_add(wanted as u64)).into()),
            ..GetOptions::default()
        };
        let read = self.object.on(|store, path| async move {
            let found = store.objects.get_opts(&path, options).await?;
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
        self.check_as_opened(&meta)?;
        if bytes.len() != wanted {
            return Err(io_error("read", path)(io::ErrorKind::UnexpectedEof.into()));
        }
        buffer.copy_from_slice(&bytes);
        Ok(())
    }

    fn open_beside(&self, _: &Path, name: &str) -> Result<Input> {
        let beside = self.object.url.beside(name);
        if beside == self.object.url {
            return Err(Error::External {
                location: name.to_owned(),
                fault: FileFault::Shared("the model".to_owned()),
            });
        }
        Object::at(&beside)?.open()
    }

    fn url(&self) -> Option<&ObjectUrl> {
        Some(&self.object.url)
    }

    fn version(&self) -> Option<Version> {
        let (e_tag, version) = (self.meta.e_tag.clone(), self.meta.version.clone());
        Some(Version(UpdateVersion { e_tag, version }))
    }

    fn stamp(&self) -> Option<Stamp> {
        self.version()?.stamp()
    }

    fn check_unchanged(&self, _: &Path) -> Result<()> {
        let meta = self.object.head().map_err(|error| self.not_read(error))?;
        self.check_as_opened(&meta)
    }
}

impl Remote {
    fn check_as_opened(&self, meta: &ObjectMeta) -> Result<()> {
        let ours = &self.meta;
        let is_same = meta.size == ours.size
            && meta.e_tag == ours.e_tag
            && (meta.e_tag.is_some() || meta.last_modified == ours.last_modified);
        is_same.then_some(()).ok_or_else(|| self.changed())
    }

    fn not_read(&self, error: StoreError) -> Error {
        match error {
            StoreError::Precondition { .. } | StoreError::NotFound { .. } => self.changed(),
            error => self.object.failed("read", error),
        }
    }

    fn changed(&self) -> Error {
        Error::InputChanged(self.object.name())
    }
}

fn make_runtime() -> io::Result<Runtime> {
    let n_threads = parallel::n_cores().min(4);
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
        let made = runtime.take().map_or_else(make_runtime, Ok);
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
    use crate::object_url::Scheme;

    impl Object {
        /// Makes an object in a store of its own, in memory.
        pub fn in_memory() -> Object {
            Object {
                url: ObjectUrl::parse(Scheme::S3, "memory/object", false).unwrap(),
                store: Store::new(Arc::new(object_store::memory::InMemory::new())),
                path: "object".into(),
            }
        }
    }

    #[test]
    fn objects_that_change_are_noticed() {
        let object = Object::in_memory();
        let put = |bytes: &[u8]| object.put(bytes.to_vec().into(), true).unwrap();
        put(b"before");
        let remote = object.open().unwrap();
        let mut read = [0; 3];
        remote.read_exact_at(&mut read, 2).unwrap();
        remote.check_unchanged().unwrap();
        assert_eq!(&read, b"for");
        assert!(remote.read_exact_at(&mut read, 4).is_err());

        put(b"behind");
        let changed = |result| matches!(result, Err(Error::InputChanged { .. }));
        assert!(changed(remote.read_exact_at(&mut read, 2)));
        assert!(changed(remote.check_unchanged()));
        object.delete().unwrap();
        assert!(changed(remote.check_unchanged()));
        assert!(object.open().is_err());
    }
    #[test]
    fn of_two_that_write_a_record_the_second_fails() {
        let object = Object::in_memory();
        let version = || object.open().unwrap().version().unwrap();
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
        object.delete().unwrap();
        assert!(in_use(put("four", Some(&first))));
    }

    #[test]
    fn requests_wait_on_threads_that_run_futures_too() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let there = runtime.block_on(async { Object::in_memory().exists() });
        assert!(!there.unwrap());
    }
}
