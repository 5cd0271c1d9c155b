//! The arguments of a call, by their names. Its function in `_calls.py` or `batch.py` says which there are, with types
//! and defaults.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use onnxseal_core::{Location, NamedInputs, Progress, identity_of_environment};
use pyo3::conversion::FromPyObjectOwned;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call;
use crate::errors::Result;
use crate::source::Source;

/// A function that reads the files that arguments name. It runs without the interpreter, in [`Keywords::run`].
pub type Later<T> = Box<dyn FnOnce(&dyn Progress) -> Result<T> + Send>;

/// The arguments of a call. Take those that name files before the output: it takes the place of none of these.
pub struct Keywords<'py> {
    given: Bound<'py, PyDict>,
    /// The files and models that were taken so far, and the identity file of the environment.
    reads: RefCell<NamedInputs>,
}

/// An argument that may name files.
pub trait NamesFiles {
    fn files(&self) -> Vec<PathBuf>;
}

impl NamesFiles for PathBuf {
    fn files(&self) -> Vec<PathBuf> {
        vec![self.clone()]
    }
}

impl<T: NamesFiles> NamesFiles for Option<T> {
    fn files(&self) -> Vec<PathBuf> {
        self.iter().flat_map(NamesFiles::files).collect()
    }
}

impl<T: NamesFiles> NamesFiles for OneOrMore<T> {
    fn files(&self) -> Vec<PathBuf> {
        self.0.iter().flat_map(NamesFiles::files).collect()
    }
}

/// One value, or several: a list, a tuple or another iterable.
pub struct OneOrMore<T>(pub Vec<T>);

impl<'py, T: FromPyObjectOwned<'py>> FromPyObject<'_, 'py> for OneOrMore<T> {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<OneOrMore<T>> {
        let read = |value: &Bound<'py, PyAny>| value.extract::<T>().map_err(Into::into);
        match read(&value) {
            Ok(one) => Ok(OneOrMore(vec![one])),
            Err(error) => match value.try_iter() {
                Ok(several) => {
                    let several = several.map(|value| read(&value?));
                    several.collect::<PyResult<_>>().map(OneOrMore)
                }
                Err(_) => Err(error),
            },
        }
    }
}

impl<'py> Keywords<'py> {
    pub fn py(&self) -> Python<'py> {
        self.given.py()
    }

    /// Takes an argument; Python's `None` for one that the call does not have.
    pub fn get<T: FromPyObjectOwned<'py>>(&self, name: &str) -> PyResult<T> {
        let value = self.given.get_item(name)?;
        let value = value.unwrap_or_else(|| self.py().None().into_bound(self.py()));
        let value = value.extract::<T>().map_err(Into::<PyErr>::into);
        value.inspect_err(|error| {
            let note = format!("while processing '{name}'");
            // In vain, it is the same error without a note.
            let _ = error.value(self.py()).call_method1("add_note", (note,));
        })
    }

    /// Takes an argument of one value or several; none for `None`.
    pub fn several<T: FromPyObjectOwned<'py>>(&self, name: &str) -> PyResult<Vec<T>> {
        let given: Option<OneOrMore<T>> = self.get(name)?;
        Ok(given.map_or_else(Vec::new, |OneOrMore(values)| values))
    }

    /// Takes an argument that may name files for the call to read.
    pub fn read<T: FromPyObjectOwned<'py> + NamesFiles>(&self, name: &str) -> PyResult<T> {
        let value: T = self.get(name)?;
        self.reads.borrow_mut().files.extend(value.files());
        Ok(value)
    }

    /// Takes the model.
    pub fn model(&self) -> Result<Location> {
        let model = self.get::<Source>("model")?.location()?;
        self.reads.borrow_mut().models.push(model.clone());
        Ok(model)
    }

    /// Returns the files and models that the arguments taken so far name.
    pub fn reads(&self) -> NamedInputs {
        self.reads.borrow().clone()
    }

    /// Fails if a file at `output` is one that the call reads.
    pub fn check_output(&self, output: &Path) -> Result<()> {
        Ok(self.reads.borrow().check(output)?)
    }

    /// Does the work of the call, as [`call::run`] does, and reports to its `progress`.
    pub fn run<T: Send>(&self, work: impl FnOnce(&dyn Progress) -> Result<T> + Send) -> Result<T> {
        let progress: Option<Bound<'py, PyAny>> = self.get("progress")?;
        call::run(self.py(), progress.as_ref(), work)
    }
}

impl<'py> FromPyObject<'_, 'py> for Keywords<'py> {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Keywords<'py>> {
        Ok(Keywords {
            given: value.cast::<PyDict>()?.to_owned(),
            reads: RefCell::new(NamedInputs {
                files: Vec::from_iter(identity_of_environment().ok().flatten()),
                takes_licences: value.contains("licence")?,
                models: Vec::new(),
            }),
        })
    }
}
