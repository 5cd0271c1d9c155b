//! `onnxseal fingerprint`, and the marks of `protect --fingerprint`

mod picture;

use std::io::Write as _;

use anyhow::Result;
use onnxseal_core::{self as core, Location, Readers, write_key};
use onnxseal_fingerprint::{
    Applied, Error, Report, Secret, Suspect, Traced, apply as mark, compare, trace as find,
};
use onnxseal_rewrite::Files;

use super::assess::{data, rows};
use crate::cli::fingerprint::{Apply, Fingerprint, Keygen, MarkArgs, SecretArgs, Trace};
use crate::exit::stopped;
use crate::io::{Written, listed};
use crate::keys::IdentityArgs;
use crate::progress::Bar;
use crate::render;
use crate::stop::Stop;
use crate::table::SHOWN_ROWS;
use crate::text::{count, is_quiet, one_line, tell};

pub fn run(args: &Fingerprint) -> Result<()> {
    match args {
        Fingerprint::Keygen(args) => keygen(args),
        Fingerprint::Apply(args) => apply(args),
        Fingerprint::Trace(args) => trace(args),
    }
}

fn keygen(args: &Keygen) -> Result<()> {
    let recipients = args.recipients.read_untiered("a fingerprint secret")?;
    let secret = Secret::generate()?;
    let text = match &recipients {
        Some(recipients) => secret.to_encrypted_text(recipients)?.into(),
        None => secret.to_text(),
    };
    write_key(&args.output, &text)?;
    if recipients.is_none() {
        tell("warning: the secret is not encrypted: give --recipient to encrypt it with age");
    }
    Ok(())
}

fn apply(args: &Apply) -> Result<()> {
    let output = args.output.for_output_of(&args.model)?;
    // Check early, because marking and running a large model takes long.
    let is_free = args.output_options.core().check_free(&output);
    is_free.map_err(core::Error::Store)?;
    let secret = read(&args.secret)?;
    let (data, options) = (data(&args.data)?, args.data.options());
    let marked =
        until_stopped(|bar| mark(&args.model, &secret, &args.customer, args.strength, bar))?;
    let report = match args.no_check {
        true => Report::without(&marked, "--no-check was given"),
        false => {
            let data = data.as_ref().map(|data| (data, &options));
            compare(&args.model, &marked, data, args.data.output_name.as_deref())?
        }
    };
    let copy = Files::open(&marked.model)?;
    let written = copy.write(&[], &output, args.output_options.core())?;
    if args.json {
        return render::json(&report);
    }
    let to = written.files.last().map(|path| path.display().to_string());
    tell(&format!("wrote {}", one_line(&to.unwrap_or_default())));
    say_marked(&report.mark);
    say_compared(&report);
    Ok(())
}

fn say_marked(mark: &Applied) {
    tell(&format!(
        "marked for {}: {} weights in {}, by {:.3} % of their deviation",
        one_line(&mark.customer),
        mark.elements,
        count(mark.tensors as u64, "tensor"),
        100.0 * mark.strength
    ));
}

fn say_compared(report: &Report) {
    let Some(compared) = &report.comparison else {
        let why = report.not_compared.as_deref().unwrap_or_default();
        return tell(&format!("nothing was compared: {}", one_line(why)));
    };
    let samples = count(compared.samples as u64, "sample");
    let what = match compared.is_random {
        true => " of random numbers, which prove little",
        false => "",
    };
    let mut text = format!(
        "outputs differ by {:.1e} of the largest",
        compared.difference
    );
    if let Some(n) = compared.changed_classes {
        text += &format!("; changed classes: {n}");
    }
    if let Some([before, after]) = compared.accuracy.map(|of| of.map(|share| 100.0 * share)) {
        text += &format!("; accuracy {after:.2} %, before {before:.2} %");
    }
    tell(&format!(
        "compared on ONNX Runtime, {samples}{what}: {text}"
    ));
    if compared.is_moved {
        tell("warning: answers moved by more than chance explains: try a smaller --strength");
    }
}

/// Marks the model at `location`, if the arguments name a customer. It is marked as it is read.
pub fn marked(location: &Location, args: &MarkArgs) -> Result<Location> {
    let (Some(customer), Some(secret)) = (&args.fingerprint, &args.fingerprint_secret) else {
        return Ok(location.clone());
    };
    let identities = IdentityArgs {
        identities: args.fingerprint_identity.clone(),
        ..IdentityArgs::default()
    };
    let secret = identities.open(secret, "--fingerprint-secret", Secret::read)?;
    let marked = until_stopped(|bar| mark(location, &secret, customer, None, bar))?;
    say_marked(&marked.report);
    Ok(marked.model)
}

fn trace(args: &Trace) -> Result<()> {
    let picture = args.picture.as_deref();
    let picture = picture.map(|path| Written::new(path, "picture", args.force));
    if let Some(picture) = &picture {
        picture.check()?;
    }
    let mut customers = args.customer.clone();
    if let Some(path) = &args.customers {
        customers.extend(listed(path, "customer")?);
    }
    let (original, leak) = (Files::open(&args.original)?, Files::open(&args.leak)?);
    let secret = read(&args.secret)?;
    let traced = until_stopped(|bar| find(&original, &leak, &secret, &customers, bar))?;
    if let Some(picture) = &picture {
        picture.write(picture::svg(&traced).as_bytes(), Readers::Usual)?;
    }
    match args.json {
        true => render::json(&traced),
        false if is_quiet() => Ok(()),
        false => show(&traced),
    }
}

fn show(traced: &Traced) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let accused: Vec<String> =
        (traced.accused().map(|suspect| one_line(&suspect.customer))).collect();
    let shown = SHOWN_ROWS.max(accused.len());
    let row = |suspect: &Suspect| {
        let probability = match suspect.log10_probability {
            log if log < -300.0 => format!("1e{log:.0}"),
            log if log > -3.0 => format!("{:.3}", suspect.probability()),
            _ => format!("{:.1e}", suspect.probability()),
        };
        let verdict = if suspect.accused { "accused" } else { "no" };
        let z = format!("{:.2}", suspect.z);
        [suspect.customer.clone(), z, probability, verdict.to_owned()]
    };
    let of = traced.suspects.iter().take(shown).map(row).collect();
    rows(&mut out, ["customer", "z", "probability", "verdict"], of)?;
    match traced.suspects.len().saturating_sub(shown) {
        0 => {}
        n => writeln!(out, "... and {n} more, none of them accused")?,
    }
    let names = match &accused[..] {
        [] => "nobody".to_owned(),
        names => names.join(", "),
    };
    writeln!(
        out,
        "\naccused, from a z of {:.2} on: {names}",
        traced.threshold
    )?;
    writeln!(
        out,
        "found again: {} of {} weights, in {} of {}; a mark of the usual strength has a z of about {:.1} there",
        traced.elements_found,
        traced.elements,
        traced.found.len(),
        count(traced.tensors as u64, "tensor"),
        traced.expected_z
    )?;
    if accused.is_empty() && traced.expected_z < traced.threshold {
        writeln!(out, "too little is left of the original to accuse anybody")?;
    }
    Ok(())
}

fn read(args: &SecretArgs) -> Result<Secret> {
    args.identities.open(&args.secret, "--secret", Secret::read)
}

/// Runs a long call, and ends it if the user asks.
fn until_stopped<T>(call: impl FnOnce(&Bar<'_>) -> Result<T, Error>) -> Result<T> {
    let stop = Stop::listen()?;
    let called = call(&Bar::of_steps(&stop));
    match (called, stop.signal()) {
        (Err(Error::Cancelled), Some(signal)) => Err(stopped(signal, "nothing was written")),
        (called, _) => Ok(called?),
    }
}
