//! The tail of a protected model.
//!
//! ```text
//! tail  = manifest tags mac [lock] [sig] { key.1 ... key.16 }      at least one key, in ascending order
//! entry = 0x72 varint(len) 0x0A varint(len) name 0x12 varint(len) value
//! lock  = opset_import graph                                       fields of `ModelProto`: see [`LOCK`]
//! ```
//!
//! Each entry is a legal `ModelProto.metadata_props`. This module does not interpret the values.

use crate::error::{Error, Fault, excerpt};
use crate::model::{Model, Span};
use crate::schema::{entry, model};
use crate::wire::Message;
use crate::write::entry_head;

pub const PREFIX: &str = "onnxseal.";
pub const MANIFEST: &str = "onnxseal.manifest";
pub const TAGS: &str = "onnxseal.tags";
/// Key of the MAC over manifest and tags.
pub const MAC: &str = "onnxseal.mac";
pub const SIG: &str = "onnxseal.sig";
macro_rules! keys {
    ($($tier:literal),*) => { [$(concat!("onnxseal.key.", $tier)),*] };
}

/// Keys of the wrapped keys of the tiers, the least tier's first. A model of one edition has one
/// tier.
pub const KEYS: [&str; 16] = keys![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// The lock, with which programs refuse the model.
///
/// ```text
/// 0x42 12 { 0x0A 8 "onnxseal" 0x10 1 }                  ModelProto.opset_import: domain, version
/// 0x3A 154 1 { 0x0A 125 {                               ModelProto.graph: GraphProto.node
///     0x12 15 "onnxseal.locked"                         output
///     0x1A 61 "The weights are encrypted: open the model with onnxseal first"        name
///     0x22 33 "ProtectedModel_OpenItWithOnnxseal"       op_type
///     0x3A 8 "onnxseal" }                               domain
///   0x62 25 { 0x0A 15 "onnxseal.locked"                 GraphProto.output: name
///     0x12 6 { 0x0A 4 { 0x08 1 0x12 0 } } } }           type: a FLOAT scalar
/// ```
///
/// protobuf merges the second `graph` of a message into the first. So the graph gets one more node,
/// of an unknown operator, with names that tell people what to do. Even programs that drop unused
/// nodes refuse it, because its output is an output of the graph.
pub const LOCK: &[u8] = b"\x42\x0c\x0a\x08onnxseal\x10\x01\
\x3a\x9a\x01\x0a\x7d\
\x12\x0fonnxseal.locked\
\x1a\x3dThe weights are encrypted: open the model with onnxseal first\
\x22\x21ProtectedModel_OpenItWithOnnxseal\
\x3a\x08onnxseal\
\x62\x19\x0a\x0fonnxseal.locked\x12\x06\x0a\x04\x08\x01\x12\x00";

/// The domain and operator type of the node in [`LOCK`].
const LOCK_DOMAIN: &str = "onnxseal";
const LOCK_OP_TYPE: &str = "ProtectedModel_OpenItWithOnnxseal";

/// Returns whether the lock is at `offset` of `bytes`.
pub(crate) fn is_lock_at(bytes: &[u8], offset: u64) -> bool {
    let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
    rest.is_some_and(|rest| rest.starts_with(LOCK))
}

/// The entries before the keys, in their order. The last of them is optional.
const ORDER: [&str; 4] = [MANIFEST, TAGS, MAC, SIG];

/// How many entries of [`ORDER`] every tail has.
const N_REQUIRED: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail<'a> {
    /// The offset where the original model ends and the tail begins: `L` in the format.
    pub start: u64,
    pub entries: Vec<Entry<'a>>,
    pub is_locked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub key: &'static str,
    pub value: &'a str,
    pub field: Span,
}

impl<'a> Tail<'a> {
    pub fn value(&self, key: &str) -> Option<&'a str> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(entry.value)
    }
}

/// Returns whether `model`, located in a whole file, has an entry of a tail. [`split`] checks the
/// tail.
pub fn is_in(model: &Model<'_>) -> bool {
    let mut props = model.metadata_props.iter();
    props.any(|prop| prop.key.starts_with(PREFIX))
}

/// Returns whether `model` has the lock. Without a tail, a program that knows no tails has dropped
/// it, and the weights are ciphertext.
pub fn has_lock(model: &Model<'_>) -> bool {
    let mut nodes = model.nodes.iter();
    nodes.any(|node| (node.domain, node.op_type) == (LOCK_DOMAIN, LOCK_OP_TYPE))
}

/// What happened to a model that [has the lock](has_lock) and no tail.
pub const STRIPPED: &str = "was protected, and a program has dropped the metadata that opens it";

/// The most bytes that [`is_marked`] looks for at once.
pub const MARK_BYTES: usize = 2 + PREFIX.len();

/// Returns whether `bytes`, of any file, have the beginning of a tail's key or of a name in the lock,
/// as protobuf encodes it. True for a protected model that is damaged, or merged with another, as
/// long as anything of its tail is left.
pub fn is_marked(bytes: &[u8]) -> bool {
    // The field (1 or 2), and the length of the shortest to the longest of these names.
    let is_mark = |bytes: &[u8]| match bytes {
        [0x0a | 0x12, 12..=17, name @ ..] => name == PREFIX.as_bytes(),
        _ => false,
    };
    bytes.windows(MARK_BYTES).any(is_mark)
}

/// Encodes entries of a tail, with the lock after [`MAC`] if `is_locked`. Values must be UTF-8, as
/// protobuf demands.
pub fn encode(entries: &[(&str, &[u8])], is_locked: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in entries {
        out.extend_from_slice(&entry_head(model::metadata_props, key, value.len()));
        out.extend_from_slice(value);
        if is_locked && *key == MAC {
            out.extend_from_slice(LOCK);
        }
    }
    out
}

/// Finds the tail of a model file, or returns `None` if the model is not protected.
///
/// Reads only the file's outermost fields, without copies: a value takes no memory before the
/// caller has checked its length. Keys that begin with [`PREFIX`] are an error if they are no tail at
/// the end, exactly as [`encode`] writes it.
pub fn split(bytes: &[u8]) -> Result<Option<Tail<'_>>, Error> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut is_locked = false;
    // The earliest position of the next entry in the order of the tail.
    let mut next = 0;
    let mut fields = Message::of_file(bytes).fields(&model::SCHEMA);
    while let Some(field) = fields.next().transpose()? {
        let pair = match field.number {
            model::metadata_props => field
                .message()?
                .strings(&entry::SCHEMA, [entry::key, entry::value])?,
            _ => [""; 2],
        };
        let [key, value] = match pair {
            [key, _] if key.starts_with(PREFIX) => pair,
            _ if next == 0 => continue,
            _ => {
                if is_locked || next != N_REQUIRED || !is_lock_at(bytes, field.offset) {
                    let expected = "the next entry or the end";
                    return Err(misfit(field.offset, expected, "another field"));
                }
                is_locked = true;
                // Skip the lock: as a field, its graph would be the model's second.
                fields.seek(field.offset as usize + LOCK.len());
                continue;
            }
        };
        let (at, key) = place(next, key, field.offset)?;
        next = at + 1;
        let field = field.span();
        entries.push(Entry { key, value, field });
    }
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Ok(None);
    };
    if !KEYS.contains(&last.key) {
        let end = bytes.len() as u64;
        return Err(misfit(end, expected(next), "the end of the file"));
    }
    let start = first.field.start;
    check_encoding(bytes, &entries)?;
    Ok(Some(Tail {
        start,
        entries,
        is_locked,
    }))
}

/// Returns the position of the key `found` in the order of the tail, if that is allowed with `next`
/// as the earliest.
fn place(next: usize, found: &str, offset: u64) -> Result<(usize, &'static str), Error> {
    let misfit = || misfit(offset, expected(next), &excerpt(found));
    let (at, key) = ORDER
        .into_iter()
        .chain(KEYS)
        .enumerate()
        .find(|(_, key)| *key == found)
        .ok_or_else(misfit)?;
    // The signature may be missing, and any of the wrapped keys, but not all.
    let may_stand = if next < N_REQUIRED {
        at == next
    } else {
        at >= next
    };
    may_stand.then_some((at, key)).ok_or_else(misfit)
}

/// Returns the entry that must come next, or one that may.
fn expected(next: usize) -> &'static str {
    match next {
        0 => MANIFEST,
        1 => TAGS,
        2 => MAC,
        n if n < ORDER.len() + KEYS.len() => "the key of a tier",
        _ => "the end of the file",
    }
}

/// Checks that every entry has the canonical encoding.
fn check_encoding(bytes: &[u8], entries: &[Entry<'_>]) -> Result<(), Error> {
    for entry in entries {
        let range = entry.field.start as usize..entry.field.end() as usize;
        let head = entry_head(model::metadata_props, entry.key, entry.value.len());
        let value = bytes
            .get(range)
            .and_then(|field| field.strip_prefix(&head[..]));
        if value != Some(entry.value.as_bytes()) {
            let expected = "the entry's only encoding";
            return Err(misfit(entry.field.start, expected, "another"));
        }
    }
    Ok(())
}

fn misfit(offset: u64, expected: &str, found: &str) -> Error {
    let words = format!(
        "changed since it was protected: the metadata has {found} where {expected} must stand"
    );
    Error::malformed(offset, Fault::Other(words.into())).in_field("ModelProto.metadata_props")
}
