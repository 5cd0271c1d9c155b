//! `onnxseal inputs encrypt`

use anyhow::Result;
use onnxseal_inputs::{EncryptOptions, Error, InputKey, Report, Scale, Spec, Transform, encrypt};

use crate::cli::inputs::Encrypt;
use crate::exit::{failed, stopped, usage};
use crate::named;
use crate::progress::Bar;
use crate::stop::Stop;
use crate::text::{count, note, one_line, tell};

/// How far rounding may put floats outside a key's range, as a share of its width.
const NEARLY: f64 = 1e-3;

/// Floats that span less than this share of a key's range belong to another range: 0 to 1 is 1/255
/// of 0 to 255.
const NARROW: f64 = 0.02;

const OTHER_KIND: &str = "a key is for images of one kind: `onnxseal inputs keygen` makes one for others with --block, --channels, --layout, --range, --mean and --std";

pub fn run(args: &Encrypt) -> Result<()> {
    let key = args.identities.open(&args.key, "--key", InputKey::read)?;
    let mut options = EncryptOptions::default();
    options.decrypt = args.decrypt;
    options.output = args.output_options.core();
    options.spared = named::files();
    options.scale = if args.normalised {
        Scale::Normalised
    } else {
        Scale::Pixels
    };
    let stop = Stop::listen()?;
    let bar = Bar::until(&stop);
    let made = encrypt(&args.sources, &args.output, &key, &options, &bar);
    drop(bar);
    let report = match (made, stop.signal()) {
        (Err(Error::Cancelled), Some(signal)) => {
            let what = "complete files stay, and a second run makes the rest";
            return Err(stopped(signal, what));
        }
        (made, _) => made?,
    };
    if report.n_written + report.n_skipped + report.n_failed == 0 {
        return Err(usage(
            "there is nothing to transform: folders are searched only for PNG and JPEG files; name each array",
        ));
    }
    for failed in &report.failed {
        let path = failed.path.display().to_string();
        let (path, reason) = (one_line(&path), one_line(&failed.reason));
        note(&format!("failed: {path}: {reason}"));
    }
    let n_more = report.n_failed - report.failed.len() as u64;
    if n_more > 0 {
        note(&format!("failed: {} more", count(n_more, "file")));
    }
    show(&report);
    if let Some(odd) = odd_floats(&report, key.spec(), options.scale) {
        tell(&format!("warning: {odd}"));
    }
    if report.failed.iter().any(|failed| failed.is_misfit) {
        note(&format!("hint: {OTHER_KIND}"));
    }
    match report.n_failed {
        0 => Ok(()),
        1 => Err(failed(3, "1 file was not transformed")),
        n => Err(failed(3, format!("{n} files were not transformed"))),
    }
}

fn show(report: &Report) {
    for array in report.arrays.iter().filter(|array| !array.is_transformed) {
        tell(&format!(
            "{}: array {:?} was copied: it has no images of the key's shape",
            one_line(&array.path.display().to_string()),
            array.name
        ));
    }
    let counted = [
        (report.n_images, "image", " transformed"),
        (report.n_written, "file", " written"),
        (
            report.n_skipped,
            "file",
            " skipped, because the output exists",
        ),
        (
            report.n_left_out - report.n_arrays_left_out,
            "file",
            " left out, because not PNG or JPEG",
        ),
        (
            report.n_arrays_left_out,
            "file",
            " of arrays left out in folders: name each as a source",
        ),
    ];
    let told = counted.iter().filter(|(n, ..)| *n > 0);
    let told: Vec<String> = told.map(|(n, word, what)| count(*n, word) + what).collect();
    if !told.is_empty() {
        tell(&told.join("; "));
    }
}

/// Returns what is odd about the floats of a data set, if the key's range matters.
fn odd_floats(report: &Report, spec: &Spec, scale: Scale) -> Option<String> {
    if !spec.has(Transform::Negative) && !spec.has(Transform::Ffx) {
        return None;
    }
    let (low, high) = report.floats?;
    let (from, to) = range(spec, scale);
    let width = to - from;
    let is_outside = low < from - NEARLY * width || high > to + NEARLY * width;
    let is_narrow = low < high && high - low < NARROW * width;
    let why = match (is_outside, is_narrow) {
        (true, _) => "outside of",
        (false, true) => "in a small part of",
        (false, false) => return None,
    };
    let normalised = match (scale, &spec.normalisation) {
        (Scale::Pixels, Some(_)) => "; say --normalised if these are normalised",
        _ => "",
    };
    Some(format!(
        "floats lie between {} and {}, {why} the key's range of {} to {}{normalised}\n  hint: make a key for such images with --range of `onnxseal inputs keygen`",
        short(low),
        short(high),
        short(from),
        short(to)
    ))
}

/// Formats a number to four places, without trailing zeros.
fn short(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Returns the range of a key's floats, over all channels if they are normalised.
fn range(spec: &Spec, scale: Scale) -> (f64, f64) {
    let (low, high) = spec.range;
    match scale {
        Scale::Pixels => (low, high),
        Scale::Normalised => spec.statistics().into_iter().fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(from, to), (mean, std)| (from.min((low - mean) / std), to.max((high - mean) / std)),
        ),
    }
}
