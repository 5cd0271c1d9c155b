//! Models with tiers that another implementation sealed: `fixtures/sealed/tiers` by
//! `expected.json`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use onnxseal_core::{
    Access, Checks, Edition, Error, ErrorKind, Identities, OpenedModel, Silent, open,
    signed_message, verify,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn sealed(file: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/sealed");
    PathBuf::from(folder).join(file)
}

fn expected(kind: &str) -> Vec<Value> {
    let text = fs::read(sealed("expected.json")).unwrap();
    let all: Value = serde_json::from_slice(&text).unwrap();
    all[kind].as_array().unwrap().clone()
}

fn identities(name: &str) -> Identities {
    let text = fs::read(sealed("keys").join(name)).unwrap();
    Identities::read(&text[..], name).unwrap()
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("{value}"))
}

fn opened(file: &str, identities: &Identities, edition: Edition<'_>) -> Result<OpenedModel, Error> {
    let access = Access {
        identities,
        signed_by: None,
        edition,
        licence: None,
    };
    open(sealed(file), access, &Silent)
}

/// The SHA-256 of every file, under the names that the original has.
fn digests(model: &OpenedModel) -> BTreeMap<String, String> {
    let hex = |bytes: &[u8]| {
        let mut hex = String::new();
        for byte in Sha256::digest(bytes) {
            write!(hex, "{byte:02x}").unwrap();
        }
        hex
    };
    let mut digests = BTreeMap::from([(String::new(), hex(&model.original_model()))]);
    digests.extend(
        model
            .original_external_files()
            .map(|(path, bytes)| (path, hex(bytes))),
    );
    digests
}

#[test]
fn every_key_opens_its_tier_and_lower_ones() {
    let valid = expected("tiers_valid");
    assert!(valid.len() > 20);
    for entry in &valid {
        let file = text(entry, "file");
        let tiers = entry["tiers"].as_array().unwrap();
        for (held, holder) in tiers.iter().enumerate() {
            let Some(identity) = holder["identity"].as_str().filter(|name| !name.is_empty()) else {
                continue;
            };
            // The highest tier that the identity opens.
            let held = (held..tiers.len())
                .rev()
                .find(|&tier| tiers[tier]["identity"] == identity)
                .unwrap();
            let identities = identities(identity);
            for (number, tier) in tiers.iter().enumerate() {
                let name = text(tier, "name");
                let result = opened(file, &identities, Edition::Tier(name));
                if number > held {
                    let refused = result.unwrap_err();
                    assert!(
                        matches!(refused, Error::LowerTier { .. }),
                        "{file}: {refused}"
                    );
                    continue;
                }
                let model = result.unwrap_or_else(|error| panic!("{file} {name}: {error}"));
                let files: BTreeMap<String, String> =
                    serde_json::from_value(tier["files"].clone()).unwrap();
                assert_eq!(digests(&model), files, "{file} {name} by {identity}");
                assert_eq!(model.tier(), Some(name));
                assert_eq!(model.is_original(), number + 1 == tiers.len());
            }
            let any = opened(file, &identities, Edition::Any).unwrap();
            assert_eq!(any.tier(), Some(text(&tiers[held], "name")));
            let is_highest = held + 1 == tiers.len();
            let whole = opened(file, &identities, Edition::Whole);
            assert_eq!(whole.is_ok(), is_highest, "{file} by {identity}");
            let other = opened(file, &identities, Edition::Tier("no-such-tier"));
            assert!(matches!(other, Err(Error::NoSuchTier { .. })), "{file}");
            let checks = Checks {
                identities: Some(&identities),
                edition: Edition::Any,
                ..Checks::default()
            };
            assert!(
                verify(sealed(file), &checks, &Silent)
                    .unwrap()
                    .authenticated
            );
        }
        let message = signed_message(sealed(file), &Silent).unwrap();
        let digest = Sha256::digest(message);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, text(entry, "signed_message"), "{file}");
    }
}

/// Whether `error` is of one of the classes that `entry` allows.
fn is_of_class(entry: &Value, error: &Error) -> bool {
    let classes = match &entry["class"] {
        Value::Array(classes) => classes.clone(),
        one => vec![one.clone()],
    };
    classes.iter().any(|class| match class.as_str().unwrap() {
        "malformed" => error.kind() == ErrorKind::Malformed,
        "authentication" => error.kind() == ErrorKind::Authentication,
        "no_matching_key" => matches!(error, Error::NoMatchingKey { .. }),
        // The tier that is asked for is not what the key or the model has.
        "lower_tier" => matches!(error, Error::LowerTier { .. } | Error::NoSuchTier { .. }),
        "io" => error.kind() == ErrorKind::Io,
        other => panic!("class {other}"),
    })
}

#[test]
fn every_fault_is_refused_by_its_class() {
    let invalid = expected("tiers_invalid");
    assert!(invalid.len() > 200);
    let mut wrong = Vec::new();
    for entry in &invalid {
        let (file, identity) = (text(entry, "file"), text(entry, "identity"));
        let edition = match entry["tier"].as_str() {
            Some(tier) => Edition::Tier(tier),
            None => Edition::Whole,
        };
        let identities = identities(identity);
        let checks = Checks {
            identities: Some(&identities),
            edition,
            ..Checks::default()
        };
        let results = [
            opened(file, &identities, edition).map(drop),
            verify(sealed(file), &checks, &Silent).map(drop),
        ];
        for result in results {
            match result {
                Err(error) if is_of_class(entry, &error) => {}
                other => wrong.push(format!("{entry}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a lower tier's key does not tell. `every_fault_is_refused_by_its_class` has the same files
/// refused by a higher one.
#[test]
fn lower_tiers_notice_what_is_theirs_alone() {
    let unnoticed = expected("tiers_unnoticed");
    assert!(!unnoticed.is_empty());
    for entry in &unnoticed {
        let (file, tier) = (text(entry, "file"), text(entry, "tier"));
        let identities = identities(text(entry, "identity"));
        let model = opened(file, &identities, Edition::Tier(tier));
        let model = model.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(model.tier(), Some(tier));
    }
}
