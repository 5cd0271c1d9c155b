//! Reads the arguments for opening and signing: demanded signers and tiers, keys that sign.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use onnxseal_core::{
    Access, AllowedSigners, Edition, Error, Identities, Licence, SignedBy, SigningKey,
    licence_of_environment, read_licence,
};

use crate::exit::usage;
use crate::keys::IdentityArgs;
use crate::{keys, prompt};

#[derive(Debug, Args)]
pub struct OpeningArgs {
    #[command(flatten)]
    pub identities: IdentityArgs,
    #[command(flatten)]
    pub signers: SignerArgs,
}

#[derive(Debug, Args)]
pub struct SignerArgs {
    /// Refuse what is not signed by a key of this OpenSSH allowed_signers file
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,

    /// The signer in that file, such as release@example.com, who must have signed
    #[arg(long, value_name = "PRINCIPAL", requires = "allowed_signers")]
    pub signer: Option<String>,
}

/// The arguments of commands that open models for readers.
#[derive(Debug, Args)]
pub struct ReaderArgs {
    /// Accept this tier of a model that has tiers, or `any` for the highest that the identities
    /// open. A tier below the highest is not the original
    #[arg(long, value_name = "TIER")]
    pub tier: Option<String>,

    /// Open with this licence. Default: the file that ONNXSEAL_LICENCE names, or MODEL.licence if no
    /// identity opens the model itself
    #[arg(long, value_name = "FILE")]
    pub licence: Option<PathBuf>,
}

pub struct Opening {
    identities: Identities,
    signed_by: Option<SignedBy>,
    licence: Option<Licence>,
}

impl OpeningArgs {
    /// Reads identities and signers, and fails without an identity.
    pub fn require(&self) -> Result<Opening> {
        Ok(Opening {
            identities: self.identities.require()?,
            signed_by: self.signers.read()?,
            licence: None,
        })
    }

    /// Reads them for a reader, who may have a licence.
    pub fn require_for(&self, reader: &ReaderArgs) -> Result<Opening> {
        Ok(Opening {
            licence: reader.licence()?,
            ..self.require()?
        })
    }
}

impl SignerArgs {
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

impl ReaderArgs {
    pub fn edition(&self) -> Edition<'_> {
        self.tier.as_deref().map_or(Edition::Whole, Edition::named)
    }

    /// Reads the licence that the command line or the environment names.
    pub fn licence(&self) -> Result<Option<Licence>> {
        Ok(match &self.licence {
            Some(path) => Some(read_licence(path, "--licence")?),
            None => licence_of_environment()?,
        })
    }

    /// Returns the accepted edition for optional identities. Fails if the command names a tier
    /// without identities to open it.
    pub fn edition_for(&self, identities: Option<&Identities>) -> Result<Edition<'_>> {
        match (&self.tier, &self.licence, identities) {
            (Some(_), _, None) => Err(usage(
                "--tier says which tier an identity must open: give --identity too",
            )),
            (_, Some(_), None) => Err(usage(
                "an identity opens a licence: give --identity with --licence",
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
            licence: self.licence.as_ref(),
        }
    }

    pub fn access_to<'a>(&'a self, reader: &'a ReaderArgs) -> Access<'a> {
        Access {
            edition: reader.edition(),
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
