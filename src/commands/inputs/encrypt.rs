//! `onnxseal inputs encrypt`

use anyhow::Result;
use onnxseal_inputs::{EncryptOptions, Error, Report, Scale, encrypt};

use crate::cli::inputs::Encrypt;
use crate::commands::Stop;
use crate::commands::assess::stopped;
use crate::exit::{Failures, Usage};
use crate::io::is_same_file;
use crate::keys::input_key;
use crate::progress::{Bar, DataBar};
use crate::text::{note, one_line};

/// Transforms data sets.
pub fn run(args: &Encrypt, quiet: bool) -> Result<()> {
    let key = input_key(&args.key, "--key", &args.identities, quiet)?;
    if args
        .sources
        .iter()
        .any(|source| is_same_file(source, &args.output))
    {
        let text = "the output is a source: plain images would be lost, so give another output";
        return Err(Usage(text.into()).into());
    }
    let mut options = EncryptOptions::default();
    options.decrypt = args.decrypt;
    options.output = args.output_options.core();
    options.result = args.dtype;
    options.scale = match args.normalised {
        true => Scale::Normalised,
        false => Scale::Pixels,
    };
    let stop = Stop::listen()?;
    let bar = DataBar {
        bar: Bar::new(quiet),
        stop: &stop,
    };
    let made = encrypt(&args.sources, &args.output, &key, &options, &bar);
    drop(bar);
    let report = match (made, stop.signal()) {
        (Err(Error::Cancelled), Some(signal)) => {
            let what = "files that are whole stay, and a second run does the rest";
            return Err(stopped(signal, what));
        }
        (made, _) => made?,
    };
    if report.n_written + report.n_skipped + report.n_failed == 0 {
        let text = "there is nothing to transform: folders are searched for PNG and JPEG files, and arrays are named one by one";
        return Err(Usage(text.into()).into());
    }
    if !quiet {
        show(&report);
    }
    match report.n_failed {
        0 => Ok(()),
        n => Err(Failures {
            code: 3,
            text: format!("{n} files were not transformed"),
        }
        .into()),
    }
}

fn show(report: &Report) {
    for array in report.arrays.iter().filter(|array| !array.is_transformed) {
        note(&format!(
            "{}: array {:?} was copied: it has no images of the key's shape",
            one_line(&array.path.display().to_string()),
            array.name
        ));
    }
    let counted = [
        (report.n_images, "images transformed"),
        (report.n_written, "files written"),
        (
            report.n_skipped,
            "files skipped, because their output exists",
        ),
        (
            report.n_left_out,
            "files left out, because they are no images",
        ),
    ];
    let told = counted.iter().filter(|(n, _)| *n > 0);
    let told: Vec<String> = told.map(|(n, what)| format!("{n} {what}")).collect();
    note(&told.join("; "));
}
