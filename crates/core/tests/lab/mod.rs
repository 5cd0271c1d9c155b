//! What the integration tests share: a folder with an identity, and the main calls on it.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use onnxseal_core::{
    Error, Identities, OutputOptions, Policy, Preset, ProtectOptions, Recipients, Report, Silent,
    generate_identity, open, protect, unprotect,
};
use onnxseal_testkit::Sample;
use tempfile::TempDir;

/// A temporary folder and a key pair.
pub struct Lab {
    pub dir: TempDir,
    pub recipients: Recipients,
    pub identities: Identities,
}

impl Lab {
    pub fn new() -> Lab {
        Lab::within(&std::env::temp_dir())
    }

    /// One in `folder`.
    pub fn within(folder: &Path) -> Lab {
        let identity = generate_identity();
        let recipients = Recipients::parse(&[identity.recipient()]).unwrap();
        let text = identity.to_file_text();
        let identities = Identities::read(text.as_bytes(), "test identity").unwrap();
        Lab {
            dir: tempfile::tempdir_in(folder).unwrap(),
            recipients,
            identities,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `sample` into the folder `name` and returns the model's path.
    pub fn write(&self, sample: &Sample, name: &str) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        sample.write(&folder).unwrap()
    }

    /// Protects `model` to `folder/model.onnx` with small chunks, so that there are several.
    pub fn protect(&self, model: &Path, folder: &str, preset: Preset) -> Result<PathBuf, Error> {
        let output = self.path(folder).join("model.onnx");
        self.protect_to(model, &output, Policy::preset(preset))
            .map(|_| output)
    }

    pub fn protect_to(&self, model: &Path, to: &Path, policy: Policy) -> Result<Report, Error> {
        let mut options = ProtectOptions::new(policy);
        options.chunk_bytes = 1 << 16;
        options.claims.insert("customer".into(), "acme".into());
        protect(model, to, &self.recipients, &options, &Silent)
    }

    pub fn unprotect(&self, model: &Path, folder: &str) -> Result<PathBuf, Error> {
        let output = self.path(folder).join("model.onnx");
        unprotect(
            model,
            &output,
            &self.identities,
            OutputOptions::default(),
            &Silent,
        )
        .map(|()| output)
    }

    pub fn open(&self, model: &Path) -> Result<onnxseal_core::OpenedModel, Error> {
        open(model, &self.identities, &Silent)
    }
}

/// Every file below `folder` with its bytes, in order of path.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}
