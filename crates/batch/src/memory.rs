//! How much memory a batch may use.

use onnxseal_store::parallel;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::error::{Error, Result};
use crate::survey::{REQUEST_BYTES, THREAD_BYTES};

/// Returns half of the memory that the system and the control group allow this process, in bytes.
pub(crate) fn available() -> u64 {
    const UNKNOWN: u64 = 1 << 30;
    let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kind);
    if system.available_memory() == 0 {
        return UNKNOWN;
    }
    let limit = system.cgroup_limits().map(|limits| limits.free_memory);
    system.available_memory().min(limit.unwrap_or(u64::MAX)) / 2
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
