//! What the integration tests share: a folder with an identity, and the main calls on it.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use onnxseal_core::{
    Destination, Error, Flush, Identities, Policy, Preset, ProtectOptions, Recipients, Report,
    SigningKey, Silent, generate_identity, open, protect, unprotect,
};
use onnxseal_testkit::Sample;
use tempfile::TempDir;

/// Where a model is changed without waiting for the disk.
pub const IN_PLACE: Destination<'static> = Destination::InPlace(Flush::Later);

/// Test keys: they protect nothing.
pub const ALICE: (&str, &str) = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHLlyz7lQK+p+W5lkA5qiGXE1GlZU9d263TsIMkMJoSD",
    "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACBy5cs+5UCvqfluZZAOaohlxNRpWVPXdut07CDJDCaEgwAAAKBnXfM8Z13z
PAAAAAtzc2gtZWQyNTUxOQAAACBy5cs+5UCvqfluZZAOaohlxNRpWVPXdut07CDJDCaEgw
AAAEDoW48c1KUd2ZJ+YXTYwdG+dHx6VWLpG/ui7sSfOx6HxnLlyz7lQK+p+W5lkA5qiGXE
1GlZU9d263TsIMkMJoSDAAAAGnRlc3Qga2V5OiBwcm90ZWN0cyBub3RoaW5nAQID
-----END OPENSSH PRIVATE KEY-----
",
);
pub const BOB: (&str, &str) = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAxqD4iCwlR2MQ3sy3dM1hW7HuTfhVlAe58Qfl5eFWPB",
    "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACAMag+IgsJUdjEN7Mt3TNYVux7k34VZQHufEH5eXhVjwQAAAKCVtLCAlbSw
gAAAAAtzc2gtZWQyNTUxOQAAACAMag+IgsJUdjEN7Mt3TNYVux7k34VZQHufEH5eXhVjwQ
AAAEAtGTDwzLvb6rYYVpa0xyNCpRza/rV0wZC+svYM4ouarwxqD4iCwlR2MQ3sy3dM1hW7
HuTfhVlAe58Qfl5eFWPBAAAAGnRlc3Qga2V5OiBwcm90ZWN0cyBub3RoaW5nAQID
-----END OPENSSH PRIVATE KEY-----
",
);

pub fn key((_, private): (&str, &str)) -> SigningKey {
    let passphrase = || unreachable!("the key is not encrypted");
    SigningKey::read(private.as_bytes(), "test key", passphrase).unwrap()
}

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

    /// Protects `model` as [`Lab::protect`] does, even if little or nothing of it can be encrypted.
    pub fn protect_part(&self, model: &Path, folder: &str, preset: Preset) -> PathBuf {
        let output = self.path(folder).join("model.onnx");
        let mut policy = Policy::preset(preset);
        policy.allow_clear("*").unwrap();
        self.protect_to(model, &output, policy).unwrap();
        output
    }

    pub fn protect_to(&self, model: &Path, to: &Path, policy: Policy) -> Result<Report, Error> {
        let mut options = ProtectOptions::new(policy);
        options.chunk_bytes = 1 << 16;
        options.claims.insert("customer".into(), "acme".into());
        protect(model, to, &self.recipients, &options, &Silent)
    }

    pub fn unprotect(&self, model: &Path, folder: &str) -> Result<PathBuf, Error> {
        let output = self.path(folder).join("model.onnx");
        unprotect(model, &output, &self.identities, &Silent).map(|_| output)
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
