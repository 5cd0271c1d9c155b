//! `onnxseal rank`

use std::io::Write;

use anyhow::Result;
use onnxseal_assess::{Error, Method, Options};

use super::assess::{data, lift, subject};
use crate::cli::assess::{Rank, RankMethod};
use crate::exit::stopped;
use crate::io::Written;
use crate::progress::Steps;
use crate::stop::Stop;

/// Scores the weights of a model.
pub fn run(args: &Rank, quiet: bool) -> Result<()> {
    let written = Written::new(&args.output, "ranking", args.force);
    written.check()?;
    let subject = subject(&args.model, &args.opening, quiet)?;
    let data = data(&args.data)?;
    let method = match args.method {
        RankMethod::Activation => Method::Activation,
        RankMethod::Probabilistic => Method::Probabilistic {
            share: args.share,
            n_masks: args.masks,
        },
    };
    let mut options = Options::default();
    options.seed = args.data.seed;
    options.output.clone_from(&args.output_name);
    options.data = args.data.options();

    let stop = Stop::listen()?;
    let steps = Steps::new(quiet, &stop);
    let ranking =
        onnxseal_assess::rank(&subject, method, args.unit, data.as_ref(), &options, &steps);
    let cut_short = steps.into_cut_short();
    let ranking = match (ranking, stop.signal()) {
        (Err(Error::Cancelled), Some(signal)) => {
            return Err(stopped(signal, "nothing was ranked yet"));
        }
        (ranking, _) => ranking.map_err(lift)?,
    };
    written.write(&ranking.to_json())?;
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
    if !quiet {
        let text = format!(
            "{path}: ranked by {}, in units of {} bytes",
            ranking.method(),
            ranking.unit_bytes()
        );
        writeln!(std::io::stdout(), "{}", crate::text::one_line(&text))?;
    }
    Ok(())
}
