#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sha2::{Digest as _, Sha256};

use super::*;
use crate::DataKey;
use crate::tests::vectors;

const NAME: &str = "model_ctx_0.bin";

fn new_key() -> BlobKey {
    DataKey::generate().unwrap().blob_key().unwrap()
}

fn assert_refused(key: &BlobKey, name: &str, blob: &[u8]) {
    let fault = key.open(name, blob);
    assert!(
        matches!(fault, Err(Error::Unauthentic | Error::MalformedBlob { .. })),
        "{} bytes: {:?}",
        blob.len(),
        fault.err()
    );
}

fn assert_unauthentic(key: &BlobKey, name: &str, blob: &[u8]) {
    let fault = key.open(name, blob).err();
    assert!(matches!(fault, Some(Error::Unauthentic)), "{fault:?}");
}

#[test]
fn blobs_of_the_vectors_are_sealed_and_opened() {
    for vector in vectors::blobs() {
        let key = DataKey(vector.dek).blob_key().unwrap();
        let sealed = key
            .seal_with(&vector.salt, &vector.name, &vector.plain)
            .unwrap();
        assert_eq!(sealed.len(), vector.sealed_len);
        assert_eq!(Sha256::digest(&sealed)[..], vector.sealed_sha256);
        if let Some(expected) = vector.sealed {
            assert_eq!(sealed, expected);
        }
        assert_eq!(BlobKey::plaintext_len(&sealed).unwrap(), vector.plain.len());
        assert!(*key.open(&vector.name, &sealed).unwrap() == vector.plain);
    }
}

#[test]
fn the_vectors_have_every_size_at_an_edge() {
    let lens: Vec<usize> = vectors::blobs().iter().map(|b| b.plain.len()).collect();
    for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1] {
        assert!(lens.contains(&len), "{len}");
        assert!(lens.contains(&(len + CHUNK_BYTES)), "{len} and a chunk");
    }
}

#[test]
fn a_salt_is_used_once() {
    let key = new_key();
    let (one, two) = (key.seal(NAME, b"same"), key.seal(NAME, b"same"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one[16..48], two[16..48]);
    assert_ne!(one[48..], two[48..]);
    assert_eq!(*key.open(NAME, &one).unwrap(), b"same");
    assert_eq!(*key.open(NAME, &two).unwrap(), b"same");
}

#[test]
fn every_changed_bit_is_noticed() {
    let key = new_key();
    for len in [0, 1, 40] {
        let blob = key.seal(NAME, &vectors::plain(len, 7)).unwrap();
        for bit in 0..8 * blob.len() {
            let mut changed = blob.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if bit / 8 < MAGIC.len() {
                assert_refused(&key, NAME, &changed)
            } else {
                assert_unauthentic(&key, NAME, &changed)
            }
        }
    }
}

#[test]
fn every_changed_length_is_noticed() {
    let key = new_key();
    let blob = key.seal(NAME, &vectors::plain(100, 7)).unwrap();
    for len in 0..blob.len() {
        assert_refused(&key, NAME, &blob[..len]);
    }
    for more in [1, 15, 16, 17, 1000] {
        assert_unauthentic(&key, NAME, &[&blob[..], &vec![0; more]].concat());
    }
}

#[test]
fn chunks_cannot_be_dropped_moved_or_added() {
    let key = new_key();
    const STEP: usize = CHUNK_BYTES + TAG_BYTES;
    let blob = key.seal(NAME, &vectors::plain(3 * CHUNK_BYTES, 1)).unwrap();
    let (header, chunks) = blob.split_at(HEADER_BYTES);
    let chunk = |i: usize| &chunks[i * STEP..(i + 1) * STEP];
    assert_eq!(chunks.len(), 3 * STEP);
    let of = |parts: &[&[u8]]| [header, &parts.concat()].concat();
    key.open(NAME, &of(&[chunk(0), chunk(1), chunk(2)]))
        .unwrap();
    assert_unauthentic(&key, NAME, &of(&[chunk(0)]));
    assert_unauthentic(&key, NAME, &of(&[chunk(0), chunk(1)]));
    assert_unauthentic(&key, NAME, &of(&[chunk(2)]));
    assert_unauthentic(&key, NAME, &of(&[chunk(0), chunk(2)]));
    assert_unauthentic(&key, NAME, &of(&[chunk(1), chunk(0), chunk(2)]));
    assert_unauthentic(&key, NAME, &of(&[chunk(0), chunk(0), chunk(2)]));
    assert_unauthentic(&key, NAME, &of(&[chunk(0), chunk(1), chunk(2), chunk(2)]));
    // An empty last chunk would be a second encoding of these bytes.
    let empty = key.seal(NAME, b"").unwrap();
    let longer = of(&[chunk(0), chunk(1), chunk(2), &empty[HEADER_BYTES..]]);
    assert_refused(&key, NAME, &longer);
    // Chunks of two blobs of one name do not mix.
    let other = key.seal(NAME, &vectors::plain(3 * CHUNK_BYTES, 1)).unwrap();
    let mixed = of(&[chunk(0), &other[HEADER_BYTES + STEP..][..STEP], chunk(2)]);
    assert_unauthentic(&key, NAME, &mixed);
}

#[test]
fn another_name_or_key_opens_nothing() {
    let data_key = DataKey::generate().unwrap();
    let key = data_key.blob_key().unwrap();
    let blob = key.seal(NAME, b"compiled").unwrap();
    for name in ["", "model_ctx_1.bin", "model_ctx_0.bi", "Model_ctx_0.bin"] {
        assert_unauthentic(&key, name, &blob);
    }
    assert_unauthentic(&new_key(), NAME, &blob);
    // The same data key gives the same blobs, at any time.
    let again = data_key.blob_key().unwrap();
    assert_eq!(*again.open(NAME, &blob).unwrap(), b"compiled");
}

#[test]
fn a_failure_leaves_no_plaintext() {
    let key = new_key();
    let text = vec![0x5A; CHUNK_BYTES + 10];
    let mut blob = key.seal(NAME, &text).unwrap();
    *blob.last_mut().unwrap() ^= 1;
    let mut out = vec![1; text.len()];
    let fault = key.open_into(NAME, &blob, &mut out);
    assert!(matches!(fault, Err(Error::Unauthentic)));
    assert!(out.iter().all(|byte| *byte == 0));
}

#[test]
fn plaintext_goes_where_it_fits() {
    let key = new_key();
    let blob = key.seal(NAME, b"12345").unwrap();
    for len in [0, 4, 6] {
        let fault = key.open_into(NAME, &blob, &mut vec![0; len]);
        assert!(matches!(fault, Err(Error::Misuse { .. })));
    }
}

#[test]
fn no_bytes_at_all_panic() {
    let key = new_key();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..4000 {
        let len = (random() % 200) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| random() as u8).collect();
        if random() % 2 == 0 {
            bytes.splice(0..0, MAGIC);
        }
        assert_refused(&key, NAME, &bytes);
    }
}

#[test]
fn keys_print_nothing() {
    assert_eq!(format!("{:?}", new_key()), "BlobKey(..)");
}
