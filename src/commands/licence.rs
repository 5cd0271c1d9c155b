//! `onnxseal licence`

mod table;

use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use onnxseal_core::{Issuer, Location, Readers, SigningKey, Terms, opens_with, read_licence};
use serde_json::json;

use self::table::Row;
use crate::cli::licence::{Issue, Licence, Show, Verify};
use crate::exit::{code, failed, stopped, usage};
use crate::io::{self, Written};
use crate::progress::Bar;
use crate::render;
use crate::signing::signing_key;
use crate::stop::Stop;
use crate::text::{count, note, one_line, printable, tell};

const NOT_AFTER: &str = "not-after";

pub fn run(args: &Licence) -> Result<()> {
    match args {
        Licence::Issue(args) => issue(args),
        Licence::Show(args) => show(args),
        Licence::Verify(args) => verify(args),
    }
}

fn issue(args: &Issue) -> Result<()> {
    let terms = terms(args)?;
    if let Some(path) = &args.table {
        return issue_all(args, &table::read(path, &terms)?);
    }
    let licence = written(&args.output, args.force);
    licence.check()?;
    let recipients = (args.recipients.read_untiered("a licence")?).ok_or_else(|| {
        usage("no recipient: name the customer's with --recipient or --recipients-file")
    })?;
    let signing_key = args.sign_key.as_deref().map(signing_key).transpose()?;
    let text = issuer(args)?.issue(&recipients, &terms, signing_key.as_ref())?;
    licence.write(text.as_bytes(), Readers::Usual)?;
    let until = terms.claims.get(NOT_AFTER);
    let until = until.map_or("no last day".to_owned(), |date| format!("until {date}"));
    let tier = terms
        .tier
        .map_or_else(String::new, |tier| format!(", tier {tier}"));
    tell(&format!("wrote {}: {until}{tier}", args.output.display()));
    Ok(())
}

/// Returns what the arguments say in all licences.
fn terms(args: &Issue) -> Result<Terms> {
    let dates = [
        ("not-before", &args.not_before),
        (NOT_AFTER, &args.not_after),
    ];
    let dates = dates.into_iter();
    let dates = dates.filter_map(|(key, date)| Some((key.to_owned(), date.clone()?)));
    let claims: Vec<_> = dates.chain(args.claims.iter().cloned()).collect();
    Ok(Terms {
        tier: args.tier.clone(),
        claims: io::claims(&claims)?,
    })
}

/// Makes a licence for each of `rows`. One that fails keeps no other from being made.
fn issue_all(args: &Issue, rows: &[Row]) -> Result<()> {
    let signing_key = args.sign_key.as_deref().map(signing_key).transpose()?;
    let issuer = issuer(args)?;
    let stop = Stop::listen()?;
    let bar = Bar::of_count(rows.len() as u64, &stop);
    let (mut written, mut failures) = (Vec::new(), Vec::new());
    for row in rows {
        if stop.signal().is_some() {
            break;
        }
        match issue_one(args, row, &issuer, signing_key.as_ref()) {
            Ok(()) => written.push(row),
            Err(error) => failures.push((&row.customer, error)),
        }
        bar.count_one();
    }
    drop(bar);
    for (customer, error) in &failures {
        note(&one_line(&format!("failed: {customer}: {error:#}")));
    }
    let endless = written
        .iter()
        .filter(|row| !row.terms.claims.contains_key(NOT_AFTER));
    let (n, n_endless) = (count(written.len() as u64, "licence"), endless.count());
    let said = format!(
        "{n} to {}, {n_endless} without a last day",
        args.output.display()
    );
    if let Some(signal) = stop.signal() {
        return Err(stopped(signal, &format!("wrote {said}")));
    }
    tell(&format!("wrote {said}"));
    let Some((_, first)) = failures.first() else {
        return Ok(());
    };
    let text = format!("{} of {} rows failed", failures.len(), rows.len());
    Err(failed(code(first), text))
}

fn issue_one(args: &Issue, row: &Row, issuer: &Issuer, key: Option<&SigningKey>) -> Result<()> {
    let text = issuer.issue(&row.recipients()?, &row.terms, key)?;
    let path = args.output.join(format!("{}.licence", row.customer));
    written(&path, args.force).write(text.as_bytes(), Readers::Usual)
}

fn written(path: &Path, force: bool) -> Written<'_> {
    Written {
        path,
        what: "licence",
        force,
        is_earlier: None,
    }
}

/// Opens the keys of the models that the command line names.
fn issuer(args: &Issue) -> Result<Issuer> {
    let identities = args.identities.require()?;
    let found = onnxseal_batch::discover(&args.sources.sources, &args.sources.lists)?;
    if let Some(unreadable) = found.unreadable.into_iter().next() {
        return Err(unreadable.error.into());
    }
    let models = found.models.into_iter().map(|model| model.location);
    let models: Vec<Location> = models.collect();
    if models.is_empty() {
        return Err(usage("no ONNX model there: a licence is for one or more"));
    }
    Ok(Issuer::open(&models, &identities, &Bar::new())?)
}

fn show(args: &Show) -> Result<()> {
    let licence = read_licence(&args.file, "LICENCE")?;
    let (signer, header) = (licence.claimed_signer(), licence.header());
    let out_of_force = licence.out_of_force().map(|(key, _)| key);
    if args.json {
        return render::json(&json!({
            "licence": args.file.display().to_string(),
            "models": licence.models(),
            "claims": licence.claims(),
            "recipients": header.kinds,
            "comment": header.comment,
            "claimed_signer": signer,
            "not_in_force": out_of_force,
        }));
    }
    let mut out = std::io::stdout().lock();
    let mut line = |name: &str, text: String| writeln!(out, "{name:<11}{}", printable(&text));
    for model in licence.models() {
        let tier = model.tier.as_ref();
        let tier = tier.map_or_else(String::new, |tier| format!(", tier {tier}"));
        let digest = model.digest.get(..12).unwrap_or_default();
        line(
            "model:",
            format!("{} ({digest}...){tier}", one_line(&model.name)),
        )?;
    }
    for (key, value) in licence.claims() {
        let past = match out_of_force == Some(key.as_str()) {
            true => " (not in force)",
            false => "",
        };
        line(
            "claim:",
            format!("{}={}{past}", one_line(key), one_line(value)),
        )?;
    }
    line("opens with:", format!(" {}", opens_with(&header.kinds)))?;
    if let Some(comment) = &header.comment {
        line("comment:", one_line(comment))?;
    }
    let signer = signer.map_or_else(
        || "nobody".to_owned(),
        |signer| {
            format!(
                "an {} key, {} (not checked)",
                signer.key_type, signer.fingerprint
            )
        },
    );
    line("signed by:", signer)?;
    Ok(())
}

fn verify(args: &Verify) -> Result<()> {
    let (signed_by, identities) = (args.signers.read()?, args.identities.read()?);
    if signed_by.is_none() && identities.is_none() {
        return Err(usage(
            "nothing to check: give --allowed-signers, an identity, or both",
        ));
    }
    let licence = read_licence(&args.file, "LICENCE")?;
    let mut said = Vec::new();
    if let Some(by) = &signed_by {
        let signer = licence.check_signed(&by.allowed, by.signer.as_deref())?;
        said.push(format!("signed by {}", signer.principals.join(", ")));
    }
    if let Some(identities) = &identities {
        licence.check_unchanged(identities)?;
        said.push("unchanged since somebody with its keys wrote it".into());
    }
    licence.check_in_force()?;
    let (file, models) = (args.file.display(), licence.models().len() as u64);
    let text = format!(
        "{file}: {}, in force, for {}",
        said.join(", "),
        count(models, "model")
    );
    if !crate::text::is_quiet() {
        writeln!(std::io::stdout(), "{}", one_line(&text))?;
    }
    Ok(())
}
