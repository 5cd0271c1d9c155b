//! The public parameters of a key.

use serde::Deserialize;

/// The largest side of a block, in pixels.
pub const MAX_BLOCK: u32 = 64;
pub const MAX_CHANNELS: u32 = 64;
pub const MAX_BLOCK_VALUES: u32 = 1 << 16;
/// The most values of a block that an orthogonal matrix transforms.
pub const MAX_ORTHOGONAL: u32 = 1024;

/// One step of a key's transform of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transform {
    /// The values of each block change places with each other.
    Shuffle,
    /// Half of the places are negated within the range: `S - x`, where S is the range's low end
    /// plus its high end.
    Negative,
    /// At half of the places, numbers of three digits stand for the pixels 0 to 255
    /// (format-preserving encryption, arXiv 2105.14756). Only for models that are trained with it.
    Ffx,
    /// Each block is multiplied by an orthogonal matrix. Only for floats.
    Orthogonal,
}

impl Transform {
    /// All transforms, in the order in which they are applied.
    pub const ALL: [Transform; 4] = [
        Transform::Shuffle,
        Transform::Negative,
        Transform::Ffx,
        Transform::Orthogonal,
    ];

    pub fn named(name: &str) -> Option<Transform> {
        Transform::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Returns its name in key files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Transform::Shuffle => "shuffle",
            Transform::Negative => "negative",
            Transform::Ffx => "ffx",
            Transform::Orthogonal => "orthogonal",
        }
    }
}

/// The order of an array's axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    #[default]
    Nchw,
    Nhwc,
}

/// The order of the channels that a model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Red, green, blue, as in image files.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// The public parameters of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The transforms, in order, each at most once.
    pub transforms: Vec<Transform>,
    /// Rows and columns of a block, in pixels.
    pub block: u32,
    pub channels: u32,
    pub layout: Layout,
    /// The order of channels, if there are three.
    pub order: Order,
    /// The least and the greatest value of a pixel, for floats.
    pub range: (f64, f64),
    /// The application's normalisation of keyed images, if any.
    pub normalisation: Option<Normalisation>,
}

/// `(x - mean) / std`, with one number for all channels or one for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation {
    /// The numbers to subtract, in units of the range.
    pub mean: Vec<f64>,
    pub std: Vec<f64>,
}

impl Spec {
    /// Returns the values of a block: `block * block * channels`.
    pub fn block_values(&self) -> usize {
        (self.block * self.block * self.channels) as usize
    }

    pub fn has(&self, transform: Transform) -> bool {
        self.transforms.contains(&transform)
    }

    /// Returns the sum of a value and its negative: the greatest and the least value of a pixel,
    /// added.
    pub fn sum(&self) -> f64 {
        self.range.0 + self.range.1
    }

    /// Returns the mean and deviation of each channel by which the application normalises.
    pub fn statistics(&self) -> Vec<(f64, f64)> {
        let of = |numbers: &[f64], c: usize| *numbers.get(c).or(numbers.first()).unwrap_or(&0.0);
        let channel = |c| match &self.normalisation {
            Some(Normalisation { mean, std }) => (of(mean, c), of(std, c)),
            None => (0.0, 1.0),
        };
        (0..self.channels as usize).map(channel).collect()
    }

    /// Returns the number of possible keys as a power of two, at most the seed's 256 bits.
    pub fn key_bits(&self) -> f64 {
        let n = self.block_values();
        let log2_factorial = |n: usize| (2..=n).map(|k| (k as f64).log2()).sum::<f64>();
        let mut bits = 0.0;
        if self.has(Transform::Shuffle) {
            bits += log2_factorial(n);
        }
        if self.has(Transform::Negative) || self.has(Transform::Ffx) {
            bits += log2_factorial(n) - log2_factorial(n / 2) - log2_factorial(n - n / 2);
        }
        if self.has(Transform::Orthogonal) || self.has(Transform::Ffx) {
            bits = 256.0;
        }
        bits.min(256.0)
    }

    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let Spec {
            transforms,
            block,
            channels,
            layout: _,
            order,
            range: (low, high),
            normalisation,
        } = self;
        if transforms.is_empty() {
            return Err("there is no transform".into());
        }
        if !transforms.is_sorted_by(|a, b| a < b) {
            let rule = "transforms are in the order shuffle, negative or ffx, orthogonal, each at most once";
            return Err(rule.into());
        }
        let both = |a, b| self.has(a) && self.has(b);
        if both(Transform::Negative, Transform::Ffx) {
            return Err("negative and ffx exclude each other".into());
        }
        if self.has(Transform::Orthogonal) && transforms.len() > 1 {
            return Err("orthogonal goes with no other transform".into());
        }
        if !(1..=MAX_BLOCK).contains(block) {
            return Err(format!("a block has 1 to {MAX_BLOCK} rows, not {block}"));
        }
        if !(1..=MAX_CHANNELS).contains(channels) {
            return Err(format!(
                "images have 1 to {MAX_CHANNELS} channels, not {channels}"
            ));
        }
        let limit = if self.has(Transform::Orthogonal) {
            MAX_ORTHOGONAL
        } else {
            MAX_BLOCK_VALUES
        };
        let values = block * block * channels;
        if !(2..=limit).contains(&values) {
            return Err(format!(
                "a block of {block} x {block} x {channels} has {values} values; 2 to {limit} are possible"
            ));
        }
        if *order == Order::Bgr && *channels != 3 {
            return Err("the order bgr is for images of 3 channels".into());
        }
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err("a range is two numbers, the lower first".into());
        }
        if let Some(Normalisation { mean, std }) = normalisation {
            let fits = |numbers: &[f64]| numbers.len() == 1 || numbers.len() == *channels as usize;
            if !fits(mean) || !fits(std) {
                return Err(format!(
                    "mean and std have 1 number or {channels}, one a channel"
                ));
            }
            if !mean.iter().all(|m| m.is_finite()) || !std.iter().all(|s| s.is_finite() && *s > 0.0)
            {
                return Err("mean and std are numbers, and std is above 0".into());
            }
        }
        Ok(())
    }
}
