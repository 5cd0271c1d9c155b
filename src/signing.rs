//! Reads the arguments for opening and signing: demanded signers and tiers, keys that sign.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use onnxseal_core::{Access, AllowedSigners, Edition, Error, Identities, SignedBy, SigningKey};

use crate::exit::usage;
use crate::keys::IdentityArgs;
use crate::{keys, prompt};

#[derive(Debug, Args)]
pub struct OpeningArgs {
    #[command(flatten)]
    pub identities: IdentityArgs,

    /// Refuse a model that is not signed by a key of this OpenSSH allowed_signers file
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,

    /// The signer in that file, such as release@example.com, who must have signed
    #[arg(long, value_name = "PRINCIPAL", requires = "allowed_signers")]
    pub signer: Option<String>,
}

#[derive(Debug, Args)]
pub struct TierArgs {
    /// Accept this tier of a model that has tiers, or `any` for the highest that the identities
    /// open. A tier below the highest is not the original
    #[arg(long, value_name = "TIER")]
    pub tier: Option<String>,
}

pub struct Opening {
    identities: Identities,
    signed_by: Option<SignedBy>,
}

impl OpeningArgs {
    /// Reads identities and signers, and fails without an identity.
    pub fn require(&self) -> Result<Opening> {
        Ok(Opening {
            identities: self.identities.require()?,
            signed_by: self.signed_by()?,
        })
    }

    pub fn signed_by(&self) -> Result<Option<SignedBy>> {
        let Some(path) = &self.allowed_signers else {
            return Ok(None);
        };
        let (file, name) = keys::open(path, "--allowed-signers")?;
        let allowed = AllowedSigners::read(file, &name).map_err(Error::Key)?;
        let signer = self.signer.clone();
        Ok(Some(SignedBy { allowed, signer }))
    }
}

impl TierArgs {
    pub fn edition(&self) -> Edition<'_> {
        self.tier.as_deref().map_or(Edition::Whole, Edition::named)
    }

    /// Returns the accepted edition for optional identities. Fails if the command names a tier
    /// without identities to open it.
    pub fn edition_for(&self, identities: Option<&Identities>) -> Result<Edition<'_>> {
        match (&self.tier, identities) {
            (Some(_), None) => Err(usage(
                "--tier says which tier an identity must open: give --identity too",
            )),
            _ => Ok(self.edition()),
        }
    }
}

impl Opening {
    pub fn access(&self) -> Access<'_> {
        Access {
            identities: &self.identities,
            signed_by: self.signed_by.as_ref(),
            edition: Edition::Whole,
        }
    }

    pub fn access_to<'a>(&'a self, tier: &'a TierArgs) -> Access<'a> {
        Access {
            edition: tier.edition(),
            ..self.access()
        }
    }
}

/// Reads an OpenSSH private key, and asks for its passphrase if it has one.
pub fn signing_key(path: &Path) -> Result<SigningKey> {
    let (file, name) = keys::open(path, "the signing key")?;
    let passphrase = || prompt::passphrase_of_key(&name);
    Ok(SigningKey::read(file, &name, passphrase).map_err(Error::Key)?)
}
