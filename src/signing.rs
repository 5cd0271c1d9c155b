//! Reads the arguments for signatures: keys that sign, and demanded signers.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use onnxseal_core::{
    Access, AllowedSigners, Edition, Error, Identities, Requirements, Resign, SignedBy, SigningKey,
};

use crate::exit::Usage;
use crate::keys::IdentityArgs;
use crate::{keys, prompt};

/// The key to sign with.
#[derive(Debug, Args)]
pub struct SigningArgs {
    /// OpenSSH private key to sign the protected model with, so that others can tell who made it
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,
}

/// Says how to sign a model that is encrypted again.
#[derive(Debug, Args)]
pub struct ResigningArgs {
    /// OpenSSH private key to sign the result with
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,

    /// Leave the result of a signed model unsigned
    #[arg(long, conflicts_with = "sign_key")]
    pub drop_signature: bool,
}

/// The demanded signer of a model.
#[derive(Debug, Args)]
pub struct SignerArgs {
    /// Refuse a model that is not signed by a key of this OpenSSH allowed_signers file
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,

    /// The signer in that file, such as release@example.com, who must have signed
    #[arg(long, value_name = "PRINCIPAL", requires = "allowed_signers")]
    pub signer: Option<String>,
}

/// The identities that open a model, and its demanded signer.
#[derive(Debug, Args)]
pub struct OpeningArgs {
    #[command(flatten)]
    pub identities: IdentityArgs,
    #[command(flatten)]
    pub signer: SignerArgs,
}

/// The claims that a model must make.
#[derive(Debug, Args)]
pub struct ClaimArgs {
    /// Fail (6) if a model does not make this claim: KEY=VALUE, KEY with any value, or `not-after` or
    /// `not-before`, a date that must fit the present time. May be given several times. Only an
    /// identity or allowed signers prove claims
    #[arg(long = "require-claim", value_name = "CLAIM")]
    pub require_claims: Vec<String>,
}

/// The accepted edition of a model with tiers.
#[derive(Debug, Args)]
pub struct TierArgs {
    /// Accept this tier of a model that has tiers, or `any` for the highest that the identities
    /// open. A tier below the highest is not the original
    #[arg(long, value_name = "TIER")]
    pub tier: Option<String>,
}

/// The identities and signers, read from files.
pub struct Opening {
    identities: Identities,
    signed_by: Option<SignedBy>,
}

impl SigningArgs {
    /// Reads the key, if one is given, and asks for its passphrase if it has one.
    pub fn read(&self) -> Result<Option<SigningKey>> {
        self.sign_key.as_deref().map(signing_key).transpose()
    }
}

impl ResigningArgs {
    /// Reads the key, if one is given, and asks for its passphrase if it has one.
    pub fn read(&self) -> Result<Resign> {
        Ok(match &self.sign_key {
            Some(path) => Resign::With(signing_key(path)?),
            None if self.drop_signature => Resign::Drop,
            None => Resign::Refuse,
        })
    }
}

impl SignerArgs {
    /// Reads the demanded signers, if the command demands any.
    pub fn read(&self) -> Result<Option<SignedBy>> {
        let Some(path) = &self.allowed_signers else {
            return Ok(None);
        };
        let (file, name) = keys::open(path, "--allowed-signers")?;
        let allowed = AllowedSigners::read(file, &name).map_err(Error::Key)?;
        let signer = self.signer.clone();
        Ok(Some(SignedBy { allowed, signer }))
    }
}

impl OpeningArgs {
    /// Reads identities and signers, and fails without an identity.
    pub fn require(&self, quiet: bool) -> Result<Opening> {
        Ok(Opening {
            identities: self.identities.require(quiet)?,
            signed_by: self.signer.read()?,
        })
    }

    /// Reads identities and signers, as far as they are given.
    pub fn read(&self, quiet: bool) -> Result<(Option<Identities>, Option<SignedBy>)> {
        Ok((self.identities.read(quiet)?, self.signer.read()?))
    }
}

impl ClaimArgs {
    /// Reads the required claims, if the command requires any.
    pub fn read(&self) -> Result<Option<Requirements>> {
        if self.require_claims.is_empty() {
            return Ok(None);
        }
        Ok(Some(Requirements::parse(&self.require_claims)?))
    }
}

impl TierArgs {
    /// Returns the accepted edition.
    pub fn edition(&self) -> Edition<'_> {
        self.tier.as_deref().map_or(Edition::Whole, Edition::named)
    }

    /// Returns the accepted edition for optional identities. Fails if the command names a tier
    /// without identities to open it.
    pub fn edition_for(&self, identities: Option<&Identities>) -> Result<Edition<'_>> {
        match (&self.tier, identities) {
            (Some(_), None) => {
                let text = "--tier says which tier an identity must open: give --identity too";
                Err(Usage(text.into()).into())
            }
            _ => Ok(self.edition()),
        }
    }
}

impl Opening {
    /// Returns the access to a model.
    pub fn access(&self) -> Access<'_> {
        access(&self.identities, self.signed_by.as_ref())
    }

    /// Returns the access to the edition that `tier` names.
    pub fn access_to<'a>(&'a self, tier: &'a TierArgs) -> Access<'a> {
        Access {
            edition: tier.edition(),
            ..self.access()
        }
    }
}

/// Returns the access to a model.
pub fn access<'a>(identities: &'a Identities, signed_by: Option<&'a SignedBy>) -> Access<'a> {
    Access {
        identities,
        signed_by,
        edition: Edition::Whole,
    }
}

/// Reads an OpenSSH private key, and asks for its passphrase if it has one.
pub fn signing_key(path: &Path) -> Result<SigningKey> {
    let (file, name) = keys::open(path, "the signing key")?;
    let passphrase = || prompt::passphrase_of_key(&name);
    Ok(SigningKey::read(file, &name, passphrase).map_err(Error::Key)?)
}
