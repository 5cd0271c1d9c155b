//! Handles Ctrl-C and SIGTERM. The first signal lets a batch finish its current models and ends
//! runs of ONNX Runtime; the second ends the process at once.

use anyhow::Result;

/// Listens for signals. It never unregisters, because the process is about to end.
pub struct Stop(#[cfg(unix)] std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl Stop {
    #[cfg(unix)]
    pub fn listen() -> Result<Stop> {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, AtomicUsize};

        use signal_hook::consts::{SIGINT, SIGTERM};
        let (seen, signal) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        for number in [SIGINT, SIGTERM] {
            // Order matters: the first signal only sets the flag, with which the second ends the
            // process.
            signal_hook::flag::register_conditional_default(number, Arc::clone(&seen))?;
            signal_hook::flag::register(number, Arc::clone(&seen))?;
            signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
        }
        Ok(Stop(signal))
    }

    #[cfg(not(unix))]
    pub fn listen() -> Result<Stop> {
        Ok(Stop())
    }

    /// Returns the signal that came, if any.
    pub fn signal(&self) -> Option<i32> {
        #[cfg(unix)]
        {
            let signal = self.0.load(std::sync::atomic::Ordering::Relaxed) as i32;
            Some(signal).filter(|signal| *signal != 0)
        }
        #[cfg(not(unix))]
        None
    }
}
