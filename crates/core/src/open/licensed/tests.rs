//! Licences, and models with dates, that another implementation wrote: `fixtures/sealed` by
//! `expected.json`. They need a clock of their own.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onnxseal_crypto::signature::AllowedSigners;
use onnxseal_store::{Location, Silent};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::format::dates::moments;
use crate::format::tiers::Edition;
use crate::open::model::open_whole;
use crate::pass::signature::SignedBy;

fn sealed(file: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/sealed");
    PathBuf::from(folder).join(file)
}

/// Opens a model as the reader of an entry does. Returns the digests of all files, by their names.
fn opened(entry: &Value) -> Result<BTreeMap<String, String>> {
    let text = |member: &str| entry[member].as_str();
    let read = |folder: &str, name: &str| fs::read(sealed(folder).join(name)).unwrap();
    let identity = text("identity").unwrap();
    let identities = Identities::read(&read("keys", identity)[..], identity).unwrap();
    let signed_by = text("allowed_signers").map(|name| SignedBy {
        allowed: AllowedSigners::read(&read("keys", name)[..], name).unwrap(),
        signer: None,
    });
    let licence = text("licence").map(|name| Licence::parse(Path::new(name), read("", name)));
    let licence = licence.transpose()?;
    let access = Access {
        identities: &identities,
        signed_by: signed_by.as_ref(),
        edition: text("tier").map_or(Edition::Whole, Edition::Tier),
        licence: licence.as_ref(),
    };
    let at = text("now").map_or_else(crate::format::dates::now, |now| moments(now).unwrap().start);
    let location = Location::File(sealed(text("file").unwrap()));
    let unlocked = Arc::new(Protected::open(&location)?).unlock_at(access, at)?;
    let model = open_whole(unlocked, None, &Silent)?;
    let digest = |bytes: &[u8]| base16ct::lower::encode_string(&Sha256::digest(bytes));
    let mut files = BTreeMap::from([(String::new(), digest(&model.original_model()))]);
    files.extend((model.original_external_files()).map(|(path, bytes)| (path, digest(bytes))));
    Ok(files)
}

fn entries(kind: &str) -> Vec<Value> {
    let expected: Value =
        serde_json::from_slice(&fs::read(sealed("expected.json")).unwrap()).unwrap();
    let entries = expected[kind].as_array().unwrap().clone();
    assert!(entries.len() > 100, "{kind}");
    entries
}

#[test]
fn licences_open_models() {
    for entry in entries("licences_valid") {
        let files = opened(&entry).unwrap_or_else(|error| panic!("{entry}: {error}"));
        assert_eq!(
            serde_json::to_value(files).unwrap(),
            entry["files"],
            "{entry}"
        );
    }
}

#[test]
fn what_no_licence_opens_has_the_right_class() {
    let mut wrong = Vec::new();
    for entry in entries("licences_invalid") {
        let kind = match opened(&entry) {
            Ok(_) => "opened".into(),
            Err(Error::LowerTier { .. } | Error::NoSuchTier { .. }) => "lower_tier".into(),
            Err(error) => serde_json::to_value(error.kind()).unwrap(),
        };
        let class = &entry["class"];
        if !(class == &kind || class.as_array().is_some_and(|all| all.contains(&kind))) {
            wrong.push(format!("{kind}: {entry}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
