//! Where outputs go, as callers name it.

use std::io::{PipeWriter, Read as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use onnxseal_core::{Destination, Error, Flush, Location, OutputFault, OutputOptions, StoreError};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{Fault, Result, io, usage};
use crate::keywords::Keywords;
use crate::source::NAME;

/// Options for outputs. `sync` is `None` for what the command does without `--sync` and `--no-sync`.
pub fn output_options(keywords: &Keywords<'_>) -> Result<OutputOptions> {
    let mut options = OutputOptions::default();
    options.replace = keywords.get("replace")?;
    options.flush = match keywords.get("sync")? {
        None => Flush::Replacing,
        Some(true) => Flush::ToDisk,
        Some(false) => Flush::Later,
    };
    Ok(options)
}

/// Where the result goes: to `out` or, without it, to the place of the model.
pub fn destination(keywords: &Keywords<'_>) -> Result<(Option<Out>, Destination<'static>)> {
    let out: Option<OutputArg> = keywords.get("out")?;
    let out = out.map(|out| Out::open(out, keywords)).transpose()?;
    let location = out.as_ref().map(Out::location);
    Ok((out, Destination::new(location, output_options(keywords)?)))
}

pub fn finish<T>(out: Option<Out>, py: Python<'_>, made: Result<T>) -> Result<T> {
    match out {
        Some(out) => out.finish(py, made),
        None => made,
    }
}

/// Where an output goes: a path, the URL of a file or an object, or a file that is open for
/// writing.
pub enum OutputArg {
    Named(PathBuf),
    File(Py<PyAny>),
}

impl<'a, 'py> FromPyObject<'a, 'py> for OutputArg {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<OutputArg> {
        if !value.hasattr("write")? {
            return value.extract().map(OutputArg::Named);
        }
        let text = value.py().import("io")?.getattr("TextIOBase")?;
        if value.is_instance(&text)? {
            return Err(PyTypeError::new_err("the file is not open as binary"));
        }
        Ok(OutputArg::File(value.to_owned().unbind()))
    }
}

/// The place of an output.
pub struct Out {
    location: Location,
    to: Option<(Py<PyAny>, Gathered)>,
}

impl Out {
    /// Takes over the argument. Refuses an output that is one of the files that `keywords` name. Objects of
    /// stores are no files.
    pub fn open(arg: OutputArg, keywords: &Keywords<'_>) -> Result<Out> {
        match arg {
            OutputArg::Named(path) => {
                let location = Location::parse(path)?;
                if let Location::File(path) = &location {
                    keywords.check_output(path)?;
                }
                Ok(Out { location, to: None })
            }
            OutputArg::File(file) => {
                let (path, gathered) = Gathered::begin()?;
                Ok(Out {
                    location: path.into(),
                    to: Some((file, gathered)),
                })
            }
        }
    }

    /// Where to write it.
    pub fn location(&self) -> Location {
        self.location.clone()
    }

    /// What to call it.
    pub fn name(&self) -> String {
        match self.to {
            Some(_) => NAME.to_owned(),
            None => self.location.to_string(),
        }
    }

    /// Writes the output to the caller's file object, if there is one and the call succeeded.
    pub fn finish<T>(self, py: Python<'_>, made: Result<T>) -> Result<T> {
        let Some((file, gathered)) = self.to else {
            return made;
        };
        let bytes = gathered.end();
        let made = made.map_err(|fault| match &fault {
            Fault::Ours(_, error) if is_of_several(error.downcast_ref()) => usage(
                "the output has external data, and a file object takes one file alone: give a path",
            ),
            _ => fault,
        })?;
        let bytes = bytes.map_err(|source| Fault::Python(source.into()))?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let piece = rest.get(..PIECE).unwrap_or(rest);
            let written = file.call_method1(py, "write", (PyBytes::new(py, piece),))?;
            // A file without a buffer may take less; what says nothing has taken all.
            let n = written.extract::<usize>(py).unwrap_or(piece.len());
            rest = rest.get(n..).unwrap_or_default();
        }
        Ok(made)
    }
}

/// Whether the output has several files, and its place takes one.
fn is_of_several(error: Option<&Error>) -> bool {
    let Some(Error::Store(StoreError::NoOutput { fault, .. })) = error else {
        return false;
    };
    matches!(fault, OutputFault::Several)
}

/// The bytes that one call of a file object's `write` gets.
const PIECE: usize = 1 << 20;

/// Gathers in memory what is written to a pipe: for outputs to file objects.
struct Gathered {
    writer: PipeWriter,
    reader: JoinHandle<std::io::Result<Vec<u8>>>,
}

impl Gathered {
    /// Makes a pipe. Its path is valid until [`Gathered::end`].
    #[cfg(unix)]
    fn begin() -> Result<(PathBuf, Gathered)> {
        use std::os::fd::AsRawFd as _;
        let made = std::io::pipe().map_err(|source| Fault::Python(source.into()));
        let (mut from, writer) = made?;
        let path = PathBuf::from(format!("/dev/fd/{}", writer.as_raw_fd()));
        let reader = std::thread::Builder::new().spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).map(|_| bytes)
        });
        let reader = reader.map_err(io("start a thread for", Path::new("the output")))?;
        Ok((path, Gathered { writer, reader }))
    }

    #[cfg(not(unix))]
    fn begin() -> Result<(PathBuf, Gathered)> {
        Err(usage("outputs go to paths on this system"))
    }

    /// Closes the pipe, and gives all bytes that were written to it.
    fn end(self) -> std::io::Result<Vec<u8>> {
        drop(self.writer);
        let gathered = self.reader.join();
        gathered.unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()))
    }
}
