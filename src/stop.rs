//! Handles Ctrl-C and SIGTERM. The first signal ends the identity command, lets a batch finish its
//! current models and ends runs of ONNX Runtime; the second ends the process at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Result;

/// Listens for signals until it is dropped, one at a time. Without one, a signal ends the process.
pub struct Stop {
    heard: &'static Heard,
}

/// Makes the system keep how programs ended that this process has started, and send `SIGCHLD`, even
/// if this process was itself started to ignore that.
pub fn heed_children() {
    #[cfg(unix)]
    {
        static HEARD: AtomicBool = AtomicBool::new(false);
        // Any handler does. Without one the system says less.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGCHLD, &HEARD);
    }
}

struct Heard {
    /// Whether the next signal ends the process.
    ends: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Stop {
    pub fn listen() -> Result<Stop> {
        let heard = Heard::of_process()?;
        heard.ends.store(false, Ordering::Relaxed);
        Ok(Stop { heard })
    }

    pub fn signal(&self) -> Option<i32> {
        let signal = self.heard.signal.load(Ordering::Relaxed) as i32;
        Some(signal).filter(|signal| *signal != 0)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.heard.ends.store(true, Ordering::Relaxed);
    }
}

impl Heard {
    /// Sets handlers up once. They stay, because a handler that is taken away leaves the signal
    /// without effect.
    fn of_process() -> Result<&'static Heard> {
        static HEARD: OnceLock<Heard> = OnceLock::new();
        if let Some(heard) = HEARD.get() {
            return Ok(heard);
        }
        let heard = Heard {
            ends: Arc::new(true.into()),
            signal: Arc::default(),
        };
        heard.set_up()?;
        Ok(HEARD.get_or_init(|| heard))
    }

    #[cfg(unix)]
    fn set_up(&self) -> Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        use signal_hook::flag;
        for number in [SIGINT, SIGTERM] {
            // Order matters: the first signal only sets the flag, with which the second ends the
            // process.
            let ends = || Arc::clone(&self.ends);
            let signal = Arc::clone(&self.signal);
            flag::register_conditional_default(number, ends())?;
            flag::register(number, ends())?;
            flag::register_usize(number, signal, number as usize)?;
        }
        Ok(())
    }

    #[cfg(not(unix))]
    fn set_up(&self) -> Result<()> {
        #[cfg(windows)]
        {
            /// The number of Ctrl-C on every Unix.
            const SIGINT: usize = 2;
            let (ends, signal) = (Arc::clone(&self.ends), Arc::clone(&self.signal));
            ctrlc::set_handler(move || {
                if ends.swap(true, Ordering::Relaxed) {
                    std::process::exit(128 + SIGINT as i32);
                }
                signal.store(SIGINT, Ordering::Relaxed);
            })?;
        }
        Ok(())
    }
}
