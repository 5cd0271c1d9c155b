//! Memory that holds a file of a model, decrypted.

use std::fmt;
use std::io;
use std::path::PathBuf;

use memmap2::{Mmap, MmapMut};

use crate::error::{Error, Result};
use crate::format::spans::SpanSet;
use crate::input::Input;
use crate::lease::Leased;
use crate::map;

/// Where the bytes of a model lie once it is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// In the model's files, mapped, as far as they were not encrypted; all else is copied, page by page.
    /// Only where that saves memory, and where the system says of somebody who wants to write to a
    /// file, and has them wait until the rest of it was copied as well (Linux: a read lease, which
    /// it gives to the owner of a file, or root, if nobody has it open for writing; on file systems that
    /// nobody can write to by another way). Otherwise as [`Own`](Memory::Own). A process that is stopped for longer than the system has writers wait, or
    /// finds no memory to copy to, may see the file change.
    #[default]
    Auto,
    /// In memory of their own, all of them: whatever happens to the files has no effect.
    Own,
}

/// The bytes of one file, decrypted.
///
/// They are kept out of core dumps and, as far as the process may lock memory, out of swap space.
/// What was encrypted is zeroized when it is dropped.
pub(crate) struct Plaintext {
    bytes: Bytes,
    secret: SpanSet,
    /// The file, where it is mapped.
    leased: Option<Leased>,
    is_locked: bool,
    /// What messages call it.
    path: PathBuf,
}

enum Bytes {
    Empty,
    Unfinished(MmapMut),
    Finished(Mmap),
}

impl Plaintext {
    /// Memory for the first `len` bytes of `input`, of which `secret` will hold decrypted ones: with
    /// the bytes of the file in it if it [was mapped](Plaintext::was_mapped), with zeros otherwise.
    pub(crate) fn new(
        input: &Input,
        len: u64,
        secret: SpanSet,
        memory: Memory,
    ) -> io::Result<Plaintext> {
        const PAGE: u64 = 4096;
        let len_bytes = usize::try_from(len).map_err(io::Error::other)?;
        let mut plaintext = Plaintext {
            bytes: Bytes::Empty,
            secret,
            leased: None,
            is_locked: true,
            path: input.path.clone(),
        };
        if len_bytes == 0 {
            // An empty map is an error on some systems.
            return Ok(plaintext);
        }
        // Where most pages are to be changed, it is faster to read the file than to copy them one by one.
        let saves = || plaintext.secret.len_pages(PAGE) < len.div_ceil(PAGE) / 2;
        let may_map = memory == Memory::Auto && saves();
        let leased = match may_map {
            true => Leased::map(input, len_bytes)?,
            false => None,
        };
        let bytes = match leased {
            Some((leased, bytes)) => {
                plaintext.leased = Some(leased);
                bytes
            }
            None => MmapMut::map_anon(len_bytes)?,
        };
        #[cfg(target_os = "linux")]
        {
            // None of them has to be: they make it faster and safer.
            let _ = bytes.advise(memmap2::Advice::DontDump);
            if plaintext.leased.is_none() {
                let _ = bytes.advise(memmap2::Advice::HugePage);
            }
        }
        plaintext.is_locked = map::lock(&bytes);
        plaintext.bytes = Bytes::Unfinished(bytes);
        Ok(plaintext)
    }

    /// Whether it had the bytes of its file from the start.
    pub(crate) fn was_mapped(&self) -> bool {
        self.leased.is_some()
    }

    pub(crate) fn is_mapped(&self) -> bool {
        self.leased.as_ref().is_some_and(Leased::is_mapped)
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.is_locked || self.secret.len_bytes() == 0
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Empty => &[],
            Bytes::Unfinished(bytes) => bytes,
            Bytes::Finished(bytes) => bytes,
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Bytes::Unfinished(bytes) => bytes,
            Bytes::Empty | Bytes::Finished(_) => &mut [],
        }
    }

    /// Makes the memory read-only.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.bytes = match std::mem::replace(&mut self.bytes, Bytes::Empty) {
            Bytes::Unfinished(bytes) => Bytes::Finished(match &self.leased {
                Some(leased) => leased.finish(bytes)?,
                None => bytes.make_read_only()?,
            }),
            bytes => bytes,
        };
        Ok(())
    }

    pub(crate) fn check_unchanged(&self) -> Result<()> {
        match self.leased.as_ref().is_none_or(Leased::holds) {
            true => Ok(()),
            false => Err(Error::InputChanged {
                path: self.path.clone(),
            }),
        }
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        if let Some(leased) = &self.leased {
            leased.release();
        }
        let mut bytes = match std::mem::replace(&mut self.bytes, Bytes::Empty) {
            Bytes::Unfinished(bytes) => bytes,
            Bytes::Finished(bytes) => match bytes.make_mut() {
                Ok(bytes) => bytes,
                // Unmapped all the same, and zeroed by the system before anybody else has it.
                Err(_) => return,
            },
            Bytes::Empty => return,
        };
        for span in self.secret.iter() {
            if let Some(part) = bytes.get_mut(span.start as usize..span.end() as usize) {
                // Not `zeroize`, which goes byte by byte: this may be gigabytes.
                part.fill(0);
            }
        }
        std::hint::black_box(bytes);
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plaintext {
            bytes: _,
            secret,
            leased,
            is_locked,
            path,
        } = self;
        f.debug_struct("Plaintext")
            .field("path", path)
            .field("len", &self.as_slice().len())
            .field("decrypted", &secret.len_bytes())
            .field("leased", leased)
            .field("is_locked", is_locked)
            .finish()
    }
}
