//! On the back end of the build; `tests/run.sh` runs them with both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::single_range_in_vec_init)]

use super::*;
use crate::backend::{Ctr, Gcm, Tag, rust_crypto};
use crate::derive::{self, ChunkId};
use crate::gather::MAX_CHUNK_BYTES;
use crate::secret::Secret;
use crate::tests::vectors;

const AT: ChunkId = ChunkId { file: 1, chunk: 2 };

fn seal(
    gcm: &Gcm,
    at: ChunkId,
    bytes: &mut [u8],
    targets: &[Range<usize>],
    scratch: &mut Scratch,
) -> Result<Tag, Error> {
    let work = |clear: &[u8], text: &mut [u8]| gcm.seal(derive::nonce(at), clear, text);
    in_parts(bytes, targets, scratch, work)
}

fn open(
    gcm: &Gcm,
    at: ChunkId,
    bytes: &mut [u8],
    targets: &[Range<usize>],
    tag: &Tag,
    scratch: &mut Scratch,
) -> Result<(), Error> {
    let work = |clear: &[u8], text: &mut [u8]| gcm.open(derive::nonce(at), clear, text, tag);
    in_parts(bytes, targets, scratch, work)
}

fn key(byte: u8) -> Gcm {
    Gcm::new(&Secret::copy(&[byte; 32])).unwrap()
}

/// Fails unless opening gives this fault class, and leaves the bytes alone that are not encrypted.
fn assert_unauthentic(gcm: &Gcm, at: ChunkId, bytes: &[u8], targets: &[Range<usize>], tag: &Tag) {
    let mut opened = bytes.to_vec();
    let mut scratch = Scratch::new();
    let fault = open(gcm, at, &mut opened, targets, tag, &mut scratch);
    assert!(matches!(fault, Err(Error::Unauthentic)), "{fault:?}");
    for gap in gather::gaps(targets, bytes.len()) {
        assert!(
            opened[gap.clone()] == bytes[gap],
            "bytes in clear were touched"
        );
    }
}

#[test]
fn sealing_equals_the_vectors() {
    let mut scratch = Scratch::new();
    for artifact in vectors::artifacts() {
        let gcm = Gcm::new(&derive::chunk_key(&artifact.dek, &artifact.manifest).unwrap()).unwrap();
        for chunk in &artifact.chunks {
            let mut bytes = chunk.plain.clone();
            let tag = seal(&gcm, chunk.at, &mut bytes, &chunk.targets, &mut scratch).unwrap();
            chunk.assert_sealed(&bytes);
            assert_eq!(tag, chunk.tag, "{}", chunk.label);
        }
    }
}

#[test]
fn opening_the_vectors_restores() {
    let mut scratch = Scratch::new();
    for artifact in vectors::artifacts() {
        let gcm = Gcm::new(&derive::chunk_key(&artifact.dek, &artifact.manifest).unwrap()).unwrap();
        for chunk in &artifact.chunks {
            let mut bytes = chunk.plain.clone();
            seal(&gcm, chunk.at, &mut bytes, &chunk.targets, &mut scratch).unwrap();
            open(
                &gcm,
                chunk.at,
                &mut bytes,
                &chunk.targets,
                &chunk.tag,
                &mut scratch,
            )
            .unwrap();
            assert!(bytes == chunk.plain, "{}", chunk.label);
        }
    }
}

#[test]
fn nist_vectors() {
    let cases = vectors::gcm();
    assert!(cases.iter().any(|case| case.plaintext.is_none()));
    for case in cases {
        let gcm = Gcm::new(&case.key).unwrap();
        let mut in_place = case.ciphertext.clone();
        let opened = gcm.open(case.nonce, &case.aad, &mut in_place, &case.tag);
        let mut aside = vec![0; case.ciphertext.len()];
        let opened_into = gcm.open_into(
            case.nonce,
            &case.aad,
            &case.ciphertext,
            &case.tag,
            &mut aside,
        );
        match case.plaintext {
            Some(mut plaintext) => {
                opened.unwrap();
                opened_into.unwrap();
                assert_eq!(in_place, plaintext);
                assert_eq!(aside, plaintext);
                let tag = gcm.seal(case.nonce, &case.aad, &mut plaintext).unwrap();
                assert_eq!(plaintext, case.ciphertext);
                assert_eq!(tag, case.tag);
            }
            None => {
                assert!(matches!(opened, Err(Error::Unauthentic)));
                assert!(matches!(opened_into, Err(Error::Unauthentic)));
            }
        }
    }
}

#[test]
fn any_flipped_bit_is_unauthentic() {
    let gcm = key(1);
    let mut scratch = Scratch::new();
    let layouts = [
        vec![],
        vec![0..100],
        vec![0..40],
        vec![60..100],
        vec![30..70],
        vec![0..1, 5..50, 99..100],
    ];
    for targets in layouts {
        let mut sealed = vectors::plain(100, 5);
        let tag = seal(&gcm, AT, &mut sealed, &targets, &mut scratch).unwrap();
        for bit in 0..8 * sealed.len() {
            sealed[bit / 8] ^= 1 << (bit % 8);
            assert_unauthentic(&gcm, AT, &sealed, &targets, &tag);
            sealed[bit / 8] ^= 1 << (bit % 8);
        }
        for bit in 0..128 {
            let mut forged = tag;
            forged.0[bit / 8] ^= 1 << (bit % 8);
            assert_unauthentic(&gcm, AT, &sealed, &targets, &forged);
        }
        assert_unauthentic(&key(2), AT, &sealed, &targets, &tag);
        open(&gcm, AT, &mut sealed, &targets, &tag, &mut scratch).unwrap();
    }
}

#[test]
fn another_place_is_unauthentic() {
    let gcm = key(1);
    for targets in [vec![], vec![0..64], vec![0..9, 20..30]] {
        let mut sealed = vectors::plain(64, 0);
        let tag = seal(&gcm, AT, &mut sealed, &targets, &mut Scratch::new()).unwrap();
        for bit in 0..32 {
            let at = ChunkId {
                file: AT.file ^ (1 << bit),
                ..AT
            };
            assert_unauthentic(&gcm, at, &sealed, &targets, &tag);
        }
        for bit in 0..64 {
            let at = ChunkId {
                chunk: AT.chunk ^ (1 << bit),
                ..AT
            };
            assert_unauthentic(&gcm, at, &sealed, &targets, &tag);
        }
        let swapped = ChunkId { file: 2, chunk: 1 };
        assert_unauthentic(&gcm, swapped, &sealed, &targets, &tag);
    }
}

#[test]
fn another_cut_is_unauthentic() {
    let gcm = key(1);
    let mut sealed = vectors::plain(64, 0);
    let tag = seal(&gcm, AT, &mut sealed, &[8..16, 32..48], &mut Scratch::new()).unwrap();
    for targets in [
        vec![],
        vec![0..64],
        vec![8..16],
        vec![32..48],
        vec![7..15, 32..48],
        vec![9..17, 32..48],
        vec![8..17, 32..48],
        vec![8..16, 33..48],
        vec![8..16, 32..47],
        vec![8..24, 32..48],
        vec![8..16, 20..21, 32..48],
        vec![0..8, 48..64],
    ] {
        assert_unauthentic(&gcm, AT, &sealed, &targets, &tag);
    }
    for len in 0..64 {
        assert_unauthentic(&gcm, AT, &sealed[..len], &[], &tag);
    }
    sealed.push(0);
    assert_unauthentic(&gcm, AT, &sealed, &[8..16, 32..48], &tag);
}

#[test]
fn another_manifest_is_unauthentic() {
    let dek = Secret::copy(&[9; 32]);
    let under = |manifest| Gcm::new(&derive::chunk_key(&dek, manifest).unwrap()).unwrap();
    let mut sealed = vectors::plain(64, 0);
    let tag = seal(&under(b"a"), AT, &mut sealed, &[1..2], &mut Scratch::new()).unwrap();
    assert_unauthentic(&under(b"b"), AT, &sealed, &[1..2], &tag);
}

/// Back to what it was, only targets changed, and the same bytes and tags as the reference.
#[test]
fn every_size_returns() {
    const CHUNK: usize = 1 << 20;
    let gcm = key(3);
    let reference = rust_crypto::Gcm::new(&Secret::copy(&[3; 32])).unwrap();
    let mut scratch = Scratch::new();
    for len in [0, 1, 15, 16, 17, 1000, CHUNK - 1, CHUNK, CHUNK + 1] {
        let plain = vectors::plain(len, len);
        for targets in layouts(len) {
            let mut sealed = plain.clone();
            let tag = seal(&gcm, AT, &mut sealed, &targets, &mut scratch).unwrap();
            let mut expected = plain.clone();
            let by_reference =
                |clear: &[u8], text: &mut [u8]| reference.seal(derive::nonce(AT), clear, text);
            let expected_tag =
                in_parts(&mut expected, &targets, &mut Scratch::new(), by_reference).unwrap();
            assert!(sealed == expected && tag == expected_tag, "{len} bytes");

            for gap in gather::gaps(&targets, len) {
                assert!(sealed[gap.clone()] == plain[gap], "{len} bytes");
            }
            for target in targets.iter().filter(|target| target.len() >= 16) {
                assert!(
                    sealed[target.clone()] != plain[target.clone()],
                    "{len} bytes"
                );
            }
            open(&gcm, AT, &mut sealed, &targets, &tag, &mut scratch).unwrap();
            assert!(sealed == plain, "{len} bytes");
        }
    }
}

fn layouts(len: usize) -> Vec<Vec<Range<usize>>> {
    let mut layouts = vec![vec![]];
    if len > 0 {
        layouts.push(vec![0..len]);
    }
    if len > 2 {
        layouts.extend([vec![0..len / 2], vec![len / 2..len], vec![1..len - 1]]);
        layouts.push(vec![0..1, len - 1..len]);
        layouts.push(vec![0..len / 2, len / 2..len]);
        layouts.push(
            (0..len)
                .step_by(7)
                .map(|start| start..(start + 3).min(len))
                .collect(),
        );
        let tenth = (0..len)
            .step_by(640)
            .map(|start| start..(start + 64).min(len));
        layouts.push(tenth.collect());
    }
    layouts
}

#[test]
fn illegal_targets_are_misuse() {
    let gcm = key(1);
    let plain = vectors::plain(10, 0);
    for targets in [vec![0..11], vec![3..3], vec![4..6, 5..7], vec![5..6, 0..1]] {
        let mut bytes = plain.clone();
        let sealed = seal(&gcm, AT, &mut bytes, &targets, &mut Scratch::new());
        assert!(matches!(sealed, Err(Error::Misuse { .. })));
        assert_eq!(bytes, plain);
        let opened = open(
            &gcm,
            AT,
            &mut bytes,
            &targets,
            &Tag([0; 16]),
            &mut Scratch::new(),
        );
        assert!(matches!(opened, Err(Error::Misuse { .. })));
        assert_eq!(bytes, plain);
    }
    let mut long = vec![0; MAX_CHUNK_BYTES + 1];
    let sealed = seal(&gcm, AT, &mut long, &[], &mut Scratch::new());
    assert!(matches!(sealed, Err(Error::Misuse { .. })));
}

#[test]
fn counter_mode_opens_any_number_of_targets() {
    let key = Secret::copy(&[7; 32]);
    let (gcm, ctr) = (Gcm::new(&key).unwrap(), Ctr::new(&key).unwrap());
    let plain: Vec<u8> = (0..100).collect();
    for targets in [&[][..], &[0..100], &[3..20], &[0..1, 40..77, 99..100]] {
        let (mut bytes, mut scratch) = (plain.clone(), Scratch::new());
        seal(&gcm, AT, &mut bytes, targets, &mut scratch).unwrap();
        assert_eq!(bytes == plain, targets.is_empty());
        let work = |text: &mut [u8]| ctr.apply(derive::nonce(AT), 2, text);
        on_targets(&mut bytes, targets, &mut scratch, work).unwrap();
        assert_eq!(bytes, plain, "{targets:?}");
    }
}
