//! The key of a model from a licence, or from the model itself.

use onnxseal_crypto::wrap::Identities;
use onnxseal_crypto::{self as crypto, DataKey, OpenKeys};
use onnxseal_store::shown;

use crate::error::{Error, Result, metadata, no_key};
use crate::format::dates::Moment;
use crate::format::licence::{LICENCE_SUFFIX, Licence, MAX_LICENCE_BYTES, check_in_force};
use crate::open::protected::Protected;
use crate::pass::signature::Access;

impl Protected {
    /// Returns the key that `access` has, and its tier: from the licence that it names, or else from
    /// the model itself. A licence beside the model is used if no identity opens the model itself.
    ///
    /// A licence must be in force at `at`.
    pub(crate) fn key_for(
        &self,
        access: &Access<'_>,
        at: Moment,
    ) -> Result<(DataKey, OpenKeys, u8)> {
        let named = access.licence.filter(|licence| {
            !licence.is_optional || licence.index_of(&self.artifact.mac).is_some()
        });
        if let Some(licence) = named {
            return self.licensed_key(licence, access, at);
        }
        let mut error = match self.data_key(access.identities) {
            Err(
                error @ (Error::NoMatchingKey { .. }
                | Error::Key(crypto::Error::WrongPassphrase { .. })),
            ) => error,
            other => return other,
        };
        let unfit = match self.licence_beside()? {
            Some(licence) if licence.index_of(&self.artifact.mac).is_some() => {
                return self.licensed_key(&licence, access, at);
            }
            beside => beside.or_else(|| access.licence.cloned()),
        };
        if let (Error::NoMatchingKey { licence, .. }, Some(unfit)) = (&mut error, unfit) {
            *licence = Some(format!("{} is for other files", shown(&unfit.path)));
        }
        Err(error)
    }

    /// Reads the licence beside the model, if a file lies there that can be opened.
    fn licence_beside(&self) -> Result<Option<Licence>> {
        let name = self.path().file_name().and_then(|name| name.to_str());
        let Some(name) = name.map(|name| format!("{name}{LICENCE_SUFFIX}")) else {
            return Ok(None);
        };
        let Ok(input) = self.source.input.open_beside(&name) else {
            return Ok(None);
        };
        let mut bytes = vec![0; input.len.min(MAX_LICENCE_BYTES as u64 + 1) as usize];
        input.read_exact_at(&mut bytes, 0)?;
        Licence::parse(&input.path, bytes).map(Some)
    }

    fn licensed_key(
        &self,
        licence: &Licence,
        access: &Access<'_>,
        at: Moment,
    ) -> Result<(DataKey, OpenKeys, u8)> {
        let path = || licence.path.clone();
        (self.artifact.keys.check()).map_err(|error| metadata(self.path())(error.to_string()))?;
        let (mac, manifest) = (&self.artifact.mac, self.manifest());
        let index = licence.index_of(mac).ok_or_else(|| Error::NotLicensed {
            path: path(),
            model: self.path().to_owned(),
        })?;
        let mut keys = licence.keys(access.identities)?;
        if let Some(by) = access.signed_by {
            licence.check_signed(&by.allowed, by.signer.as_deref())?;
        }
        check_in_force(&licence.path, licence.claims(), at)?;
        let tier = match licence
            .models()
            .get(index)
            .and_then(|model| model.tier.as_deref())
        {
            Some(name) => manifest.tier_named(name),
            None => (manifest.n_tiers() == 1).then_some(1),
        };
        let tier = tier.ok_or_else(|| Error::Licence {
            path: path(),
            reason: "it is for a tier that the model lacks".into(),
        })?;
        let key = keys.swap_remove(index);
        let open = self.artifact.open_keys(tier, &key);
        let open = open.ok_or_else(|| Error::Manifest(self.path().to_owned()))?;
        Ok((key, open, tier))
    }
}

impl Licence {
    /// Checks with `identities` that nobody changed the licence but somebody with all its keys.
    pub fn check_unchanged(&self, identities: &Identities) -> Result<()> {
        self.keys(identities).map(drop)
    }

    /// Unwraps the keys of all models, and checks with them that nobody changed the licence.
    fn keys(&self, identities: &Identities) -> Result<Vec<DataKey>> {
        let unwrapped = identities.unwrap_all(self.wrapped(), self.models().len());
        let path = || self.path.clone();
        let keys = unwrapped.map_err(|error| match error {
            crypto::Error::Unauthentic => Error::LicenceChanged(path()),
            crypto::Error::MalformedKey { .. } | crypto::Error::LimitExceeded { .. } => {
                let (path, reason) = (path(), error.to_string());
                Error::Licence { path, reason }
            }
            error => no_key(&self.path, error),
        })?;
        let checked =
            crypto::check_licence(&keys.iter().collect::<Vec<_>>(), self.maced(), &self.mac);
        checked.map_err(|_| Error::LicenceChanged(path()))?;
        Ok(keys)
    }
}

#[cfg(test)]
mod tests;
