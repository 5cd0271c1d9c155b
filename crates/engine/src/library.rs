//! ONNX Runtime's library, found and loaded.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::error::{Error, Result};
use crate::find;

/// ONNX Runtime, loaded.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) environment: Environment,
    /// The library.
    pub library: PathBuf,
    /// Its version, as far as it says.
    pub version: String,
    /// Threads that a run takes.
    pub n_threads: usize,
    /// How far graphs are optimized.
    pub optimization: Optimization,
}

/// How far ONNX Runtime optimizes a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimization {
    /// Not at all: the graph is computed as it is.
    Off,
    /// As far as that takes little time.
    Basic,
    /// As far as it can. That takes time, which long runs give back.
    All,
}

/// There is one environment in a process, and it stays.
static ENGINE: OnceLock<std::result::Result<Engine, (PathBuf, String)>> = OnceLock::new();

impl Engine {
    /// Finds and loads ONNX Runtime: the library that `ORT_DYLIB_PATH` names; or else that of the Python package
    /// `onnxruntime` of an active virtual environment or of the `python3` on the path (Python is not run); or else one
    /// in the usual folders.
    ///
    /// # Errors
    /// [`Error::NoLibrary`], [`Error::Library`].
    pub fn load() -> Result<Engine> {
        if let Some(Ok(engine)) = ENGINE.get() {
            return Ok(engine.clone());
        }
        let library = find::find().map_err(|tried| Error::NoLibrary { tried })?;
        Engine::load_from(library)
    }

    /// Loads ONNX Runtime from `library`; a process uses the first that it loads.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub fn load_from(library: PathBuf) -> Result<Engine> {
        let loaded = ENGINE.get_or_init(|| {
            let failed = |reason: String| (library.clone(), reason);
            let builder = ort::init_from(&library).map_err(|error| failed(error.to_string()))?;
            let silent = Arc::new(|_: LogLevel, _: &str, _: &str, _: &str, _: &str| {});
            let builder = builder.with_logger(silent).with_telemetry(false);
            let environment = builder.build().map_err(|error| failed(error.to_string()))?;
            environment.set_log_level(LogLevel::Fatal);
            let version = version(&library);
            Ok(Engine {
                environment,
                version,
                library: library.clone(),
                n_threads: onnxseal_store::parallel::n_cores(),
                optimization: Optimization::Basic,
            })
        });
        loaded
            .clone()
            .map_err(|(path, reason)| Error::Library { path, reason })
    }
}

/// The library's version: as it was built, or by the name of the file.
fn version(library: &std::path::Path) -> String {
    let info = ort::info();
    let built = info
        .split_once("git-branch=")
        .and_then(|(_, rest)| rest.split(',').next())
        .map(|branch| branch.trim_start_matches("rel-"))
        .filter(|branch| branch.starts_with(|c: char| c.is_ascii_digit()));
    let name = library
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let named = name
        .as_deref()
        .and_then(|name| name.split_once(".so."))
        .map(|(_, version)| version);
    built.or(named).unwrap_or("unknown").to_owned()
}
