//! An object that appears whole or not at all.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use object_store::multipart::PartId;
use object_store::{MultipartId, PutPayload};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::object::remote::Object;
use crate::output::{Flush, Output, OutputOptions, Permitted, Published};
use crate::parallel::{N_REQUESTS, lock};

/// The least bytes of a part. Stores require 5 MiB, except for the last part.
const MIN_PART_BYTES: u64 = 8 << 20;

/// The most parts for the known length of an object. A tail of unknown length may take 1,000 more.
const MAX_PARTS: u64 = 9_000;

fn part_bytes(len: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    len.div_ceil(MAX_PARTS)
        .next_multiple_of(MIB)
        .max(MIN_PART_BYTES)
}

/// How long to wait for a store to abort an upload, before leaving that to the store's own rules.
const ABORT_PATIENCE: Duration = Duration::from_secs(10);

/// An object that is being written in parts, invisible until they are put together.
///
/// Any thread may write bytes, in any order, each byte once. The thread that completes a part sends
/// it. An object smaller than a part is sent in one request when it is published.
pub(crate) struct Upload {
    object: Object,
    part_bytes: u64,
    /// The upload's name in the store, once its first part is sent.
    id: Mutex<Option<MultipartId>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Incomplete parts, by index.
    gathering: BTreeMap<u64, Gathering>,
    sent: BTreeMap<u64, PartId>,
    /// Length of the object so far, in bytes.
    len: u64,
}

#[derive(Default)]
struct Gathering {
    pieces: BTreeMap<u64, Zeroizing<Vec<u8>>>,
    len: u64,
}

impl Upload {
    fn create(object: Object, replace: bool, len: u64) -> Result<Upload> {
        if !replace {
            object.check_absent()?;
        }
        Ok(Upload {
            object,
            part_bytes: part_bytes(len),
            id: Mutex::new(None),
            state: Mutex::default(),
        })
    }

    /// Sends the rest, if parts were sent before.
    fn send_rest(&self) -> Result<()> {
        if lock(&self.id).is_none() {
            return Ok(());
        }
        loop {
            let last = lock(&self.state).gathering.pop_last();
            match last {
                Some((index, part)) => self.send(index, part)?,
                None => return Ok(()),
            }
        }
    }

    fn complete(&self, replace: bool) -> Result<()> {
        self.send_rest()?;
        let State {
            gathering,
            sent,
            len,
        } = std::mem::take(&mut *lock(&self.state));
        let id = lock(&self.id).clone();
        let Some(id) = id else {
            let part = gathering.into_values().next().unwrap_or_default();
            if part.len != len {
                return Err(INCOMPLETE);
            }
            return self.object.put(part.into_payload(0)?, replace);
        };
        if !sent.keys().copied().eq(0..len.div_ceil(self.part_bytes)) {
            return Err(INCOMPLETE);
        }
        let sent = sent.into_values().collect();
        self.object.create_by(replace, |store, path| async move {
            let to = store.creating.filter(|_| !replace).unwrap_or(store.parts);
            to.complete_multipart(&path, &id, sent).await
        })?;
        lock(&self.id).take();
        Ok(())
    }

    /// Adds bytes to their part, and takes the part out if it is complete.
    fn gather(&self, bytes: &[u8], offset: u64) -> Option<(u64, Gathering)> {
        let piece = Zeroizing::new(bytes.to_vec());
        let (index, len) = (offset / self.part_bytes, bytes.len() as u64);
        let mut state = lock(&self.state);
        state.len = state.len.max(offset + len);
        let part = state.gathering.entry(index).or_default();
        part.pieces.insert(offset, piece);
        part.len += len;
        if part.len < self.part_bytes {
            return None;
        }
        let part = state.gathering.remove(&index)?;
        Some((index, part))
    }

    fn send(&self, index: u64, part: Gathering) -> Result<()> {
        let payload = part.into_payload(index * self.part_bytes)?;
        let mut begun = lock(&self.id);
        let id = match &*begun {
            Some(id) => id.clone(),
            None => {
                let id = self
                    .object
                    .on(|store, path| async move { store.parts.create_multipart(&path).await });
                let id = id.map_err(|error| self.object.failed("write", error))?;
                begun.insert(id).clone()
            }
        };
        drop(begun);
        let sent = self.object.on(|store, path| async move {
            (store.parts)
                .put_part(&path, &id, index as usize, payload)
                .await
        });
        let sent = sent.map_err(|error| self.object.failed("write", error))?;
        lock(&self.state).sent.insert(index, sent);
        Ok(())
    }
}

impl Object {
    /// Returns the most memory that uploads of one model's files, of `lens` bytes, hold: a part for
    /// each request under way, and the beginning and the end of each file.
    pub fn held_bytes(lens: &[u64]) -> u64 {
        let all = lens.iter().fold(0_u64, |sum, len| sum.saturating_add(*len));
        let part = lens.iter().map(|len| part_bytes(*len)).max();
        let n_parts = N_REQUESTS + 2 * lens.len();
        all.min(part.unwrap_or(0).saturating_mul(n_parts as u64))
    }

    pub fn create(&self, replace: bool, len: u64) -> Result<Box<dyn Output>> {
        Ok(Box::new(Upload::create(self.clone(), replace, len)?))
    }
}

impl Output for Upload {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let (mut rest, mut offset) = (bytes, offset);
        while !rest.is_empty() {
            let room = self.part_bytes - offset % self.part_bytes;
            let len = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(len);
            if let Some((index, part)) = self.gather(now, offset) {
                self.send(index, part)?;
            }
            (rest, offset) = (later, offset + now.len() as u64);
        }
        Ok(())
    }

    fn finish(&self, _: Flush) -> Result<()> {
        self.send_rest()
    }

    fn publish(self: Box<Self>, _: Permitted, options: OutputOptions) -> Result<Published> {
        self.complete(options.replace)?;
        let object = self.object.clone();
        Ok(Published(Box::new(move || drop(object.delete()))))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let id = lock(&self.id).take();
        if let Some(id) = id {
            // On failure, the store's own rules remove it later.
            let _ = self.object.on(|store, path| async move {
                let abort = store.parts.abort_multipart(&path, &id);
                let _ = tokio::time::timeout(ABORT_PATIENCE, abort).await;
                Ok(())
            });
        }
    }
}

const INCOMPLETE: Error = Error::Internal("an object that lacks bytes");

impl Gathering {
    /// Joins the part's bytes from `start` on, without gaps. They are zeroized once they are sent.
    fn into_payload(self, start: u64) -> Result<PutPayload> {
        let mut next = start;
        for (offset, piece) in &self.pieces {
            if *offset != next {
                return Err(INCOMPLETE);
            }
            next += piece.len() as u64;
        }
        Ok(self.pieces.into_values().map(Bytes::from_owner).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PART: usize = MIN_PART_BYTES as usize;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    /// Writes `bytes` in pieces of `step` bytes, out of order.
    fn written(upload: &Upload, bytes: &[u8], step: usize) {
        let mut pieces: Vec<_> = bytes.chunks(step).enumerate().collect();
        pieces.sort_by_key(|(i, _)| i * 7 % 16);
        for (i, piece) in pieces {
            upload.write_all_at(piece, (i * step) as u64).unwrap();
        }
    }

    fn read(object: Object) -> Vec<u8> {
        object.open().unwrap().read_all().unwrap()
    }

    #[test]
    fn pieces_in_any_order_become_the_object() {
        for len in [0, 1, PART - 1, PART, PART + 1, 3 * PART, 3 * PART + 5] {
            for step in [1 << 20, 3 << 20, PART + 7] {
                let upload = Upload::create(Object::in_memory(), false, len as u64).unwrap();
                let object = upload.object.clone();
                let bytes = bytes(len);
                written(&upload, &bytes, step);
                let began = lock(&upload.id).is_some();
                assert_eq!(began, len >= PART, "{len}");
                assert!(!object.exists().unwrap());
                upload.complete(false).unwrap();
                assert!(read(object) == bytes, "{len} {step}");
            }
        }
    }

    #[test]
    fn a_tail_may_be_longer_than_was_known() {
        let upload = Upload::create(Object::in_memory(), false, 10).unwrap();
        let bytes = bytes(2 * PART + 3);
        written(&upload, &bytes[..10], 10);
        upload.write_all_at(&bytes[10..], 10).unwrap();
        upload.complete(false).unwrap();
        assert!(read(upload.object.clone()) == bytes);
    }

    #[test]
    fn what_lacks_bytes_is_not_published() {
        for (len, missing) in [(100, 50), (3 * PART, PART + 9), (3 * PART, 3 * PART - 5)] {
            let upload = Upload::create(Object::in_memory(), true, len as u64).unwrap();
            let object = upload.object.clone();
            let bytes = bytes(len);
            upload.write_all_at(&bytes[..missing], 0).unwrap();
            let after = (missing + 1) as u64;
            upload.write_all_at(&bytes[missing + 1..], after).unwrap();
            assert!(matches!(upload.complete(true), Err(Error::Internal(_))));
            assert!(!object.exists().unwrap());
        }
    }

    #[test]
    fn an_object_that_is_there_is_replaced_only_if_asked_to() {
        for len in [10, PART + 1] {
            let object = Object::in_memory();
            let begin = |replace| Upload::create(object.clone(), replace, len as u64);
            let early = begin(false).unwrap();
            written(&early, &bytes(len), len);
            object.put(vec![1].into(), false).unwrap();
            let exists = |result| matches!(result, Err(Error::OutputExists { .. }));
            assert!(exists(early.complete(false)));
            assert!(exists(begin(false).map(drop)));
            assert_eq!(read(object.clone()), [1]);
            let late = begin(true).unwrap();
            written(&late, &bytes(len), len);
            late.complete(true).unwrap();
            assert!(read(object.clone()) == bytes(len));
        }
    }

    #[test]
    fn uploads_hold_what_they_have_or_some_parts() {
        assert_eq!(Object::held_bytes(&[]), 0);
        assert_eq!(Object::held_bytes(&[1 << 20, 3 << 20]), 4 << 20);
        assert_eq!(Object::held_bytes(&[1 << 30]), 18 * MIN_PART_BYTES);
        assert_eq!(
            Object::held_bytes(&[1 << 20, u64::MAX]),
            20 * part_bytes(u64::MAX)
        );
    }

    #[test]
    fn parts_are_as_few_as_stores_allow() {
        let tebibytes = 1 << 40;
        assert_eq!(part_bytes(0), MIN_PART_BYTES);
        for len in [1, 70 << 30, 100 << 30, tebibytes, 5 * tebibytes] {
            let part = part_bytes(len);
            assert!(len.div_ceil(part) <= MAX_PARTS && part >= MIN_PART_BYTES);
        }
        assert!(part_bytes(5 * tebibytes) < 600 << 20);
    }
}
