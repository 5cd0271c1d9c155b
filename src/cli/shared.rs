//! Arguments that several subcommands take, and how locations and pairs are read.

use std::ffi::{OsStr, OsString};
use std::ops::Deref;
use std::path::PathBuf;

use clap::Args;
use clap::builder::TypedValueParser;
use onnxseal_core::{Flush, Location, STANDARD_OUTPUT, StoreError};

/// A file that a command writes, or an object; `-` is standard output. Every argument for such a
/// file has this type, which tells outputs from inputs.
#[derive(Clone, Debug)]
pub struct Out<T>(T);

impl<T> Deref for Out<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[derive(Clone, Debug)]
pub struct OutFolder<T>(pub T);

/// Reads the path of an output, or its `file://` URL.
pub(super) fn out() -> impl TypedValueParser<Value = Out<PathBuf>> {
    LocationParser(|text| file(Location::parse(named(text))?)).map(|file| Out(file.to_name()))
}

/// Reads the path or the URL of an output, or of the folder for it.
pub(super) fn out_model() -> impl TypedValueParser<Value = Out<Location>> {
    LocationParser(|text| Location::parse_folder(named(text))).map(Out)
}

pub(super) fn out_folder() -> impl TypedValueParser<Value = OutFolder<PathBuf>> {
    LocationParser(|text| file(folder_out(text)?)).map(|folder| OutFolder(folder.to_name()))
}

pub(super) fn out_models() -> impl TypedValueParser<Value = OutFolder<Location>> {
    LocationParser(folder_out).map(OutFolder)
}

fn folder_out(text: OsString) -> Result<Location, StoreError> {
    if text == "-" {
        return Err(refused(
            "several files go to a folder, not to standard output",
        ));
    }
    Location::parse_folder(text)
}

/// Refuses objects.
fn file(location: Location) -> Result<Location, StoreError> {
    match location {
        Location::File(_) => Ok(location),
        _ => Err(refused(
            "expected a path or a file:// URL: only models go to stores",
        )),
    }
}

fn refused(reason: &str) -> StoreError {
    StoreError::Location(reason.to_owned())
}

/// Returns the path for the text of an output.
fn named(text: OsString) -> OsString {
    if text == "-" {
        STANDARD_OUTPUT.into()
    } else {
        text
    }
}

#[derive(Debug, Args)]
pub struct OutputOptions {
    /// Replace outputs that exist
    #[arg(short, long)]
    pub force: bool,

    #[command(flatten)]
    pub sync: SyncOptions,
}

#[derive(Debug, Args)]
pub struct SyncOptions {
    /// Wait until the output is on the disk. By default, only a write that replaces a file or
    /// changes one in place waits: a power loss within the next minute may leave a new output
    /// incomplete
    #[arg(long, conflicts_with = "no_sync")]
    pub sync: bool,

    /// Never wait: a power loss may leave neither the new file nor the one it replaced
    #[arg(long)]
    pub no_sync: bool,
}

impl SyncOptions {
    pub fn flush(&self) -> Flush {
        match (self.sync, self.no_sync) {
            (true, _) => Flush::ToDisk,
            (false, false) => Flush::Replacing,
            (false, true) => Flush::Later,
        }
    }
}

impl OutputOptions {
    pub fn core(&self) -> onnxseal_core::OutputOptions {
        let mut options = onnxseal_core::OutputOptions::default();
        options.replace = self.force;
        options.flush = self.sync.flush();
        options
    }
}

#[derive(Debug, Args)]
pub struct View {
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,

    /// Print a line of JSON for each tensor, then one for the model
    #[arg(long, conflicts_with = "json")]
    pub jsonl: bool,

    /// Print all rows of long tables instead of the largest 40, and into files and pipes whole names
    /// instead of their first and last 50 characters
    #[arg(long)]
    pub all: bool,

    /// Print all positions instead of the first few. A tensor is cut into n subsequences, counted
    /// from 0; k of them are encrypted, and positions says which
    #[arg(long)]
    pub positions: bool,
}

pub(super) fn location() -> impl TypedValueParser<Value = Location> {
    LocationParser(Location::parse)
}

pub(super) fn folder() -> impl TypedValueParser<Value = Location> {
    LocationParser(Location::parse_folder)
}

/// Reads locations. clap's own parsers repeat a refused value, which may be a URL with a password.
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

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

/// A number of bytes, with K, M, G or T for powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let error = || format!("{text:?} is no size such as 512M or 4G");
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(n_digits);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(error()),
    };
    let number: u64 = digits.parse().map_err(|_| error())?;
    number.checked_mul(1 << shift).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("10B", 10),
            ("4k", 4 << 10),
            ("512M", 512 << 20),
            ("512MB", 512 << 20),
            ("512MiB", 512 << 20),
            ("4G", 4 << 30),
            ("2T", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "M",
            "-1",
            "1.5G",
            "4X",
            "4 G",
            "4iB",
            "99999999T",
            "4MM",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
