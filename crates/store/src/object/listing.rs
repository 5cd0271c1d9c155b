//! Listings of stores, with limits because a store may continue them endlessly.

use std::time::Duration;

use object_store::list::{PaginatedListOptions, PaginatedListStore};

use crate::object::fault;

pub(super) struct Limits {
    pub(super) objects: usize,
    pub(super) key_bytes: usize,
    /// Answers of the store, of up to a thousand objects each.
    pub(super) pages: usize,
    /// Answers without an object, one after the other.
    pub(super) empty_pages: usize,
    pub(super) time: Duration,
}

pub(super) const LIMITS: Limits = Limits {
    objects: 1_000_000,
    key_bytes: 256 << 20,
    pages: 10_000,
    empty_pages: 100,
    time: Duration::from_secs(60 * 60),
};

/// Returns the keys of all objects that begin with `prefix`, except empty objects.
pub(super) async fn all(
    store: &dyn PaginatedListStore,
    prefix: Option<&str>,
    limits: &Limits,
) -> object_store::Result<Vec<String>> {
    let listed = tokio::time::timeout(limits.time, async {
        let (mut keys, mut n_objects, mut key_bytes, mut n_empty) = (Vec::new(), 0, 0, 0);
        let mut token = None;
        for _ in 0..limits.pages {
            let mut options = PaginatedListOptions::default();
            options.page_token.clone_from(&token);
            let page = store.list_paginated(prefix, options).await?;
            let objects = page.result.objects;
            n_empty = if objects.is_empty() { n_empty + 1 } else { 0 };
            n_objects += objects.len();
            key_bytes += objects
                .iter()
                .map(|object| object.location.as_ref().len())
                .sum::<usize>();
            let objects = objects.into_iter().filter(|object| object.size > 0);
            keys.extend(objects.map(|object| String::from(object.location)));
            if n_objects > limits.objects {
                return Err(exceeded("has more than", limits.objects, "objects"));
            }
            if key_bytes > limits.key_bytes {
                return Err(exceeded("has more than", limits.key_bytes, "bytes of keys"));
            }
            match page.page_token.filter(|token| !token.is_empty()) {
                None => return Ok(keys),
                Some(next) if token.as_ref() == Some(&next) => {
                    return Err(fault("the listing repeats itself, without end".to_owned()));
                }
                Some(_) if n_empty >= limits.empty_pages => {
                    let what = "pages without an object, one after the other";
                    return Err(exceeded("has", limits.empty_pages, what));
                }
                next => token = next,
            }
        }
        Err(exceeded("has more than", limits.pages, "pages"))
    });
    let seconds = limits.time.as_secs_f64();
    let late = |_| Err(exceeded("takes longer than", seconds, "seconds"));
    listed.await.unwrap_or_else(late)
}

fn exceeded(verb: &str, limit: impl std::fmt::Display, unit: &str) -> object_store::Error {
    fault(format!("the listing {verb} {limit} {unit}, the limit"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use async_trait::async_trait;
    use object_store::list::PaginatedListResult;
    use object_store::{ListResult, ObjectMeta};

    use super::*;

    /// A store that lists this many objects on each page; the last page has no token.
    struct Pages {
        objects: usize,
        pages: usize,
    }

    #[async_trait]
    impl PaginatedListStore for Pages {
        async fn list_paginated(
            &self,
            _: Option<&str>,
            options: PaginatedListOptions,
        ) -> object_store::Result<PaginatedListResult> {
            let page: usize = options.page_token.map_or(0, |token| token.parse().unwrap());
            let object = |i: usize| ObjectMeta {
                location: format!("{page}/{i}").into(),
                last_modified: Default::default(),
                size: 1,
                e_tag: None,
                version: None,
            };
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(PaginatedListResult {
                result: ListResult {
                    common_prefixes: Vec::new(),
                    objects: (0..self.objects).map(object).collect(),
                    extensions: Default::default(),
                },
                page_token: (page + 1 < self.pages).then(|| (page + 1).to_string()),
            })
        }
    }

    #[test]
    fn listings_end() {
        let limits = Limits {
            objects: 50,
            key_bytes: 1000,
            pages: 30,
            empty_pages: 5,
            time: Duration::from_secs(600),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let list = |objects, pages, limits: &Limits| {
            runtime.block_on(all(&Pages { objects, pages }, None, limits))
        };
        assert_eq!(list(5, 10, &limits).unwrap().len(), 50);
        assert_eq!(list(1, 30, &limits).unwrap().len(), 30);
        assert_eq!(list(0, 5, &limits).unwrap().len(), 0);
        let endless = usize::MAX;
        let few_bytes = Limits {
            key_bytes: 50,
            ..limits
        };
        let no_time = Limits {
            time: Duration::ZERO,
            ..limits
        };
        for (objects, limits, words) in [
            (5, &limits, "50 objects, the limit"),
            (1, &limits, "30 pages, the limit"),
            (0, &limits, "5 pages without an object"),
            (5, &few_bytes, "50 bytes of keys, the limit"),
            (5, &no_time, "longer than 0 seconds"),
        ] {
            let error = list(objects, endless, limits).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
