//! The inputs of a model, where the way from an image to its consumers starts.

use onnxseal_onnx::detail::{InputType, input_types};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::tail;

use crate::key::{Layout, Spec};
use crate::rewrite::value::{Axis, Of, Value};
use crate::rewrite::{advise, refuse};
use onnxseal_rewrite::{Error, Graph, Refusal, Result, Source, bounds};

/// Fails if the model is protected, or programs may read it in different ways.
pub(super) fn check_source(source: &Source<'_>) -> Result<()> {
    if tail::is_in(source.model) {
        return advise(
            "the model is protected",
            "open it with `onnxseal unprotect` first, and protect the result",
        );
    }
    if tail::has_lock(source.model) {
        return advise(format!("the model {}", tail::STRIPPED), "fetch it again");
    }
    source.model.check_unambiguous()?;
    Ok(())
}

/// Calls `work` for each input, or for the one called `name`. Returns the results, of which there is
/// one at least.
pub(super) fn of_inputs<'a, T>(
    source: &Source<'a>,
    graph: &Graph<'_>,
    name: Option<&str>,
    mut work: impl FnMut(&InputType<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let (mut done, mut refused) = (Vec::new(), None::<Box<Refusal>>);
    let mut inputs = inputs(source, graph)?;
    inputs.retain(|input| name.is_none_or(|name| input.name == name));
    for input in &inputs {
        match work(input) {
            Ok(found) => done.push(found),
            Err(Error::Refused(refusal)) => {
                // That of an input with the shape of an image tells more than another's.
                let is_best = refusal.node.is_some() || refused.iter().all(|r| r.node.is_none());
                refused = if is_best { Some(refusal) } else { refused };
            }
            Err(error) => return Err(error),
        }
    }
    match (refused, name) {
        _ if !done.is_empty() => Ok(done),
        (Some(refusal), _) => Err(Error::Refused(refusal)),
        (None, Some(name)) => Err(Error::Usage(format!(
            "the model has no input {:?}",
            onnxseal_onnx::excerpt(name)
        ))),
        (None, None) => refuse("the model has no input"),
    }
}

/// Returns the inputs of the main graph without an initializer.
pub(super) fn inputs<'a>(source: &Source<'a>, graph: &Graph<'_>) -> Result<Vec<InputType<'a>>> {
    let mut types = input_types(source.bytes)?;
    types.retain(|input| graph.constant(input.name).is_none());
    Ok(types)
}

/// The value of an input whose pixels are transformed and then normalised, with the range of pixels.
pub(super) struct Start {
    pub(super) value: Value,
    pub(super) range: (f64, f64),
}

impl Start {
    pub(super) fn new(
        input: &InputType<'_>,
        layout: Layout,
        n_channels: u32,
        spec: Option<&Spec>,
    ) -> Result<Start> {
        let name = onnxseal_onnx::excerpt(input.name);
        let dims = input.dims.clone().unwrap_or(vec![None; 4]);
        let [batch, a, b, c] = dims[..] else {
            let n = dims.len();
            return refuse(format!("input {name:?} has {n} axes, and images have 4"));
        };
        let (channels, rows, columns) = match layout {
            Layout::Nchw => (a, b, c),
            Layout::Nhwc => (c, a, b),
        };
        if channels.is_some_and(|n| n != u64::from(n_channels)) {
            let n = channels.unwrap_or_default();
            return advise(
                format!("input {name:?} has {n} channels, not {n_channels}"),
                "the key is for images of another kind: `onnxseal inputs keygen` makes one for the model's with `--channels` and `--layout`",
            );
        }
        let whole = input.data_type.filter(|of| *of != DataType::Int32);
        let (range, is_integer) = match (whole.and_then(bounds), input.data_type) {
            (Some((low, high)), _) => ((low as f64, high as f64), true),
            (None, Some(DataType::Float | DataType::Float16)) => {
                (spec.map_or((0.0, 1.0), |spec| spec.range), false)
            }
            _ => return refuse(format!("input {name:?} takes neither floats nor pixels")),
        };
        let is_normalised = spec.is_some_and(|spec| spec.normalisation.is_some());
        if is_integer && is_normalised {
            return advise(
                format!("input {name:?} takes integers, and the key normalises"),
                "make a key without `--mean` and `--std`: the model normalises by itself, if at all",
            );
        }
        let none = vec![(0.0, 1.0); n_channels as usize];
        let statistics = spec.map_or(none, Spec::statistics);
        let mut axes = vec![
            Axis::one(Of::Batch, batch),
            Axis::one(Of::Channel, Some(u64::from(n_channels))),
            Axis::one(Of::Row, rows),
            Axis::one(Of::Column, columns),
        ];
        if layout == Layout::Nhwc {
            axes[1..].rotate_left(1);
        }
        let value = Value {
            axes,
            offset: (0, 0),
            gain: statistics.iter().map(|(_, s)| 1.0 / s).collect(),
            shift: statistics.iter().map(|(m, s)| -m / s).collect(),
            is_integer,
            norm: None,
        };
        Ok(Start { value, range })
    }

    /// Returns the rows and columns of the image, if they are fixed.
    pub(super) fn size(&self) -> (Option<u64>, Option<u64>) {
        let of = |of: Of| {
            let mut axes = self.value.axes.iter();
            axes.find(|axis| axis.step(of).is_some())
                .and_then(Axis::size)
        };
        (of(Of::Row), of(Of::Column))
    }
}
