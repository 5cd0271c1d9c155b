//! Finds and loads ONNX Runtime's library.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use onnxseal_store::parallel;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::RunOptions;
use ort::session::builder::GraphOptimizationLevel as Optimization;

use crate::error::{Error, Result};
use crate::find;

/// The interval at which [`Engine::unless`] asks whether to go on.
const ASKING: Duration = Duration::from_millis(50);

/// A loaded ONNX Runtime.
#[derive(Clone)]
pub struct Engine {
    pub(crate) environment: Environment,
    pub(crate) runs: Arc<Runs>,
    pub library: PathBuf,
    /// The library's version, as far as known.
    pub version: String,
    pub n_threads: usize,
    /// How far to optimize graphs, by default as far as it takes little time.
    pub optimization: Optimization,
}

/// The state that all runs of an engine and its clones share, so that one call ends them.
pub(crate) struct Runs {
    pub(crate) options: RunOptions,
    is_cancelled: AtomicBool,
}

impl Runs {
    fn new() -> ort::Result<Arc<Runs>> {
        Ok(Arc::new(Runs {
            options: RunOptions::new()?,
            is_cancelled: AtomicBool::new(false),
        }))
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        // If this fails, the present run continues to its end, and no other begins.
        let _ = self.options.terminate();
    }
}

/// The one library and environment of the process, which are never unloaded.
static LOADED: OnceLock<std::result::Result<Engine, (PathBuf, String)>> = OnceLock::new();

impl Engine {
    /// Finds and loads ONNX Runtime: the library that `ORT_DYLIB_PATH` names; or else that of the
    /// Python package `onnxruntime` [where the caller says](crate::look_first_in), in an active
    /// virtual environment or of the `python3` on the path (without running Python); or else one
    /// in the usual folders.
    pub fn load() -> Result<Engine> {
        let library = match LOADED.get() {
            Some(Ok(loaded)) => loaded.library.clone(),
            _ => find::find().map_err(|tried| Error::NoLibrary { tried })?,
        };
        Engine::load_from(library)
    }

    /// Loads ONNX Runtime from `library`. A process keeps the first library that it loads.
    pub fn load_from(library: PathBuf) -> Result<Engine> {
        let loaded = LOADED.get_or_init(|| {
            let begin = || {
                let builder = ort::init_from(&library).map_err(|error| error.to_string())?;
                let silent = Arc::new(|_: LogLevel, _: &str, _: &str, _: &str, _: &str| {});
                let builder = builder.with_logger(silent).with_telemetry(false);
                let environment = builder.build().map_err(|error| error.to_string())?;
                environment.set_log_level(LogLevel::Fatal);
                Ok(Engine {
                    environment,
                    runs: Runs::new().map_err(|error| error.to_string())?,
                    version: version(&library),
                    library: library.clone(),
                    n_threads: parallel::n_cores(),
                    optimization: Optimization::Level1,
                })
            };
            begin().map_err(|reason: String| (library.clone(), reason))
        });
        let failed = |path: &PathBuf, reason: String| Error::Library {
            path: path.clone(),
            reason,
        };
        match loaded {
            Ok(loaded) => Ok(Engine {
                runs: Runs::new().map_err(|error| failed(&loaded.library, error.to_string()))?,
                ..loaded.clone()
            }),
            Err((path, reason)) => Err(failed(path, reason.clone())),
        }
    }

    /// Does `work`. Once `cancelled` returns true, ends all present and later runs of this engine
    /// and its clones. A run ends at its next operator, with [`Error::Cancelled`].
    pub fn unless<T>(&self, cancelled: &(dyn Fn() -> bool + Sync), work: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            let (working, done) = mpsc::channel::<()>();
            // Without a thread, the work cannot be cancelled.
            let _ = parallel::start(scope, move || {
                while let Err(RecvTimeoutError::Timeout) = done.recv_timeout(ASKING) {
                    if cancelled() {
                        self.runs.cancel();
                        return;
                    }
                }
            });
            let made = work();
            // Wakes the thread, for which this scope waits.
            drop(working);
            made
        })
    }
}

/// Returns the library's version, from its build or the name of the file.
fn version(library: &std::path::Path) -> String {
    let built = || {
        let (_, rest) = ort::info().split_once("git-branch=")?;
        let branch = rest.split(',').next()?.trim_start_matches("rel-");
        branch
            .starts_with(|c: char| c.is_ascii_digit())
            .then_some(branch)
    };
    let named = || Some(library.file_name()?.to_str()?.split_once(".so.")?.1);
    built().or_else(named).unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::AtomicUsize;

    use onnxseal_testkit::samples::products;

    use super::*;
    use crate::{Files, Net, random};

    #[test]
    fn a_run_under_way_ends_when_cancelled() {
        let Ok(engine) = Engine::load() else {
            return eprintln!("skipped: no ONNX Runtime");
        };
        let files = Files {
            model: products(5_000).into(),
            external: Vec::new(),
        };
        let mut net = Net::new(&engine, &files, &[], "products").unwrap();
        let samples = random(net.inputs(), 1, 1);
        // The run begins before the second question.
        let n_asked = AtomicUsize::new(0);
        let cancelled = || n_asked.fetch_add(1, Ordering::Relaxed) > 3;
        let ran = engine.unless(&cancelled, || net.run(&samples, &[0], &[0]));
        assert!(matches!(ran, Err(Error::Cancelled)), "{ran:?}");
        let again = net.run(&samples, &[0], &[0]);
        assert!(matches!(again, Err(Error::Cancelled)), "{again:?}");
        let other = Net::new(&engine.clone(), &files, &[], "products");
        assert!(matches!(other, Err(Error::Cancelled)), "{other:?}");
        // Another engine of this process runs.
        let engine = Engine::load().unwrap();
        engine
            .unless(&|| false, || Net::new(&engine, &files, &[], "products"))
            .unwrap();
    }
}
