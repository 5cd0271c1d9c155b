//! Reads `fixtures/vectors/*.json`, which the scripts there wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::Range;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::backend::Tag;
use crate::derive::ChunkId;
use crate::secret::Secret;

/// One data key and manifest with what follows from them.
pub(crate) struct Artifact {
    pub dek: Secret,
    pub manifest: Vec<u8>,
    pub mac_key: Vec<u8>,
    pub chunk_key: Vec<u8>,
    pub mac: Vec<u8>,
    pub chunks: Vec<Chunk>,
}

impl Artifact {
    /// All chunks' tags, one after the other.
    pub(crate) fn tags(&self) -> Vec<u8> {
        self.chunks.iter().flat_map(|chunk| chunk.tag.0).collect()
    }
}

/// One chunk, before and after it is sealed.
pub(crate) struct Chunk {
    pub label: String,
    pub at: ChunkId,
    pub plain: Vec<u8>,
    pub targets: Vec<Range<usize>>,
    pub sealed_sha256: Vec<u8>,
    pub tag: Tag,
}

impl Chunk {
    /// Fails unless these are the sealed bytes.
    pub(crate) fn assert_sealed(&self, bytes: &[u8]) {
        assert_eq!(
            Sha256::digest(bytes)[..],
            self.sealed_sha256,
            "{}",
            self.label
        );
    }
}

/// One case of AES-256-GCM; without plaintext it must fail.
pub(crate) struct Gcm {
    pub key: Secret,
    pub nonce: [u8; 12],
    pub aad: Vec<u8>,
    pub ciphertext: Vec<u8>,
    pub tag: Tag,
    pub plaintext: Option<Vec<u8>>,
}

/// One sealed blob, and what follows from its data key and name.
pub(crate) struct Blob {
    pub dek: Secret,
    pub name: String,
    pub salt: [u8; 32],
    pub blobs_key: Vec<u8>,
    pub blob_key: Vec<u8>,
    pub plain: Vec<u8>,
    /// The whole blob, if it is short.
    pub sealed: Option<Vec<u8>>,
    pub sealed_len: usize,
    pub sealed_sha256: Vec<u8>,
}

pub(crate) fn artifacts() -> Vec<Artifact> {
    let read = |artifact: &Value| Artifact {
        dek: secret(&artifact["dek"]),
        manifest: hex(&artifact["manifest"]),
        mac_key: hex(&artifact["mac_key"]),
        chunk_key: hex(&artifact["chunk_key"]),
        mac: hex(&artifact["mac"]),
        chunks: list(&artifact["chunks"]).iter().map(chunk).collect(),
    };
    list(&load("chunks.json")["artifacts"])
        .iter()
        .map(read)
        .collect()
}

pub(crate) fn gcm() -> Vec<Gcm> {
    let read = |case: &Value| Gcm {
        key: secret(&case["key"]),
        nonce: hex(&case["nonce"]).try_into().unwrap(),
        aad: hex(&case["aad"]),
        ciphertext: hex(&case["ciphertext"]),
        tag: Tag(hex(&case["tag"]).try_into().unwrap()),
        plaintext: (!case["plaintext"].is_null()).then(|| hex(&case["plaintext"])),
    };
    list(&load("gcm.json")["cases"]).iter().map(read).collect()
}

pub(crate) fn blobs() -> Vec<Blob> {
    let size = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let read = |case: &Value| Blob {
        dek: secret(&case["dek"]),
        name: case["name"].as_str().unwrap().into(),
        salt: hex(&case["salt"]).try_into().unwrap(),
        blobs_key: hex(&case["blobs_key"]),
        blob_key: hex(&case["blob_key"]),
        plain: plain(size(&case["len"]), size(&case["seed"])),
        sealed: case["sealed"].is_string().then(|| hex(&case["sealed"])),
        sealed_len: size(&case["sealed_len"]),
        sealed_sha256: hex(&case["sealed_sha256"]),
    };
    list(&load("blobs.json")["blobs"])
        .iter()
        .map(read)
        .collect()
}

/// The whole of one vector file.
pub(crate) fn load(name: &str) -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/vectors/");
    serde_json::from_str(&std::fs::read_to_string(format!("{path}{name}")).unwrap()).unwrap()
}

pub(crate) fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

pub(crate) fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    let byte = |i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The plaintext rule of `make_vectors.py`.
pub(crate) fn plain(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (31 * i + (i >> 8) + seed) as u8).collect()
}

fn secret(value: &Value) -> Secret {
    Secret::copy(&hex(value).try_into().unwrap())
}

fn chunk(value: &Value) -> Chunk {
    let number = |value: &Value| value.as_u64().unwrap();
    let size = |value: &Value| usize::try_from(number(value)).unwrap();
    let len = size(&value["len"]);
    Chunk {
        label: format!("{len} bytes, {}", value["layout"].as_str().unwrap()),
        at: ChunkId {
            file: number(&value["file"]).try_into().unwrap(),
            chunk: number(&value["chunk"]),
        },
        plain: plain(len, size(&value["seed"])),
        targets: list(&value["targets"])
            .iter()
            .map(|t| size(&t[0])..size(&t[1]))
            .collect(),
        sealed_sha256: hex(&value["sealed_sha256"]),
        tag: Tag(hex(&value["tag"]).try_into().unwrap()),
    }
}
