//! The tail that makes a model a protected one.
//!
//! ```text
//! tail  = { entry }                  onnxseal.manifest, .tags, .mac, [.sig], .key: in this order
//! entry = 0x72 varint(len) 0x0A varint(len) key 0x12 varint(len) value
//! ```
//!
//! Each entry is a legal `ModelProto.metadata_props`. What the values mean is not known here.

use crate::error::{Error, Fault, excerpt};
use crate::locate::entry;
use crate::model::Span;
use crate::schema;
use crate::wire::{Message, put_varint};

/// What every key of the tail begins with.
pub const PREFIX: &str = "onnxseal.";
/// Key of the manifest.
pub const MANIFEST: &str = "onnxseal.manifest";
/// Key of the chunks' tags.
pub const TAGS: &str = "onnxseal.tags";
/// Key of what authenticates manifest and tags.
pub const MAC: &str = "onnxseal.mac";
/// Key of the publisher's signature.
pub const SIG: &str = "onnxseal.sig";
/// Key of the wrapped data key.
pub const KEY: &str = "onnxseal.key";

/// The keys in their order, the optional one marked.
const ORDER: [(&str, bool); 5] = [
    (MANIFEST, false),
    (TAGS, false),
    (MAC, false),
    (SIG, true),
    (KEY, false),
];

/// The tail of a protected model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail<'a> {
    /// Where the tail begins, and the original model ends: `L` in the format.
    pub start: u64,
    /// Its entries, in file order.
    pub entries: Vec<Entry<'a>>,
}

/// One entry of a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// One of the keys above.
    pub key: &'static str,
    /// The value.
    pub value: &'a str,
    /// The whole entry in the file.
    pub field: Span,
    /// The value in the file.
    pub value_span: Span,
}

impl<'a> Tail<'a> {
    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&'a str> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(entry.value)
    }
}

/// Encodes a tail. Values must be UTF-8, as protobuf wants them.
pub fn encode(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in entries {
        encode_entry(key, value, |part| out.extend_from_slice(part));
    }
    out
}

/// Hands the parts of an entry to `put`, one after the other.
fn encode_entry(key: &str, value: &[u8], mut put: impl FnMut(&[u8])) {
    put(&[0x72]);
    let len = delimited_len(key.len()) + delimited_len(value.len());
    put_varint(len as u64, &mut put);
    put(&[0x0a]);
    put_varint(key.len() as u64, &mut put);
    put(key.as_bytes());
    put(&[0x12]);
    put_varint(value.len() as u64, &mut put);
    put(value);
}

/// Finds the tail of a model file: `None` where the model is not protected.
///
/// Reads the file's outermost fields only, and copies none of them: a value takes no memory before
/// the caller has judged its length.
///
/// # Errors
///
/// [`Error::Malformed`] where the file is no sequence of fields, or has keys that begin with
/// [`PREFIX`] but no tail exactly as [`encode`] writes it up to its end.
pub fn split(bytes: &[u8]) -> Result<Option<Tail<'_>>, Error> {
    let mut entries = Vec::new();
    let mut order = ORDER.iter();
    let mut fields = Message::of_file(bytes).fields(schema::MODEL);
    while let Some(field) = fields.next()? {
        let pair = match field.number {
            14 => Some(entry(field.message()?)?),
            _ => None,
        };
        let (key, value) = match pair {
            Some((key, value)) if key.starts_with(PREFIX) => (key, value),
            _ if entries.is_empty() => continue,
            _ => {
                return Err(misfit(
                    field.offset,
                    "nothing but the tail",
                    "another field",
                ));
            }
        };
        let key = next_key(&mut order, Some(key), field.offset)?;
        // Where the entry is encoded as it must be, the value is its end.
        let len = value.len() as u64;
        entries.push(Entry {
            key,
            value,
            field: field.span(),
            value_span: Span {
                start: field.end.saturating_sub(len),
                len,
            },
        });
    }
    let Some(first) = entries.first() else {
        return Ok(None);
    };
    let start = first.field.start;
    let end = bytes.len() as u64;
    if order.as_slice().iter().any(|(_, optional)| !optional) {
        next_key(&mut order, None, end)?;
    }
    check_encoding(bytes, &entries)?;
    Ok(Some(Tail { start, entries }))
}

/// The key that must come next, given the one that does.
fn next_key(
    order: &mut std::slice::Iter<'static, (&'static str, bool)>,
    found: Option<&str>,
    offset: u64,
) -> Result<&'static str, Error> {
    let found_text = found.map_or("the end of the file".to_owned(), excerpt);
    let mut expected = None;
    for &(key, optional) in order {
        if found == Some(key) {
            return Ok(key);
        }
        expected = Some(key);
        if !optional {
            break;
        }
    }
    Err(misfit(
        offset,
        expected.unwrap_or("the end of the file"),
        &found_text,
    ))
}

/// Checks that every entry is encoded in the one way that is right.
fn check_encoding(bytes: &[u8], entries: &[Entry<'_>]) -> Result<(), Error> {
    for entry in entries {
        let range = entry.field.start as usize..entry.field.end() as usize;
        let mut rest = bytes.get(range);
        encode_entry(entry.key, entry.value.as_bytes(), |part| {
            rest = rest.and_then(|rest| rest.strip_prefix(part));
        });
        if rest != Some(&[]) {
            let offset = entry.field.start;
            return Err(misfit(offset, "the entry's only encoding", "another"));
        }
    }
    Ok(())
}

fn misfit(offset: u64, expected: &'static str, found: &str) -> Error {
    let found = found.to_owned();
    Error::malformed(offset, Fault::Tail { expected, found }).in_field("ModelProto.metadata_props")
}

/// Bytes of tag, length and value of a field of `len` bytes.
fn delimited_len(len: usize) -> usize {
    1 + varint_len(len) + len
}

fn varint_len(value: usize) -> usize {
    (value.max(1).ilog2() / 7 + 1) as usize
}
