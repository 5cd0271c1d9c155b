//! Reads and writes at an offset, on systems that lack both: by moving the file's position and
//! putting it back.

use std::fs::File;
use std::io::{Read as _, Result, Seek as _, SeekFrom, Write as _};
use std::sync::Mutex;

use crate::parallel::lock;

/// Held while a position is moved: threads share files, and so their positions.
static MOVED: Mutex<()> = Mutex::new(());

pub fn read_exact_at(mut file: &File, buffer: &mut [u8], offset: u64) -> Result<()> {
    at(file, offset, || file.read_exact(buffer))
}

/// Writes all of `bytes` at `offset`. The file's position stays.
pub fn write_all_at(mut file: &File, bytes: &[u8], offset: u64) -> Result<()> {
    at(file, offset, || file.write_all(bytes))
}

fn at(mut file: &File, offset: u64, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let _moved = lock(&MOVED);
    let before = file.stream_position()?;
    let done = file.seek(SeekFrom::Start(offset)).and_then(|_| work());
    file.seek(SeekFrom::Start(before))?;
    done
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn bytes_are_read_and_written_where_they_belong_and_the_position_stays() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        write_all_at(&file, b"xyz", 5).unwrap();
        let mut read = [1; 8];
        read_exact_at(&file, &mut read, 0).unwrap();
        assert_eq!(&read, b"abc\0\0xyz");
        for (offset, length) in [(0, 9), (7, 2), (8, 1), (100, 1), (u64::MAX, 1)] {
            assert!(read_exact_at(&file, &mut vec![0; length], offset).is_err());
        }
        let error = read_exact_at(&file, &mut read, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        // Where the first write ended.
        file.write_all(b"d").unwrap();
        assert_eq!(file.stream_position().unwrap(), 4);
        read_exact_at(&file, &mut read, 0).unwrap();
        assert_eq!(&read, b"abcd\0xyz");
    }

    #[test]
    fn threads_that_share_a_file_read_what_they_asked_for() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..=255).collect();
        write_all_at(&file, &bytes, 0).unwrap();
        std::thread::scope(|scope| {
            for first in [0, 100, 200_u8] {
                let file = &file;
                scope.spawn(move || {
                    for _ in 0..1000 {
                        let mut read = [0; 2];
                        read_exact_at(file, &mut read, u64::from(first)).unwrap();
                        assert_eq!(read, [first, first + 1]);
                    }
                });
            }
        });
    }
}
