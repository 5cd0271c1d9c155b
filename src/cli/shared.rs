//! Arguments that several subcommands take, and how locations and pairs are read.

use std::ffi::{OsStr, OsString};

use clap::Args;
use clap::builder::TypedValueParser;
use onnxseal_core::{Flush, Location, StoreError};

/// How outputs come to be.
#[derive(Debug, Args)]
pub struct OutputOptions {
    /// Replace outputs that exist
    #[arg(short, long)]
    pub force: bool,

    #[command(flatten)]
    pub sync: SyncOptions,
}

/// Whether to wait for the disk.
#[derive(Debug, Args)]
pub struct SyncOptions {
    /// Wait until the output is on the disk. Without it, only what replaces a file or changes one in
    /// place is waited for: a power loss within the next minute may leave a new output in part
    #[arg(long, conflicts_with = "no_sync")]
    pub sync: bool,

    /// Never wait: a power loss may leave neither the new file nor the one it replaced
    #[arg(long)]
    pub no_sync: bool,
}

impl SyncOptions {
    /// When outputs are synced, as the library takes it.
    pub fn flush(&self) -> Flush {
        match (self.sync, self.no_sync) {
            (true, _) => Flush::ToDisk,
            (false, false) => Flush::Replacing,
            (false, true) => Flush::Later,
        }
    }
}

impl OutputOptions {
    /// The options as the library takes them.
    pub fn core(&self) -> onnxseal_core::OutputOptions {
        let mut options = onnxseal_core::OutputOptions::default();
        options.replace = self.force;
        options.flush = self.sync.flush();
        options
    }
}

/// How to show a report.
#[derive(Debug, Args)]
pub struct View {
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,

    /// Print a line of JSON for each tensor, and last one for the model
    #[arg(long, conflicts_with = "json")]
    pub jsonl: bool,

    /// Print all rows of long tables, not only the largest 40
    #[arg(long)]
    pub all: bool,

    /// Print all positions instead of the first few
    #[arg(long)]
    pub positions: bool,
}

/// Reads a path, or the URL of a file or an object.
pub(super) fn location() -> impl TypedValueParser<Value = Location> {
    LocationParser(Location::parse)
}

/// Reads a path, or the URL of a file, an object or a folder of them.
pub(super) fn folder() -> impl TypedValueParser<Value = Location> {
    LocationParser(Location::parse_folder)
}

/// Reads locations. clap's own parsers repeat what they refuse, which may be a URL with a password.
#[derive(Clone)]
struct LocationParser(fn(OsString) -> Result<Location, StoreError>);

impl TypedValueParser for LocationParser {
    type Value = Location;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Location, clap::Error> {
        (self.0)(value.to_owned()).map_err(|fault| {
            let argument = argument.map_or("a location".to_owned(), ToString::to_string);
            let text = format!("invalid value for '{argument}': {fault}\n");
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, text).with_cmd(command)
        })
    }
}

/// Reads `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("expected KEY=VALUE".into()),
    }
}
