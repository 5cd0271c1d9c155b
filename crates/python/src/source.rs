//! Where models lie and go, as callers name them.

use std::collections::BTreeMap;
use std::io::{PipeWriter, Read as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use onnxseal_core::{
    Bytes, Error, InMemory, Location, NamedInputs, OutputFault, Permitted, Readers, StoreError,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use crate::errors::{Fault, Result, io, usage};

/// The name in messages for a model that has none.
const NAME: &str = "the model";

/// A model: a path, the URL of a file or an object, bytes, a file that is open for reading, an
/// `onnx.ModelProto`, or a `torch.onnx.ONNXProgram`.
pub struct Source(Where);

/// External data files of a model in memory, by their paths relative to its folder.
pub type External<'py> = BTreeMap<String, Bound<'py, PyAny>>;

enum Where {
    Named(PathBuf),
    Bytes(PyBackedBytes),
}

impl Source {
    /// The location of the model.
    pub fn location(self) -> Result<Location> {
        self.location_with(None)
    }

    /// The location of a model in memory that has `external` files.
    pub fn location_with(self, external: Option<External<'_>>) -> Result<Location> {
        match (self.0, external) {
            (Where::Named(path), None) => Ok(Location::parse(path)?),
            (Where::Named(_), Some(_)) => Err(usage(
                "external files are only given for a model in memory: those of a path are found through it",
            )),
            (Where::Bytes(bytes), external) => {
                let mut model = InMemory::new(NAME, Bytes::from_owner(bytes));
                // They have no permissions to take over: what is made of them is a file like others.
                model.permitted = Permitted::To(Readers::Usual);
                for (path, bytes) in external.unwrap_or_default() {
                    let bytes = bytes_of(&bytes)?.ok_or_else(|| {
                        PyTypeError::new_err(format!("external file {path:?} is no bytes"))
                    })?;
                    model.external.insert(path, Bytes::from_owner(bytes));
                }
                Ok(model.into())
            }
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Source {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Source> {
        if let Some(bytes) = bytes_of(&value)? {
            return Ok(Source(Where::Bytes(bytes)));
        }
        if let Ok(path) = value.extract() {
            return Ok(Source(Where::Named(path)));
        }
        if value.hasattr("read")? {
            let bytes = value.call_method0("read")?;
            let bytes = bytes_of(&bytes)?;
            let bytes =
                bytes.ok_or_else(|| PyTypeError::new_err("the file is not open as binary"))?;
            return Ok(Source(Where::Bytes(bytes)));
        }
        // Neither torch nor onnx is imported: who has a model of theirs has done so.
        let program = value.getattr_opt("model_proto")?;
        let proto = program.unwrap_or_else(|| value.to_owned());
        let Some(serialize) = proto.getattr_opt("SerializeToString")? else {
            let name = value.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "a model is a path, a URL, bytes, a file, an onnx.ModelProto or a torch.onnx.ONNXProgram, not {name}"
            )));
        };
        let bytes = serialize.call0().map_err(|error| -> PyErr {
            usage(format!(
                "the model cannot be serialised: {error}; save it to a file, with external data if it is above 2 GiB, and give its path"
            ))
            .into()
        })?;
        let bytes = bytes.cast_into::<PyBytes>()?;
        Ok(Source(Where::Bytes(bytes.into())))
    }
}

/// The bytes of a bytes-like value, or `None`. Copies what Python code may change meanwhile.
fn bytes_of(value: &Bound<'_, PyAny>) -> PyResult<Option<PyBackedBytes>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some(bytes.clone().into()));
    }
    if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
        let bytes = value.py().get_type::<PyBytes>().call1((value,))?;
        return Ok(Some(bytes.cast_into::<PyBytes>()?.into()));
    }
    Ok(None)
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
    /// Takes over the argument. Refuses an output that is one of the files that the call reads.
    pub fn open(arg: OutputArg, reads: &NamedInputs) -> Result<Out> {
        match arg {
            OutputArg::Named(path) => {
                let location = Location::parse(path)?;
                check_output(&location, reads)?;
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

/// Refuses an output that is one of the files that the call reads. Objects of stores are no files.
fn check_output(output: &Location, reads: &NamedInputs) -> Result<()> {
    match output {
        Location::File(path) => Ok(reads.check(path)?),
        _ => Ok(()),
    }
}
