//! Progress bars on standard error, for long calls.

use std::collections::HashSet;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use onnxseal_batch::{Error as BatchError, Found, ModelReport, Outcome, Watch};
use onnxseal_core::{Error, Progress, StoreError};

use crate::exit::batch_hint;
use crate::stop::Stop;
use crate::text::{bytes, is_quiet, note, one_line};

/// The longest time that a call may take without a bar.
const BLINK: Duration = Duration::from_millis(300);

/// A bar, shown on a terminal once the call takes long. It ends the work when told to stop.
pub struct Bar<'s> {
    bar: ProgressBar,
    begun: Instant,
    shown: OnceLock<()>,
    /// The bars of the batch that it belongs to.
    among: Option<&'s Bars<'s>>,
    stop: Option<&'s Stop>,
    #[cfg(feature = "assess")]
    cut_short: OnceLock<String>,
}

const OF_BYTES: &str = "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {msg}";

impl<'s> Bar<'s> {
    /// Makes a bar with bytes, rate and time left.
    pub fn new() -> Bar<'s> {
        Bar::of(OF_BYTES, None, None)
    }

    /// Makes a bar that counts to `n`.
    pub fn of_count(n: u64, stop: &'s Stop) -> Bar<'s> {
        let bar = Bar::of("{bar:30} {pos}/{len}  {eta} left", None, Some(stop));
        bar.bar.set_length(n);
        bar
    }

    pub fn count_one(&self) {
        self.bar.inc(1);
        self.show();
    }

    /// Makes a bar with steps, which ends the work when told to `stop`.
    #[cfg(feature = "assess")]
    pub fn of_steps(stop: &'s Stop) -> Bar<'s> {
        Bar::of("{bar:30} {percent} %  {eta} left  {msg}", None, Some(stop))
    }

    /// Makes a bar as [`Bar::new`] does, which ends the work when told to `stop`.
    #[cfg(feature = "assess")]
    pub fn until(stop: &'s Stop) -> Bar<'s> {
        Bar::of(OF_BYTES, None, Some(stop))
    }

    fn of(template: &str, among: Option<&'s Bars<'s>>, stop: Option<&'s Stop>) -> Bar<'s> {
        let bar = ProgressBar::hidden();
        set_style(&bar, template);
        Bar {
            bar,
            begun: Instant::now(),
            shown: OnceLock::new(),
            among,
            stop,
            #[cfg(feature = "assess")]
            cut_short: OnceLock::new(),
        }
    }

    /// Returns what part of the work the result covers, if the call was stopped: "64 of 256
    /// samples".
    #[cfg(feature = "assess")]
    pub fn cut_short(&self) -> Option<&str> {
        self.cut_short.get().map(String::as_str)
    }

    /// Shows the bar, unless the call has begun just now. Returns whether it was not shown before.
    fn show(&self) -> bool {
        if is_quiet() || self.shown.get().is_some() || self.begun.elapsed() <= BLINK {
            return false;
        }
        match self.among {
            None => self.bar.set_draw_target(ProgressDrawTarget::stderr()),
            Some(bars) => drop(bars.bars.add(self.bar.clone())),
        }
        self.shown.set(()).is_ok()
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.signal().is_some())
    }
}

impl Progress for Bar<'_> {
    fn begin(&self, bytes: u64) {
        self.bar.set_length(bytes);
        self.bar.set_position(0);
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        self.show();
    }

    fn is_cancelled(&self) -> bool {
        self.is_stopped()
    }
}

#[cfg(feature = "assess")]
impl onnxseal_assess::Progress for Bar<'_> {
    fn begin(&self, n_steps: u64) {
        self.bar.set_length(n_steps);
    }

    fn step(&self, what: &str) {
        self.bar.inc(1);
        self.bar.set_message(one_line(what));
        if self.show() {
            // Steps take long, so the clock must tick between them.
            self.bar.enable_steady_tick(Duration::from_secs(1));
        }
    }

    fn cut_short(&self, n_done: usize, n_wanted: usize, what: &str) {
        let text = format!("{n_done} of {n_wanted} {what}");
        let _ = self.cut_short.set(text);
    }

    fn is_cancelled(&self) -> bool {
        self.is_stopped()
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        if let Some(bars) = self.among {
            bars.overall.inc(self.bar.position());
            bars.bars.remove(&self.bar);
        }
        self.bar.finish_and_clear();
    }
}

fn set_style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// The bars of a batch on a terminal, or elsewhere a line for each model.
pub struct Bars<'s> {
    bars: MultiProgress,
    overall: ProgressBar,
    is_terminal: bool,
    stop: &'s Stop,
    /// Hints already given.
    hints: Mutex<HashSet<&'static str>>,
}

impl<'s> Bars<'s> {
    /// Makes bars for a batch that ends when told to `stop`.
    pub fn new(stop: &'s Stop) -> Bars<'s> {
        let is_terminal = io::stderr().is_terminal();
        let bars = if is_terminal && !is_quiet() {
            MultiProgress::new()
        } else {
            MultiProgress::with_draw_target(ProgressDrawTarget::hidden())
        };
        let overall = bars.add(ProgressBar::no_length());
        set_style(&overall, OF_BYTES);
        Bars {
            bars,
            overall,
            is_terminal,
            stop,
            hints: Mutex::default(),
        }
    }

    pub fn finish(&self) {
        self.overall.finish_and_clear();
        let _ = self.bars.clear();
    }

    /// Prints a line above the bars.
    fn line(&self, text: &str) {
        self.bars.suspend(|| note(text));
    }
}

impl Watch for Bars<'_> {
    fn begin(&self, models: usize, bytes: u64) {
        self.overall.set_length(bytes);
        self.overall.set_message(format!("{models} models"));
    }

    fn model<'w>(&'w self, found: &Found, bytes: u64) -> Box<dyn Progress + 'w> {
        let bar = Bar::of("{bar:30} {bytes}/{total_bytes}  {msg}", Some(self), None);
        bar.bar.set_length(bytes);
        bar.bar.set_message(one_line(&found.location.to_string()));
        Box::new(bar)
    }

    fn finished(&self, found: &Found, report: &ModelReport) {
        let path = one_line(&found.location.to_string());
        if let Some(failure) = &report.error {
            // If the message does not name its model.
            let message = one_line(&failure.message);
            let about = if message.contains(&path) {
                ""
            } else {
                &format!("{path}: ")
            };
            self.line(&format!("failed: {about}{message}"));
            let hint = match failure.error {
                BatchError::Core(Error::Store(StoreError::OutputExists { .. })) => Some(
                    "--resume keeps or remakes the outputs of an earlier run; --force replaces any file",
                ),
                _ => batch_hint(&failure.error),
            };
            if let Some(hint) = hint
                && (self.hints.lock()).is_ok_and(|mut hints| hints.insert(hint))
            {
                self.line(&format!("  hint: {hint}"));
            }
        } else if !is_quiet() && !self.is_terminal {
            let size = bytes(report.bytes);
            match report.outcome {
                Outcome::Skipped => self.line(&format!("done before: {path}, {size}")),
                _ => {
                    let force = report.not_in_force.map_or("", |_| ", NOT IN FORCE");
                    let seconds = report.seconds;
                    self.line(&format!("done: {path}, {size} in {seconds:.2} s{force}"));
                }
            }
        }
    }

    fn note(&self, text: &str) {
        if !is_quiet() {
            self.line(&format!("note: {}", one_line(text)));
        }
    }

    fn stops(&self) -> bool {
        self.stop.signal().is_some()
    }
}
