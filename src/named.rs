//! The files that the command line names. No output takes the place of one that the command reads.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Result;
use clap::ArgMatches;
use onnxseal_core::{IdentityCommand, Location, NamedInputs, is_same_file, is_standard_output};

use crate::cli::Out;
use crate::exit::usage;
use crate::keys;

static NAMED: OnceLock<Named> = OnceLock::new();

#[derive(Debug, Default)]
struct Named {
    reads: NamedInputs,
    outputs: Vec<Location>,
    prints: bool,
}

/// Remembers the files that the command line names. Types tell them apart: the command writes `Out`,
/// and reads `PathBuf` and `Location`.
pub fn remember(matches: &ArgMatches) {
    let mut matches = matches;
    let mut named = Named::default();
    // A licence may replace one.
    named.reads.takes_licences = matches.subcommand_name() != Some("licence");
    while let Some((_, of_command)) = matches.subcommand() {
        matches = of_command;
    }
    for id in matches.ids().map(clap::Id::as_str) {
        if let Ok(Some(paths)) = matches.try_get_many::<PathBuf>(id) {
            named.reads.files.extend(paths.map(|path| match id {
                "recipients_files" => keys::path_by_name(keys::tier_of_file(path).1),
                _ => keys::path_by_name(path),
            }));
        }
        if let Ok(Some(models)) = matches.try_get_many::<Location>(id) {
            named.reads.models.extend(models.cloned());
        }
        if let Ok(Some(paths)) = matches.try_get_many::<Out<PathBuf>>(id) {
            named.outputs.extend(paths.map(|path| (&**path).into()));
        }
        if let Ok(Some(outputs)) = matches.try_get_many::<Out<Location>>(id) {
            let outputs = outputs.map(|output| of_model(output, matches));
            named.outputs.extend(outputs);
        }
        if let ("identity_commands", Ok(Some(lines))) = (id, matches.try_get_many::<String>(id)) {
            // What cannot be parsed is refused when it is used.
            let commands = lines.filter_map(|line| IdentityCommand::parse(line).ok());
            let files = commands.flat_map(|command| command.files());
            named.reads.files.extend(files);
        }
        if let ("json" | "jsonl", Ok(Some(true))) = (id, matches.try_get_one::<bool>(id)) {
            named.prints = true;
        }
    }
    named.reads.files.extend(keys::file_of_environment());
    let _ = NAMED.set(named);
}

/// Checks all outputs that the command line names, before anything is done; says whether one of them
/// is standard output.
pub fn check_outputs() -> Result<bool> {
    let named = named();
    let mut takes_stdout = false;
    for (i, output) in named.outputs.iter().enumerate() {
        if let Some(other) = (named.outputs.iter().take(i)).find(|other| is_one(output, other)) {
            return Err(usage(format!(
                "two outputs would be one: {other} and {output}"
            )));
        }
        if let Location::File(path) = output {
            takes_stdout |= is_standard_output(path);
            check(path)?;
        }
    }
    if takes_stdout && named.prints {
        return Err(usage(
            "the output and the JSON would both go to standard output: name a file for one",
        ));
    }
    Ok(takes_stdout)
}

/// Fails where `output` is a file that the command reads, by whatever name, or lies in a folder of
/// data that it reads and would replace a file there.
pub fn check(output: &Path) -> Result<()> {
    Ok(named().reads.check(output)?)
}

/// The files that the command reads, but for models: nothing may take their places.
pub fn files() -> Vec<PathBuf> {
    named().reads.files.clone()
}

fn named() -> &'static Named {
    NAMED.get_or_init(Named::default)
}

/// The file for an output: in a folder it gets the name of the model.
fn of_model(output: &Location, matches: &ArgMatches) -> Location {
    let model = matches.try_get_one::<Location>("model").ok().flatten();
    let file = model.and_then(|model| output.for_output_of(model).ok());
    file.unwrap_or_else(|| output.clone())
}

/// Whether two outputs go to one place, which need not be there yet.
fn is_one(one: &Location, other: &Location) -> bool {
    let is_same = matches!((one, other), (Location::File(one), Location::File(other)) if is_same_file(one, other));
    one == other || is_same || (one.lies_in(other) && other.lies_in(one))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn two_outputs_are_not_one_file() {
        let at = |text| Location::parse(text).unwrap();
        for (one, other, expected) in [
            ("x", "x", true),
            ("x", "./x", true),
            ("-", "-", true),
            ("x", "y", false),
            ("x/y", "x", false),
        ] {
            assert_eq!(is_one(&at(one), &at(other)), expected, "{one} {other}");
        }
    }
}
