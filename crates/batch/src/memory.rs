//! How much memory a batch may use.

#[cfg(windows)]
use onnxseal_store::available_memory as allowed;
use onnxseal_store::parallel;

use crate::error::{Error, Result};
use crate::survey::{REQUEST_BYTES, THREAD_BYTES};

/// Returns half of the memory that the system and the control group allow this process, in bytes.
pub(crate) fn available() -> u64 {
    const UNKNOWN: u64 = 1 << 30;
    allowed().map_or(UNKNOWN, |bytes| bytes / 2)
}

/// Returns what the system and the control group allow in bytes, none if the system does not tell.
#[cfg(not(windows))]
fn allowed() -> Option<u64> {
    use sysinfo::{MemoryRefreshKind, RefreshKind, System};
    let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kind);
    let limit = system.cgroup_limits().map(|limits| limits.free_memory);
    let free = Some(system.available_memory()).filter(|&bytes| bytes != 0)?;
    Some(free.min(limit.unwrap_or(u64::MAX)))
}

/// Returns what the threads of `jobs` models leave of `given` bytes.
pub(crate) fn spare(given: u64, jobs: usize, is_remote: bool) -> Result<u64> {
    let mut threads = jobs.max(parallel::n_cores()) as u64;
    let mut bytes = THREAD_BYTES;
    if is_remote {
        threads = threads.saturating_add(parallel::N_REQUESTS as u64);
        bytes += REQUEST_BYTES;
    }
    let needed = threads.saturating_mul(bytes);
    given.checked_sub(needed).ok_or_else(|| {
        let (given, needed) = (given >> 20, needed.div_ceil(1 << 20));
        Error::Usage(format!(
            "{given} MiB of memory are not enough: {threads} threads need {needed} MiB by themselves"
        ))
    })
}
