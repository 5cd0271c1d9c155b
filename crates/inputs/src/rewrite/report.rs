//! Reports whether and where a model can be rewritten, without a key.

use onnxseal_onnx::detail::InputType;
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_rewrite::{Changes, Error, Graph, Refusal, Result, Source, shown};

use crate::key::{BlockMap, Layout, MAX_BLOCK, MAX_BLOCK_VALUES, MAX_CHANNELS};
use crate::rewrite::consumer::{Consumer, check_block};
use crate::rewrite::solve::{Task, solve};
use crate::rewrite::start::{Start, check_source, inputs};
use crate::rewrite::{at, front, refuse, train};

/// An input, and whether it can be rewritten to take transformed images.
#[derive(Debug)]
pub struct Candidate {
    pub input: String,
    /// The possible keys, or the refusal.
    pub found: std::result::Result<Entry, Refusal>,
}

/// How a model takes images, and which keys fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub data_type: DataType,
    pub layout: Layout,
    pub channels: u32,
    /// Rows and columns, if they are fixed.
    pub size: (Option<u64>, Option<u64>),
    /// The nodes whose weights change: names and operators.
    pub nodes: Vec<String>,
    /// The possible sides of blocks, ascending; never empty.
    pub blocks: Vec<u32>,
    /// The graph's computation on each channel before the weights: `(x - mean) / std`.
    pub statistics: Vec<(f64, f64)>,
    /// Why transforms other than a shuffle are not possible for every key: padding, a missing bias,
    /// a normalisation. `None` if they are possible.
    pub shuffle_alone: Option<Refusal>,
    /// The middle that the range of pixels must have for other transforms to be possible, if that
    /// is a condition.
    pub middle: Option<f64>,
    /// Whether a shuffle is exact by construction, so that no run must confirm it.
    pub is_shuffle_exact: bool,
}

/// Reports on each input of a model that may take images.
pub fn inspect(source: &Source<'_>) -> Result<Vec<Candidate>> {
    check_source(source)?;
    let graph = Graph::new(*source);
    let of_input = |input: InputType<'_>| {
        Ok(Candidate {
            input: input.name.to_owned(),
            found: tried(found(&graph, &input))?,
        })
    };
    inputs(source, &graph)?.into_iter().map(of_input).collect()
}

/// Sets apart the refusal of a model.
fn tried<T>(result: Result<T>) -> Result<std::result::Result<T, Refusal>> {
    match result {
        Ok(found) => Ok(Ok(found)),
        Err(Error::Refused(refusal)) => Ok(Err(*refusal)),
        Err(error) => Err(error),
    }
}

/// Finds the layout and the channels of an input.
fn found(graph: &Graph<'_>, input: &InputType<'_>) -> Result<Entry> {
    let mut first = None;
    for (layout, axis) in [(Layout::Nchw, 1), (Layout::Nhwc, 3)] {
        let stated = input.dims.as_ref().and_then(|dims| *dims.get(axis)?);
        let counts = match stated {
            Some(n) => u32::try_from(n).into_iter().collect(),
            None => vec![3, 1, 4, 2],
        };
        for channels in counts.into_iter().filter(|n| *n <= MAX_CHANNELS) {
            match tried(entry(graph, input, layout, channels))? {
                Ok(entry) => return Ok(entry),
                Err(refusal) => first = first.or(Some(refusal)),
            }
        }
    }
    first.map_or_else(
        || train("it has no axis of channels"),
        |refusal| Err(refusal.into()),
    )
}

fn entry(graph: &Graph<'_>, input: &InputType<'_>, layout: Layout, channels: u32) -> Result<Entry> {
    let start = Start::new(input, layout, channels, None)?;
    let (size, range) = (start.size(), start.range);
    let is_integer = start.value.is_integer;
    let consumers = front::follow(graph, input.name, start.value)?;
    let Some(first) = consumers.first() else {
        return refuse("nothing reads the image");
    };
    let blocks = blocks(&consumers, size, channels);
    let Some(&largest) = blocks.last() else {
        let none = "no blocks of more than one value divide its window, stride and padding";
        return train(none).map_err(at(graph.node(first.node)?));
    };
    let n = largest * largest * channels;
    // The smallest shuffle, of two values of different channels, shows the faults of every shuffle.
    let try_map = |negated: bool, sum: f64| {
        let mut places: Vec<u32> = (0..n).collect();
        places.rotate_left(1);
        let map = BlockMap::Signed {
            places,
            negated: (0..n).map(|t| negated && t % 2 == 0).collect(),
        };
        let task = Task {
            map: &map,
            block: u64::from(largest),
            sum,
            range,
        };
        solve(graph, &consumers, &task, &mut Changes::default())
    };
    let is_shuffle_exact = try_map(false, range.0 + range.1)?;
    let mut shuffle_alone = tried(try_map(true, range.0 + range.1))?.err();
    let statistics = first.value.statistics();
    // If only a range will do whose middle becomes zero.
    let mut middle = None;
    if let (Some((mean, _)), true, false) =
        (statistics.first(), shuffle_alone.is_some(), is_integer)
        && tried(try_map(true, 2.0 * mean))?.is_ok()
    {
        (middle, shuffle_alone) = (Some(*mean), None);
    }
    let name = |consumer: &Consumer| Ok(shown(graph.node(consumer.node)?));
    Ok(Entry {
        data_type: input.data_type.unwrap_or(DataType::Undefined),
        layout,
        channels,
        size,
        nodes: consumers.iter().map(name).collect::<Result<_>>()?,
        blocks,
        statistics,
        shuffle_alone,
        middle,
        is_shuffle_exact,
    })
}

/// Returns the possible sides of blocks.
fn blocks(consumers: &[Consumer], size: (Option<u64>, Option<u64>), channels: u32) -> Vec<u32> {
    let is_possible = |block: &u32| {
        let values = (block * block).checked_mul(channels);
        let block = u64::from(*block);
        let mut sides = [size.0, size.1].into_iter().flatten();
        values.is_some_and(|n| (2..=MAX_BLOCK_VALUES).contains(&n))
            && sides.all(|side| side.is_multiple_of(block))
            && consumers.iter().all(|c| check_block(c, block).is_ok())
    };
    (1..=MAX_BLOCK).filter(is_possible).collect()
}
