//! `onnxseal inputs attack`

use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use onnxseal_assess::{DataOptions, DataSet};
use onnxseal_inputs::attack::{Guess, Pictures, from_checkpoint, from_images, from_pairs};
use onnxseal_inputs::rewrite::Files;
use onnxseal_inputs::{InputKey, Layout, Spec};
use serde_json::json;

use crate::cli::inputs::Attack;
use crate::exit::Usage;
use crate::keys::input_key;
use crate::render;

/// Plain images that an attacker learns from, at most.
const MOST_PUBLIC: usize = 1000;

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
    guess: Guess,
    /// The share of values of the keyed images that come out right, where these are known.
    restored: Option<f64>,
}

/// Attacks, and tells how much of the key was found.
pub fn run(args: &Attack, quiet: bool) -> Result<()> {
    let key = input_key(&args.key, "--key", &args.identities, quiet)?;
    let spec = key.spec();
    let mut rows = Vec::new();
    if let (Some(model), Some(public)) = (&args.model, &args.public) {
        let weights = |location| -> Result<_> { Ok(Files::open(location)?.patch(spec)?) };
        rows.push(Row {
            attack: "from a public model".into(),
            guess: from_checkpoint(&weights(public)?, &weights(model)?)?,
            restored: None,
        });
    }
    if let Some(path) = &args.encrypted {
        let keyed = Images::read(path, spec, args.limit)?;
        let sum = keyed.sum(spec);
        if let Some(path) = &args.pair {
            let plain = Images::read(path, spec, usize::MAX)?.first(keyed.n);
            let guess = from_pairs(&plain.pictures(), &keyed.pictures(), spec.block, sum)?;
            let restored = guess.restored(&plain.pictures(), &keyed.pictures(), spec.block, sum)?;
            rows.push(Row {
                attack: format!("from {} known pairs", keyed.n),
                guess,
                restored: Some(restored),
            });
        }
        if let Some(path) = &args.like {
            let public = Images::read(path, spec, MOST_PUBLIC)?;
            rows.push(Row {
                attack: format!(
                    "from {} keyed images alone, and {} others",
                    keyed.n, public.n
                ),
                guess: from_images(&keyed.pictures(), &public.pictures(), spec.block, sum)?,
                restored: None,
            });
        }
    }
    if rows.is_empty() {
        let text = "say what the attacker has: --like or --pair beside --encrypted, or a rewritten model and --public";
        return Err(Usage(text.into()).into());
    }
    show(&rows, &key, args.json)
}

fn show(rows: &[Row], key: &InputKey, as_json: bool) -> Result<()> {
    let mut all = Vec::new();
    let mut out = std::io::stdout().lock();
    for row in rows {
        let score = row.guess.score(key)?;
        if as_json {
            all.push(json!({
                "attack": row.attack,
                "positions": score.places,
                "positions_within_one_pixel": score.near,
                "negated": score.negated,
                "restored": row.restored,
            }));
            continue;
        }
        writeln!(out, "{}", row.attack)?;
        writeln!(
            out,
            "  positions found {:.1} %, to within one pixel {:.1} %, which are negated {:.1} %",
            100.0 * score.places,
            100.0 * score.near,
            100.0 * score.negated
        )?;
        if let Some(restored) = row.restored {
            writeln!(
                out,
                "  values of these images restored {:.1} %",
                100.0 * restored
            )?;
        }
    }
    match as_json {
        true => render::json(&all),
        false => Ok(()),
    }
}

impl Images {
    /// The images of a data set that have the key's channels.
    fn read(path: &Path, spec: &Spec, limit: usize) -> Result<Images> {
        let options = DataOptions::default();
        let data = DataSet::load(path, None, &options)?;
        let channels = spec.channels as usize;
        let shape = |dims: &[usize]| match (dims, spec.layout) {
            ([c, rows, columns], Layout::Nchw) if *c == channels => Some((*rows, *columns, false)),
            ([rows, columns, c], Layout::Nhwc) if *c == channels => Some((*rows, *columns, true)),
            // What files of images hold, whatever the key's layout.
            ([c, rows, columns], Layout::Nhwc) if *c == channels => Some((*rows, *columns, false)),
            _ => None,
        };
        let found = data
            .arrays
            .iter()
            .find_map(|array| Some((array, shape(&array.dims)?)));
        let Some((array, (rows, columns, is_last))) = found else {
            return Err(Usage(format!(
                "{} has no images of {channels} channels",
                path.display()
            ))
            .into());
        };
        let (n, size) = (data.n, channels * rows * columns);
        let at = |i: usize| {
            let (image, within) = (i / size, i % size);
            let (channel, pixel) = (within / (rows * columns), within % (rows * columns));
            match is_last {
                true => array.values.at(image * size + pixel * channels + channel),
                false => array.values.at(i),
            }
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
