//! Memory that holds a file of a model, decrypted.

use std::{fmt, io};

use memmap2::{Mmap, MmapMut};
use onnxseal_store::map;

use crate::format::spans::SpanSet;

/// The bytes of one file, decrypted, in anonymous memory: whatever happens to the file has no effect.
///
/// They are kept out of core dumps and, as far as the process may lock memory, out of swap space.
/// What was encrypted is zeroized when it is dropped.
pub(crate) struct Plaintext {
    bytes: Bytes,
    secret: SpanSet,
    is_locked: bool,
}

enum Bytes {
    Empty,
    Unfinished(MmapMut),
    Finished(Mmap),
}

impl Plaintext {
    /// Memory for `len` bytes, all of them 0, of which `secret` will hold decrypted ones.
    pub(crate) fn new(len: u64, secret: SpanSet) -> io::Result<Plaintext> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut plaintext = Plaintext {
            bytes: Bytes::Empty,
            secret,
            is_locked: true,
        };
        if len == 0 {
            // An empty map is an error on some systems.
            return Ok(plaintext);
        }
        let bytes = MmapMut::map_anon(len)?;
        #[cfg(target_os = "linux")]
        {
            // None of them has to be: they make it faster and safer.
            let _ = bytes.advise(memmap2::Advice::DontDump);
            let _ = bytes.advise(memmap2::Advice::HugePage);
        }
        plaintext.is_locked = map::lock(&bytes);
        plaintext.bytes = Bytes::Unfinished(bytes);
        Ok(plaintext)
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
            Bytes::Unfinished(bytes) => Bytes::Finished(bytes.make_read_only()?),
            bytes => bytes,
        };
        Ok(())
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
            is_locked,
        } = self;
        f.debug_struct("Plaintext")
            .field("len", &self.as_slice().len())
            .field("decrypted", &secret.len_bytes())
            .field("is_locked", is_locked)
            .finish()
    }
}
