//! Memory that holds a file of a model, decrypted.

use std::fmt;
use std::io;

use memmap2::{Mmap, MmapMut};

use crate::error::Result;
use crate::input::Input;
use crate::map;
use crate::spans::SpanSet;

/// Where the bytes of a model lie once it is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// In the model's files, mapped, as far as they were not encrypted; all else is copied, page by page.
    /// Only where the system promises that the files do not change as long as the model is open
    /// (Linux: a read lease, see fcntl(2), which it gives to the owner of a file, or root, if nobody
    /// has it open for writing), and where it saves memory; otherwise as [`Own`](Memory::Own).
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
    is_mapped: bool,
    is_locked: bool,
    /// The file, where it is mapped: the system's promise holds as long as it is open.
    input: Option<Input>,
}

enum Bytes {
    Empty,
    Unfinished(MmapMut),
    Finished(Mmap),
}

impl Plaintext {
    /// Memory for the first `len` bytes of `input`, of which `secret` will hold decrypted ones: with
    /// the bytes of the file in it if it [is mapped](Plaintext::is_mapped), with zeros otherwise.
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
            is_mapped: false,
            is_locked: true,
            input: None,
        };
        if len_bytes == 0 {
            // An empty map is an error on some systems.
            return Ok(plaintext);
        }
        // Where most pages are to be changed, it is faster to read the file than to copy them one by one.
        let saves = || plaintext.secret.len_pages(PAGE) < len.div_ceil(PAGE) / 2;
        let may_map = memory == Memory::Auto && saves() && input.take_lease();
        let bytes = match input.file().filter(|_| may_map) {
            Some(file) => {
                plaintext.is_mapped = true;
                map::map_privately(file, len_bytes)?
            }
            None => MmapMut::map_anon(len_bytes)?,
        };
        #[cfg(target_os = "linux")]
        {
            // None of them has to be: they make it faster and safer.
            let _ = bytes.advise(memmap2::Advice::DontDump);
            if !plaintext.is_mapped {
                let _ = bytes.advise(memmap2::Advice::HugePage);
            }
        }
        plaintext.is_locked = map::lock(&bytes);
        plaintext.bytes = Bytes::Unfinished(bytes);
        Ok(plaintext)
    }

    pub(crate) fn is_mapped(&self) -> bool {
        self.is_mapped
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

    /// Makes the memory read-only; `input` is the file that it was made for.
    pub(crate) fn finish(&mut self, input: Input) -> io::Result<()> {
        self.input = self.is_mapped.then_some(input);
        self.bytes = match std::mem::replace(&mut self.bytes, Bytes::Empty) {
            Bytes::Unfinished(bytes) => Bytes::Finished(bytes.make_read_only()?),
            bytes => bytes,
        };
        Ok(())
    }

    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.input.as_ref().map_or(Ok(()), Input::check_lease)
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
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
            is_mapped,
            is_locked,
            input: _,
        } = self;
        f.debug_struct("Plaintext")
            .field("len", &self.as_slice().len())
            .field("decrypted", &secret.len_bytes())
            .field("is_mapped", is_mapped)
            .field("is_locked", is_locked)
            .finish()
    }
}
