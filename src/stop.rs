//! Ctrl-C and SIGTERM: the first lets models of a batch come to their end and ends runs of ONNX
//! Runtime, the second ends all at once.

use anyhow::Result;

/// Listens while it is there, and after: the process is about to end.
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
            // In this order: the first signal only sets the flag that lets the second end us.
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

    /// The signal that came, if one did.
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
