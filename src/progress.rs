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
use crate::text::{note, one_line};

/// The longest time that a call may take without a bar.
const BLINK: Duration = Duration::from_millis(300);

/// A bar with bytes, rate and time left; shown only on a terminal.
pub struct Bar {
    bar: ProgressBar,
    begun: Instant,
    shown: OnceLock<()>,
    quiet: bool,
}

impl Bar {
    /// Makes a bar that stays hidden if `quiet`.
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

/// A bar over data sets, which ends the work when told to `stop`.
#[cfg(feature = "inputs")]
pub struct DataBar<'s> {
    pub bar: Bar,
    pub stop: &'s Stop,
}

#[cfg(feature = "inputs")]
impl Progress for DataBar<'_> {
    fn begin(&self, bytes: u64) {
        self.bar.begin(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.bar.advance(bytes);
    }

    fn is_cancelled(&self) -> bool {
        self.stop.signal().is_some()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The bars of a batch on a terminal, or elsewhere a line for each model.
pub struct Bars<'s> {
    bars: MultiProgress,
    overall: ProgressBar,
    is_terminal: bool,
    quiet: bool,
    stop: &'s Stop,
    /// Hints already given.
    hints: Mutex<HashSet<&'static str>>,
}

impl<'s> Bars<'s> {
    /// Makes bars that stay hidden if `quiet`, for a batch that ends when told to `stop`.
    pub fn new(quiet: bool, stop: &'s Stop) -> Bars<'s> {
        let is_terminal = io::stderr().is_terminal();
        let bars = if is_terminal && !quiet {
            MultiProgress::new()
        } else {
            MultiProgress::with_draw_target(ProgressDrawTarget::hidden())
        };
        let overall = bars.add(ProgressBar::no_length());
        let template = "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            overall.set_style(style);
        }
        Bars {
            bars,
            overall,
            is_terminal,
            quiet,
            stop,
            hints: Mutex::default(),
        }
    }

    /// Removes the bars.
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
        let bar = ProgressBar::hidden();
        bar.set_length(bytes);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {msg}") {
            bar.set_style(style);
        }
        let path = found.location.to_string();
        bar.set_message(one_line(&path));
        Box::new(ModelBar {
            bars: self,
            bar,
            begun: Instant::now(),
            shown: OnceLock::new(),
        })
    }

    fn finished(&self, found: &Found, report: &ModelReport) {
        let path = found.location.to_string();
        let path = one_line(&path);
        if let Some(failure) = &report.error {
            // If the message does not name its model.
            let message = one_line(&failure.message);
            let about = if message.contains(&path) { "" } else { &path };
            let colon = if about.is_empty() { "" } else { ": " };
            self.line(&format!("failed: {about}{colon}{message}"));
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
        } else if !self.quiet && !self.is_terminal {
            let size = bytes(report.bytes);
            match report.outcome {
                Outcome::Skipped => self.line(&format!("done before: {path}, {size}")),
                _ => self.line(&format!("done: {path}, {size} in {:.2} s", report.seconds)),
            }
        }
    }

    fn note(&self, text: &str) {
        if !self.quiet {
            self.line(&format!("note: {}", one_line(text)));
        }
    }

    fn stops(&self) -> bool {
        self.stop.signal().is_some()
    }
}

/// The bar of one model of a batch.
struct ModelBar<'b> {
    bars: &'b Bars<'b>,
    bar: ProgressBar,
    begun: Instant,
    shown: OnceLock<()>,
}

impl Progress for ModelBar<'_> {
    fn begin(&self, bytes: u64) {
        self.bar.set_length(bytes);
        self.bar.set_position(0);
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        if self.begun.elapsed() > BLINK {
            self.shown
                .get_or_init(|| drop(self.bars.bars.add(self.bar.clone())));
        }
    }
}

impl Drop for ModelBar<'_> {
    fn drop(&mut self) {
        self.bars.overall.inc(self.bar.position());
        self.bar.finish_and_clear();
        self.bars.bars.remove(&self.bar);
    }
}

/// The bar of an assessment, with steps and the time left; it ends the work when told to `stop`.
#[cfg(feature = "assess")]
pub struct Steps<'s> {
    bar: ProgressBar,
    begun: Instant,
    shown: OnceLock<()>,
    quiet: bool,
    stop: &'s Stop,
    cut_short: OnceLock<String>,
}

#[cfg(feature = "assess")]
impl<'s> Steps<'s> {
    /// Makes a bar that stays hidden if `quiet`.
    pub fn new(quiet: bool, stop: &'s Stop) -> Steps<'s> {
        let bar = ProgressBar::hidden();
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent} %  {eta} left  {msg}") {
            bar.set_style(style);
        }
        Steps {
            bar,
            begun: Instant::now(),
            shown: OnceLock::new(),
            quiet,
            stop,
            cut_short: OnceLock::new(),
        }
    }

    /// Returns what part of the work the result covers, if the call was stopped: "64 of 256
    /// samples".
    pub fn into_cut_short(mut self) -> Option<String> {
        self.cut_short.take()
    }
}

#[cfg(feature = "assess")]
impl onnxseal_assess::Progress for Steps<'_> {
    fn begin(&self, n_steps: u64) {
        self.bar.set_length(n_steps);
    }

    fn step(&self, what: &str) {
        self.bar.inc(1);
        self.bar.set_message(one_line(what));
        if !self.quiet && self.begun.elapsed() > BLINK {
            self.shown.get_or_init(|| {
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
                // Steps take long, so the clock must tick between them.
                self.bar.enable_steady_tick(Duration::from_secs(1));
            });
        }
    }

    fn cut_short(&self, n_done: usize, n_wanted: usize, what: &str) {
        let text = format!("{n_done} of {n_wanted} {what}");
        let _ = self.cut_short.set(text);
    }

    fn is_cancelled(&self) -> bool {
        self.stop.signal().is_some()
    }
}

#[cfg(feature = "assess")]
impl Drop for Steps<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Formats a number of bytes for people.
pub fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}
