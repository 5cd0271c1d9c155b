//! Issues licences.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use onnxseal_crypto::signature::SigningKey;
use onnxseal_crypto::wrap::{Identities, Recipients};
use onnxseal_crypto::{DataKey, licence_mac};
use onnxseal_store::{Location, Progress};

use crate::error::{Error, Result};
use crate::format::dates::check_new;
use crate::format::licence::{Licence, LicensedModel, NO_TIER, encode, with_mac};
use crate::format::tiers::Edition;
use crate::open::protected::Protected;

/// The terms of a licence.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The tier that it opens; the original if absent.
    pub tier: Option<String>,
    /// Its statements: the customer, `not-before`, `not-after`, and others.
    pub claims: BTreeMap<String, String>,
}

/// Protected models, opened as far as their keys, for any number of licences.
#[derive(Debug)]
pub struct Issuer(Vec<Source>);

#[derive(Debug)]
struct Source {
    path: PathBuf,
    mac: Vec<u8>,
    tiers: Vec<String>,
    /// The keys of all tiers that the identities open, the least first.
    keys: Vec<DataKey>,
}

impl Issuer {
    /// Opens the keys of protected models with the publisher's identities. Authenticates manifests,
    /// tags and keys, and reads no weights.
    pub fn open(
        models: &[Location],
        identities: &Identities,
        progress: &dyn Progress,
    ) -> Result<Issuer> {
        let (mut sources, mut seen) = (Vec::new(), HashSet::new());
        for model in models {
            if progress.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let protected = Protected::open(model)?;
            let (key, _, key_tier) = protected.data_key(identities)?;
            let manifest = protected.manifest();
            let source = Source {
                path: model.to_name(),
                mac: protected.artifact.mac.clone(),
                tiers: manifest.tier_names().to_vec(),
                keys: key.with_lower(key_tier, manifest.n_tiers())?,
            };
            // A copy of a file opens with the same line.
            if seen.insert(source.mac.clone()) {
                sources.push(source);
            }
        }
        Ok(Issuer(sources))
    }

    /// Makes a licence with which `recipients` open all models, signed if there is a `signing_key`.
    pub fn issue(
        &self,
        recipients: &Recipients,
        terms: &Terms,
        signing_key: Option<&SigningKey>,
    ) -> Result<String> {
        check_new(&terms.claims, &terms.claims)?;
        let edition = terms.tier.as_deref().map_or(Edition::Whole, Edition::Tier);
        let (mut models, mut keys) = (Vec::new(), Vec::new());
        for source in &self.0 {
            let (tier, key) = source.edition(edition)?;
            if tier == Some(NO_TIER) {
                let fault = format!("no licence opens a tier that is called {NO_TIER:?}");
                return Err(Error::Usage(fault));
            }
            models.push(LicensedModel::new(&source.mac, tier, &source.path));
            keys.push(key);
        }
        let text = encode(&models, &terms.claims, &recipients.wrap_all(&keys)?)?;
        let mut text = with_mac(&text, &licence_mac(&keys, text.as_bytes())?);
        if let Some(key) = signing_key {
            text += &key.sign(text.as_bytes())?;
        }
        // What readers refuse is not issued: there may be too many models, or too many claims.
        Licence::parse(Path::new("the new one"), text.clone().into_bytes())?;
        Ok(text)
    }
}

impl Source {
    /// Returns the name of the tier that `edition` asks for, and its key.
    fn edition(&self, edition: Edition<'_>) -> Result<(Option<&str>, &DataKey)> {
        let key_tier = self.keys.len() as u8;
        let tier = edition.tier_of(&self.path, &self.tiers, key_tier)?;
        let index = usize::from(tier).saturating_sub(1);
        let key = (self.keys.get(index)).ok_or(Error::Internal("a tier without a key"))?;
        Ok((self.tiers.get(index).map(String::as_str), key))
    }
}
