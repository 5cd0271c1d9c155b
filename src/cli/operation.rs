//! The arguments of operations, for one model and for many.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use onnxseal_core::{
    Checks, Edition, Identities, Licence, Location, Policy as CorePolicy, ProtectOptions,
    Requirements, Resign, RotateOptions, SignedBy,
};

use super::policy::{Policy, PolicyArgs};
use super::shared::{folder, pair};
use crate::io;
use crate::keys::{NewRecipientArgs, RecipientArgs};
use crate::signing::{OpeningArgs, ReaderArgs, signing_key};

#[derive(Debug, Args)]
pub struct Sources {
    /// Models, folders to search for models by content, and globs. External data comes with its
    /// model. Models and folders may be URLs (s3://bucket/models/)
    #[arg(value_name = "SOURCE", value_parser = folder(), required_unless_present = "lists")]
    pub sources: Vec<Location>,

    /// File with more sources, one a line: paths relative to its folder, or URLs; may be given
    /// several times
    #[arg(long = "list", value_name = "FILE")]
    pub lists: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Protecting {
    /// Rewrite what cannot be encrypted where it lies: elements coded as varints move to raw_data,
    /// and bytes of data files in which no tensor lies become zeros. `unprotect` then gives the
    /// rewritten model, which is equal in every value
    #[arg(long)]
    pub repack: bool,

    #[command(flatten)]
    pub recipients: RecipientArgs,

    /// A statement to authenticate along with the model, such as customer=acme
    #[arg(long = "claim", value_name = "KEY=VALUE", value_parser = pair)]
    pub claims: Vec<(String, String)>,

    /// OpenSSH private key to sign the result with, so that others can tell who made it
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,

    #[command(flatten)]
    pub policy: Policy,
}

#[derive(Debug, Args)]
pub struct Rotating {
    #[command(flatten)]
    pub recipients: NewRecipientArgs,

    /// A statement to add to the model's; it replaces one of the same key
    #[arg(long = "claim", value_name = "KEY=VALUE", value_parser = pair)]
    pub claims: Vec<(String, String)>,

    /// OpenSSH private key to sign the result with
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,

    /// Leave the result of a signed model unsigned
    #[arg(long, conflicts_with = "sign_key")]
    pub drop_signature: bool,

    #[command(flatten)]
    pub policy: Policy,
}

/// The demands on models, as arguments.
#[derive(Debug, Args)]
pub struct Verifying {
    #[command(flatten)]
    pub opening: OpeningArgs,
    #[command(flatten)]
    pub reader: ReaderArgs,

    /// Fail (6) if a model does not make this claim: KEY=VALUE, KEY with any value, or `not-after` or
    /// `not-before`, a date that must fit the present time. May be given several times. Only an
    /// identity or allowed signers prove claims
    #[arg(long = "require-claim", value_name = "CLAIM")]
    pub require_claims: Vec<String>,

    #[command(flatten)]
    pub policy: PolicyArgs,
}

/// The demands on models, read from files.
pub struct Demands<'a> {
    pub identities: Option<Identities>,
    pub signed_by: Option<SignedBy>,
    edition: Edition<'a>,
    licence: Option<Licence>,
    pub require: Option<Requirements>,
    pub policy: Option<CorePolicy>,
}

impl Protecting {
    /// Reads the options for one model, or for `many`.
    pub fn read(&self, many: bool) -> Result<ProtectOptions> {
        let mut options = ProtectOptions::new(self.policy.or_full(many)?);
        options.repack = self.repack;
        options.claims = io::claims(&self.claims)?;
        options.signing_key = self.sign_key.as_deref().map(signing_key).transpose()?;
        Ok(options)
    }
}

impl Rotating {
    /// Reads the options for one model, or for `many`.
    pub fn read(&self, many: bool) -> Result<RotateOptions> {
        Ok(RotateOptions {
            lock: self.policy.runnable.then_some(false),
            claims: io::claims(&self.claims)?,
            policy: self.policy.read(many)?.policy()?,
            signature: match &self.sign_key {
                Some(path) => Resign::With(signing_key(path)?),
                None if self.drop_signature => Resign::Drop,
                None => Resign::Refuse,
            },
            external_data: None,
        })
    }
}

impl Verifying {
    pub fn read(&self, many: bool) -> Result<Demands<'_>> {
        let policy = self.policy.read(many)?.policy()?;
        let identities = self.opening.identities.read()?;
        Ok(Demands {
            signed_by: self.opening.signers.read()?,
            edition: self.reader.edition_for(identities.as_ref())?,
            // Without an identity, one that the environment names is for other calls.
            licence: match &identities {
                Some(_) => self.reader.licence()?,
                None => None,
            },
            identities,
            require: match &self.require_claims[..] {
                [] => None,
                claims => Some(Requirements::parse(claims)?),
            },
            policy,
        })
    }
}

impl Demands<'_> {
    pub fn checks(&self) -> Checks<'_> {
        Checks {
            identities: self.identities.as_ref(),
            signed_by: self.signed_by.as_ref(),
            edition: self.edition,
            licence: self.licence.as_ref(),
            require: self.require.as_ref(),
            policy: self.policy.as_ref(),
            ..Checks::default()
        }
    }
}
