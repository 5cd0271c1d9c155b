//! The command line of `onnxseal batch`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use onnxseal_batch::Shard;
use onnxseal_core::Location;

use super::operation::{Protecting, Rotating, Sources, Verifying};
use super::shared::{Out, OutFolder, SyncOptions, out, out_models, size};
use crate::keys::NewRecipientArgs;
use crate::signing::{OpeningArgs, ReaderArgs};

#[derive(Debug, Subcommand)]
pub enum Batch {
    /// Protect models
    #[command(after_long_help = super::policy::WHICH_PRESET)]
    Protect(Protect),
    /// Restore the originals of protected models
    Unprotect(Unprotect),
    /// Wrap the data keys of protected models to other recipients; the weights stay as they are
    Rekey(Rekey),
    /// Encrypt protected models anew, under new data keys
    Rotate(Rotate),
    /// Check protected models; writes nothing but the report
    Verify(Verify),
}

#[derive(Debug, Args)]
#[command(mut_arg("out", |out| out.required(true)))]
pub struct Protect {
    #[command(flatten)]
    pub outputs: Outputs,
    #[command(flatten)]
    pub protecting: Protecting,
    #[command(flatten)]
    pub course: Course,
}

#[derive(Debug, Args)]
#[command(mut_arg("out", |out| out.required(true)))]
pub struct Unprotect {
    #[command(flatten)]
    pub outputs: Outputs,
    #[command(flatten)]
    pub opening: OpeningArgs,
    #[command(flatten)]
    pub reader: ReaderArgs,
    #[command(flatten)]
    pub course: Course,
}

#[derive(Debug, Args)]
pub struct Rekey {
    #[command(flatten)]
    pub outputs: Outputs,
    #[command(flatten)]
    pub opening: OpeningArgs,
    #[command(flatten)]
    pub recipients: NewRecipientArgs,
    #[command(flatten)]
    pub course: Course,
}

#[derive(Debug, Args)]
pub struct Rotate {
    #[command(flatten)]
    pub outputs: Outputs,
    #[command(flatten)]
    pub opening: OpeningArgs,
    #[command(flatten)]
    pub rotating: Rotating,
    #[command(flatten)]
    pub course: Course,
}

#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    pub verifying: Verifying,
    #[command(flatten)]
    pub course: Course,
}

#[derive(Debug, Args)]
pub struct Outputs {
    /// Folder or URL for the outputs, which keep their paths below their source; models already in
    /// it are never sources. Without this option `rekey` and `rotate` change models in place, as the
    /// commands of these names do with one model
    #[arg(short, long, value_name = "DIR", value_parser = out_models())]
    pub out: Option<OutFolder<Location>>,

    /// Skip models that an earlier run finished, if sources and outputs are unchanged since; do the
    /// others again, and replace outputs that an earlier run made
    #[arg(long, requires = "out")]
    pub resume: bool,

    /// Keep no records: no later run can tell what this run did
    #[arg(long, conflicts_with = "resume", requires = "out")]
    pub no_records: bool,

    #[command(flatten)]
    pub sync: SyncOptions,
}

#[derive(Debug, Args)]
pub struct Course {
    #[command(flatten)]
    pub sources: Sources,

    /// How many models to run at once [default: the number of cores; 16 with object stores, if that
    /// is more]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,

    /// The most memory to use, such as 512M or 4G [default: half of what is available]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,

    /// Replace existing outputs, even if no earlier run made them, and the --report file, whatever
    /// it contains
    #[arg(short, long)]
    pub force: bool,

    /// Write the result for each model to this file, as JSON. Replaces an earlier report; replaces
    /// any other file only with --force
    #[arg(long, value_name = "FILE", value_parser = out())]
    pub report: Option<Out<PathBuf>>,

    /// Take BLAKE3 digests of all files, for the report and the records, and let --resume compare
    /// them. Without this option, --resume compares lengths, times and inode numbers, and entity
    /// tags of objects
    #[arg(long)]
    pub checksum: bool,

    /// Start no more models once one has failed
    #[arg(long)]
    pub fail_fast: bool,

    /// Do part I of N of the models, counted from 0, such as 0/4; other machines do the other parts
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
}
