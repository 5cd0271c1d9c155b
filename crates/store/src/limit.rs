//! How many files a process may have open at once.

use std::io;

/// How many external files of one model stay open while they are read: a quarter of what the process
/// may have open, because outputs stay open too.
pub(crate) fn most_open() -> usize {
    limit().map_or(usize::MAX, |limit| limit / 4)
}

/// What a process may have open beside a model: the model file, folders, and what it had before.
const OTHERS: usize = 64;

/// About how many files a process must have open that reads the files of a model and writes `n_files`
/// together.
pub(crate) fn needed(n_files: usize) -> usize {
    // A quarter of all is for those that are read, see `most_open`.
    (n_files + OTHERS).div_ceil(3).saturating_mul(4)
}

/// How many files the process may have open at once, where the system has such a limit.
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

/// Lets the process have as many files open as the system allows it: raises the soft limit to the hard
/// one. That is for programs to decide, because it holds for all of the process and those that it starts.
pub fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let current = maximum;
        // Where that fails, the old limit holds.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    }
}

/// Whether the system says that no more files can be open.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let errno = error.raw_os_error();
        errno == Some(Errno::MFILE.raw_os_error()) || errno == Some(Errno::NFILE.raw_os_error())
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
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
