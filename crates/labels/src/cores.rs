//! Work on all cores.

use onnxseal_store::parallel::n_cores;

use crate::error::Result;

/// Calls `work` for 0 to n - 1 on all cores, and gives what it gave, in order.
pub(crate) fn on_all_cores<T: Send>(
    n: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let cores = n_cores().clamp(1, n.max(1));
    let part = n.div_ceil(cores).max(1);
    let of = |core: usize| {
        (core * part..((core + 1) * part).min(n))
            .map(&work)
            .collect::<Result<Vec<T>>>()
    };
    std::thread::scope(|scope| {
        let of = &of;
        let others: Vec<_> = (1..cores)
            .map(|core| scope.spawn(move || of(core)))
            .collect();
        let mut all = of(0)?;
        for other in others {
            match other.join() {
                Ok(part) => all.extend(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}
