//! The command line of `onnxseal inputs`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use onnxseal_core::Location;
use onnxseal_inputs::{Layout, Normalisation, Order, Spec, Transform};

use super::assess::Axes;
use super::shared::{Out, OutputOptions, location, out, out_model};
use crate::keys::{IdentityArgs, RecipientArgs};

#[derive(Debug, Subcommand)]
pub enum Inputs {
    Keygen(Keygen),
    Inspect(Inspect),
    Rewrite(Rewrite),
    Encrypt(Encrypt),
    Rekey(Rekey),
    Attack(Attack),
}

/// Show whether a model can be rewritten: where, and with which blocks, or why not
#[derive(Debug, Args)]
pub struct Inspect {
    /// The model
    #[arg(value_parser = location())]
    pub model: Location,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Change a trained model so that it takes images made with a key
///
/// The result computes from keyed images what the original computes from plain ones, up to
/// rounding, without data or training. The command runs both on random images with ONNX Runtime's
/// library, and writes nothing if they differ.
#[derive(Debug, Args)]
pub struct Rewrite {
    /// The model
    #[arg(value_parser = location())]
    pub model: Location,

    /// Input key, which `onnxseal inputs keygen` made
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,

    #[command(flatten)]
    pub output: RewriteArgs,
}

/// Change a rewritten model so that it takes images made with another key, without the original
///
/// The model does not show which key it was made for, so a wrong --key gives a model for which no
/// key works. The old model still takes images of the old key, so its users keep access.
#[derive(Debug, Args)]
pub struct Rekey {
    /// The rewritten model
    #[arg(value_parser = location())]
    pub model: Location,

    /// The key for which it was rewritten
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,

    /// The new key, of the same kind
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,

    #[command(flatten)]
    pub output: RewriteArgs,
}

#[derive(Debug, Args)]
pub struct RewriteArgs {
    /// File to write; external data goes beside it
    #[arg(short, long, value_name = "FILE", value_parser = out_model())]
    pub output: Out<Location>,

    /// The input that takes images, if the model has several
    #[arg(long, value_name = "NAME")]
    pub input: Option<String>,

    /// Write without running both models; only if the result is exact by construction
    #[arg(long)]
    pub no_check: bool,

    #[command(flatten)]
    pub identities: IdentityArgs,

    #[command(flatten)]
    pub output_options: OutputOptions,
}

/// Show how much of a key attackers find: from a rewritten model, or from images in both forms
///
/// The attacks do not use --key, which only serves to count how much they found. A model alone can
/// reveal which positions are negated, but not where they come from; guessing gives 50 %.
#[derive(Debug, Args)]
pub struct Attack {
    /// A rewritten model: attack its weights
    #[arg(value_parser = location())]
    pub model: Option<Location>,

    /// Input key that the images or the model were made with
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,

    /// Keyed images: .npz, .npy, IDX, CIFAR's .bin, or a folder of images
    #[arg(
        long,
        value_name = "PATH",
        required_unless_present = "model",
        requires = "pair"
    )]
    pub encrypted: Option<PathBuf>,

    /// The plain images of --encrypted, in this order: attack known pairs
    #[arg(long, value_name = "PATH", requires = "encrypted")]
    pub pair: Option<PathBuf>,

    /// The public model that was rewritten, or from which it was fine-tuned: attack the weights of
    /// both
    #[arg(long, value_name = "MODEL", value_parser = location(), requires = "model")]
    pub public: Option<Location>,

    /// The most keyed images to give the attacker
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub identities: IdentityArgs,
}

/// Make keyed data sets from plain ones, or with --decrypt plain ones from keyed ones
///
/// Sources: .npy, .npz, PNG and JPEG files, and folders of PNG and JPEG files. Names, order and
/// labels stay; images become PNG. A second run skips outputs that exist, whichever key made them.
#[derive(Debug, Args)]
pub struct Encrypt {
    /// Files and folders
    #[arg(value_name = "SOURCE", required = true)]
    pub sources: Vec<PathBuf>,

    /// Input key, which `onnxseal inputs keygen` made
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,

    /// File to write, or folder for a folder or several sources
    #[arg(short, long, value_name = "PATH", value_parser = out())]
    pub output: Out<PathBuf>,

    /// Make plain images from keyed ones
    #[arg(long)]
    pub decrypt: bool,

    /// Arrays of floats are normalised already, with the key's mean and std
    #[arg(long)]
    pub normalised: bool,

    #[command(flatten)]
    pub identities: IdentityArgs,

    #[command(flatten)]
    pub output_options: OutputOptions,
}

const OPENS_KEY: &str = "Who can open the key: an age recipient (age1...) or an ssh public key; may be given several times";
const OPENS_KEY_FILE: &str =
    "File with one recipient per line, - for standard input; may be given several times";
const KEY_COMMENT: &str = "Comment in the encrypted key, such as who has its identities. Anyone who has the file can read it";
const KEY_LIST: &str =
    "List the recipients' public keys in the encrypted key. Anyone who has the file can read them";

/// Make an input key, which transforms images and rewrites models
///
/// The key is a text. With a recipient or a passphrase, it is encrypted with age.
#[derive(Debug, Args)]
#[command(
    mut_arg("recipients", |arg| arg.help(OPENS_KEY)),
    mut_arg("recipients_files", |arg| arg.help(OPENS_KEY_FILE)),
    mut_arg("comment", |arg| arg.help(KEY_COMMENT)),
    mut_arg("list_recipients", |arg| arg.help(KEY_LIST)),
)]
pub struct Keygen {
    /// File to write the key to; only you can read it [default: standard output]
    #[arg(short, long, value_name = "FILE", value_parser = out())]
    pub output: Option<Out<PathBuf>>,

    /// Transforms of images: shuffle, negative, ffx, orthogonal; separate several by commas
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = transform, default_value = "shuffle,negative")]
    pub transform: Vec<Transform>,

    /// Side of a block in pixels: the model's patch size, or a number that divides it
    #[arg(long, value_name = "PIXELS")]
    pub block: u32,

    /// Channels of the images
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub channels: u32,

    /// Range of pixels that are floats, before --mean and --std
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

    /// The application subtracts this from keyed images, in units of --range: one number, or one
    /// for each channel. Leave it out if the model normalises in its graph
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
    pub fn spec(&self) -> Spec {
        let normalisation = (!self.std.is_empty()).then(|| Normalisation {
            mean: self.mean.clone(),
            std: self.std.clone(),
        });
        let mut transforms = self.transform.clone();
        // The library applies transforms in a fixed order, so any order will do here.
        transforms.sort();
        Spec {
            transforms,
            block: self.block,
            channels: self.channels,
            layout: match self.layout {
                Axes::Nchw => Layout::Nchw,
                Axes::Nhwc => Layout::Nhwc,
            },
            order: if self.bgr { Order::Bgr } else { Order::Rgb },
            range: self.range,
            normalisation,
        }
    }
}

fn transform(name: &str) -> Result<Transform, String> {
    Transform::named(name).ok_or_else(|| "expected shuffle, negative, ffx or orthogonal".to_owned())
}

fn range(text: &str) -> Result<(f64, f64), String> {
    let number = |text: &str| text.parse::<f64>().ok();
    text.split_once("..")
        .and_then(|(low, high)| Some((number(low)?, number(high)?)))
        .ok_or_else(|| "expected LOW..HIGH, such as 0..255 or -1..1".to_owned())
}
