//! BLAKE3 digests of whole files, taken chunk by chunk in any order.
//!
//! BLAKE3 is a hash tree, so each thread can hash its own chunk as a subtree. The digest equals
//! that of `b3sum`.

use std::sync::OnceLock;

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};
use onnxseal_store::{Input, Progress};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::format::manifest::{File, Manifest};
use crate::pass::chunks::{self, Chunk, PerChunk};
use crate::pass::states::FileState;

pub(crate) struct Digester<'a> {
    layout: &'a Manifest,
    /// For each chunk, the chaining value of its subtree, or the file's digest if it is the only
    /// chunk; `None` if nobody wants digests.
    values: Option<PerChunk<ChainingValue>>,
    /// The last chunk of the model file, which is hashed together with the tail.
    last: OnceLock<Zeroizing<Vec<u8>>>,
}

impl<'a> Digester<'a> {
    pub(crate) fn new(layout: &'a Manifest, is_wanted: bool) -> Digester<'a> {
        Digester {
            layout,
            values: is_wanted.then(|| PerChunk::new(layout)),
            last: OnceLock::new(),
        }
    }

    /// Takes in a chunk. Each chunk is given once.
    pub(crate) fn take(&self, chunk: &Chunk, bytes: &[u8]) {
        let Some(values) = &self.values else { return };
        let n_chunks = values.index.range(chunk.file()).len();
        if chunk.file() == 0 && chunk.id.chunk as usize + 1 == n_chunks {
            let _ = self.last.set(Zeroizing::new(bytes.to_vec()));
            return;
        }
        let value = match n_chunks {
            1 => *blake3::hash(bytes).as_bytes(),
            _ => subtree(bytes, chunk.window.start),
        };
        values.put(chunk, value);
    }

    /// Returns the states of the files, with digests if they are wanted; the model file ends with `tail`.
    pub(crate) fn finish(&self, tail: &[u8]) -> Result<Vec<FileState>> {
        let states = self.layout.files().iter().enumerate().map(|(file, of)| {
            let tail = if file == 0 { tail } else { &[] };
            let digest = self.values.as_ref().map(|values| match file {
                0 => self.model(values, tail),
                _ => Ok(root(&values.get(values.index.range(file))?)),
            });
            Ok(FileState {
                path: of.path.clone(),
                bytes: of.bytes + tail.len() as u64,
                blake3: digest
                    .transpose()?
                    .map(|digest| digest.to_hex().to_string()),
                stamp: None,
            })
        });
        states.collect()
    }

    fn model(&self, values: &PerChunk<ChainingValue>, tail: &[u8]) -> Result<blake3::Hash> {
        let size = self.layout.chunk_bytes() as usize;
        let last = self.last.get().map_or(&[][..], |last| last);
        let rest = Zeroizing::new([last, tail].concat());
        let range = values.index.range(0);
        // The number of chunks before the last.
        let whole = range.len().saturating_sub(1);
        if whole == 0 && rest.len() <= size {
            return Ok(blake3::hash(&rest));
        }
        let mut values = values.get(range.start..range.start + whole)?;
        let rest = rest.chunks(size).zip(whole..);
        values.extend(rest.map(|(bytes, chunk)| subtree(bytes, (chunk * size) as u64)));
        Ok(root(&values))
    }
}

/// Computes the BLAKE3 digest of `input` as it is now, in hexadecimal digits.
pub fn digest_file(input: &Input, progress: &dyn Progress) -> Result<String> {
    let (path, bytes) = (String::new(), input.len);
    let layout = Manifest::layout(vec![File { path, bytes }])?;
    let digester = Digester::new(&layout, true);
    chunks::read_all(&layout, &[input], progress, |chunk, bytes| {
        digester.take(chunk, bytes);
        Ok(())
    })?;
    let digest = digester.finish(&[])?.pop().and_then(|file| file.blake3);
    digest.ok_or(Error::Internal("a file without a digest"))
}

/// The chaining value of the chunk at `offset`, in a file of several chunks.
fn subtree(bytes: &[u8], offset: u64) -> ChainingValue {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The digest of a file from the values of its chunks.
fn root(values: &[ChainingValue]) -> blake3::Hash {
    match values {
        [] => blake3::hash(&[]),
        [digest] => blake3::Hash::from_bytes(*digest),
        _ => {
            let [left, right] = halves(values);
            merge_subtrees_root(&left, &right, Mode::Hash)
        }
    }
}

/// The chaining values of the two subtrees of several chunks, from the values of the chunks.
fn halves(values: &[ChainingValue]) -> [ChainingValue; 2] {
    // The left one has the largest power of two below the number of chunks.
    let (left, right) = values.split_at(values.len().next_power_of_two() / 2);
    [left, right].map(|values| match values {
        [value] => *value,
        _ => {
            let [left, right] = halves(values);
            merge_subtrees_non_root(&left, &right, Mode::Hash)
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::format::manifest::File;
    use crate::format::manifest::draft::Draft;
    use crate::pass::chunks::chunks;

    #[test]
    fn digests_are_those_of_the_whole_file() {
        const CHUNK: u64 = 64 << 10;
        let sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 7 * CHUNK + 5];
        for model in sizes {
            for tail in [0, 1, CHUNK as usize - 1, CHUNK as usize, 5 * CHUNK as usize] {
                let files = [&[model], &sizes[..]].concat();
                let contents: Vec<Vec<u8>> = files.iter().map(|&len| noise(len)).collect();
                let tail = noise(tail as u64);
                let layout = layout(CHUNK, &files);
                let digester = Digester::new(&layout, true);
                let mut all: Vec<_> = chunks(&layout).collect();
                all.reverse();
                for chunk in all {
                    let window = chunk.window.start as usize..chunk.window.end() as usize;
                    digester.take(&chunk, &contents[chunk.file()][window]);
                }
                let found = digester.finish(&tail).unwrap();
                for (file, (found, bytes)) in found.iter().zip(&contents).enumerate() {
                    let bytes = match file {
                        0 => [&bytes[..], &tail].concat(),
                        _ => bytes.clone(),
                    };
                    assert_eq!(found.bytes, bytes.len() as u64);
                    let expected = blake3::hash(&bytes).to_hex();
                    assert_eq!(found.blake3.as_deref(), Some(expected.as_str()));
                }
            }
        }
    }

    #[test]
    fn a_chunk_that_is_missing_gives_no_digest() {
        let layout = layout(64 << 10, &[1, 200_000]);
        let digester = Digester::new(&layout, true);
        for chunk in chunks(&layout).take(4) {
            digester.take(&chunk, &noise(chunk.window.len));
        }
        assert!(digester.finish(&[]).is_err());
    }

    fn noise(len: u64) -> Vec<u8> {
        (0..len).map(|i| (i * i + len) as u8).collect()
    }

    fn layout(chunk: u64, files: &[u64]) -> Manifest {
        let file = |(i, &bytes): (usize, &u64)| File {
            path: if i == 0 { String::new() } else { i.to_string() },
            bytes,
        };
        let files = files.iter().enumerate().map(file).collect();
        let draft = Draft {
            chunk,
            ..Draft::of_files(files)
        };
        draft.into_manifest().unwrap()
    }
}
