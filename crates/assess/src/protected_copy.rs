//! Protects the model by a policy into a temporary folder, to open its tiers' editions.

use std::path::PathBuf;

use onnxseal_core::{
    Access, Bytes, Edition, Flush, Identities, InMemory, OutputOptions, Policy, ProtectOptions,
    Publication, Recipients, Report, Silent, TierRecipients,
};
use onnxseal_engine::Files;
use tempfile::TempDir;

use crate::error::Result;
use crate::subject::{Subject, files_of};

/// A protected model in a temporary folder, which is removed on drop.
pub(crate) struct ProtectedCopy {
    _folder: TempDir,
    path: PathBuf,
    identities: Identities,
    /// The report on what was encrypted.
    pub(crate) report: Report,
}

impl ProtectedCopy {
    /// Protects `subject` by `policy`, under a key of its own.
    pub(crate) fn new(subject: &Subject, policy: &Policy) -> Result<ProtectedCopy> {
        let files = subject.files();
        let mut model = InMemory::new("model.onnx", Bytes::from_owner(files.model.clone()));
        let external = files.external.iter();
        let external = external.map(|(path, of)| (path.clone(), Bytes::from_owner(of.clone())));
        model.external = external.collect();
        let folder = tempfile::tempdir();
        let folder = folder.map_err(onnxseal_core::io("create", &std::env::temp_dir()))?;
        let path = folder.path().join("protected.onnx");
        let identity = onnxseal_core::generate_identity();
        let mut output = OutputOptions::default();
        output.flush = Flush::Later;
        let destination = Publication::new(&path, output);
        let options = ProtectOptions::new(policy.clone());
        let highest = policy.tiers().last().map(|tier| tier.name.clone());
        let to = Recipients::parse(&[identity.recipient()]).map_err(onnxseal_core::Error::from)?;
        let to: TierRecipients = vec![(highest, to)];
        let report = onnxseal_core::protect(model, destination, &to, &options, &Silent)?;
        Ok(ProtectedCopy {
            _folder: folder,
            path,
            identities: Identities::from(identity),
            report,
        })
    }

    /// Returns what attackers of the copy see.
    pub(crate) fn subject(&self) -> Result<Subject> {
        Subject::protected(self.path.clone(), &self.identities)
    }

    /// Returns the files of a tier's edition.
    pub(crate) fn files(&self, tier: &str) -> Result<Files> {
        let access = Access {
            edition: Edition::Tier(tier),
            ..Access::from(&self.identities)
        };
        Ok(files_of(&onnxseal_core::open(
            &*self.path,
            access,
            &Silent,
        )?))
    }
}
