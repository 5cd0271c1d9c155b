//! Reports whether and where a model can be rewritten, without a key.

use onnxseal_onnx::proto::tensor_proto::DataType;

use crate::error::{Error, Result};
use crate::key::{BlockMap, Layout, MAX_BLOCK, MAX_BLOCK_VALUES, MAX_CHANNELS};
use crate::rewrite::TRAIN;
use crate::rewrite::consumer::check_block;
use crate::rewrite::front;
use crate::rewrite::solve::{Task, solve};
use crate::rewrite::start::{Start, check_source, inputs};
use onnxseal_rewrite::Changes;
use onnxseal_rewrite::{Graph, Source};
use onnxseal_rewrite::{Refusal, shown};

/// An input, and whether it can be rewritten to take transformed images.
#[derive(Debug)]
pub struct Candidate {
    /// Its name.
    pub input: String,
    /// The possible keys, or the refusal.
    pub found: std::result::Result<Entry, Refusal>,
}

/// How a model takes images, and which keys fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Element type of the input.
    pub data_type: DataType,
    /// The order of its axes.
    pub layout: Layout,
    /// Channels.
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
    let mut candidates = Vec::new();
    for input in inputs(source, &graph)? {
        let mut refusal: Option<Refusal> = None;
        let mut found = None;
        'all: for layout in [Layout::Nchw, Layout::Nhwc] {
            let place = match layout {
                Layout::Nchw => 1,
                Layout::Nhwc => 3,
            };
            let stated = input.dims.as_ref().and_then(|dims| *dims.get(place)?);
            let counts: Vec<u32> = match stated {
                Some(n) => u32::try_from(n)
                    .into_iter()
                    .filter(|n| *n <= MAX_CHANNELS)
                    .collect(),
                None => vec![3, 1, 4, 2],
            };
            for channels in counts {
                let start = Start::new(&input, layout, channels, None);
                let entry = start
                    .map_err(Error::from)
                    .and_then(|start| entry(&graph, input.name, layout, channels, start));
                match entry {
                    Ok(mut entry) => {
                        entry.data_type = input.data_type.unwrap_or(DataType::Undefined);
                        found = Some(entry);
                        break 'all;
                    }
                    Err(Error::Refused(why)) => {
                        refusal.get_or_insert(*why);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let none = || Refusal::new("it has no axis of channels").advise(TRAIN);
        candidates.push(Candidate {
            input: input.name.to_owned(),
            found: found.ok_or_else(|| refusal.unwrap_or_else(none)),
        });
    }
    Ok(candidates)
}

fn entry(
    graph: &Graph<'_>,
    input: &str,
    layout: Layout,
    channels: u32,
    start: Start,
) -> Result<Entry> {
    let (size, sum, range) = (start.size(), start.sum, start.range);
    let is_integer = start.value.is_integer;
    let consumers = front::follow(graph, input, start.value)?;
    let possible = |block: u32| {
        let values = block
            .checked_mul(block)
            .and_then(|n| n.checked_mul(channels));
        let sides = [size.0, size.1].into_iter().flatten();
        values.is_some_and(|n| (2..=MAX_BLOCK_VALUES).contains(&n))
            && sides
                .into_iter()
                .all(|side| side.is_multiple_of(u64::from(block)))
            && consumers
                .iter()
                .all(|c| check_block(c, u64::from(block)).is_ok())
    };
    let blocks: Vec<u32> = (1..=MAX_BLOCK).filter(|block| possible(*block)).collect();
    let mut nodes = Vec::new();
    for consumer in &consumers {
        nodes.push(shown(graph.node(consumer.node)?));
    }
    let Some(&largest) = blocks.last() else {
        let first = consumers
            .first()
            .ok_or_else(|| Refusal::new("nothing reads the image"))?;
        let refusal =
            Refusal::new("no blocks of more than one value divide its window, stride and padding");
        return Err(refusal.at(graph.node(first.node)?).advise(TRAIN).into());
    };
    let first = consumers.first();
    let statistics = first.map(|consumer| {
        let value = &consumer.value;
        let pairs = value.gain.iter().zip(&value.shift);
        pairs
            .map(|(gain, shift)| (-shift / gain, 1.0 / gain))
            .collect()
    });
    let n = u64::from(largest) * u64::from(largest) * u64::from(channels);
    // The smallest shuffle, of two values of different channels, shows the faults of every shuffle.
    let try_map = |negated: bool, sum: f64| -> Result<(Option<Refusal>, bool)> {
        let mut places: Vec<u32> = (0..n as u32).collect();
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
        let mut is_exact = true;
        for consumer in &consumers {
            let node = graph.node(consumer.node)?;
            match solve(graph, consumer, &task, &mut Changes::default()) {
                Ok(exact) => is_exact &= exact,
                Err(Error::Refused(refusal)) => return Ok((Some(refusal.at(node)), false)),
                Err(error) => return Err(error),
            }
        }
        Ok((None, is_exact))
    };
    let (refused, is_shuffle_exact) = try_map(false, sum)?;
    if let Some(refused) = refused {
        return Err(refused.into());
    }
    let (mut shuffle_alone, _) = try_map(true, sum)?;
    let mut middle = None;
    // If only a range will do whose middle becomes zero.
    let mean = first.and_then(|consumer| {
        let value = &consumer.value;
        Some(-value.shift.first()? / value.gain.first()?)
    });
    if let (Some(mean), true, false) = (mean, shuffle_alone.is_some(), is_integer)
        && let (None, _) = try_map(true, 2.0 * mean)?
    {
        middle = Some(mean);
        shuffle_alone = None;
    }
    Ok(Entry {
        data_type: DataType::Undefined,
        layout,
        channels,
        size,
        nodes,
        blocks,
        statistics: statistics.unwrap_or_default(),
        shuffle_alone,
        middle,
        is_shuffle_exact,
    })
}
