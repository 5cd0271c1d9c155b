//! Memory with secret parts.

use std::io;
use std::ops::{Deref, Range};

use memmap2::{Mmap, MmapMut};

use crate::map;

/// The bytes of one file in anonymous memory, which later changes of the file do not affect.
///
/// They stay out of core dumps and, as far as the process may lock memory, out of swap space. The
/// secret bytes are zeroized on drop.
#[derive(Default)]
pub struct SecretBytes {
    bytes: Bytes,
    secret: Vec<Range<usize>>,
    is_locked: bool,
}

#[derive(Default)]
enum Bytes {
    #[default]
    Empty,
    Unfinished(MmapMut),
    Finished(Mmap),
}

impl SecretBytes {
    /// Allocates `len` zero bytes. The ranges `secret` will contain the secret ones.
    pub fn new(len: u64, secret: Vec<Range<usize>>) -> io::Result<SecretBytes> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut memory = SecretBytes {
            bytes: Bytes::Empty,
            secret,
            is_locked: true,
        };
        if len == 0 {
            // An empty map is an error on some systems.
            return Ok(memory);
        }
        let bytes = MmapMut::map_anon(len)?;
        #[cfg(target_os = "linux")]
        {
            // Some systems lack either. Both are only advice.
            let _ = bytes.advise(memmap2::Advice::DontDump);
            let _ = bytes.advise(memmap2::Advice::HugePage);
        }
        memory.is_locked = map::lock(&bytes);
        memory.bytes = Bytes::Unfinished(bytes);
        Ok(memory)
    }

    /// Returns whether all secret bytes are locked out of swap space.
    pub fn is_locked(&self) -> bool {
        self.is_locked || self.secret.is_empty()
    }

    /// Returns the bytes to fill in; empty once they are finished.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Bytes::Unfinished(bytes) => bytes,
            Bytes::Empty | Bytes::Finished(_) => &mut [],
        }
    }

    pub fn finish(&mut self) -> io::Result<()> {
        self.bytes = match std::mem::take(&mut self.bytes) {
            Bytes::Unfinished(bytes) => Bytes::Finished(bytes.make_read_only()?),
            bytes => bytes,
        };
        Ok(())
    }
}

impl Deref for SecretBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Empty => &[],
            Bytes::Unfinished(bytes) => bytes,
            Bytes::Finished(bytes) => bytes,
        }
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        let bytes = match std::mem::take(&mut self.bytes) {
            Bytes::Empty => return,
            Bytes::Unfinished(bytes) => Ok(bytes),
            Bytes::Finished(bytes) => bytes.make_mut(),
        };
        let Ok(mut bytes) = bytes else {
            // Dropping unmapped the memory, and the system zeroes it before reuse.
            return;
        };
        for secret in &self.secret {
            if let Some(part) = bytes.get_mut(secret.clone()) {
                // `zeroize` would go byte by byte through what may be gigabytes.
                part.fill(0);
            }
        }
        // Keeps the compiler from removing a write that nothing reads.
        std::hint::black_box(bytes);
    }
}

opaque!(SecretBytes);
