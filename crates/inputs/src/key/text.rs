//! The text of a key file.

use std::fmt::Write as _;

use onnxseal_crypto::inputs::InputSeed;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::key::spec::{Layout, Normalisation, Order, Spec, Transform};

const VERSION: u32 = 1;

const MAX_TEXT_BYTES: usize = 64 << 10;

/// The text without the seed, which is taken out first so that no message shows it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: u32,
    transforms: Vec<Transform>,
    block: u32,
    channels: u32,
    layout: Layout,
    #[serde(default)]
    order: Order,
    range: (f64, f64),
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
}

pub(super) fn parse(text: &str) -> Result<(Spec, InputSeed), String> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(format!("it is longer than {MAX_TEXT_BYTES} bytes"));
    }
    let is_seed = |line: &&str| line.trim_start().starts_with("seed");
    let mut seeds = text.lines().filter(is_seed);
    let (Some(line), None) = (seeds.next(), seeds.next()) else {
        return Err("it has not exactly one line `seed = \"...\"`".into());
    };
    let digits = line
        .trim()
        .strip_prefix("seed")
        .and_then(|rest| rest.trim_start().strip_prefix('='))
        .and_then(|rest| rest.trim_start().strip_prefix('"'))
        .and_then(|rest| rest.strip_suffix('"'));
    let seed = digits
        .and_then(InputSeed::from_hex)
        .ok_or("its seed is not 64 lowercase hexadecimal digits in quotes")?;
    // An empty line replaces it, so that lines keep their numbers.
    let rest = text
        .lines()
        .map(|line| if is_seed(&line) { "" } else { line });
    let rest = rest.collect::<Vec<_>>().join("\n");
    // Messages quote no part of the file, since a seed may be misplaced.
    let raw: Raw = toml::from_str(&rest).map_err(|error| {
        let before = error.span().and_then(|span| rest.get(..span.start));
        match before {
            Some(before) => format!("line {} cannot be read", before.matches('\n').count() + 1),
            None => "a member is missing".to_owned(),
        }
    })?;
    if raw.version != VERSION {
        return Err(format!(
            "its version is {}; this program reads version {VERSION}",
            raw.version
        ));
    }
    let spec = Spec {
        transforms: raw.transforms,
        block: raw.block,
        channels: raw.channels,
        layout: raw.layout,
        order: raw.order,
        range: raw.range,
        normalisation: match (raw.mean, raw.std) {
            (None, None) => None,
            (Some(mean), Some(std)) => Some(Normalisation { mean, std }),
            _ => return Err("it has mean or std; it needs both or none".into()),
        },
    };
    Ok((spec, seed))
}

pub(super) fn write(spec: &Spec, seed: &InputSeed) -> Zeroizing<String> {
    let names = spec.transforms.iter().map(|t| format!("\"{}\"", t.name()));
    let list = |numbers: &[f64]| {
        let texts = numbers.iter().map(|number| format!("{number:?}"));
        texts.collect::<Vec<_>>().join(", ")
    };
    let mut about = format!(
        "# onnxseal input key. Keep it secret: whoever has it makes the inputs that the model takes.\n\
         version = {VERSION}\n\
         transforms = [{}]\n\
         block = {}\n\
         channels = {}\n\
         layout = \"{}\"\n",
        names.collect::<Vec<_>>().join(", "),
        spec.block,
        spec.channels,
        match spec.layout {
            Layout::Nchw => "nchw",
            Layout::Nhwc => "nhwc",
        },
    );
    // A text in memory takes everything.
    if spec.channels == 3 {
        let order = match spec.order {
            Order::Rgb => "rgb",
            Order::Bgr => "bgr",
        };
        let _ = writeln!(about, "order = \"{order}\"");
    }
    let _ = writeln!(about, "range = [{}]", list(&[spec.range.0, spec.range.1]));
    if let Some(Normalisation { mean, std }) = &spec.normalisation {
        let _ = writeln!(about, "mean = [{}]\nstd = [{}]", list(mean), list(std));
    }
    // Allocated once: a string that grows leaves secrets behind.
    let mut text = Zeroizing::new(String::with_capacity(about.len() + 128));
    text.push_str(&about);
    text.push_str("seed = \"");
    text.push_str(&seed.to_hex());
    text.push_str("\"\n");
    text
}
