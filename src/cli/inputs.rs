//! The command line of `onnxseal inputs`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use onnxseal_inputs::{Layout, Normalisation, Order, Spec, Transform};

use crate::keys::RecipientArgs;

#[derive(Debug, Subcommand)]
pub enum Inputs {
    Keygen(Keygen),
}

/// Make an input key: what images are transformed with, and models rewritten for
///
/// The key is a text. With a recipient or a passphrase, it is encrypted with age.
#[derive(Debug, Args)]
pub struct Keygen {
    /// File to write the key to; only you can read it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// What to do with images: shuffle, negative, ffx, blocks, orthogonal; several with commas
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = transform, default_value = "shuffle,negative")]
    pub transform: Vec<Transform>,

    /// Rows and columns of a block, in pixels: the model's patch size, or a number that divides it
    #[arg(long, value_name = "PIXELS")]
    pub block: u32,

    /// Channels of the images
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub channels: u32,

    /// What pixels range over where they are floats, before --mean and --std
    #[arg(
        long,
        value_name = "LOW..HIGH",
        default_value = "0..255",
        value_parser = range,
        allow_hyphen_values = true
    )]
    pub range: (f64, f64),

    /// Order of the axes of arrays that the model takes
    #[arg(long, value_name = "ORDER", default_value = "nchw")]
    pub layout: Axes,

    /// The model takes channels as blue, green, red
    #[arg(long)]
    pub bgr: bool,

    /// The application subtracts this from keyed images, in units of --range: one number, or one for each
    /// channel. Leave it out if the model normalises in its graph
    #[arg(
        long,
        value_name = "X,...",
        value_delimiter = ',',
        allow_negative_numbers = true,
        requires = "std"
    )]
    pub mean: Vec<f64>,

    /// The application then divides by this: one number, or one for each channel
    #[arg(long, value_name = "X,...", value_delimiter = ',', requires = "mean")]
    pub std: Vec<f64>,

    #[command(flatten)]
    pub recipients: RecipientArgs,
}

impl Keygen {
    /// What the key is for.
    pub fn spec(&self) -> Spec {
        let normalisation = (!self.std.is_empty()).then(|| Normalisation {
            mean: self.mean.clone(),
            std: self.std.clone(),
        });
        let mut transforms = self.transform.clone();
        // Their order is fixed, so any order will do here.
        transforms.sort();
        Spec {
            transforms,
            block: self.block,
            channels: self.channels,
            layout: match self.layout {
                Axes::Nchw => Layout::Nchw,
                Axes::Nhwc => Layout::Nhwc,
            },
            order: match self.bgr {
                true => Order::Bgr,
                false => Order::Rgb,
            },
            range: self.range,
            normalisation,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Axes {
    /// Channels, rows, columns
    Nchw,
    /// Rows, columns, channels
    Nhwc,
}

fn transform(name: &str) -> Result<Transform, String> {
    let known = Transform::ALL.into_iter().find(|t| t.name() == name);
    known.ok_or_else(|| "it is none of shuffle, negative, ffx, blocks, orthogonal".to_owned())
}

fn range(text: &str) -> Result<(f64, f64), String> {
    let number = |text: &str| text.parse::<f64>().ok();
    text.split_once("..")
        .and_then(|(low, high)| Some((number(low)?, number(high)?)))
        .ok_or_else(|| "expected LOW..HIGH, such as 0..255 or -1..1".to_owned())
}
