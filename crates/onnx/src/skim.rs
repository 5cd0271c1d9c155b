//! Fetches the bytes of a model file that [`locate`](crate::locate) and
//! [`tail::split`](crate::tail::split) read, so that nothing else of it need be read.
//!
//! One walk in file order skips elements and fetches all else, even unneeded parts: a superfluous
//! byte costs little, a missing one gives a wrong answer.

use crate::foreign;
use crate::limits::Limits;
use crate::model::Span;
use crate::schema::{self, attribute, graph, model, tensor};
use crate::wire::{Field, Message, Schema, Value};

/// How much to fetch at once, and of what.
#[derive(Clone, Copy)]
pub struct Skim {
    /// Bytes of the first fetch after a gap; each contiguous fetch doubles it, also the one at the
    /// start of the file.
    first: usize,
    most: usize,
    /// Messages up to this long are fetched whole, since skipping parts would save less than a
    /// fetch.
    whole: usize,
    /// Whether no long message is walked but the model itself.
    is_flat: bool,
}

impl Skim {
    /// For cheap reads, such as from a file: in small parts, with little superfluous between them.
    pub const NEAR: Skim = Skim {
        // So that `foreign` finds what it examines.
        first: foreign::HEAD_BYTES / 2,
        most: 64 << 10,
        whole: 512,
        is_flat: false,
    };

    /// For cheap reads, and [`tail::split`](crate::tail::split) alone: passes over graphs.
    pub const FIELDS: Skim = Skim {
        is_flat: true,
        ..Skim::NEAR
    };

    /// For reads that are requests.
    pub const FAR: Skim = Skim {
        first: 64 << 10,
        most: 4 << 20,
        whole: 16 << 10,
        is_flat: false,
    };
}

/// The most bytes of a field's tag and length, or of its tag and fixed-length value.
const HEAD_BYTES: usize = 20;

/// Fills `bytes`, as many zeros as the file has bytes, with the parts that
/// [`locate`](crate::locate) (under `limits`) and [`tail::split`](crate::tail::split) read. Both
/// then return for `bytes` what they would return for the file, sound or not. All else stays zero.
///
/// Calls `fetch` with parts of `bytes` and their offsets, in ascending order, each once.
pub fn skim<E>(how: Skim, bytes: &mut [u8], limits: &Limits, fetch: Fetch<'_, E>) -> Result<(), E> {
    let end = bytes.len();
    let mut skimmer = Skimmer {
        how,
        bytes,
        fetch,
        fetched_to: 0,
        ahead: how.first,
        max_depth: limits.graph_depth,
        depth: 0,
    };
    skimmer.message(&model::SCHEMA, 0, end)
}

/// Fills a part of the bytes, at an offset.
type Fetch<'f, E> = &'f mut dyn FnMut(&mut [u8], u64) -> Result<(), E>;

/// Returns whether a field has elements, which are skipped.
fn is_elements(schema: &Schema, number: u32) -> bool {
    let of_attribute = [attribute::s, attribute::floats, attribute::strings];
    (schema.is(&tensor::SCHEMA) && schema::ELEMENTS.contains(&number))
        || (schema.is(&attribute::SCHEMA) && of_attribute.contains(&number))
}

struct Skimmer<'b, 'f, E> {
    how: Skim,
    /// The whole file.
    bytes: &'b mut [u8],
    fetch: Fetch<'f, E>,
    /// Everything before this is done.
    fetched_to: usize,
    /// Bytes to fetch at once if the fetch continues the last one.
    ahead: usize,
    max_depth: u32,
    /// The number of graphs around the one being walked.
    depth: u32,
}

impl<E> Skimmer<'_, '_, E> {
    /// Walks a message. If it is not a message, `locate` stops there too, at fetched bytes.
    fn message(&mut self, schema: &Schema, start: usize, end: usize) -> Result<(), E> {
        let mut position = start;
        while position < end {
            self.need(position, end.min(position.saturating_add(HEAD_BYTES)))?;
            let Some(field) = self.field(position, end) else {
                break;
            };
            position = field.end as usize;
            if let Value::Delimited(value) = field.value
                && !is_elements(schema, field.number)
            {
                let start = value.offset() as usize;
                match schema.inside(field.number) {
                    Some(inside) if position - start > self.how.whole => {
                        self.long(inside, start, position)?;
                    }
                    _ => self.need(start, position)?,
                }
            }
        }
        Ok(())
    }

    /// Returns the field at `position`, or `None` if the message that ends at `end` has none there.
    fn field(&self, position: usize, end: usize) -> Option<Field<'_>> {
        let part = Span {
            start: position as u64,
            len: end.saturating_sub(position) as u64,
        };
        let mut rest = Message::within(self.bytes, part).fields(&schema::ANY);
        rest.next()?.ok()
    }

    /// Walks a message that is too long to be fetched whole.
    fn long(&mut self, schema: &Schema, start: usize, end: usize) -> Result<(), E> {
        let depth = self.depth + u32::from(schema.is(&graph::SCHEMA));
        // The outermost graph is at depth 0, which is always allowed.
        if self.how.is_flat || depth > self.max_depth.saturating_add(1) {
            return Ok(());
        }
        let around = std::mem::replace(&mut self.depth, depth);
        let walked = self.message(schema, start, end);
        self.depth = around;
        walked
    }

    /// Fetches these bytes, unless they were fetched before.
    fn need(&mut self, start: usize, end: usize) -> Result<(), E> {
        let mut start = start.max(self.fetched_to);
        while start < end {
            self.ahead = if start == self.fetched_to {
                self.ahead.saturating_mul(2).min(self.how.most)
            } else {
                self.how.first
            };
            let to = start.saturating_add(self.ahead).min(self.bytes.len());
            let room = self.bytes.get_mut(start..to).unwrap_or_default();
            (self.fetch)(room, start as u64)?;
            self.fetched_to = to;
            start = to;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::convert::Infallible;
    use std::fs;
    use std::path::Path;

    use onnxseal_testkit::{corrupt, samples, shared_models};

    use super::*;
    use crate::{locate, tail};

    /// Sizes that fetch hardly more than the bytes that are read.
    const EXACT: Skim = Skim {
        first: 1,
        most: 1,
        whole: 0,
        is_flat: false,
    };

    /// Returns the skimmed file, with `rest` in unfetched places, and the numbers of fetched bytes
    /// and pieces.
    fn skimmed(how: Skim, file: &[u8], rest: u8) -> (Vec<u8>, usize, usize) {
        let (mut bytes, mut n_bytes, mut n_pieces, mut last) = (vec![rest; file.len()], 0, 0, 0);
        let mut fetch = |room: &mut [u8], offset| {
            let start = offset as usize;
            assert!(start >= last && !room.is_empty());
            room.copy_from_slice(&file[start..start + room.len()]);
            last = start + room.len();
            n_bytes += room.len();
            n_pieces += 1;
            Ok::<_, Infallible>(())
        };
        skim(how, &mut bytes, &Limits::default(), &mut fetch).unwrap();
        (bytes, n_bytes, n_pieces)
    }

    /// Checks that a skimmed file gives the results of the file.
    fn check(name: &str, file: &[u8]) {
        let limits = Limits::default();
        let said = |bytes: &[u8]| format!("{:?} {:?}", locate(bytes, &limits), tail::split(bytes));
        let expected = said(file);
        for rest in [0x00, 0x01, 0xff] {
            let (bytes, ..) = skimmed(EXACT, file, rest);
            assert!(said(&bytes) == expected, "{name}, {rest:#x}");
        }
        for how in [Skim::FAR, Skim::NEAR] {
            let (bytes, ..) = skimmed(how, file, 0);
            assert!(said(&bytes) == expected, "{name}");
        }
        let expected = format!("{:?}", tail::split(file));
        for rest in [0x00, 0x01, 0xff] {
            let (bytes, ..) = skimmed(Skim::FIELDS, file, rest);
            assert!(
                format!("{:?}", tail::split(&bytes)) == expected,
                "{name}, {rest:#x}"
            );
        }
    }

    fn models_of(folder: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut models = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "onnx")
            {
                let bytes = fs::read(&path).unwrap();
                models.push((path.display().to_string(), bytes));
            }
        }
        models
    }

    #[test]
    fn skimmed_models_are_located_as_whole_ones() {
        let mut models = models_of("../../fixtures/models");
        models.extend(models_of("../../fixtures/models/tiny"));
        models.extend(
            samples::all()
                .into_iter()
                .map(|s| (s.name.to_owned(), s.model)),
        );
        for path in shared_models().unwrap_or_default() {
            models.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
        assert!(models.len() > 30);
        for (name, bytes) in &models {
            check(name, bytes);
            let entries = [tail::MANIFEST, tail::TAGS, tail::MAC, tail::KEYS[0]];
            let entries = entries.map(|key| (key, &b"some value"[..]));
            for is_locked in [false, true] {
                let tail = tail::encode(&entries, is_locked);
                check(name, &corrupt::appended(bytes, &tail));
            }
        }
    }

    #[test]
    fn damaged_models_are_refused_for_the_same_reason() {
        for sample in samples::all() {
            for i in 0..sample.model.len() {
                check(sample.name, &corrupt::flipped(&sample.model, i));
                check(sample.name, &corrupt::bit_flipped(&sample.model, i, 3));
                check(sample.name, &corrupt::truncated(&sample.model, i));
            }
        }
    }

    #[test]
    fn of_real_models_little_but_the_elements_is_passed_over() {
        for (name, bytes) in models_of("../../fixtures/models") {
            let Ok(model) = locate(&bytes, &Limits::default()) else {
                continue;
            };
            let (_, n_bytes, _) = skimmed(EXACT, &bytes, 0);
            let elements = model
                .tensors
                .iter()
                .filter_map(|tensor| match tensor.payload {
                    crate::model::Payload::Dense { file, span, .. } if file.0 == 0 => {
                        Some(span.len)
                    }
                    _ => None,
                });
            let elements = elements.sum::<u64>() as usize;
            let heads = HEAD_BYTES * 2 * model.tensors.len();
            assert!(n_bytes <= bytes.len() - elements + heads, "{name}");
        }
    }

    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        let (mut out, mut len) = (vec![], value.len());
        let mut tag = u32::from(number) << 3 | 2;
        while tag >= 0x80 {
            out.push(tag as u8 | 0x80);
            tag >>= 7;
        }
        out.push(tag as u8);
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        [out, value.to_vec()].concat()
    }

    #[test]
    fn files_of_other_kinds_are_told_apart() {
        let text = "text ".repeat(1000).into_bytes();
        let (bytes, ..) = skimmed(Skim::NEAR, &text, 0);
        assert_eq!(foreign::foreign(&bytes), foreign::foreign(&text));
        assert!(foreign::foreign(&text).is_some());
    }

    #[test]
    fn elements_are_not_fetched() {
        let weights = vec![7; 3 << 20];
        let tensor = [field(8, b"w"), field(9, &weights)].concat();
        let attribute = [field(1, b"value"), field(5, &tensor)].concat();
        let node = [field(4, b"Constant"), field(5, &attribute)].concat();
        let graph = [field(1, &node), field(5, &tensor), field(2, b"g")].concat();
        // Training information and defaults of functions' attributes are examined too.
        let training = field(1, &field(1, &field(5, &attribute)));
        let function = [field(1, b"f"), field(11, &attribute)].concat();
        let parts = [field(7, &graph), field(20, &training), field(25, &function)].concat();
        let file = [parts, field(2, b"end")].concat();
        let (_, n_bytes, n_pieces) = skimmed(Skim::FAR, &file, 0);
        assert!(n_bytes <= 6 * Skim::FAR.first, "{n_bytes}");
        assert_eq!(n_pieces, 5);
        check("large", &file);
    }

    #[test]
    fn between_many_small_tensors_little_is_read_from_nearby() {
        let tensor = [field(8, b"w"), field(9, &vec![7; 16 << 10])].concat();
        let file = field(7, &field(5, &tensor).repeat(1000));
        let (_, n_bytes, _) = skimmed(Skim::NEAR, &file, 0);
        assert!(n_bytes <= file.len() / 10, "{n_bytes}");
        check("small", &file);
    }

    #[test]
    fn what_is_unknown_is_fetched_in_ever_larger_pieces() {
        let file = field(15, &vec![7; 20 << 20]);
        let (bytes, n_bytes, n_pieces) = skimmed(Skim::FAR, &file, 0);
        assert_eq!((n_bytes, n_pieces), (file.len(), 10));
        assert!(bytes == file);
    }

    #[test]
    fn nesting_does_not_exhaust_the_stack() {
        let mut graph = vec![0; 2 * Skim::FAR.whole];
        for _ in 0..5_000 {
            graph = field(1, &field(5, &field(6, &graph)));
        }
        check("nested", &field(7, &graph));
    }
}
