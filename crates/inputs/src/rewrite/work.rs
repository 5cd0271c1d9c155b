//! Computes all changes for one model and one key.

use onnxseal_onnx::detail::InputType;
use onnxseal_rewrite::{Changes, Edit, Error, Graph, Result, Source};

use crate::error;
use crate::key::{BlockMap, InputKey, Spec, Transform};
use crate::rewrite::front;
use crate::rewrite::solve::{Task, solve};
use crate::rewrite::start::{Start, check_source, of_inputs};
use crate::rewrite::{advise, refuse};

/// The changes to the files of a model.
#[derive(Debug)]
pub struct Rewritten {
    /// Ranges of its files and their replacements, by file, in ascending order. Only those of the
    /// model file may change its length.
    pub edits: Vec<Edit>,
    /// The name of the input that takes transformed images.
    pub input: String,
    /// The names of the tensors that change.
    pub tensors: Vec<String>,
    /// Whether the model computes equal outputs by construction, up to the last bits of 32: at
    /// most, products are summed in another order, or floats have 32 bits or more. Only a run shows
    /// it of other models.
    pub is_exact: bool,
}

/// Returns the edits that make a model take images made with `key` at its input `input`, or at the
/// only one that takes images.
pub fn rewrite(
    source: &Source<'_>,
    key: &InputKey,
    input: Option<&str>,
) -> error::Result<Rewritten> {
    check_affine(key)?;
    Ok(by(source, key.spec(), key.map()?, input)?)
}

/// Returns the edits that make a model rewritten for `old` take images made with `new` instead.
pub fn rekey(
    source: &Source<'_>,
    old: &InputKey,
    new: &InputKey,
    input: Option<&str>,
) -> error::Result<Rewritten> {
    check_affine(old)?;
    check_affine(new)?;
    let like = |spec: &Spec| Spec {
        transforms: Vec::new(),
        ..spec.clone()
    };
    let map = BlockMap::between(old.map()?, new.map()?);
    let (Some(map), true) = (map, like(old.spec()) == like(new.spec())) else {
        return Err(error::Error::Usage(
            "the keys differ in more than their seed: block, channels, layout, order, range and normalisation are the same, and both or neither are orthogonal".into(),
        ));
    };
    Ok(by(source, new.spec(), &map, input)?)
}

fn check_affine(key: &InputKey) -> error::Result<()> {
    if key.spec().has(Transform::Ffx) {
        Err(error::Error::Usage(
            "the key has ffx, which no rewriting follows: it is for models that are trained with it".into(),
        ))
    } else {
        Ok(())
    }
}

/// Rewrites a model for a transform of blocks.
fn by(source: &Source<'_>, spec: &Spec, map: &BlockMap, input: Option<&str>) -> Result<Rewritten> {
    check_source(source)?;
    if let BlockMap::Signed { places, negated } = map
        && places.iter().zip(0..).all(|(from, t)| *from == t)
        && !negated.contains(&true)
    {
        let text = "the key leaves images as they are: so small a block has few keys, so make one with larger blocks";
        return Err(Error::Usage(text.into()));
    }
    let graph = Graph::new(*source);
    let at_input = |found: &InputType<'_>| at_input(&graph, found, spec, map);
    let mut done = of_inputs(source, &graph, input, at_input)?;
    match (done.pop(), done.pop()) {
        (Some(b), Some(a)) => Err(Error::Usage(format!(
            "both inputs {:?} and {:?} can be rewritten: one has to be named",
            a.input, b.input
        ))),
        (one, _) => one.map_or_else(|| refuse("the model has no input"), Ok),
    }
}

fn at_input(
    graph: &Graph<'_>,
    input: &InputType<'_>,
    spec: &Spec,
    map: &BlockMap,
) -> Result<Rewritten> {
    let start = Start::new(input, spec.layout, spec.channels, Some(spec))?;
    let (size, block) = (start.size(), u64::from(spec.block));
    let name = onnxseal_onnx::excerpt(input.name);
    for (what, side) in [("rows", size.0), ("columns", size.1)] {
        if let Some(side) = side.filter(|side| !side.is_multiple_of(block)) {
            return refuse(format!(
                "input {name:?} has {side} {what}, which {block} does not divide"
            ));
        }
    }
    if start.value.is_integer && spec.has(Transform::Orthogonal) {
        let reason = format!("input {name:?} takes integers, and the key's matrix gives none");
        let advice = "make a key with `shuffle` and `negative`";
        return advise(reason, advice);
    }
    let task = Task {
        map,
        block,
        sum: start.range.0 + start.range.1,
        range: start.range,
    };
    let consumers = front::follow(graph, input.name, start.value)?;
    let mut changes = Changes::default();
    let is_exact = solve(graph, &consumers, &task, &mut changes)?;
    Ok(Rewritten {
        tensors: std::mem::take(&mut changes.tensors),
        edits: changes.edits(graph)?,
        input: input.name.to_owned(),
        is_exact,
    })
}
