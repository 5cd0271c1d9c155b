//! Input keys.

use std::path::PathBuf;

use onnxseal_core::write_key;
use onnxseal_inputs::rewrite::{self, Files};
use onnxseal_inputs::{
    self as inputs, Layout, Normalisation, Order, Scale, Spec, Transform, ValueType,
};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::assess::{library, load};
use crate::call;
use crate::errors::{Result, usage};
use crate::keys::{AudienceArgs, IdentityArgs, read_identities};
use crate::keywords::Keywords;
use crate::output::{Out, output_options};
use crate::view;

/// A key that transforms images and rewrites models for them. `onnxseal._inputs` wraps it for
/// arrays.
#[pyclass(frozen, module = "onnxseal", name = "_RawInputKey")]
pub struct RawInputKey(inputs::InputKey);

/// The parts of a key that are not secret, as arguments.
#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
pub struct SpecArgs {
    transforms: Vec<String>,
    block: u32,
    channels: u32,
    layout: String,
    order: String,
    range: (f64, f64),
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
    #[pyo3(default)]
    key_bits: f64,
}

#[pymethods]
impl RawInputKey {
    /// Makes a new key.
    #[staticmethod]
    fn generate(spec: SpecArgs) -> Result<RawInputKey> {
        Ok(RawInputKey(inputs::InputKey::generate(spec.read()?)?))
    }

    /// Opens a key file.
    #[staticmethod]
    #[pyo3(signature = (path, identity = None))]
    fn open(py: Python<'_>, path: PathBuf, identity: Option<IdentityArgs>) -> Result<RawInputKey> {
        call::run(py, None, |progress| {
            let identities = read_identities(identity, progress)?;
            let key = inputs::InputKey::open(&path, identities.as_ref())?;
            Ok(RawInputKey(key))
        })
    }

    /// Reads the text of a key, or the bytes of a key file.
    #[staticmethod]
    #[pyo3(signature = (text, identity = None))]
    fn parse(py: Python<'_>, text: &[u8], identity: Option<IdentityArgs>) -> Result<RawInputKey> {
        call::run(py, None, |progress| {
            let identities = read_identities(identity, progress)?;
            let key = inputs::InputKey::from_bytes(text, identities.as_ref())?;
            Ok(RawInputKey(key))
        })
    }

    /// The text of the key file, encrypted if there are recipients. Without them, it is secret.
    #[pyo3(signature = (recipients = None))]
    fn text(&self, py: Python<'_>, recipients: Option<AudienceArgs>) -> Result<Py<PyString>> {
        let text = self.file_text(recipients)?;
        Ok(PyString::new(py, &text).unbind())
    }

    /// Writes a key file, readable by its owner alone; never over an existing file.
    #[pyo3(signature = (path, recipients = None))]
    fn save(&self, path: PathBuf, recipients: Option<AudienceArgs>) -> Result<()> {
        Ok(write_key(&path, &self.file_text(recipients)?)?)
    }

    /// The parts of the key that are not secret.
    #[getter]
    fn spec(&self) -> SpecArgs {
        let spec = self.0.spec();
        let (mean, std) = spec
            .normalisation
            .clone()
            .map(|of| (of.mean, of.std))
            .unzip();
        let names = spec.transforms.iter().map(|of| of.name().to_owned());
        let layout = match spec.layout {
            Layout::Nchw => "nchw",
            Layout::Nhwc => "nhwc",
        };
        let order = match spec.order {
            Order::Rgb => "rgb",
            Order::Bgr => "bgr",
        };
        SpecArgs {
            transforms: names.collect(),
            block: spec.block,
            channels: spec.channels,
            layout: layout.into(),
            order: order.into(),
            range: spec.range,
            mean,
            std,
            key_bits: spec.key_bits(),
        }
    }

    /// Changes a model so that it takes images made with this key. `old_key` is the key of a model that takes
    /// keyed images already.
    fn rewrite<'py>(&self, keywords: Keywords<'py>) -> Result<Bound<'py, PyDict>> {
        let check: bool = keywords.get("check")?;
        let library = if check { library(keywords.py())? } else { None };
        let model = keywords.model()?;
        let old: Option<Py<RawInputKey>> = keywords.get("old_key")?;
        let input: Option<String> = keywords.get("input")?;
        let options = output_options(&keywords)?;
        let to = Out::open(keywords.get("out")?, &keywords)?;
        let out = to.location();
        let (old, new) = (old.as_ref().map(|old| &old.get().0), &self.0);
        let made = keywords.run(move |_| {
            options.check_free(&out)?;
            let files = Files::open(&model)?;
            let input = input.as_deref();
            let rewritten = files.with(|source| match old {
                None => rewrite::rewrite(source, new, input),
                Some(old) => rewrite::rekey(source, old, new, input),
            })?;
            let agreement = if check {
                load(library)?;
                Some(rewrite::check(&files, &rewritten, (old, new))?)
            } else if !rewritten.is_exact {
                return Err(usage(
                    "the result is not exact by construction, so it has to be run: leave out check=False",
                ));
            } else {
                None
            };
            files.write(&rewritten.edits, &out, options)?;
            Ok((rewritten, agreement))
        });
        let (rewritten, agreement) = to.finish(keywords.py(), made)?;
        let found = PyDict::new(keywords.py());
        found.set_item("input", rewritten.input)?;
        found.set_item("tensors", rewritten.tensors)?;
        found.set_item("exact", rewritten.is_exact)?;
        found.set_item("difference", agreement.map(|agreement| agreement.changed))?;
        Ok(found)
    }

    /// The types to which values of the type `of` may convert, the usual one first.
    fn types(&self, of: &str, inverse: bool) -> Result<Vec<String>> {
        let of = value_type(of)?;
        let types = if inverse {
            self.0.plain_types(of)
        } else {
            self.0.keyed_types(of)
        };
        Ok(types.iter().map(ValueType::to_string).collect())
    }

    /// Transforms images from the bytes of `from`, an array of this shape and type, to those of
    /// `to`; without `to`, in place.
    #[pyo3(signature = (shape, from, to, inverse, normalised))]
    fn convert(
        &self,
        shape: Vec<usize>,
        from: (PyBuffer<u8>, String),
        to: Option<(PyBuffer<u8>, String)>,
        inverse: bool,
        normalised: bool,
    ) -> Result<()> {
        let cipher = self.0.cipher_for(&shape)?;
        let scale = if normalised {
            Scale::Normalised
        } else {
            Scale::Pixels
        };
        let of = value_type(&from.1)?;
        match to {
            None => {
                let mut buffer = from.0;
                let images = view::images_mut(&mut buffer, of)?;
                if inverse {
                    cipher.invert_in_place(images, scale)?
                } else {
                    cipher.apply_in_place(images, scale)?
                }
            }
            Some((mut buffer, into)) => {
                let into = value_type(&into)?;
                view::check_apart(&from.0, &buffer)?;
                let keyed = view::images_mut(&mut buffer, into)?;
                let images = view::images(&from.0, of)?;
                if inverse {
                    cipher.invert(images, keyed, scale)?
                } else {
                    cipher.apply(images, keyed, scale)?
                }
            }
        }
        Ok(())
    }
}

impl RawInputKey {
    fn file_text(&self, recipients: Option<AudienceArgs>) -> Result<zeroize::Zeroizing<String>> {
        let recipients = recipients.map(AudienceArgs::read).transpose()?;
        match recipients.unwrap_or_default().pop() {
            None => Ok(self.0.to_text()),
            Some((None, recipients)) => Ok(self.0.to_encrypted_text(&recipients)?.into()),
            Some((Some(_), _)) => Err(usage("an input key has no tiers")),
        }
    }
}

impl SpecArgs {
    fn read(self) -> Result<Spec> {
        let transform = |name: &String| {
            let known = "shuffle, negative, ffx or orthogonal";
            Transform::named(name).ok_or_else(|| usage(format!("{name:?} is not {known}")))
        };
        let mut transforms: Vec<Transform> = self
            .transforms
            .iter()
            .map(transform)
            .collect::<Result<_>>()?;
        transforms.sort();
        Ok(Spec {
            transforms,
            block: self.block,
            channels: self.channels,
            layout: match &*self.layout {
                "nchw" => Layout::Nchw,
                "nhwc" => Layout::Nhwc,
                _ => return Err(usage("layout is \"nchw\" or \"nhwc\"")),
            },
            order: match &*self.order {
                "rgb" => Order::Rgb,
                "bgr" => Order::Bgr,
                _ => return Err(usage("order is \"rgb\" or \"bgr\"")),
            },
            range: self.range,
            normalisation: match (self.mean, self.std) {
                (None, None) => None,
                (Some(mean), Some(std)) => Some(Normalisation { mean, std }),
                _ => return Err(usage("mean and std go together: give both or none")),
            },
        })
    }
}

fn value_type(name: &str) -> Result<ValueType> {
    let known = ValueType::ALL.into_iter().find(|t| t.to_string() == name);
    known.ok_or_else(|| usage(format!("pixels are no values of type {name}")))
}
