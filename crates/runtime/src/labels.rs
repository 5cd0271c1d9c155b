//! Decodes the answers of models with protected labels, in sessions.

use std::borrow::Cow;

use half::{bf16, f16};
use onnxseal_labels::{Decoder, KEY, Table, UserKey};
use ort::session::builder::SessionBuilder;
use ort::session::{Session, SessionOutputs};
use ort::value::{DynValue, Shape, Tensor, TensorElementType, TensorRef};

use crate::error::{Error, Result};

/// Turns a session's outputs into the original's, with a label key.
///
/// The table of labels is decrypted once, in [`SessionLabels::new`]. Only the protection of the
/// whole model proves that the session's rows belong to the table: use a session from
/// [`Model::into_session`](crate::Model::into_session).
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::fs::File;
/// use std::path::Path;
///
/// use onnxseal_runtime::{Identities, Model, SessionLabels, UserKey};
/// use ort::session::Session;
/// use ort::value::TensorRef;
///
/// let environment = onnxseal_runtime::load()?.build()?;
/// let identities = Identities::read(File::open("id.txt")?, "id.txt")?;
/// let model = Model::open(Path::new("sealed.onnx"), &identities)?;
/// let mut session = model.into_session(Session::builder(&environment)?)?;
///
/// let key = UserKey::open(Path::new("acme.key"), None)?;
/// let mut labels = SessionLabels::new(&session, &key, Session::builder(&environment)?)?;
/// let images = vec![0.5_f32; 3 * 224 * 224];
/// let images = TensorRef::from_array_view(([1, 3, 224, 224], &images[..]))?;
/// let outputs = labels.decode(session.run(ort::inputs![images])?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SessionLabels {
    decoder: Decoder,
    answers: String,
    logits: String,
    names: Vec<String>,
    /// A session of the part after the layer that answers; `None` if its logits are the output.
    tail: Option<Session>,
}

impl SessionLabels {
    /// Decrypts the table in a session's model. `builder` makes a session of the part after the
    /// layer that answers, which is small: one thread is enough.
    ///
    /// # Errors
    /// [`Error::Labels`] if the model has no table, the table is malformed, or the key does not
    /// open it; [`Error::Tail`].
    pub fn new(session: &Session, key: &UserKey, builder: SessionBuilder) -> Result<SessionLabels> {
        let metadata = session.metadata().map_err(Error::Run)?;
        let text = metadata.custom(KEY);
        let table = Table::parse(&text.ok_or(onnxseal_labels::Error::NoTable)?)?;
        let decoder = Decoder::new(&table, key)?;
        let tail = match table.tail() {
            [] => None,
            tail => {
                let mut builder = builder;
                Some(builder.commit_from_memory(tail).map_err(Error::Tail)?)
            }
        };
        let labels = SessionLabels {
            decoder,
            answers: table.answers().to_owned(),
            logits: table.logits().to_owned(),
            names: table.outputs().to_vec(),
            tail,
        };
        match labels.names.iter().find(|name| !labels.has(session, name)) {
            None if has_output(session, &labels.answers) => Ok(labels),
            _ => Err(Error::Labels(onnxseal_labels::Error::MalformedTable {
                reason: "it names outputs that the model does not have",
            })),
        }
    }

    /// Returns whether the session or the tail has an output of this name.
    fn has(&self, session: &Session, name: &str) -> bool {
        let of_tail = |tail| has_output(tail, name);
        *name == self.logits || self.tail.as_ref().is_some_and(of_tail) || has_output(session, name)
    }

    /// Returns the names of the original's outputs, in its order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Computes the outputs of the original, in its order, from all outputs of a run of the
    /// session. Logits are float32.
    ///
    /// # Errors
    /// [`Error::Labels`] if the outputs are not those of the session's model; [`Error::Run`].
    pub fn decode(&mut self, mut outputs: SessionOutputs<'_>) -> Result<Vec<DynValue>> {
        let SessionLabels {
            decoder,
            answers,
            logits: logits_name,
            names,
            tail,
        } = self;
        let of_run = outputs.remove(&*answers);
        let of_run = of_run.ok_or_else(|| missing(answers))?;
        let (shape, values) = floats(&of_run)?;
        let of_logits = decoder.shape(&shape)?;
        let logits = decoder.decode(&values, &shape)?;
        let mut behind = match tail {
            None => None,
            Some(tail) => {
                let fed = TensorRef::from_array_view((&of_logits[..], &logits[..]));
                let fed = fed.map_err(Error::Run)?;
                let ran = tail.run(ort::inputs![logits_name.as_str() => fed]);
                Some(ran.map_err(Error::Run)?)
            }
        };
        let mut found = Vec::with_capacity(names.len());
        for name in names.iter() {
            let of_tail = behind.as_mut().and_then(|behind| behind.remove(name));
            let value = of_tail.or_else(|| outputs.remove(name));
            found.push(match value {
                Some(value) => value,
                None if name == logits_name => {
                    let tensor = Tensor::from_array((of_logits.clone(), logits.clone()));
                    tensor.map_err(Error::Run)?.into_dyn()
                }
                None => return Err(missing(name)),
            });
        }
        Ok(found)
    }
}

/// Returns the shape and elements of answers: float32, float16 or bfloat16, as the layer produces
/// them.
fn floats(answers: &DynValue) -> Result<(Vec<usize>, Cow<'_, [f32]>)> {
    // They were counted when the tensor was made.
    let dims = |shape: &Shape| shape.iter().map(|n| *n as usize).collect();
    Ok(match answers.dtype().tensor_type() {
        Some(TensorElementType::Float16) => {
            let (shape, values) = answers.try_extract_tensor::<f16>().map_err(Error::Run)?;
            let values = values.iter().map(|value| value.to_f32());
            (dims(shape), values.collect())
        }
        Some(TensorElementType::Bfloat16) => {
            let (shape, values) = answers.try_extract_tensor::<bf16>().map_err(Error::Run)?;
            let values = values.iter().map(|value| value.to_f32());
            (dims(shape), values.collect())
        }
        _ => {
            let (shape, values) = answers.try_extract_tensor::<f32>().map_err(Error::Run)?;
            (dims(shape), values.into())
        }
    })
}

fn has_output(session: &Session, name: &str) -> bool {
    (session.outputs().iter()).any(|output| output.name() == name)
}

fn missing(name: &str) -> Error {
    let text = format!("the run gave no output {name:?}: run the session for all its outputs");
    Error::Labels(onnxseal_labels::Error::Usage(text))
}
