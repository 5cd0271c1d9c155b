//! A copy of a model's structure, which is compared with the authenticated chunks.

use onnxseal_onnx::model::Span;
use onnxseal_onnx::{Limits, Model, locate, skim_near};
use onnxseal_store::{Error as StoreError, Map};

use crate::error::{Error, Result, io};
use crate::pass::chunks::Chunk;
use crate::pass::source::Source;

/// A copy, safe from later changes, of the bytes of a model file that [`locate`] reads.
///
/// A model file is read twice: for its structure, and chunk by chunk for authentication. A writer
/// of the file, or the store that holds it, could present a different graph each time. So
/// conclusions from the structure hold only if the chunks [agree](Structure::check).
pub(crate) struct Structure<'s> {
    source: &'s Source,
    map: Map,
    /// The bytes that were copied, in ascending order.
    parts: Vec<Span>,
}

impl<'s> Structure<'s> {
    /// Copies the structure from the first `len` bytes of the file.
    pub(crate) fn of(source: &'s Source, len: u64) -> Result<Structure<'s>> {
        let mut parts = Vec::new();
        let map = Map::of_memory(len, |bytes| {
            skim_near(bytes, &Limits::default(), |part, offset| {
                let start = offset as usize;
                let from = source.bytes().get(start..start + part.len());
                part.copy_from_slice(from.ok_or(std::io::ErrorKind::UnexpectedEof)?);
                let len = part.len() as u64;
                parts.push(Span { start: offset, len });
                std::io::Result::Ok(())
            })
        });
        let map = map.map_err(io("read", &source.input.path))?;
        Ok(Structure { source, map, parts })
    }

    /// Returns the bytes that were copied, in ascending order.
    pub(crate) fn parts(&self) -> &[Span] {
        &self.parts
    }

    /// Locates the model in the copy.
    pub(crate) fn locate(&self) -> Result<Model<'_>> {
        locate(&self.map, &Limits::default()).map_err(|source| Error::Model {
            path: self.source.input.path.clone(),
            source,
        })
    }

    /// Fails if `stored`, a chunk as it is stored, differs from the copy.
    pub(crate) fn check(&self, chunk: &Chunk, stored: &[u8]) -> Result<()> {
        let window = chunk.window;
        // Only the model file has a graph.
        if chunk.file() != 0 {
            return Ok(());
        }
        let first = self
            .parts
            .partition_point(|part| part.end() <= window.start);
        let parts = self.parts.iter().skip(first);
        for part in parts.take_while(|part| part.start < window.end()) {
            let (start, end) = (part.start.max(window.start), part.end().min(window.end()));
            let ours = self.map.get(start as usize..end as usize);
            let theirs = stored.get((start - window.start) as usize..(end - window.start) as usize);
            if ours.is_none() || ours != theirs {
                let path = self.source.input.path.clone();
                return Err(StoreError::InputChanged { path }.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;
    use crate::format::manifest::File;
    use crate::format::manifest::draft::Draft;
    use crate::pass::chunks::chunks;

    #[test]
    fn it_agrees_with_what_it_was_told_from_and_with_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        let bytes = GraphBuilder::new("wide")
            .input("x", &[1, 256])
            .output("y", &[1, 256])
            .initializer(weights("w", &[256, 1024], 1))
            .node(node("MatMul", &["x", "w"], &["y"]))
            .encode();
        fs::write(&path, &bytes).unwrap();
        let source = Source::open(&path.into()).unwrap();
        let len = bytes.len() as u64;
        let structure = Structure::of(&source, len).unwrap();
        let model = structure.locate().unwrap();
        let op_type = model.nodes[0].op_type;
        assert_eq!(op_type, "MatMul");
        let model = File {
            path: String::new(),
            bytes: len,
        };
        let draft = Draft {
            chunk: 1 << 16,
            ..Draft::of_files(vec![model])
        };
        let manifest = draft.into_manifest().unwrap();
        let check = |bytes: &[u8]| {
            chunks(&manifest).try_for_each(|chunk| {
                let window = chunk.window.start as usize..chunk.window.end() as usize;
                structure.check(&chunk, &bytes[window])
            })
        };
        check(&bytes).unwrap();
        let at = bytes.windows(6).position(|window| window == b"MatMul");
        let mut changed = bytes.clone();
        changed[at.unwrap()] ^= 1;
        assert!(matches!(
            check(&changed),
            Err(Error::Store(StoreError::InputChanged { .. }))
        ));
        // A byte of the weights, which the copy leaves out.
        let mut changed = bytes.clone();
        changed[bytes.len() * 3 / 4] ^= 1;
        check(&changed).unwrap();
        assert!(structure.parts.iter().map(|part| part.len).sum::<u64>() < len / 2);
    }
}
