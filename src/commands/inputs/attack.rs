//! `onnxseal inputs attack`

use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use onnxseal_core::Location;
use onnxseal_data::{Array, DataOptions, DataSet, Layout as FileLayout};
use onnxseal_inputs::attack::{
    Guess, Halves, Pictures, from_checkpoint, from_images, from_pairs, from_weights,
};
use onnxseal_inputs::rewrite::Files;
use onnxseal_inputs::{InputKey, Layout, Order, Spec};
use serde_json::{Value, json};

use crate::cli::inputs::Attack;
use crate::exit::Usage;
use crate::keys::input_key;
use crate::render;
use crate::text::{count, note};

/// Plain images that an attacker learns from, at most.
const MOST_PUBLIC: usize = 1000;

/// Of true pairs at least this share of values is restored.
const LIKELY_PAIRS: f64 = 0.5;

/// Images that an attack looks at, channels first.
struct Images {
    values: Vec<f64>,
    n: usize,
    channels: usize,
    rows: usize,
    columns: usize,
}

/// What one attack got.
struct Row {
    attack: String,
    found: Found,
    /// The share of values of the keyed images that come out right, where these are known.
    restored: Option<f64>,
}

/// What an attacker takes for the key, or for a part of it.
enum Found {
    Key(Guess),
    Mask(Halves),
}

/// Attacks, and tells how much of the key was found.
pub fn run(args: &Attack, quiet: bool) -> Result<()> {
    let key = input_key(&args.key, "--key", &args.identities, quiet)?;
    let spec = key.spec();
    let mut rows = Vec::new();
    if let Some(model) = &args.model {
        rows.extend(of_model(model, args.public.as_ref(), spec)?);
    }
    if let Some(path) = &args.encrypted {
        let keyed = Images::read(path, spec, args.limit)?;
        let sum = keyed.sum(spec);
        if let Some(path) = &args.pair {
            let plain = Images::read(path, spec, usize::MAX)?.first(keyed.n);
            let guess = from_pairs(&plain.pictures(), &keyed.pictures(), spec.block, sum)?;
            let restored = guess.restored(&plain.pictures(), &keyed.pictures(), spec.block, sum)?;
            if restored < LIKELY_PAIRS && !quiet {
                note(&format!(
                    "warning: the key that fits best restores {:.0} % of the values only: do plain and keyed images come in the same order?",
                    100.0 * restored
                ));
            }
            rows.push(Row {
                attack: format!("from {}", count(keyed.n as u64, "known pair")),
                found: Found::Key(guess),
                restored: Some(restored),
            });
        }
        if let Some(path) = &args.like {
            let public = Images::read(path, spec, MOST_PUBLIC)?;
            let guess = from_images(&keyed.pictures(), &public.pictures(), spec.block, sum)?;
            rows.push(Row {
                attack: format!(
                    "from {} alone, and {} of the same kind",
                    count(keyed.n as u64, "keyed image"),
                    count(public.n as u64, "plain one")
                ),
                found: Found::Key(guess),
                restored: None,
            });
        }
    }
    if rows.is_empty() {
        let text =
            "say what the attacker has: --like or --pair beside --encrypted, or a rewritten model";
        return Err(Usage(text.into()).into());
    }
    show(&rows, &key, args.json)
}

/// What the weights of a rewritten model give, and those of the public one beside them.
fn of_model(model: &Location, public: Option<&Location>, spec: &Spec) -> Result<Vec<Row>> {
    let weights = |location| -> Result<_> { Ok(Files::open(location)?.patch(spec)?) };
    let row = |attack: &str, found| Row {
        attack: attack.to_owned(),
        found,
        restored: None,
    };
    let rewritten = weights(model)?;
    let mut rows = vec![row(
        "from the rewritten model alone",
        Found::Mask(from_weights(&rewritten)?),
    )];
    if let Some(public) = public {
        let guess = from_checkpoint(&weights(public)?, &rewritten)?;
        rows.push(row("from a public model", Found::Key(guess)));
    }
    Ok(rows)
}

fn show(rows: &[Row], key: &InputKey, as_json: bool) -> Result<()> {
    if as_json {
        let rows = rows.iter().map(|row| row.as_json(key));
        return render::json(&rows.collect::<Result<Vec<_>>>()?);
    }
    let mut out = std::io::stdout().lock();
    for row in rows {
        writeln!(out, "{}\n  {}", row.attack, row.found.told(key)?)?;
        if let Some(restored) = row.restored {
            let percent = 100.0 * restored;
            writeln!(out, "  values of these images restored {percent:.1} %")?;
        }
    }
    Ok(())
}

impl Row {
    fn as_json(&self, key: &InputKey) -> Result<Value> {
        let (positions, near, negated) = match &self.found {
            Found::Key(guess) => {
                let score = guess.score(key)?;
                (Some(score.places), Some(score.near), score.negated)
            }
            Found::Mask(halves) => (None, None, halves.score(key)?),
        };
        Ok(json!({
            "attack": self.attack,
            "positions": positions,
            "positions_within_one_pixel": near,
            "negated": negated,
            "restored": self.restored,
        }))
    }
}

impl Found {
    fn told(&self, key: &InputKey) -> Result<String> {
        Ok(match self {
            Found::Key(guess) => {
                let score = guess.score(key)?;
                format!(
                    "positions found {:.1} %, to within one pixel {:.1} %, which are negated {:.1} %",
                    100.0 * score.places,
                    100.0 * score.near,
                    100.0 * score.negated
                )
            }
            Found::Mask(halves) => format!(
                "which positions are negated {:.1} %, or all others: the answers to a few images tell; guessing gives 50 %",
                100.0 * halves.score(key)?
            ),
        })
    }
}

/// How an array has images.
struct Shape {
    rows: usize,
    columns: usize,
    /// Whether channels are the last axis.
    is_last: bool,
    /// Whether channels come as red, green, blue, and the key is for blue, green, red.
    is_reversed: bool,
}

impl Shape {
    /// That of an array that has the key's channels. Files of images say their layout; others have the key's.
    fn of(array: &Array, spec: &Spec) -> Option<Shape> {
        let of_file = array.layout.map(|layout| layout == FileLayout::Nhwc);
        let is_last = of_file.unwrap_or(spec.layout == Layout::Nhwc);
        let (channels, rows, columns) = match (&array.dims[..], is_last) {
            ([rows, columns], _) => (1, *rows, *columns),
            ([channels, rows, columns], false) | ([rows, columns, channels], true) => {
                (*channels, *rows, *columns)
            }
            _ => return None,
        };
        (channels == spec.channels as usize).then_some(Shape {
            rows,
            columns,
            is_last,
            is_reversed: of_file.is_some() && spec.order == Order::Bgr,
        })
    }
}

impl Images {
    /// The images of a data set that have the key's channels.
    fn read(path: &Path, spec: &Spec, limit: usize) -> Result<Images> {
        let mut options = DataOptions::default();
        options.unlabelled = true;
        let data = DataSet::load(path, None, &options)?;
        let channels = spec.channels as usize;
        let shaped = |array| Shape::of(array, spec).map(|shape| (array, shape));
        let Some((array, shape)) = data.arrays.iter().find_map(shaped) else {
            return Err(Usage(format!(
                "{} has no images of {}: give data that the key is for",
                path.display(),
                count(channels as u64, "channel")
            ))
            .into());
        };
        let Shape { rows, columns, .. } = shape;
        let (n, size) = (data.n, channels * rows * columns);
        let at = |i: usize| {
            let (image, within) = (i / size, i % size);
            let (channel, pixel) = (within / (rows * columns), within % (rows * columns));
            let channel = match shape.is_reversed {
                true => channels - 1 - channel,
                false => channel,
            };
            let at = match shape.is_last {
                true => pixel * channels + channel,
                false => channel * rows * columns + pixel,
            };
            array.values.at(image * size + at)
        };
        Ok(Images {
            values: (0..n * size).map(at).collect(),
            n,
            channels,
            rows,
            columns,
        }
        .first(limit))
    }

    fn first(mut self, n: usize) -> Images {
        self.n = self.n.min(n);
        self.values
            .truncate(self.n * self.channels * self.rows * self.columns);
        self
    }

    fn pictures(&self) -> Pictures<'_> {
        Pictures {
            values: &self.values,
            n: self.n,
            channels: self.channels,
            rows: self.rows,
            columns: self.columns,
        }
    }

    /// What a value and its negative add up to: integers of 8 bits, or floats in the key's range.
    fn sum(&self, spec: &Spec) -> f64 {
        let most = self.values.iter().copied().fold(f64::MIN, f64::max);
        match most > spec.range.1 {
            true => 255.0,
            false => spec.sum(),
        }
    }
}
