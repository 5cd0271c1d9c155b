//! Computes all changes for one model and one key.

use onnxseal_onnx::detail::InputType;

use onnxseal_rewrite::{Changes, Edit, FileId, Graph, Refusal, Source};

use crate::error::{Error, Result};
use crate::key::{BlockMap, InputKey, Spec, Transform};
use crate::rewrite::consumer::check_block;
use crate::rewrite::front;
use crate::rewrite::solve::{Task, solve};
use crate::rewrite::start::{Start, check_source, inputs};

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
    /// most, products are summed in another order, or floats have 32 bits or more.
    pub is_exact: bool,
}

impl Rewritten {
    /// Returns whether only a run can show that the model computes equal outputs.
    pub fn must_run(&self) -> bool {
        !self.is_exact
    }

    /// Copies one file's `bytes` with its edits.
    pub fn apply(&self, file: FileId, bytes: &[u8]) -> Result<Vec<u8>> {
        let edits = self.edits.iter().filter(|edit| edit.file == file);
        Ok(onnxseal_rewrite::apply(bytes, edits)?)
    }
}

/// The transform of an image's blocks.
struct Work<'k> {
    spec: &'k Spec,
    map: &'k BlockMap,
}

/// Returns the edits that make a model take images made with `key` at its input `input`, or at the
/// only one that takes images.
pub fn rewrite(source: &Source<'_>, key: &InputKey, input: Option<&str>) -> Result<Rewritten> {
    check_affine(key)?;
    let work = Work {
        spec: key.spec(),
        map: key.map()?,
    };
    work.run(source, input)
}

/// Returns the edits that make a model rewritten for `old` take images made with `new` instead.
pub fn rekey(
    source: &Source<'_>,
    old: &InputKey,
    new: &InputKey,
    input: Option<&str>,
) -> Result<Rewritten> {
    check_affine(old)?;
    check_affine(new)?;
    let like = |spec: &Spec| {
        let mut spec = spec.clone();
        spec.transforms.clear();
        spec
    };
    let map = BlockMap::between(old.map()?, new.map()?);
    let (Some(map), true) = (map, like(old.spec()) == like(new.spec())) else {
        return Err(Error::Usage(
            "the keys differ in more than their seed: block, channels, layout, order, range and normalisation are the same, and both or neither are orthogonal".into(),
        ));
    };
    let work = Work {
        spec: new.spec(),
        map: &map,
    };
    work.run(source, input)
}

fn check_affine(key: &InputKey) -> Result<()> {
    if key.spec().has(Transform::Ffx) {
        Err(Error::Usage(
            "the key has ffx, which no rewriting follows: it is for models that are trained with it".into(),
        ))
    } else {
        Ok(())
    }
}

impl Work<'_> {
    /// Returns whether the transform is the identity.
    fn changes_nothing(&self) -> bool {
        let BlockMap::Signed { places, negated } = self.map else {
            return false;
        };
        let stay = places.iter().zip(0..).all(|(from, t)| *from == t);
        stay && !negated.contains(&true)
    }

    fn run(&self, source: &Source<'_>, input: Option<&str>) -> Result<Rewritten> {
        check_source(source)?;
        if self.changes_nothing() {
            let text = "the key leaves images as they are: so small a block has few keys, so make one with larger blocks";
            return Err(Error::Usage(text.into()));
        }
        let graph = Graph::new(*source);
        let mut inputs = inputs(source, &graph)?;
        if let Some(name) = input {
            inputs.retain(|input| input.name == name);
        }
        let mut done = Vec::new();
        let mut refused = Vec::new();
        for input in &inputs {
            match self.input(&graph, input) {
                Ok(rewritten) => done.push(rewritten),
                Err(Error::Refused(refusal)) => refused.push(refusal),
                Err(error) => return Err(error),
            }
        }
        match (done.pop(), done.pop()) {
            (Some(one), None) => Ok(one),
            (Some(a), Some(b)) => Err(Error::Usage(format!(
                "both inputs {:?} and {:?} can be rewritten: one has to be named",
                b.input, a.input
            ))),
            (None, _) => match (refused.pop(), input) {
                (Some(refusal), _) if refused.is_empty() => Err(Error::Refused(refusal)),
                (Some(refusal), _) => {
                    // The refusal of an input with the shape of an image tells more than another's.
                    let of_node = refused.into_iter().chain([refusal]);
                    let best = of_node.max_by_key(|refusal| refusal.node.is_some());
                    best.map_or_else(
                        || Err(Refusal::new("the model has no input").into()),
                        |best| Err(Error::Refused(best)),
                    )
                }
                (None, Some(name)) => Err(Error::Usage(format!(
                    "the model has no input {:?}",
                    onnxseal_onnx::excerpt(name)
                ))),
                (None, None) => Err(Refusal::new("the model has no input").into()),
            },
        }
    }

    fn input(&self, graph: &Graph<'_>, input: &InputType<'_>) -> Result<Rewritten> {
        let spec = self.spec;
        let start = Start::new(input, spec.layout, spec.channels, Some(spec))?;
        let (sum, range, size) = (start.sum, start.range, start.size());
        let is_integer = start.value.is_integer;
        let block = u64::from(spec.block);
        for (what, side) in [("rows", size.0), ("columns", size.1)] {
            if let Some(side) = side.filter(|side| !side.is_multiple_of(block)) {
                let name = onnxseal_onnx::excerpt(input.name);
                let reason =
                    format!("input {name:?} has {side} {what}, which {block} does not divide");
                return Err(Refusal::new(reason).into());
            }
        }
        if is_integer && spec.has(Transform::Orthogonal) {
            let name = onnxseal_onnx::excerpt(input.name);
            let reason = format!("input {name:?} takes integers, and the key's matrix gives none");
            return Err(Refusal::new(reason)
                .advise("make a key with `shuffle` and `negative`")
                .into());
        }
        let consumers = front::follow(graph, input.name, start.value)?;
        let task = Task {
            map: self.map,
            block,
            sum,
            range,
        };
        let mut changes = Changes::default();
        let mut is_exact = true;
        for consumer in &consumers {
            let node = graph.node(consumer.node)?;
            let at = |error: Error| match error {
                Error::Refused(refusal) => Error::from(refusal.at(node)),
                error => error,
            };
            check_block(consumer, block).map_err(|refusal| at(refusal.into()))?;
            is_exact &= solve(graph, consumer, &task, &mut changes).map_err(at)?;
        }
        Ok(Rewritten {
            tensors: std::mem::take(&mut changes.tensors),
            edits: changes.edits(graph)?,
            input: input.name.to_owned(),
            is_exact,
        })
    }
}
