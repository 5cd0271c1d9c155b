//! Checks as SARIF 2.1.0, which code scanning services show beside the files.
//!
//! Source: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use std::path::{Component, Path};

use onnxseal_core::Location;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};

use crate::checks::{Check, RULES, exit_code};

/// The characters to escape in a segment of a URI's path: all but the unreserved ones of RFC 3986,
/// section 2.3.
const NOT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Makes the log of one run. Relative URIs are relative to `folder`, the command's working
/// directory.
pub fn log(checks: &[Check], folder: &Path) -> Value {
    let rule = |rule: &crate::checks::Rule| {
        json!({
            "id": rule.id,
            "shortDescription": { "text": rule.title },
            "fullDescription": { "text": rule.meaning },
            "help": { "text": rule.help },
            "defaultConfiguration": { "level": "error" },
            "properties": { "tags": ["security"] },
        })
    };
    let artifact = |check: &Check| json!({ "location": location(&check.model, folder) });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "onnxseal",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": RULES.iter().map(rule).collect::<Vec<_>>(),
            } },
            "invocations": [{
                "executionSuccessful": true,
                "exitCode": exit_code(checks).unwrap_or(0),
            }],
            // Everything that was checked, including models without faults.
            "artifacts": checks.iter().map(artifact).collect::<Vec<_>>(),
            "results": checks.iter().filter_map(|check| result(check, folder)).collect::<Vec<_>>(),
        }],
    })
}

fn result(check: &Check, folder: &Path) -> Option<Value> {
    let rule = check.fault()?;
    let level = match check.failure() {
        Some(_) => "error",
        None => "note",
    };
    Some(json!({
        "ruleId": rule.id,
        "ruleIndex": RULES.iter().position(|one| one.id == rule.id),
        "level": level,
        "message": { "text": check.message().map(|text| plain(&text)) },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": location(&check.model, folder),
                // Services require a line, even for a binary file.
                "region": { "startLine": 1 },
            },
        }],
    }))
}

/// Escapes links and placeholders in a message (SARIF 2.1.0, sections 3.11.5 and 3.11.6), because
/// it may contain names from a model.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '[' | ']' => plain.extend(['\\', c]),
            '{' | '}' => plain.extend([c, c]),
            _ => plain.push(c),
        }
    }
    plain
}

/// Makes an `artifactLocation`: a relative URI below `folder`, a `file:` URI elsewhere, or an
/// object's URL.
fn location(model: &Location, folder: &Path) -> Value {
    let path = match model {
        Location::File(path) => path,
        object => {
            let url = object.to_string();
            let (scheme, path) = url.split_once("://").unwrap_or_default();
            return json!({ "uri": format!("{scheme}://{}", uri_path(Path::new(path))) });
        }
    };
    let full = lexical(&folder.join(path));
    match full.strip_prefix(lexical(folder)) {
        Ok(inner) => json!({ "uri": uri_path(inner), "uriBaseId": "%SRCROOT%" }),
        Err(_) => {
            let path = uri_path(&full);
            json!({ "uri": format!("file:///{}", path.trim_start_matches('/')) })
        }
    }
}

/// Removes `.` from `path`, and `..` as far as names allow.
fn lexical(path: &Path) -> std::path::PathBuf {
    let mut plain = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// Percent-encodes the names of `path`, with `/` between them.
fn uri_path(path: &Path) -> String {
    let names = path.components().filter_map(|part| match part {
        Component::RootDir => None,
        part => {
            Some(percent_encode(part.as_os_str().as_encoded_bytes(), NOT_UNRESERVED).to_string())
        }
    });
    names.collect::<Vec<_>>().join("/")
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn locations_are_relative_where_they_can_be() {
        let uri = |model: &str| {
            let model = Location::parse(model).unwrap();
            location(&model, Path::new("/src/a b"))["uri"].clone()
        };
        for (path, expected) in [
            ("m.onnx", "m.onnx"),
            ("./x/../m.onnx", "m.onnx"),
            ("/src/a b/x/m.onnx", "x/m.onnx"),
            ("ü/100 %#?:.onnx", "%C3%BC/100%20%25%23%3F%3A.onnx"),
            ("../m.onnx", "file:///src/m.onnx"),
            ("/x y/m.onnx", "file:///x%20y/m.onnx"),
            ("s3://bucket/x y/m.onnx", "s3://bucket/x%20y/m.onnx"),
        ] {
            assert_eq!(uri(path), expected);
        }
    }
}
