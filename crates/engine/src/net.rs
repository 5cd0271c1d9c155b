//! A session of a model, and runs over samples.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use ort::session::{Session, SessionInputValue};

use crate::error::{Error, Result};
use crate::files::Files;
use crate::library::{Engine, Runs};
use crate::outputs::with_outputs;
use crate::values::{Batch, Element, Samples, Table, feed, numbers, tensor_type};

/// Samples per run, if the model takes any number.
const BATCH: usize = 64;

/// An input of a model.
#[derive(Clone, Debug)]
pub struct InputSpec {
    pub name: String,
    pub element: Element,
    /// Its shape; -1 for any length.
    pub dims: Vec<i64>,
}

impl fmt::Display for InputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dim = |dim: &i64| match *dim {
            ..0 => "?".to_owned(),
            dim => dim.to_string(),
        };
        let dims: Vec<String> = self.dims.iter().map(dim).collect();
        write!(f, "{} [{}]", self.element, dims.join(", "))
    }
}

/// An output of a model.
#[derive(Clone, Debug)]
pub struct OutputSpec {
    pub name: String,
    /// Its element type; absent if it is not a tensor of numbers.
    pub element: Option<Element>,
}

/// A session of a model.
pub struct Net {
    session: Session,
    runs: Arc<Runs>,
    /// The model's name in errors.
    name: String,
    inputs: Vec<InputSpec>,
    outputs: Vec<OutputSpec>,
}

impl Net {
    /// Makes a session of a model, with the values `more` of its main graph as further outputs.
    pub fn new(engine: &Engine, files: &Files, more: &[&str], name: &str) -> Result<Net> {
        if engine.runs.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let commit = || -> ort::Result<Session> {
            let mut builder = Session::builder(&engine.environment)?
                .with_optimization_level(engine.optimization)?
                .with_intra_threads(engine.n_threads)?
                .with_intra_op_spinning(false)?
                .with_log_level(ort::logging::LogLevel::Fatal)?;
            for (path, bytes) in &files.external {
                builder =
                    builder.with_external_initializer_file_in_memory(path, Arc::clone(bytes))?;
            }
            match more {
                [] => builder.commit_from_memory(&files.model),
                more => builder.commit_from_memory(&with_outputs(&files.model, more)),
            }
        };
        let session = commit().map_err(|error| run_error(name, &error))?;
        let inputs = session.inputs().iter().map(|input| {
            let (element, dims) = tensor_type(input.dtype());
            let element = element.ok_or_else(|| Error::Run {
                model: name.to_owned(),
                operator: None,
                reason: format!(
                    "input {:?} is {}, which is not a tensor",
                    input.name(),
                    input.dtype()
                ),
            })?;
            Ok(InputSpec {
                name: input.name().to_owned(),
                element,
                dims,
            })
        });
        let inputs = inputs.collect::<Result<_>>()?;
        let outputs = session.outputs().iter().map(|output| OutputSpec {
            name: output.name().to_owned(),
            element: tensor_type(output.dtype()).0,
        });
        Ok(Net {
            runs: Arc::clone(&engine.runs),
            name: name.to_owned(),
            inputs,
            outputs: outputs.collect(),
            session,
        })
    }

    pub fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// Returns the outputs: the model's, then the further ones.
    pub fn outputs(&self) -> &[OutputSpec] {
        &self.outputs
    }

    /// Runs the samples `rows` and returns the outputs `wanted`, by index, one row per sample.
    ///
    /// # Errors
    /// [`Error::Run`]; [`Error::Output`] if an output is not a tensor of numbers, or differs in
    /// shape between samples; [`Error::Cancelled`].
    pub fn run(
        &mut self,
        samples: &[Samples],
        rows: &[usize],
        wanted: &[usize],
    ) -> Result<Vec<Table>> {
        let fixed = samples.iter().filter_map(|of| of.batch.n());
        let mut n_batch = fixed.min().unwrap_or(BATCH);
        loop {
            match self.run_by(samples, rows, wanted, n_batch)? {
                Some(tables) => return Ok(tables),
                // An output may have its batch axis elsewhere, or none.
                None if n_batch > 1 && samples.iter().all(|s| s.batch != Batch::Just(n_batch)) => {
                    n_batch = 1
                }
                None => {
                    return Err(Error::Output {
                        output: "of the model".into(),
                        reason: format!("has no row for each of the {n_batch} samples of a run"),
                    });
                }
            }
        }
    }

    fn run_by(
        &mut self,
        samples: &[Samples],
        rows: &[usize],
        wanted: &[usize],
        n_batch: usize,
    ) -> Result<Option<Vec<Table>>> {
        let mut tables: Vec<Option<Table>> = wanted.iter().map(|_| None).collect();
        let n_batch = n_batch.max(1);
        let is_fixed = samples.iter().any(|s| matches!(s.batch, Batch::Just(_)));
        for part in rows.chunks(n_batch) {
            let mut fed = part.to_vec();
            if let (true, Some(last)) = (is_fixed, part.last()) {
                fed.resize(n_batch, *last);
            }
            let failed = |error: ort::Error| run_error(&self.name, &error);
            let values = samples.iter().map(|input| {
                let value = SessionInputValue::from(feed(input, &fed).map_err(failed)?);
                Ok((Cow::from(input.name.as_str()), value))
            });
            let values = values.collect::<Result<Vec<_>>>()?;
            let ran = self.session.run_with_options(values, &self.runs.options);
            // A cancelled run fails like a broken one; the flag tells them apart.
            let outputs = ran.map_err(|error| {
                if self.runs.is_cancelled() {
                    Error::Cancelled
                } else {
                    run_error(&self.name, &error)
                }
            })?;
            for (table, index) in tables.iter_mut().zip(wanted) {
                let name = self.outputs.get(*index).map_or("", |output| &output.name);
                let bad = |reason: String| Error::Output {
                    output: name.to_owned(),
                    reason,
                };
                let value = outputs.get(name).ok_or_else(|| bad("is missing".into()))?;
                let (dims, values) =
                    numbers(value).ok_or_else(|| bad("is no tensor of numbers".into()))?;
                let dims = match dims.split_first() {
                    Some((first, rest)) if *first == fed.len() => rest.to_vec(),
                    _ if fed.len() == 1 => dims,
                    _ => return Ok(None),
                };
                let width = dims.iter().product();
                let table = table.get_or_insert_with(|| Table {
                    dims: dims.clone(),
                    width,
                    values: Vec::new(),
                });
                if table.dims != dims {
                    return Err(bad(format!(
                        "is {:?} for one sample and {dims:?} for another",
                        table.dims
                    )));
                }
                table
                    .values
                    .extend(values.into_iter().take(part.len() * width));
            }
        }
        let tables = tables.into_iter().map(Option::unwrap_or_default);
        Ok(Some(tables.collect()))
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut net = f.debug_struct("Net");
        net.field("name", &self.name).finish_non_exhaustive()
    }
}

/// Converts ONNX Runtime's error, with the operator that it names.
fn run_error(model: &str, error: &ort::Error) -> Error {
    let text = error.message();
    Error::Run {
        model: model.to_owned(),
        operator: operator_in(text),
        reason: text.lines().next().unwrap_or(text).trim().to_owned(),
    }
}

/// Finds the operator in a message of ONNX Runtime.
fn operator_in(text: &str) -> Option<String> {
    /// The text before an operator, and the characters that end it.
    const MARKS: [(&str, &[char]); 5] = [
        ("running ", &[' ']),
        ("implementation for ", &[' ', '(']),
        ("Op (", &[')']),
        ("No Op registered for ", &[' ']),
        ("OpType: ", &[' ', ',']),
    ];
    let after = |(mark, ends): (&str, &'static [char])| {
        let (_, rest) = text.split_once(mark)?;
        rest.split(ends).next()
    };
    // `... com.x:Foo(-1) is not a registered function/op`
    let before = || {
        let (before, _) = text.split_once(" is not a registered")?;
        before.rsplit(' ').next()?.split('(').next()
    };
    let name = MARKS.into_iter().find_map(after).or_else(before)?.trim();
    (!name.is_empty() && name.len() < 100).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_their_operator() {
        let cases = [
            (
                "Fatal error: com.x:Foo(-1) is not a registered function/op",
                Some("com.x:Foo"),
            ),
            (
                "Non-zero status code returned while running Conv node. Name:'c' Status Message: bad",
                Some("Conv"),
            ),
            (
                "Could not find an implementation for Mod(13) node with name ''",
                Some("Mod"),
            ),
            ("Node (x) Op (Gemm) [ShapeInferenceError] bad", Some("Gemm")),
            (
                "Error No Op registered for Odd with domain_version of 17",
                Some("Odd"),
            ),
            ("out of memory", None),
        ];
        for (text, operator) in cases {
            assert_eq!(operator_in(text).as_deref(), operator, "{text}");
        }
    }
}
