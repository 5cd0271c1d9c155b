//! Marks of customers, as arguments of calls.

use std::fs::File;
use std::path::PathBuf;

use onnxseal_core::Location;
use onnxseal_fingerprint::{Secret, apply};
use pyo3::prelude::*;

use crate::errors::{Result, io, usage};
use crate::keys::{IdentityArgs, read_identities};
use crate::keywords::{Keywords, Later};

/// Takes the arguments for a mark in a model that is protected: what gives the model, which is marked as it is read.
pub fn marked(keywords: &Keywords<'_>, model: Location) -> Result<Later<Location>> {
    let Some(customer) = keywords.get::<Option<String>>("fingerprint")? else {
        for name in ["fingerprint_secret", "fingerprint_identity"] {
            if keywords.get::<Option<Py<PyAny>>>(name)?.is_some() {
                return Err(usage(format!("{name} is given, and no fingerprint")));
            }
        }
        return Ok(Box::new(move |_| Ok(model)));
    };
    let secret = secret(keywords, ["fingerprint_secret", "fingerprint_identity"])?;
    Ok(Box::new(move |progress| {
        let secret = secret(progress)?;
        Ok(apply(&model, &secret, &customer, None, progress)?.model)
    }))
}

/// Takes the arguments that name the vendor's secret, and what opens it.
pub fn secret(keywords: &Keywords<'_>, [path, identity]: [&str; 2]) -> Result<Later<Secret>> {
    let path: PathBuf = keywords.read(path)?;
    let identity: Option<IdentityArgs> = keywords.read(identity)?;
    Ok(Box::new(move |progress| {
        let identities = read_identities(identity, progress)?;
        let file = File::open(&path).map_err(io("read", &path))?;
        Ok(Secret::read(file, &path, identities.as_ref())?)
    }))
}
