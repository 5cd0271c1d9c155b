//! Buckets and containers, with credentials and endpoint from the environment.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::{ClientOptions, HeaderMap, HeaderValue, ObjectStore};

use crate::object::client::Connector;
use crate::object::{environment, fault};
use crate::object_url::{ObjectUrl, Scheme};
use crate::parallel::lock;

#[derive(Clone)]
pub(super) struct Store {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) parts: Arc<dyn MultipartStore>,
    /// Completes uploads only if no object exists; absent if the store cannot do that.
    pub(super) creating: Option<Arc<dyn MultipartStore>>,
    /// Whether a single PUT can require that no object exists.
    pub(super) creates: bool,
    pub(super) lists: Option<Arc<dyn PaginatedListStore>>,
}

impl Store {
    /// Returns the store of `url`, shared by all calls on its bucket to reuse connections. Reads
    /// the environment once.
    pub(super) fn of(url: &ObjectUrl) -> object_store::Result<Store> {
        static STORES: Mutex<Option<HashMap<(Scheme, String), Store>>> = Mutex::new(None);
        let mut stores = lock(&STORES);
        let bucket = (url.scheme, url.bucket.clone());
        Ok(match stores.get_or_insert_default().entry(bucket) {
            Entry::Occupied(store) => store.get().clone(),
            Entry::Vacant(none) => none.insert(Store::new_of(url)?).clone(),
        })
    }

    fn new_of(url: &ObjectUrl) -> object_store::Result<Store> {
        environment::check(url.scheme).map_err(fault)?;
        match url.scheme {
            Scheme::S3 => Store::s3(&url.bucket),
            Scheme::Gs => GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(&url.bucket)
                .with_http_connector(Connector)
                .build()
                .map(Store::listed),
            Scheme::Az => MicrosoftAzureBuilder::from_env()
                .with_container_name(&url.bucket)
                .with_http_connector(Connector)
                .build()
                .map(Store::listed),
        }
    }

    pub(super) fn new(store: Arc<impl ObjectStore + MultipartStore>) -> Store {
        Store {
            objects: store.clone(),
            parts: store,
            creating: None,
            creates: true,
            lists: None,
        }
    }

    fn listed(store: impl ObjectStore + MultipartStore + PaginatedListStore) -> Store {
        let store = Arc::new(store);
        Store {
            lists: Some(store.clone()),
            ..Store::new(store)
        }
    }

    fn s3(bucket: &str) -> object_store::Result<Store> {
        let builder = || {
            AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_http_connector(Connector)
        };
        let conditional = builder().get_config_value(&AmazonS3ConfigKey::ConditionalPut);
        let store = builder().build()?;
        let credentials = store.credentials().clone();
        let mut s3 = Store::listed(store);
        s3.creates = conditional.as_deref() != Some("disabled");
        if s3.creates {
            // S3 can complete an upload on a condition, but the interface lacks an option for it.
            let mut headers = HeaderMap::new();
            headers.insert("if-none-match", HeaderValue::from_static("*"));
            let options = s3_client_options().with_default_headers(headers);
            let creating = builder()
                .with_client_options(options)
                .with_credentials(credentials);
            s3.creating = Some(Arc::new(creating.build()?));
        }
        Ok(s3)
    }
}

/// Reads the environment's options of S3's HTTP client, as [`AmazonS3Builder::from_env`] does.
fn s3_client_options() -> ClientOptions {
    let mut options = ClientOptions::new();
    for (key, value) in std::env::vars_os() {
        if let (Some(key), Some(value)) = (key.to_str(), value.to_str())
            && key.starts_with("AWS_")
            && let Ok(AmazonS3ConfigKey::Client(key)) = key.to_ascii_lowercase().parse()
        {
            options = options.with_config(key, value);
        }
    }
    options
}
