//! Opening: a protected model, verified and decrypted, in memory or in new files.

use std::collections::BTreeMap;

use crate::chunks;
use crate::error::{Result, io};
use crate::input::Input;
use crate::location::Location;
use crate::manifest::Manifest;
use crate::outputs::{self, OutputOptions, Outputs};
use crate::progress::Progress;
use crate::protected::Protected;
use crate::signature::Access;
use crate::spans::SpanSet;
use crate::transfer::Transfer;
use memmap2::MmapMut;

/// A model in memory: every byte verified, every encrypted byte decrypted.
#[derive(Debug)]
pub struct OpenedModel {
    manifest: Manifest,
    files: Vec<OpenedFile>,
}

/// One file of an [`OpenedModel`].
///
/// What was encrypted is zeroized when it is dropped.
struct OpenedFile {
    bytes: Option<MmapMut>,
    secret: SpanSet,
}

/// Opens the protected `model` into memory.
///
/// Returns the original bytes of all its files, after the last of them has been authenticated.
///
/// # Errors
/// [`ErrorKind`](crate::ErrorKind): `Malformed`, `NoMatchingKey`, `Authentication`, `Io`; `Usage`
/// when the model is not protected.
pub fn open<'a>(
    model: impl Into<Location>,
    access: impl Into<Access<'a>>,
    progress: &dyn Progress,
) -> Result<OpenedModel> {
    let protected = Protected::open(&model.into())?;
    let path = &protected.source.input.path;
    let access = access.into();
    let unlocked = protected.unlock(access)?;
    let mut files = Vec::new();
    for (input, targets) in protected.manifest().files.iter().zip(&unlocked.targets) {
        let file = OpenedFile::with_room(input.bytes, targets.clone());
        files.push(file.map_err(io("find memory for", path))?);
    }
    let chunk_bytes = protected.manifest().chunk as usize;
    let places = files
        .iter_mut()
        .flat_map(|file| file.as_mut_slice().chunks_mut(chunk_bytes));
    let places = unlocked.tags().zip(places);
    chunks::for_each(
        unlocked.is_remote(),
        protected.manifest(),
        places,
        progress,
        |workspace, chunk, (tag, bytes)| {
            unlocked.read(chunk, bytes)?;
            unlocked.open_chunk(chunk, bytes, tag, &mut workspace.tools)
        },
    )?;
    unlocked.files().try_for_each(Input::check_unchanged)?;
    unlocked.check_signature()?;
    drop(unlocked);
    Ok(OpenedModel {
        manifest: protected.artifact.manifest,
        files,
    })
}

/// Restores the original of the protected `model` as `output`, its external files beside
/// it under their relative paths. Replaces existing files only if `options` say so.
///
/// # Errors
/// As [`open`]; `Usage` when an output exists or is an input. Nothing appears on failure.
pub fn unprotect<'a>(
    model: impl Into<Location>,
    output: impl Into<Location>,
    access: impl Into<Access<'a>>,
    options: OutputOptions,
    progress: &dyn Progress,
) -> Result<()> {
    let protected = Protected::open(&model.into())?;
    let access = access.into();
    let unlocked = protected.unlock(access)?;
    let files = &protected.manifest().files;
    let paths = outputs::paths(&output.into(), files, unlocked.files())?;
    let outputs = Outputs::create(paths, options)?;
    let transfer = Transfer::new(protected.manifest(), unlocked.files(), &outputs, progress);
    transfer.run(unlocked.tags(), progress, |chunk, bytes, tools, tag| {
        unlocked.open_chunk(chunk, bytes, tag, tools)
    })?;
    unlocked.check_signature()?;
    transfer.finish(protected.tail(), &[], progress)?;
    outputs.publish(unlocked.files())
}

impl OpenedModel {
    /// The original model file.
    pub fn model(&self) -> &[u8] {
        self.files.first().map_or(&[], OpenedFile::as_slice)
    }

    /// The original external data files with their paths, relative to the model's folder.
    pub fn external_files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let paths = self.manifest.files.iter().map(|file| file.path.as_str());
        paths
            .zip(self.files.iter().map(OpenedFile::as_slice))
            .skip(1)
    }

    /// The publisher's statements, authentic.
    pub fn claims(&self) -> &BTreeMap<String, String> {
        &self.manifest.claims
    }

    /// What was encrypted, authentic.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

impl OpenedFile {
    /// A file of `len` zero bytes, of which `secret` will hold decrypted ones.
    fn with_room(len: u64, secret: SpanSet) -> std::io::Result<OpenedFile> {
        let len = usize::try_from(len).map_err(std::io::Error::other)?;
        // An empty map is an error on some systems.
        let bytes = (len > 0).then(|| MmapMut::map_anon(len)).transpose()?;
        #[cfg(target_os = "linux")]
        if let Some(bytes) = &bytes {
            // Fewer page faults; without huge pages it is only slower.
            let _ = bytes.advise(memmap2::Advice::HugePage);
        }
        Ok(OpenedFile { bytes, secret })
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for OpenedFile {
    fn drop(&mut self) {
        let OpenedFile {
            bytes: Some(bytes),
            secret,
        } = self
        else {
            return;
        };
        for span in secret.iter() {
            if let Some(part) = bytes.get_mut(span.start as usize..span.end() as usize) {
                // Not `zeroize`, which goes byte by byte: this may be gigabytes.
                part.fill(0);
            }
        }
        std::hint::black_box(bytes);
    }
}

impl std::fmt::Debug for OpenedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let OpenedFile { bytes, secret } = self;
        let len = bytes.as_deref().map_or(0, <[u8]>::len);
        write!(
            f,
            "OpenedFile({len} bytes, {} of them decrypted)",
            secret.len_bytes()
        )
    }
}
