//! A protected model on disk, and what a key makes of it.

use std::ops::Range;
use std::path::Path;

use onnxseal_crypto::wrap::Identities;
use onnxseal_crypto::{self as crypto, OpenKey, Scratch, Tag};
use onnxseal_onnx::external;
use onnxseal_onnx::model::Span;

use crate::artifact::{Artifact, TAG_BYTES};
use crate::chunks::{Chunk, Workspace, chunks_with_tags};
use crate::error::{Error, Result};
use crate::input::Input;
use crate::manifest::Manifest;
use crate::source::Source;
use crate::spans::SpanSet;

/// A protected model whose metadata is well-formed.
#[derive(Debug)]
pub(crate) struct Protected {
    pub(crate) artifact: Artifact,
    pub(crate) source: Source,
}

/// Proof that a key opens the data key and that the manifest and tags are authentic.
pub(crate) struct Unlocked<'p> {
    protected: &'p Protected,
    key: OpenKey,
    external: Vec<Input>,
    /// The target bytes of every file.
    pub(crate) targets: Vec<SpanSet>,
}

impl Protected {
    /// Opens the model file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Protected> {
        let source = Source::open(path)?;
        let artifact = Artifact::parse(path, source.bytes())?.ok_or_else(|| {
            let path = path.to_owned();
            Error::NotProtected { path }
        })?;
        Ok(Protected { artifact, source })
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.artifact.manifest
    }

    /// Opens the data key, authenticates the manifest and the tags, and opens the external files
    /// that the manifest names.
    pub(crate) fn unlock(&self, identities: &Identities) -> Result<Unlocked<'_>> {
        let artifact = &self.artifact;
        let path = || self.source.input.path.clone();
        let data_key = identities
            .unwrap(&artifact.key)
            .map_err(|error| match error {
                crypto::Error::NoMatchingKey { recipients } => Error::NoMatchingKey {
                    path: path(),
                    recipients: recipients.join(", "),
                },
                crypto::Error::Unauthentic => Error::Manifest { path: path() },
                crypto::Error::MalformedKey { .. } | crypto::Error::LimitExceeded { .. } => {
                    Error::Metadata {
                        path: path(),
                        reason: error.to_string(),
                    }
                }
                error => Error::Key(error),
            })?;
        let key = data_key
            .open_keys(&artifact.manifest_bytes, &artifact.tags, &artifact.mac)
            .map_err(|_| Error::Manifest { path: path() })?;
        // Not before: until here the paths may be anybody's.
        let external = self.open_external()?;
        let targets = artifact.manifest.target_spans();
        Ok(Unlocked {
            protected: self,
            key,
            external,
            targets,
        })
    }

    /// Opens the external files that the manifest names.
    pub(crate) fn open_external(&self) -> Result<Vec<Input>> {
        let mut external = Vec::new();
        for file in self.manifest().files.iter().skip(1) {
            let (path, opened) = external::open(folder_of(&self.source.input.path), &file.path)
                .map_err(|source| Error::Model {
                    path: self.source.input.path.clone(),
                    source,
                })?;
            let input = Input::of(&path, opened)?;
            if input.len != file.bytes {
                let (expected, found) = (file.bytes, input.len);
                return Err(Error::Length {
                    path,
                    expected,
                    found,
                });
            }
            external.push(input);
        }
        Ok(external)
    }
}

impl Unlocked<'_> {
    pub(crate) fn manifest(&self) -> &Manifest {
        self.protected.manifest()
    }

    /// The files of the model, in the order of the manifest.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Input> {
        std::iter::once(&self.protected.source.input).chain(&self.external)
    }

    /// Every chunk with its tag.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (Chunk, &[u8; TAG_BYTES])> + Send {
        let artifact = &self.protected.artifact;
        chunks_with_tags(&artifact.manifest, &artifact.tags)
    }

    /// Reads `chunk` from its file and hands `then` its authentic plaintext.
    pub(crate) fn with_chunk(
        &self,
        workspace: &mut Workspace,
        chunk: &Chunk,
        tag: &[u8; TAG_BYTES],
        then: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (bytes, targets, scratch) = workspace.prepare(chunk, self.targets_of(chunk)?);
        self.read(chunk, bytes)?;
        self.open_in_place(chunk, bytes, targets, tag, scratch)?;
        then(bytes)
    }

    /// Reads `chunk` from its file into `bytes`, of the chunk's length, and opens it there.
    pub(crate) fn open_into(
        &self,
        workspace: &mut Workspace,
        chunk: &Chunk,
        tag: &[u8; TAG_BYTES],
        bytes: &mut [u8],
    ) -> Result<()> {
        self.targets_of(chunk)?
            .within(chunk.window, &mut workspace.targets);
        self.read(chunk, bytes)?;
        self.open_in_place(
            chunk,
            bytes,
            &workspace.targets,
            tag,
            &mut workspace.scratch,
        )
    }

    fn read(&self, chunk: &Chunk, bytes: &mut [u8]) -> Result<()> {
        match self.files().nth(chunk.file()) {
            Some(input) => input.read_exact_at(bytes, chunk.window.start),
            None => Err(Error::Internal("a chunk of a file that is not open")),
        }
    }

    fn targets_of(&self, chunk: &Chunk) -> Result<&SpanSet> {
        let targets = self.targets.get(chunk.file());
        targets.ok_or(Error::Internal("a chunk of a file without targets"))
    }

    fn open_in_place(
        &self,
        chunk: &Chunk,
        bytes: &mut [u8],
        targets: &[Range<usize>],
        tag: &[u8; TAG_BYTES],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let opened = self
            .key
            .open_chunk(chunk.id, bytes, targets, &Tag(*tag), scratch);
        opened.map_err(|error| match error {
            crypto::Error::Unauthentic => self.changed(chunk),
            error => Error::Key(error),
        })
    }

    /// The error of a chunk that is not what was protected.
    fn changed(&self, chunk: &Chunk) -> Error {
        let window = chunk.window;
        let path = self
            .files()
            .nth(chunk.file())
            .map(|input| input.path.clone());
        Error::Chunk {
            path: path.unwrap_or_default(),
            start: window.start,
            end: window.end(),
            holds: self.holds(chunk.id.file, window),
        }
    }

    /// Names what lies in `window` of `file`: encrypted tensors, and the graph with all else.
    fn holds(&self, file: u32, window: Span) -> String {
        const NAMED: usize = 3;
        let tensors = self.protected.manifest().tensors.iter().filter(|tensor| {
            let extent = tensor.extent();
            tensor.file == file && extent.start < window.end() && window.start < extent.end()
        });
        let names: Vec<String> = tensors
            .map(|tensor| format!("tensor {:?}", tensor.name))
            .collect();
        let mut holds: Vec<String> = names.iter().take(NAMED).cloned().collect();
        if names.len() > NAMED {
            holds.push(format!("{} more tensors", names.len() - NAMED));
        }
        let encrypted = self.targets.get(file as usize).map_or(0, |targets| {
            let mut parts = Vec::new();
            targets.within(window, &mut parts);
            parts.iter().map(|part| part.len() as u64).sum()
        });
        if encrypted < window.len {
            holds.push(
                if file == 0 {
                    "graph"
                } else {
                    "weights in clear"
                }
                .into(),
            );
        }
        holds.join(", ")
    }
}

/// The folder that holds `path`.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
