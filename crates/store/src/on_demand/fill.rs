//! Sources of bytes, and the memory of a thread that asks one.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::panic::{self, AssertUnwindSafe};

use crate::faults;
use crate::secret::SecretBytes;

/// A source of the bytes.
pub trait Fill: Send + Sync + 'static {
    /// Memory that filling needs besides the block, reused for each.
    type Tools: Default;
    /// Why a block has no bytes.
    type Error: Display + Send;

    /// Puts the bytes of block `index` into `bytes`, which has the block's length: equal bytes
    /// whenever it is called.
    fn fill(
        &self,
        index: usize,
        bytes: &mut [u8],
        tools: &mut Self::Tools,
    ) -> Result<(), Self::Error>;

    /// Returns the files that stay open and that filling reads. The threads that fill have copies of
    /// these descriptors.
    fn files(&self) -> Vec<&File>;

    /// Makes the error for block `index`, which could not be filled once.
    fn lost(&self, index: usize) -> Self::Error;

    /// Makes the error for bytes that the system has no memory for, or no way to provide.
    fn refused(&self, source: io::Error) -> Self::Error;
}

pub(super) struct Buffer<F: Fill> {
    pub(super) bytes: SecretBytes,
    tools: F::Tools,
}

impl<F: Fill> Default for Buffer<F> {
    fn default() -> Buffer<F> {
        Buffer {
            bytes: SecretBytes::default(),
            tools: F::Tools::default(),
        }
    }
}

impl<F: Fill> Buffer<F> {
    pub(super) fn reserve(&mut self, len: usize) -> io::Result<()> {
        let n_bytes = len.next_multiple_of(faults::page_bytes());
        if self.bytes.len() < n_bytes {
            let secret = std::iter::once(0..n_bytes).collect();
            self.bytes = SecretBytes::new(n_bytes as u64, secret)?;
        }
        Ok(())
    }

    /// Puts the bytes of block `index` in front, with zeros behind them to the end of the page.
    pub(super) fn run(&mut self, fill: &F, index: usize, len: usize) -> Result<(), F::Error> {
        self.reserve(len).map_err(|error| fill.refused(error))?;
        let n_bytes = len.next_multiple_of(faults::page_bytes());
        let (bytes, padding) = self.bytes.as_mut_slice()[..n_bytes].split_at_mut(len);
        padding.fill(0);
        let tools = &mut self.tools;
        let filled = panic::catch_unwind(AssertUnwindSafe(|| fill.fill(index, bytes, tools)));
        filled.unwrap_or_else(|_| {
            let panicked = io::Error::other("a thread of onnxseal panicked");
            Err(fill.refused(panicked))
        })
    }

    /// Keeps no plaintext, but the memory for it.
    pub(super) fn rest(&mut self) {
        self.bytes.as_mut_slice().fill(0);
        // Keeps the compiler from removing a write that nothing reads.
        std::hint::black_box(&self.bytes);
        self.tools = F::Tools::default();
    }
}
