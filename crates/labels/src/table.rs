//! The table in a model: the class of each row, encrypted, and the tail after decoding.

#[cfg(feature = "vendor")]
mod build;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onnxseal_crypto::labels::{SIGNATURE_BYTES, digest, verify};
use prost::Message as _;

use crate::error::{Error, Result};
use crate::group::{MAX_COLLUSION, POINT_BYTES, Row};
use crate::stored::{MAX_TAIL_BYTES, Stored};

/// The key of `metadata_props` for the table. Keys that begin with `onnxseal.` belong to protected
/// models.
pub const KEY: &str = "onnxseal-labels";

pub const MAX_CODEWORDS: u32 = 64;

pub const MAX_ROWS: u32 = 1 << 20;

const MAX_CLASSES: u32 = 1 << 16;

const MAX_POINTS: u64 = 1 << 21;

/// The longest text, in bytes: all points, pads and weights of the largest table, a tail, and
/// revoked users.
const MAX_TEXT_BYTES: usize = 112 << 20;

/// The only version.
const VERSION: u32 = 2;

const SIGNED: &[u8] = b"onnxseal/v1/labels/table\0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    Share {
        class: u32,
        /// Its weight, in steps of 2^-22.
        weight: i32,
    },
    /// A trace, in which each key reads another class.
    Trace,
}

/// The parts of a model to which the table is bound.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    pub answers: &'a str,
    pub logits: &'a str,
    pub axis: i32,
    pub outputs: &'a [String],
    pub tail: &'a [u8],
    pub stored: &'a Stored,
}

impl Description<'_> {
    /// `SHA-256("onnxseal/v1/labels/rows" ‖ 0 ‖ ...)` over the rows and the processing of their
    /// answers.
    pub fn digest(&self) -> [u8; 32] {
        let Description {
            answers,
            logits: _,
            axis,
            outputs: _,
            tail,
            stored,
        } = self;
        let u32le = |n: usize| (n as u32).to_le_bytes();
        let dims: Vec<u8> = stored
            .dims
            .iter()
            .flat_map(|dim| dim.to_le_bytes())
            .collect();
        digest(
            "rows",
            &[
                &u32le(answers.len()),
                answers.as_bytes(),
                &axis.wrapping_add(128).to_le_bytes(),
                &u32le(stored.dims.len()),
                &dims,
                &stored.weights,
                stored.bias.as_deref().unwrap_or_default(),
                &u32::from(stored.bias.is_some()).to_le_bytes(),
                &(tail.len() as u64).to_le_bytes(),
                tail,
            ],
        )
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Signed {
    #[prost(bytes = "vec", tag = "1")]
    table: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Raw {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint32, tag = "2")]
    classes: u32,
    #[prost(uint32, tag = "3")]
    codewords: u32,
    #[prost(uint32, repeated, tag = "4")]
    traces: Vec<u32>,
    #[prost(bytes = "vec", tag = "5")]
    generators: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    points: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    pads: Vec<u8>,
    #[prost(bytes = "vec", tag = "8")]
    weights: Vec<u8>,
    #[prost(bytes = "vec", tag = "9")]
    check_points: Vec<u8>,
    #[prost(bytes = "vec", tag = "10")]
    check: Vec<u8>,
    #[prost(bytes = "vec", tag = "11")]
    digest: Vec<u8>,
    #[prost(bytes = "vec", tag = "12")]
    authority: Vec<u8>,
    #[prost(string, tag = "13")]
    answers: String,
    #[prost(sint32, tag = "14")]
    axis: i32,
    #[prost(bytes = "vec", tag = "15")]
    tail: Vec<u8>,
    #[prost(string, tag = "16")]
    logits: String,
    #[prost(bytes = "vec", repeated, tag = "17")]
    revoked: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "19")]
    outputs: Vec<String>,
}

/// A table, signed by its authority.
#[derive(Clone, Debug)]
pub struct Table {
    raw: Raw,
    bytes: Vec<u8>,
    signature: [u8; SIGNATURE_BYTES],
    digest: [u8; 32],
    authority: [u8; 32],
}

impl Table {
    /// Reads the value of [`KEY`].
    pub fn parse(text: &str) -> Result<Table> {
        let malformed = |reason| Error::MalformedTable { reason };
        if text.len() > MAX_TEXT_BYTES {
            return Err(malformed("it is too long"));
        }
        let bytes = STANDARD
            .decode(text)
            .map_err(|_| malformed("it is no base64"))?;
        let signed = Signed::decode(&bytes[..]).map_err(|_| malformed("it is no message"))?;
        if signed.encode_to_vec() != bytes {
            return Err(malformed("it has parts that do not belong there"));
        }
        let signature = signed.signature[..].try_into();
        let signature = signature.map_err(|_| malformed("its signature is of another length"))?;
        Table::new(signed.table, signature)
    }

    fn new(bytes: Vec<u8>, signature: [u8; SIGNATURE_BYTES]) -> Result<Table> {
        let malformed = |reason| Error::MalformedTable { reason };
        let raw = Raw::decode(&bytes[..]).map_err(|_| malformed("it is no message"))?;
        if raw.to_bytes() != bytes {
            return Err(malformed("it has parts that do not belong there"));
        }
        if let Some(fault) = raw.fault() {
            return Err(malformed(fault));
        }
        let array = |bytes: &[u8]| {
            <[u8; 32]>::try_from(bytes).map_err(|_| malformed("a digest is of another length"))
        };
        Ok(Table {
            digest: array(&raw.digest)?,
            authority: array(&raw.authority)?,
            raw,
            bytes,
            signature,
        })
    }

    pub fn to_text(&self) -> String {
        let signed = Signed {
            table: self.bytes.clone(),
            signature: self.signature.to_vec(),
        };
        STANDARD.encode(signed.encode_to_vec())
    }

    /// Verifies that the authority named in the table signed it.
    pub fn verify(&self) -> Result<()> {
        let message = [SIGNED, &self.bytes].concat();
        verify(&self.authority, &message, &self.signature).map_err(|_| Error::Unauthentic {
            reason: "the table's signature does not verify",
        })
    }

    pub fn classes(&self) -> u32 {
        self.raw.classes
    }

    pub fn codewords(&self) -> u32 {
        self.raw.codewords
    }

    /// Returns the number of rows, including traces.
    pub fn n_rows(&self) -> u32 {
        self.raw.weights.len() as u32 / 4
    }

    pub fn traces(&self) -> &[u32] {
        &self.raw.traces
    }

    pub fn collusion(&self) -> u32 {
        self.n_generators() as u32 - 1
    }

    /// Returns the Ed25519 public key of the authority.
    pub fn authority(&self) -> [u8; 32] {
        self.authority
    }

    /// Returns the digest of the rows to which it belongs; see [`Description::digest`].
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    pub fn answers(&self) -> &str {
        &self.raw.answers
    }

    pub fn logits(&self) -> &str {
        &self.raw.logits
    }

    pub fn axis(&self) -> i32 {
        self.raw.axis
    }

    pub fn outputs(&self) -> &[String] {
        &self.raw.outputs
    }

    pub fn tail(&self) -> &[u8] {
        &self.raw.tail
    }

    pub fn n_revoked(&self) -> usize {
        self.raw.revoked.len()
    }

    pub fn description<'a>(&'a self, stored: &'a Stored) -> Description<'a> {
        Description {
            answers: self.answers(),
            logits: self.logits(),
            axis: self.axis(),
            outputs: self.outputs(),
            tail: self.tail(),
            stored,
        }
    }

    pub(crate) fn is_revoked(&self, id: &[u8; 8]) -> bool {
        self.raw.revoked.iter().any(|revoked| revoked == id)
    }

    pub(crate) fn n_generators(&self) -> usize {
        self.raw.generators.len() / POINT_BYTES
    }

    pub(crate) fn check_row(&self) -> (Vec<[u8; POINT_BYTES]>, &[u8]) {
        (points(&self.raw.check_points), &self.raw.check)
    }

    pub(crate) fn row(&self, c: u32) -> Option<Row> {
        let (c, n) = (c as usize, self.n_generators() * POINT_BYTES);
        let word = |bytes: &[u8]| {
            bytes
                .as_chunks()
                .0
                .get(c)
                .map(|word| u32::from_le_bytes(*word))
        };
        Some(Row {
            points: points(self.raw.points.get(c * n..(c + 1) * n)?),
            pad: word(&self.raw.pads)?,
            weight: word(&self.raw.weights)?,
        })
    }
}

impl Raw {
    fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Returns what is impossible for a table, of its lengths and numbers.
    fn fault(&self) -> Option<&'static str> {
        let n_rows = u64::from(self.classes) * u64::from(self.codewords) + self.traces.len() as u64;
        let n_generators = (self.generators.len() / POINT_BYTES) as u64;
        let is_room = n_rows <= u64::from(MAX_ROWS) && n_rows * n_generators <= MAX_POINTS;
        let is_points = |bytes: &[u8], n: u64| bytes.len() as u64 == n * POINT_BYTES as u64;
        let is_words = |bytes: &[u8]| bytes.len() as u64 == n_rows * 4;
        let is_class = |pad: &[u8; 4]| u32::from_le_bytes(*pad) < self.classes;
        let is_row = |c: &u32| u64::from(*c) < n_rows;
        let are_names = !self.answers.is_empty() && !self.logits.is_empty();
        let are_ids = self.revoked.iter().all(|id| id.len() == 8);
        let holds = [
            (self.version == VERSION, "its version is not 2"),
            (
                (2..=MAX_CLASSES).contains(&self.classes),
                "it has too few classes, or too many",
            ),
            (
                (2..=MAX_CODEWORDS).contains(&self.codewords),
                "it has too few codewords, or too many",
            ),
            (is_room, "it has too many rows"),
            (
                (2..=u64::from(MAX_COLLUSION) + 1).contains(&n_generators),
                "it has too few generators, or too many",
            ),
            (
                is_points(&self.generators, n_generators),
                "its generators are of another length",
            ),
            (
                is_points(&self.points, n_rows * n_generators),
                "its points are of another length",
            ),
            (is_words(&self.pads), "its pads are of another length"),
            (
                self.pads.as_chunks().0.iter().all(is_class),
                "a pad is no class",
            ),
            (is_words(&self.weights), "its weights are of another length"),
            (
                is_points(&self.check_points, n_generators) && self.check.len() == 16,
                "its check is of another length",
            ),
            (
                self.digest.len() == 32 && self.authority.len() == 32,
                "a digest is of another length",
            ),
            (
                self.traces.is_sorted_by(|a, b| a < b),
                "its traces are not in order",
            ),
            (self.traces.iter().all(is_row), "a trace is no row"),
            (self.axis == 1 || self.axis == -1, "its axis is not 1 or -1"),
            (self.tail.len() <= MAX_TAIL_BYTES, "its tail is too long"),
            (are_names, "an output has no name"),
            (!self.outputs.is_empty(), "it has no outputs"),
            (are_ids, "a revoked user is of another length"),
            (
                self.revoked.is_sorted_by(|a, b| a < b),
                "its revoked users are not in order",
            ),
        ];
        holds
            .into_iter()
            .find_map(|(holds, fault)| (!holds).then_some(fault))
    }
}

fn points(bytes: &[u8]) -> Vec<[u8; POINT_BYTES]> {
    bytes.as_chunks::<POINT_BYTES>().0.to_vec()
}
