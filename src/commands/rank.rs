//! `onnxseal rank`

use std::io::Write;

use anyhow::Result;
use onnxseal_assess::{Error, Method};
use onnxseal_core::Readers;

use super::assess::{data, lift, subject, until_stopped};
use crate::cli::assess::{Rank, RankMethod};
use crate::exit::stopped;
use crate::io::Written;
use crate::stop::Stop;
use crate::text::{is_quiet, one_line};

/// Bytes that share one score. Models of more than 1 GiB get more.
const UNIT_BYTES: u64 = 256;

/// The share of the weights' bytes in each random mask.
const MASKED_SHARE: f64 = 0.1;

pub fn run(args: &Rank) -> Result<()> {
    let written = Written::new(&args.output, "ranking", args.force);
    written.check()?;
    let subject = subject(&args.model, &args.opening)?;
    let data = data(&args.data)?;
    let method = match args.method {
        RankMethod::Activation => Method::Activation,
        RankMethod::Probabilistic => Method::Probabilistic {
            share: MASKED_SHARE,
            n_masks: args.masks,
        },
    };
    let options = args.data.of_assessment();
    let stop = Stop::listen()?;
    let mut cut_short = None;
    let ranking = until_stopped(&stop, "nothing was ranked yet", |steps| {
        let data = data.as_ref();
        let ranking = onnxseal_assess::rank(&subject, method, UNIT_BYTES, data, &options, steps);
        cut_short = steps.cut_short().map(str::to_owned);
        ranking
    })?;
    written.write(&ranking.to_json(), Readers::Usual)?;
    let path = args.output.display();
    if ranking.is_partial() {
        let text = match cut_short {
            Some(done) => format!("{path} is a partial ranking, from {done}"),
            None => format!("{path} is a partial ranking: weights without scores come last"),
        };
        return Err(match stop.signal() {
            Some(signal) => stopped(signal, &text),
            None => lift(Error::Usage(text)),
        });
    }
    if !is_quiet() {
        let text = format!(
            "{path}: ranked by {}, in units of {} bytes",
            ranking.method(),
            ranking.unit_bytes()
        );
        writeln!(std::io::stdout(), "{}", one_line(&text))?;
    }
    Ok(())
}
