//! Handles Ctrl-C and SIGTERM. The first signal ends the identity command, lets a batch finish its
//! current models and ends runs of ONNX Runtime; the second ends the process at once.

use anyhow::Result;

/// Listens for signals until it is dropped, one at a time. Without one, a signal ends the process.
pub struct Stop {
    #[cfg(unix)]
    heard: &'static Heard,
}

/// Makes the system keep how programs ended that this process has started, and send `SIGCHLD`, even
/// if this process was itself started to ignore that.
pub fn heed_children() {
    #[cfg(unix)]
    {
        static HEARD: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
        // Any handler does. Without one the system says less.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGCHLD, &HEARD);
    }
}

#[cfg(unix)]
struct Heard {
    /// Whether the next signal ends the process.
    ends: std::sync::Arc<std::sync::atomic::AtomicBool>,
    signal: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Stop {
    #[cfg(unix)]
    pub fn listen() -> Result<Stop> {
        let heard = Heard::of_process()?;
        (heard.ends).store(false, std::sync::atomic::Ordering::Relaxed);
        Ok(Stop { heard })
    }

    #[cfg(not(unix))]
    pub fn listen() -> Result<Stop> {
        Ok(Stop {})
    }

    pub fn signal(&self) -> Option<i32> {
        #[cfg(unix)]
        {
            let signal = self.heard.signal.load(std::sync::atomic::Ordering::Relaxed) as i32;
            Some(signal).filter(|signal| *signal != 0)
        }
        #[cfg(not(unix))]
        None
    }
}

#[cfg(unix)]
impl Drop for Stop {
    fn drop(&mut self) {
        (self.heard.ends).store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(unix)]
impl Heard {
    /// Sets handlers up once. They stay, because a handler that is taken away leaves the signal
    /// without effect.
    fn of_process() -> Result<&'static Heard> {
        use std::sync::OnceLock;

        use signal_hook::consts::{SIGINT, SIGTERM};
        static HEARD: OnceLock<Heard> = OnceLock::new();
        if let Some(heard) = HEARD.get() {
            return Ok(heard);
        }
        let heard = Heard {
            ends: std::sync::Arc::new(true.into()),
            signal: std::sync::Arc::default(),
        };
        for number in [SIGINT, SIGTERM] {
            // Order matters: the first signal only sets the flag, with which the second ends the
            // process.
            let ends = || std::sync::Arc::clone(&heard.ends);
            let signal = std::sync::Arc::clone(&heard.signal);
            signal_hook::flag::register_conditional_default(number, ends())?;
            signal_hook::flag::register(number, ends())?;
            signal_hook::flag::register_usize(number, signal, number as usize)?;
        }
        Ok(HEARD.get_or_init(|| heard))
    }
}
