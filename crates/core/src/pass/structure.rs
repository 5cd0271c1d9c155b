//! A private copy of a model's structure, which is compared with the authenticated chunks.

use std::path::PathBuf;

use onnxseal_onnx::model::Span;
use onnxseal_onnx::{Limits, Model, Skim, locate, skim};
use onnxseal_store::{Error as StoreError, Input, SparseBytes};

use crate::error::{Error, Result, io, model as model_error};
use crate::pass::chunks::Chunk;

/// The most bytes of a model's structure that are read and kept in memory.
pub(crate) const MAX_STRUCTURE_BYTES: u64 = 1 << 30;

/// A copy, safe from later changes, of the bytes of a model file that parsers read.
///
/// A protected model file is read twice: for its structure, and chunk by chunk for authentication.
/// A writer of the file, or the store that holds it, could present a different graph each time. So
/// conclusions from the structure hold only if the chunks [agree](Structure::check).
#[derive(Debug, Default)]
pub(crate) struct Structure {
    path: PathBuf,
    /// As long as the file, with zeros for all that was not copied.
    bytes: SparseBytes,
    /// The bytes that were copied, in ascending order.
    pub(crate) parts: Vec<Span>,
}

impl Structure {
    pub(crate) fn read(input: &Input, max_bytes: u64, how: Skim) -> Result<Structure> {
        let path = input.path.clone();
        let mut bytes = SparseBytes::new(input.len).map_err(io("find memory for", &path))?;
        let (mut parts, mut n_bytes) = (Vec::<Span>::new(), 0);
        skim(how, &mut bytes, &Limits::default(), &mut |part, start| {
            let len = part.len() as u64;
            n_bytes += len;
            if n_bytes > max_bytes {
                let (path, what) = (input.path.clone(), "bytes that are no elements");
                let source = onnxseal_onnx::Error::limit(start, what, max_bytes);
                return Err(Error::Model { path, source });
            }
            match parts.last_mut() {
                Some(last) if last.end() == start => last.len += len,
                _ => parts.push(Span { start, len }),
            }
            Ok(input.read_exact_at(part, start)?)
        })?;
        Ok(Structure { path, bytes, parts })
    }

    /// Returns the copy, among zeros, in as many bytes as the file has.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Locates the model in the first `len` bytes of the file.
    pub(crate) fn locate(&self, len: u64) -> Result<Model<'_>> {
        // A manifest may claim more bytes than the file has.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(..len.min(self.bytes.len()));
        let located = locate(bytes.unwrap_or_default(), &Limits::default());
        located.map_err(|source| self.malformed(source))
    }

    pub(crate) fn malformed(&self, source: onnxseal_onnx::Error) -> Error {
        model_error(&self.path, &self.bytes, source)
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
            let ours = self.bytes.get(start as usize..end as usize);
            let theirs = stored.get((start - window.start) as usize..(end - window.start) as usize);
            if ours.is_none() || ours != theirs {
                return Err(StoreError::InputChanged(self.path.clone()).into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::fs::{self, File};

    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;
    use crate::format::manifest::File as ManifestFile;
    use crate::format::manifest::draft::Draft;
    use crate::pass::chunks::chunks;
    use crate::pass::source::Source;

    #[test]
    fn a_file_that_is_cut_once_it_is_open_is_an_io_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        let samples = onnxseal_testkit::samples::all();
        let bytes = &samples.first().unwrap().model;
        for left in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, bytes).unwrap();
            let input = Input::open(&path.as_path().into()).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_len(left as u64).unwrap();
            match Source::of(input).structure().unwrap_err() {
                Error::Store(StoreError::Io { path: of, .. }) => assert_eq!(of, path),
                error => panic!("{error:?}"),
            }
        }
    }

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
        let structure = source.structure().unwrap();
        let len = bytes.len() as u64;
        let model = structure.locate(len).unwrap();
        let op_type = model.nodes[0].op_type;
        assert_eq!(op_type, "MatMul");
        let model = ManifestFile {
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
