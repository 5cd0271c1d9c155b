//! Marks of customers, as arguments of calls.

use std::fs::File;
use std::path::PathBuf;

use onnxseal_core::Location;
use onnxseal_fingerprint::{Secret, apply};

use crate::errors::{Result, io, usage};
use crate::keys::{IdentityArgs, read_identities};
use crate::keywords::{Keywords, Later};

/// Takes the arguments for a mark in a model that is protected: what gives the model, which is marked as it is read.
pub fn marked(keywords: &Keywords<'_>, model: Location) -> Result<Later<Location>> {
    let Some(customer) = keywords.get::<Option<String>>("fingerprint")? else {
        return match keywords.get::<Option<PathBuf>>("fingerprint_secret")? {
            None => Ok(Box::new(move |_| Ok(model))),
            Some(_) => Err(usage("fingerprint_secret is given, and no fingerprint")),
        };
    };
    let secret = secret(keywords, "fingerprint_secret")?;
    Ok(Box::new(move |progress| {
        let secret = secret(progress)?;
        Ok(apply(&model, &secret, &customer, None, progress)?.model)
    }))
}

/// Takes the arguments that name the vendor's secret, and what opens it.
pub fn secret(keywords: &Keywords<'_>, name: &str) -> Result<Later<Secret>> {
    let path: PathBuf = keywords.read(name)?;
    let identity: Option<IdentityArgs> = keywords.read("identity")?;
    Ok(Box::new(move |progress| {
        let identities = read_identities(identity, progress)?;
        let file = File::open(&path).map_err(io("read", &path))?;
        Ok(Secret::read(file, &path, identities.as_ref())?)
    }))
}
