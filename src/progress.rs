//! A progress bar on standard error, for what takes longer than a blink.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use onnxseal_core::Progress;

/// How long a call may take without a bar.
const BLINK: Duration = Duration::from_millis(300);

/// A bar with bytes, rate and time left; shown only on a terminal.
pub struct Bar {
    bar: ProgressBar,
    begun: Instant,
    shown: OnceLock<()>,
    quiet: bool,
}

impl Bar {
    /// A bar that stays away if `quiet`.
    pub fn new(quiet: bool) -> Bar {
        let bar = ProgressBar::hidden();
        let template = "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Bar {
            bar,
            begun: Instant::now(),
            shown: OnceLock::new(),
            quiet,
        }
    }
}

impl Progress for Bar {
    fn begin(&self, bytes: u64) {
        self.bar.set_length(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        if !self.quiet && self.begun.elapsed() > BLINK {
            self.shown
                .get_or_init(|| self.bar.set_draw_target(ProgressDrawTarget::stderr()));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
