//! The command line of `onnxseal licence`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::operation::Sources;
use super::shared::{Out, out, pair};
use crate::keys::{IdentityArgs, NewRecipientArgs};
use crate::signing::SignerArgs;

// One value lives for the whole program.
#[expect(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
pub enum Licence {
    Issue(Issue),
    Show(Show),
    Verify(Verify),
}

/// Make a licence: a small file with which a customer opens protected models, perhaps until a date
///
/// The models stay as they are, so all customers get the same files. With --table, make a licence for
/// each row of a table.
///
/// A date is kept by the program that opens the model, by the clock of its machine: a customer who
/// writes a program of their own can keep the key. docs/CUSTOMERS.md says what that is worth.
#[derive(Debug, Args)]
pub struct Issue {
    #[command(flatten)]
    pub sources: Sources,

    #[command(flatten)]
    pub identities: IdentityArgs,

    #[command(flatten)]
    pub recipients: NewRecipientArgs,

    /// Tier that the licence opens [default: the highest]
    #[arg(long, value_name = "TIER")]
    pub tier: Option<String>,

    /// First day on which it opens the models, in UTC (2027-01-01), or the moment
    /// (2027-01-01T12:00:00Z)
    #[arg(long, value_name = "DATE")]
    pub not_before: Option<String>,

    /// Last day on which it opens the models, in UTC, or the last moment
    #[arg(long, value_name = "DATE")]
    pub not_after: Option<String>,

    /// A statement in the licence, such as customer=acme; contact=... names whom to ask after the last
    /// day
    #[arg(long = "claim", value_name = "KEY=VALUE", value_parser = pair)]
    pub claims: Vec<(String, String)>,

    /// OpenSSH private key to sign the licence with
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,

    /// Make a licence for each row of this table (CSV): customer and recipient, perhaps tier,
    /// not-before and not-after. Other columns are statements. They go to the folder --output, as
    /// CUSTOMER.licence
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recipients", "recipients_files", "new_passphrase", "new_passphrase_file", "comment", "list_recipients"])]
    pub table: Option<PathBuf>,

    /// File to write the licence to, or with --table the folder for all
    #[arg(short, long, value_name = "PATH", value_parser = out())]
    pub output: Out<PathBuf>,

    /// Replace files that exist
    #[arg(short, long)]
    pub force: bool,
}

/// Show what a licence says; needs no key
#[derive(Debug, Args)]
pub struct Show {
    /// The licence
    #[arg(value_name = "LICENCE")]
    pub file: PathBuf,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Check that a licence is in force, who signed it, and with an identity that nobody changed it
#[derive(Debug, Args)]
pub struct Verify {
    /// The licence
    #[arg(value_name = "LICENCE")]
    pub file: PathBuf,

    #[command(flatten)]
    pub identities: IdentityArgs,

    #[command(flatten)]
    pub signers: SignerArgs,
}
