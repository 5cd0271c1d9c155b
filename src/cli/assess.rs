//! The command line of `onnxseal assess` and `onnxseal rank`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use onnxseal_assess::{CommandMetric, Options};
use onnxseal_core::{Location, Preset};
use onnxseal_data::{DataOptions, Layout, Resize};

use super::shared::{Out, location, out};
use crate::exit::usage;
use crate::signing::OpeningArgs;

/// Attack a model, to see what an attacker gets from its protected form
///
/// The attacker has the protected model, knows every encrypted position, and has some samples. The
/// command compares each attack with its floor, which is what the attacker gets without any weight
/// of the model. A candidate *leaks* if an attack comes more than 5 points above its floor, and
/// *holds* if none does. docs/ASSESS.md says when the command *cannot tell*, and what the attacks
/// are. It needs ONNX Runtime's library.
///
/// Without --preset and --policy, the command compares all presets of an unprotected model, and
/// assesses the present protection of a protected one.
#[derive(Debug, Args)]
pub struct Assess {
    /// The model. A protected one needs an identity
    #[arg(value_parser = location())]
    pub model: Location,

    #[command(flatten)]
    pub opening: OpeningArgs,

    #[command(flatten)]
    pub data: DataArgs,

    /// Built-in policy to assess: balanced, strong, full; may be given several times
    #[arg(long = "preset", value_name = "NAME")]
    pub presets: Vec<Preset>,

    /// Policy file (TOML) to assess; may be given several times
    #[arg(long = "policy", value_name = "FILE")]
    pub policies: Vec<PathBuf>,

    /// Ranking file of this model, which `onnxseal rank` wrote: each preset and policy then takes
    /// the weights with the highest scores
    #[arg(long, value_name = "FILE")]
    pub ranking: Option<PathBuf>,

    /// Public model that this one was fine-tuned from; attackers have it
    #[arg(long, value_name = "MODEL", value_parser = location())]
    pub base: Option<Location>,

    /// The model was trained from scratch, without a public model
    #[arg(long, conflicts_with = "base")]
    pub no_public_base: bool,

    /// How many labelled samples attackers have
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "100,1000"
    )]
    pub attacker_samples: Vec<usize>,

    #[command(flatten)]
    pub metric: MetricArgs,

    /// Fail (6) unless every preset and policy that you named holds; if you named none, unless the
    /// default preset holds; for a protected model, also unless it holds as it is. *Cannot tell* is
    /// a failure too. Needs --base or --no-public-base
    #[arg(long)]
    pub require_holds: bool,

    /// Write a report to this file, as one HTML page
    #[arg(long, value_name = "FILE", value_parser = out())]
    pub report: Option<Out<PathBuf>>,

    /// Replace the file of --report if it exists
    #[arg(short, long)]
    pub force: bool,

    /// Print the assessment as JSON
    #[arg(long)]
    pub json: bool,
}

/// Score a model's weights by how much it would miss them, for --ranking
///
/// A policy then takes the weights with the highest scores. A ranking serves all models whose
/// weights have the same names, types and shapes. The command runs the model, and needs
/// ONNX Runtime's library. Ctrl-C keeps the scores so far.
#[derive(Debug, Args)]
pub struct Rank {
    /// The model. A protected one needs an identity
    #[arg(value_parser = location())]
    pub model: Location,

    #[command(flatten)]
    pub opening: OpeningArgs,

    /// How to score
    #[arg(long, value_name = "METHOD")]
    pub method: RankMethod,

    /// File to write the ranking to
    #[arg(short, long, value_name = "FILE", value_parser = out())]
    pub output: Out<PathBuf>,

    /// Number of random masks for --method probabilistic
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub masks: usize,

    #[command(flatten)]
    pub data: DataArgs,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RankMethod {
    /// The squares of the weights, times the squares of their inputs, from one run over the data
    Activation,
    /// How much random masks spoil the answers, from many runs over the data
    Probabilistic,
}

#[derive(Debug, Args)]
pub struct MetricArgs {
    /// Measure by this program instead: it gets the path of an .npz file with `outputs`,
    /// `original`, `rows` and perhaps `labels`, and prints a number, higher for better answers. Its
    /// arguments are split at spaces
    #[arg(long, value_name = "COMMAND")]
    pub metric_command: Option<String>,
}

impl MetricArgs {
    pub fn read(&self) -> anyhow::Result<Option<CommandMetric>> {
        let Some(command) = &self.metric_command else {
            return Ok(None);
        };
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        match command.is_empty() {
            true => Err(usage("--metric-command names no program")),
            false => Ok(Some(CommandMetric { command })),
        }
    }
}

#[derive(Debug, Args)]
pub struct DataArgs {
    /// Samples: .npz, .npy, .csv, IDX (gzipped or not), CIFAR's .bin, or a folder with a folder of
    /// PNG and JPEG images for each class. Without data, inputs are random numbers, which prove
    /// little
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,

    /// File of labels, if they are not in the data: .npy, .npz, .csv, IDX
    #[arg(long, value_name = "FILE", requires = "data")]
    pub labels: Option<PathBuf>,

    /// Take the first column of a CSV file as the label, instead of the column named label
    #[arg(long, requires = "data")]
    pub label_first: bool,

    /// Take at most N samples, drawn by the seed
    #[arg(long, value_name = "N", requires = "data")]
    pub limit: Option<usize>,

    /// Divide values by this, before --mean and --std [default: 1]
    #[arg(long, value_name = "X")]
    pub scale: Option<f64>,

    /// Then subtract this: one number, or one for each channel
    #[arg(
        long,
        value_name = "X,...",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub mean: Vec<f64>,

    /// Then divide by this: one number, or one for each channel
    #[arg(long, value_name = "X,...", value_delimiter = ',')]
    pub std: Vec<f64>,

    /// Order of the axes of images for the model [default: from its input's shape]
    #[arg(long, value_name = "ORDER")]
    pub layout: Option<Axes>,

    /// The model takes channels as blue, green, red
    #[arg(long)]
    pub bgr: bool,

    /// Resize images to WIDTHxHEIGHT, or to N for the shorter side
    #[arg(long, value_name = "SIZE", value_parser = resize)]
    pub resize: Option<Resize>,

    /// Then cut out the middle: WIDTHxHEIGHT, or N for a square
    #[arg(long, value_name = "SIZE", value_parser = crop)]
    pub crop: Option<(u32, u32)>,

    /// Output with the model's answer [default: the first with classes, or the first]
    #[arg(long, value_name = "NAME")]
    pub output_name: Option<String>,

    /// Seed of all random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

impl DataArgs {
    pub fn of_assessment(&self) -> Options<'_> {
        let mut options = Options::default();
        options.seed = self.seed;
        options.output.clone_from(&self.output_name);
        options.data = self.options();
        options.is_scaled = self.scale.is_some() || !self.mean.is_empty() || !self.std.is_empty();
        options
    }

    pub fn options(&self) -> DataOptions {
        let mut options = DataOptions::default();
        options.layout = self.layout.map(|axes| match axes {
            Axes::Nchw => Layout::Nchw,
            Axes::Nhwc => Layout::Nhwc,
        });
        options.bgr = self.bgr;
        options.scale = self.scale;
        options.mean.clone_from(&self.mean);
        options.std.clone_from(&self.std);
        options.resize = self.resize;
        options.crop = self.crop;
        options.limit = self.limit;
        options.seed = self.seed;
        options.label_first = self.label_first;
        options
    }
}

/// The order of an image's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Axes {
    /// Channels, rows, columns
    Nchw,
    /// Rows, columns, channels
    Nhwc,
}

fn resize(text: &str) -> Result<Resize, String> {
    if text.contains('x') {
        crop(text).map(|(width, height)| Resize::To(width, height))
    } else {
        side(text).map(Resize::Shorter)
    }
}

fn crop(text: &str) -> Result<(u32, u32), String> {
    match text.split_once('x') {
        Some((width, height)) => Ok((side(width)?, side(height)?)),
        None => side(text).map(|n| (n, n)),
    }
}

fn side(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(n @ 1..=65_536) => Ok(n),
        _ => Err(format!("{text:?} is not a number of pixels")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_images_have_two_sides_or_one() {
        assert_eq!(resize("224x192"), Ok(Resize::To(224, 192)));
        assert_eq!(resize("256"), Ok(Resize::Shorter(256)));
        assert_eq!(crop("224"), Ok((224, 224)));
        for bad in ["", "0", "x", "3x", "-1", "1x2x3", "99999"] {
            assert!(resize(bad).is_err() && crop(bad).is_err(), "{bad}");
        }
    }
}
