//! The table in a model: the class of each row, encrypted, and the tail after decoding.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onnxseal_crypto::labels::{SIGNATURE_BYTES, digest, verify};
use prost::Message as _;

use crate::authority::Authority;
use crate::cores::on_all_cores;
use crate::error::{Error, Result};
use crate::group::{Hidden, MAX_COLLUSION, POINT_BYTES, Place, Randomness, Row};
use crate::stored::{MAX_TAIL_BYTES, Stored};

/// The most codewords of a class.
pub const MAX_CODEWORDS: u32 = 64;

/// The most rows.
pub const MAX_ROWS: u32 = 1 << 20;

/// The most classes.
const MAX_CLASSES: u32 = 1 << 16;

/// The most points of all rows together.
const MAX_POINTS: u64 = 1 << 21;

/// The longest text, in bytes: all points, pads and weights of the largest table, a tail, and
/// revoked users.
const MAX_TEXT_BYTES: usize = 112 << 20;

/// The only version.
const VERSION: u32 = 2;

const SIGNED: &[u8] = b"onnxseal/v1/labels/table\0";

/// The kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// A share of a class.
    Share {
        /// The class.
        class: u32,
        /// Its weight, in [`crate::shares::UNIT`]s.
        weight: i32,
    },
    /// A trace, in which each key reads another class.
    Trace,
}

/// The parts of a model to which the table is bound.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// The output of the rewritten model with the answers.
    pub answers: &'a str,
    /// The name of the logits: the tail's input, or an output.
    pub logits: &'a str,
    /// The axis of rows in answers: 1, or -1 for the last.
    pub axis: i32,
    /// Names of the original's outputs, in order.
    pub outputs: &'a [String],
    /// A `ModelProto` that computes the outputs from logits; empty if logits are the output.
    pub tail: &'a [u8],
    /// The layer's new weights.
    pub stored: &'a Stored,
    /// Whether to subtract the mean of decoded logits.
    pub is_centred: bool,
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
            is_centred: _,
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
    #[prost(bool, tag = "20")]
    is_centred: bool,
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
    /// Makes the table of a model with rows of these `kinds`, in order.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are too many rows; [`Error::Key`] if the system has no randomness.
    pub fn build(
        authority: &Authority,
        about: &Description<'_>,
        classes: u32,
        codewords: u32,
        kinds: &[RowKind],
    ) -> Result<Table> {
        let n_generators = u64::from(authority.collusion()) + 1;
        let n_rows = kinds.len() as u64;
        if n_rows > u64::from(MAX_ROWS)
            || n_rows * n_generators > MAX_POINTS
            || classes > MAX_CLASSES
        {
            return Err(Error::Usage(format!(
                "{n_rows} rows with {n_generators} points each are too many: take fewer codewords"
            )));
        }
        let digest = about.digest();
        let seed = authority.randomness()?;
        let exponents = authority.exponents();
        let rows = on_all_cores(kinds.len(), |c| {
            let place = Place {
                digest: &digest,
                row: c as u32,
                classes,
            };
            let mut random = Randomness::new(&seed, c as u64);
            Ok(match kinds.get(c) {
                Some(RowKind::Share { class, weight }) => {
                    let hidden = Hidden {
                        class: *class,
                        weight: *weight,
                    };
                    exponents.share(place, hidden, &random.scalar())
                }
                _ => exponents.fake(place, &mut random),
            })
        })?;
        let (check_points, check) =
            exponents.check(&digest, &Randomness::new(&seed, u64::MAX).scalar());
        let is_trace = |(_, kind): &(u32, &RowKind)| matches!(kind, RowKind::Trace);
        let raw = Raw {
            version: VERSION,
            classes,
            codewords,
            traces: (0u32..)
                .zip(kinds)
                .filter(is_trace)
                .map(|(c, _)| c)
                .collect(),
            generators: exponents.points().concat(),
            points: rows
                .iter()
                .flat_map(|row| row.points.iter().flatten().copied())
                .collect(),
            pads: words(rows.iter().map(|row| row.pad)),
            weights: words(rows.iter().map(|row| row.weight)),
            check_points: check_points.concat(),
            check: check.to_vec(),
            digest: digest.to_vec(),
            authority: authority.public().to_vec(),
            answers: about.answers.to_owned(),
            axis: about.axis,
            tail: about.tail.to_vec(),
            logits: about.logits.to_owned(),
            revoked: authority.revoked_ids(),
            outputs: about.outputs.to_vec(),
            is_centred: about.is_centred,
        };
        let bytes = raw.encode_to_vec();
        let signature = authority.sign(&[SIGNED, &bytes].concat())?;
        Table::new(bytes, signature)
    }

    /// Reads the value of [`crate::head::KEY`].
    ///
    /// # Errors
    /// [`Error::MalformedTable`].
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
        if raw.encode_to_vec() != bytes {
            return Err(malformed("it has parts that do not belong there"));
        }
        raw.check().map_err(malformed)?;
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

    /// Returns the text for `metadata_props`.
    pub fn to_text(&self) -> String {
        let signed = Signed {
            table: self.bytes.clone(),
            signature: self.signature.to_vec(),
        };
        STANDARD.encode(signed.encode_to_vec())
    }

    /// Verifies that the authority named in the table signed it.
    ///
    /// # Errors
    /// [`Error::Unauthentic`].
    pub fn verify(&self) -> Result<()> {
        let message = [SIGNED, &self.bytes].concat();
        verify(&self.authority, &message, &self.signature).map_err(|_| Error::Unauthentic {
            reason: "the table's signature does not verify",
        })
    }

    /// Returns K, the number of classes.
    pub fn classes(&self) -> u32 {
        self.raw.classes
    }

    /// Returns N, the number of codewords of each class.
    pub fn codewords(&self) -> u32 {
        self.raw.codewords
    }

    /// Whether to subtract the mean of decoded logits.
    pub fn is_centred(&self) -> bool {
        self.raw.is_centred
    }

    /// Returns the number of rows, including traces.
    pub fn n_rows(&self) -> u32 {
        self.raw.weights.len() as u32 / 4
    }

    /// Returns the rows that are traces.
    pub fn traces(&self) -> &[u32] {
        &self.raw.traces
    }

    /// Returns the collusion bound k.
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

    /// The output that has the answers.
    pub fn answers(&self) -> &str {
        &self.raw.answers
    }

    /// The name of the logits: the tail's input, or an output.
    pub fn logits(&self) -> &str {
        &self.raw.logits
    }

    /// The axis of rows in answers: 1, or -1 for the last.
    pub fn axis(&self) -> i32 {
        self.raw.axis
    }

    /// Names of the original's outputs, in order.
    pub fn outputs(&self) -> &[String] {
        &self.raw.outputs
    }

    /// A `ModelProto` that computes the outputs from logits; empty if logits are the output.
    pub fn tail(&self) -> &[u8] {
        &self.raw.tail
    }

    /// Returns how many users were revoked when the table was made.
    pub fn n_revoked(&self) -> usize {
        self.raw.revoked.len()
    }

    /// Returns the table's description of a model with these rows.
    pub fn description<'a>(&'a self, stored: &'a Stored) -> Description<'a> {
        Description {
            answers: self.answers(),
            logits: self.logits(),
            axis: self.axis(),
            outputs: self.outputs(),
            tail: self.tail(),
            stored,
            is_centred: self.is_centred(),
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
    /// Fails if a length or a number is impossible for a table.
    fn check(&self) -> std::result::Result<(), &'static str> {
        let n_rows = u64::from(self.classes) * u64::from(self.codewords) + self.traces.len() as u64;
        let n_generators = (self.generators.len() / POINT_BYTES) as u64;
        let (pads, _) = self.pads.as_chunks::<4>();
        let ascending = |rows: &[u32]| rows.is_sorted_by(|a, b| a < b);
        let all = [
            (self.version == VERSION, "its version is not 2"),
            (
                (2..=MAX_CLASSES).contains(&self.classes),
                "it has too few classes, or too many",
            ),
            (
                (2..=MAX_CODEWORDS).contains(&self.codewords),
                "it has too few codewords, or too many",
            ),
            (
                n_rows <= u64::from(MAX_ROWS) && n_rows * n_generators <= MAX_POINTS,
                "it has too many rows",
            ),
            (
                (2..=u64::from(MAX_COLLUSION) + 1).contains(&n_generators),
                "it has too few generators, or too many",
            ),
            (
                self.generators.len() as u64 == n_generators * 32,
                "its generators are of another length",
            ),
            (
                self.points.len() as u64 == n_rows * n_generators * 32,
                "its points are of another length",
            ),
            (
                self.pads.len() as u64 == n_rows * 4,
                "its pads are of another length",
            ),
            (
                pads.iter()
                    .all(|pad| u32::from_le_bytes(*pad) < self.classes),
                "a pad is no class",
            ),
            (
                self.weights.len() as u64 == n_rows * 4,
                "its weights are of another length",
            ),
            (
                self.check_points.len() as u64 == n_generators * 32,
                "its check is of another length",
            ),
            (self.check.len() == 16, "its check is of another length"),
            (
                self.digest.len() == 32 && self.authority.len() == 32,
                "a digest is of another length",
            ),
            (ascending(&self.traces), "its traces are not in order"),
            (
                self.traces.iter().all(|c| u64::from(*c) < n_rows),
                "a trace is no row",
            ),
            (self.axis == 1 || self.axis == -1, "its axis is not 1 or -1"),
            (self.tail.len() <= MAX_TAIL_BYTES, "its tail is too long"),
            (
                !self.answers.is_empty() && !self.logits.is_empty(),
                "an output has no name",
            ),
            (!self.outputs.is_empty(), "it has no outputs"),
            (
                self.revoked.iter().all(|id| id.len() == 8),
                "a revoked user is of another length",
            ),
            (
                self.revoked.is_sorted_by(|a, b| a < b),
                "its revoked users are not in order",
            ),
        ];
        all.into_iter()
            .try_for_each(|(holds, reason)| if holds { Ok(()) } else { Err(reason) })
    }
}

/// Encodes 32-bit numbers, little-endian.
fn words(numbers: impl Iterator<Item = u32>) -> Vec<u8> {
    numbers.flat_map(u32::to_le_bytes).collect()
}

fn points(bytes: &[u8]) -> Vec<[u8; POINT_BYTES]> {
    bytes.as_chunks::<POINT_BYTES>().0.to_vec()
}
