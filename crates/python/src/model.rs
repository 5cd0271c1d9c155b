//! Models that are open.

use std::collections::BTreeMap;
use std::sync::Arc;

use onnxseal_core::Requirements;
use onnxseal_runtime::{
    self as runtime, OnLoss, Opening, Options, PlaintextOnDisk, Sharing, Tensor,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyMemoryView};
use zeroize::Zeroizing;

use crate::errors::{Result, usage};
use crate::keys;
use crate::keywords::Keywords;
use crate::source::Source;
use crate::view::View;

/// A protected model, authentic to the last byte and decrypted, in memory.
///
/// It gives views of that memory. The memory is kept until the last view is gone, and then zeroed.
#[pyclass(frozen, module = "onnxseal")]
pub struct Model {
    model: Arc<runtime::Model>,
    /// The model in one file, if it has external data and was opened with `inline=True`.
    whole: Option<Arc<Zeroizing<Vec<u8>>>>,
    tensors: PyOnceLock<Py<PyAny>>,
}

#[pyfunction(name = "_open")]
pub fn open(keywords: Keywords<'_>) -> Result<Model> {
    let opening: String = keywords.get("_opening")?;
    let model: Source = keywords.get("model")?;
    let model = model.location_with(keywords.get("external_files")?)?;
    let claims: Option<Vec<String>> = keywords.get("require_claims")?;
    let options = Options {
        require: Requirements::parse(&claims.unwrap_or_default())?,
        // What sessions may write, Python's options say.
        plaintext_on_disk: PlaintextOnDisk::Allowed,
        opening: match &*opening {
            "auto" => Opening::Auto,
            "on demand" => Opening::OnDemand,
            _ => Opening::AtOnce,
        },
    };
    let inline: bool = keywords.get("inline")?;
    let opening = keys::opening(&keywords)?;
    let (model, whole) = keywords.run(move |progress| {
        let opened = opening(progress)?;
        let model = runtime::Model::open_with(model, opened.access(), &options, progress)?;
        let is_several = inline && model.contents()?.external_files().next().is_some();
        let whole = is_several.then(|| in_one_file(&model));
        Ok((model, whole.transpose()?))
    })?;
    Ok(Model {
        model: Arc::new(model),
        whole: whole.map(Arc::new),
        tensors: PyOnceLock::new(),
    })
}

/// Why sessions cannot decrypt weights when ONNX Runtime touches them; None if they can.
#[pyfunction]
#[pyo3(name = "_obstacle")]
pub fn obstacle() -> Option<String> {
    let tried = onnxseal_core::try_on_demand();
    tried.err().map(|error| format!("userfaultfd: {error}"))
}

/// A model with its external data in one file.
fn in_one_file(model: &runtime::Model) -> Result<Zeroizing<Vec<u8>>> {
    match model.prepare(Sharing::Inline) {
        Ok(prepared) => Ok(prepared.into_skeleton()),
        Err(runtime::Error::TooLarge { .. }) => Err(usage(
            "with its external data the model has more than 2 GiB, and one file of ONNX has less: open it without inline=True",
        )),
        Err(error) => Err(error.into()),
    }
}

/// The parts of [`Model::prepare`].
type Prepared<'py> = (
    Bound<'py, PyBytes>,
    Vec<(String, String)>,
    Bound<'py, PyList>,
    Bound<'py, PyList>,
);

#[pymethods]
impl Model {
    /// The publisher's statements, authentic.
    #[getter]
    fn claims(&self) -> BTreeMap<String, String> {
        self.model.claims().clone()
    }

    /// The tier that was opened; None if the model has one edition only.
    #[getter]
    fn tier(&self) -> Option<&str> {
        self.model.tier()
    }

    /// Whether this is the original, and not the edition of a tier below the highest.
    #[getter]
    fn is_original(&self) -> bool {
        self.model.is_original()
    }

    /// The model file, decrypted. It names external data files as the protected model does; opened
    /// with `inline=True`, it has their contents instead.
    #[getter]
    fn model_bytes<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyMemoryView>> {
        if let Some(whole) = &self.whole {
            return Ok(view(py, View::of_whole(Arc::clone(whole)))?);
        }
        let contents = self.model.contents()?;
        Ok(view(py, View::new(&self.model, contents.bytes()))?)
    }

    /// The external data files, decrypted, by the paths that the model has for them, relative to
    /// its folder. There are none if it was opened with `inline=True`.
    #[getter]
    fn external_files<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        let files = PyDict::new(py);
        if self.whole.is_some() {
            return Ok(files);
        }
        for (path, bytes) in self.model.contents()?.external_files() {
            let bytes = View::new(&self.model, bytes);
            files.set_item(path, view(py, bytes)?)?;
        }
        Ok(files)
    }

    /// The tensors by name, as numpy arrays that cannot be written to.
    #[getter]
    fn tensors(&self, py: Python<'_>) -> Result<Py<PyAny>> {
        let contents = self.model.contents()?;
        let tensors = self.tensors.get_or_try_init(py, || {
            let tensors = self.described(py, contents.tensors())?;
            let class = py.import("onnxseal._tensors")?.getattr("Tensors")?;
            class.call1((tensors,)).map(Bound::unbind)
        })?;
        Ok(tensors.clone_ref(py))
    }

    /// Whether all decrypted bytes are locked in memory, so that they are not swapped out.
    #[getter]
    fn is_locked(&self) -> bool {
        self.model.is_locked() && self.whole.is_none()
    }

    /// What ONNX Runtime is given instead of the model: the skeleton, entries of the session's
    /// options, weights to share and weights to inject.
    ///
    /// `how` is "share", which lets ONNX Runtime use weights where they lie, "copy", or "inline",
    /// which puts all of them into the skeleton. "begin" is "share" with weights that are decrypted
    /// when ONNX Runtime touches them: `_finish` ends it.
    #[pyo3(name = "_prepare")]
    fn prepare<'py>(&self, py: Python<'py>, how: &str) -> Result<Prepared<'py>> {
        let prepared = py.detach(|| match how {
            "begin" => self.model.begin(),
            "share" => self.model.prepare(Sharing::WherePossible),
            "copy" => self.model.prepare(Sharing::Never),
            _ => self.model.prepare(Sharing::Inline),
        })?;
        let config = prepared.config();
        // Unlike `PyBytes::new`, raises a MemoryError where there is none.
        let skeleton = prepared.skeleton();
        let skeleton = PyBytes::new_with(py, skeleton.len(), |bytes| {
            bytes.copy_from_slice(skeleton);
            Ok(())
        })?;
        Ok((
            skeleton,
            config
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
            self.described(py, prepared.shared().iter().copied())?,
            self.described(py, prepared.injected().iter().copied())?,
        ))
    }

    /// Authenticates all weights that ONNX Runtime did not touch when it made a session.
    #[pyo3(name = "_finish")]
    fn finish(&self, py: Python<'_>) -> Result<()> {
        Ok(py.detach(|| self.model.finish(OnLoss::Tell))?)
    }

    /// Raises an error if weights that a session needed could not be decrypted again.
    #[pyo3(name = "_check")]
    fn check(&self) -> Result<()> {
        Ok(self.model.check()?)
    }

    fn __repr__(&self) -> String {
        let n_tensors = self.model.n_tensors();
        match self.model.tier() {
            Some(tier) => format!("<onnxseal.Model of {n_tensors} tensors, tier {tier}>"),
            None => format!("<onnxseal.Model of {n_tensors} tensors>"),
        }
    }
}

impl Model {
    /// `(name, data type, shape, bytes)` of each tensor.
    fn described<'py, 't>(
        &self,
        py: Python<'py>,
        tensors: impl Iterator<Item = Tensor<'t>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let described = PyList::empty(py);
        for tensor in tensors {
            let bytes = view(py, View::new(&self.model, tensor.bytes))?;
            described.append((
                tensor.name,
                tensor.data_type as i32,
                tensor.dims.to_vec(),
                bytes,
            ))?;
        }
        Ok(described)
    }
}

fn view(py: Python<'_>, view: View) -> PyResult<Bound<'_, PyMemoryView>> {
    PyMemoryView::from(Bound::new(py, view)?.as_any())
}
