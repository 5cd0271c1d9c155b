//! The command line of `onnxseal batch`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use onnxseal_batch::Shard;
use onnxseal_core::Location;

use super::shared::{out_models, size};
use super::{LeastPolicy, Out, OutFolder, Policy, SyncOptions, folder, out, pair};
use crate::keys::{NewRecipientArgs, RecipientArgs};
use crate::signing::{ClaimArgs, OpeningArgs, ResigningArgs, SigningArgs, TierArgs};

#[derive(Debug, Args)]
pub struct Batch {
    #[command(subcommand)]
    pub operation: Operation,
}

#[derive(Debug, Subcommand)]
pub enum Operation {
    /// Protect models
    #[command(after_long_help = super::WHICH_PRESET)]
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
pub struct Protect {
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub outputs: Outputs,
    /// Rewrite what cannot be encrypted where it lies: elements coded as varints move to raw_data,
    /// and bytes of data files in which no tensor lies become zeros. `unprotect` then gives the
    /// rewritten model, which is equal in every value
    #[arg(long)]
    pub repack: bool,

    #[command(flatten)]
    pub recipients: RecipientArgs,

    /// A statement to authenticate along with each model, such as customer=acme
    #[arg(long = "claim", value_name = "KEY=VALUE", value_parser = pair)]
    pub claims: Vec<(String, String)>,

    #[command(flatten)]
    pub signing: SigningArgs,
    #[command(flatten)]
    pub policy: Policy,
    #[command(flatten)]
    pub course: Course,
}

#[derive(Debug, Args)]
pub struct Unprotect {
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub outputs: Outputs,
    #[command(flatten)]
    pub opening: OpeningArgs,
    #[command(flatten)]
    pub tier: TierArgs,
    #[command(flatten)]
    pub course: Course,
}

#[derive(Debug, Args)]
pub struct Rekey {
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub outputs: OutputsOrInPlace,
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
    pub sources: Sources,
    #[command(flatten)]
    pub outputs: OutputsOrInPlace,
    #[command(flatten)]
    pub opening: OpeningArgs,
    #[command(flatten)]
    pub recipients: NewRecipientArgs,

    /// A statement to add to those of each model; it replaces one that has the same key
    #[arg(long = "claim", value_name = "KEY=VALUE", value_parser = pair)]
    pub claims: Vec<(String, String)>,

    #[command(flatten)]
    pub signing: ResigningArgs,
    #[command(flatten)]
    pub policy: Policy,
    #[command(flatten)]
    pub course: Course,
}

#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    pub sources: Sources,

    #[command(flatten)]
    pub opening: OpeningArgs,
    #[command(flatten)]
    pub tier: TierArgs,
    #[command(flatten)]
    pub claims: ClaimArgs,

    #[command(flatten)]
    pub policy: LeastPolicy,

    /// Replace the --report file even if it is not an earlier report
    #[arg(short, long, requires = "report")]
    pub force: bool,

    #[command(flatten)]
    pub course: Course,
}

/// Which models.
#[derive(Debug, Args)]
pub struct Sources {
    /// Models, folders to search for models by content, and globs. External data comes with its
    /// model. Models and folders may be URLs (s3://bucket/models/)
    #[arg(value_name = "SOURCE", value_parser = folder(), required_unless_present = "lists")]
    pub sources: Vec<Location>,

    /// File with more sources, one a line: paths relative to its folder, or URLs; may be given
    /// several times
    #[arg(long = "list", alias = "from", value_name = "FILE")]
    pub lists: Vec<PathBuf>,
}

/// Where outputs go.
#[derive(Debug, Args)]
pub struct Outputs {
    /// Folder or URL for the outputs, which keep their paths below their source; models already in
    /// it are never sources
    #[arg(short, long, value_name = "DIR", value_parser = out_models())]
    pub out: OutFolder<Location>,

    #[command(flatten)]
    pub making: Making,
}

/// Where outputs go, if not to the places of the models.
#[derive(Debug, Args)]
pub struct OutputsOrInPlace {
    /// Folder or URL for the outputs, which keep their paths below their source; models already in
    /// it are never sources. Without this option the batch changes models in place, as the command
    /// of the same name does with one model
    #[arg(short, long, value_name = "DIR", value_parser = out_models())]
    pub out: Option<OutFolder<Location>>,

    #[command(flatten)]
    pub making: Making,
}

/// How outputs come to be.
#[derive(Debug, Args)]
pub struct Making {
    /// Skip models that an earlier run finished, if sources and outputs are unchanged since; do the
    /// others again, and replace outputs that an earlier run made
    #[arg(long, requires = "out")]
    pub resume: bool,

    /// Keep no records: no later run can tell what this run did
    #[arg(long, conflicts_with = "resume", requires = "out")]
    pub no_records: bool,

    /// Replace existing outputs, even if no earlier run made them, and the --report file, whatever
    /// it contains
    #[arg(short, long)]
    pub force: bool,

    #[command(flatten)]
    pub sync: SyncOptions,
}

/// How the batch runs.
#[derive(Debug, Args)]
pub struct Course {
    /// How many models to run at once [default: the number of cores; 16 with object stores, if that
    /// is more]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,

    /// The most memory to use, such as 512M or 4G [default: half of what is available]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,

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
