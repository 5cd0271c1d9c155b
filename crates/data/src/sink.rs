//! Writers for archives.

use std::io::{Error, ErrorKind, Result, Seek, SeekFrom, Write};

/// Takes an archive's bytes until a write fails, and from then on drops them.
///
/// The caller learns of the failure once. `ZipWriter` writes again when it is dropped, and would
/// print that this fails too.
#[derive(Debug)]
pub struct Sink<W> {
    to: W,
    failed: bool,
}

impl<W> Sink<W> {
    pub fn new(to: W) -> Sink<W> {
        Sink { to, failed: false }
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.failed {
            return Ok(bytes.len());
        }
        let written = self.to.write(bytes);
        let is_final = |error: &Error| error.kind() != ErrorKind::Interrupted;
        self.failed = written.as_ref().is_err_and(is_final);
        written
    }

    fn flush(&mut self) -> Result<()> {
        self.to.flush()
    }
}

impl<W: Seek> Seek for Sink<W> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.to.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full writer that counts its refusals.
    struct Full(u32);

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> Result<usize> {
            self.0 += 1;
            Err(ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_told_once() {
        let mut sink = Sink::new(Full(0));
        let told = sink.write_all(b"a").map_err(|error| error.kind());
        assert_eq!(told, Err(ErrorKind::StorageFull));
        assert!(sink.write_all(b"b").is_ok());
        assert_eq!(sink.to.0, 1);
    }
}
