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

/// Raises the soft limit of open files to the hard one, or as far as the system lets it. Only
/// programs should call it, because it affects the whole process and its children.
pub fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let found = FOUND.get_or_init(|| getrlimit(Resource::Nofile));
        let maximum = found.maximum;
        // If the system takes none of them, the old limit stays.
        let _ = to_try(found.current, maximum)
            .find(|&current| setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_ok());
    }
}

/// Returns the soft limits to ask for, the highest first; `None` is no limit. macOS reports no hard
/// limit, but refuses a soft limit that is infinite. It takes `OPEN_MAX`, and newer versions take
/// more.
#[cfg(unix)]
fn to_try(current: Option<u64>, maximum: Option<u64>) -> impl Iterator<Item = Option<u64>> {
    const OPEN_MAX: u64 = 10_240;
    let finite = [1 << 20, 1 << 16, OPEN_MAX].into_iter();
    let finite = finite.filter(move |&limit| {
        current.is_some_and(|current| current < limit) && maximum.is_none_or(|most| limit < most)
    });
    std::iter::once(maximum).chain(finite.map(Some))
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

    #[cfg(unix)]
    #[test]
    fn a_limit_is_raised_as_far_as_the_system_lets_it() {
        // What the process has, what it may have, and the most that the system takes.
        let infinite = u64::MAX;
        for (current, maximum, taken, raised) in [
            (Some(1024), Some(4096), infinite, Some(Some(4096))),
            (Some(1024), None, infinite, Some(None)),
            // macOS.
            (Some(256), None, 10_240, Some(Some(10_240))),
            (Some(256), None, 245_760, Some(Some(1 << 16))),
            (Some(256), Some(50_000), 49_152, Some(Some(10_240))),
            // Nothing is lowered.
            (Some(20_000), None, 10_240, None),
            (None, None, 10_240, None),
            (Some(256), Some(4096), 1024, None),
        ] {
            let is_taken = |limit: &Option<u64>| limit.unwrap_or(infinite) <= taken;
            let found = to_try(current, maximum).find(is_taken);
            assert_eq!(found, raised, "{current:?} {maximum:?} {taken}");
        }
    }
}
