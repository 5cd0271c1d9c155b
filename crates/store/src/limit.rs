//! The limit of open files of a process.

use std::io;

/// Returns how many external files of one model stay open while they are read: a quarter of the
/// process's limit, because outputs stay open too.
pub(crate) fn most_open() -> usize {
    limit().map_or(usize::MAX, |limit| limit / 4)
}

/// Files that a process may have open besides: the model file, folders, and earlier files.
const OTHERS: usize = 64;

/// Estimates how many files a process has open that reads a model and writes `n_files` together.
pub(crate) fn needed(n_files: usize) -> usize {
    // A quarter of the limit is for inputs, see `most_open`.
    (n_files + OTHERS).div_ceil(3).saturating_mul(4)
}

pub(crate) fn limit() -> Option<usize> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};
        let current = getrlimit(Resource::Nofile).current;
        current.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
    #[cfg(not(unix))]
    None
}

#[cfg(unix)]
static FOUND: std::sync::OnceLock<rustix::process::Rlimit> = std::sync::OnceLock::new();

/// Raises the soft limit of open files to the hard one. Only programs should call it, because it
/// affects the whole process and its children.
pub fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let maximum = FOUND.get_or_init(|| getrlimit(Resource::Nofile)).maximum;
        let current = maximum;
        // On failure the old limit stays.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    }
}

/// Puts back the limit that [`raise_file_limit`] raised, before another program starts: some
/// programs cannot handle high descriptors.
pub fn restore_file_limit() {
    #[cfg(unix)]
    if let Some(found) = FOUND.get() {
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, *found);
    }
}

/// Returns whether an error means that no more files can be open: `ENFILE` or `EMFILE`, whose
/// numbers are the same on every Unix.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_files_of_a_model_need_be_open() {
        for (n_files, at_least) in [(1, 66), (3501, 4700)] {
            let needed = needed(n_files);
            assert!(needed >= at_least && needed / 4 + n_files < needed);
        }
    }
}
