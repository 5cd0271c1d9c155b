//! Protects the model by a policy into a temporary folder, to open it for real.

use std::path::PathBuf;
use std::time::Instant;

use onnxseal_core::{
    Access, Bytes, Edition, Flush, Identities, InMemory, OpenedModel, OutputOptions, Policy,
    ProtectOptions, Publication, Recipients, Report, Silent, TierRecipients,
};
use onnxseal_engine::Files;
use tempfile::TempDir;

use crate::assessment::Opening;
use crate::error::Result;
use crate::subject::{Subject, files_of};

/// How often the model is opened to measure the cost; the best counts.
const N_TIMES: usize = 3;

/// A protected model in a temporary folder, which is removed on drop.
pub(crate) struct Sealed {
    _folder: TempDir,
    path: PathBuf,
    identities: Identities,
    /// The report on what was encrypted.
    pub(crate) report: Report,
}

impl Sealed {
    /// Protects `subject` by `policy`, under a key of its own.
    pub(crate) fn new(subject: &Subject, policy: &Policy) -> Result<Sealed> {
        let files = subject.files();
        let mut model = InMemory::new("model.onnx", Bytes::from_owner(files.model.clone()));
        let external = files.external.iter();
        model.external = external
            .map(|(path, bytes)| (path.clone(), Bytes::from_owner(bytes.clone())))
            .collect();
        let folder =
            tempfile::tempdir().map_err(onnxseal_core::io("create", &std::env::temp_dir()))?;
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
        Ok(Sealed {
            _folder: folder,
            path,
            identities: Identities::from(identity),
            report,
        })
    }

    /// Measures the cost of opening the model.
    pub(crate) fn opening(&self) -> Result<Opening> {
        let (mut seconds, mut bytes) = (f64::INFINITY, 0);
        for _ in 0..N_TIMES {
            let began = Instant::now();
            let opened = self.open(Edition::Whole)?;
            seconds = seconds.min(began.elapsed().as_secs_f64());
            bytes = opened.manifest().total_bytes();
        }
        Ok(Opening { seconds, bytes })
    }

    fn open(&self, edition: Edition<'_>) -> Result<OpenedModel> {
        let access = Access {
            edition,
            ..Access::from(&self.identities)
        };
        Ok(onnxseal_core::open(&self.path, access, &Silent)?)
    }

    /// Returns the files as they are stored.
    pub(crate) fn stored(&self) -> Result<Files> {
        crate::subject::stored(&self.path.clone().into())
    }

    /// Returns the files of a tier's edition.
    pub(crate) fn files(&self, tier: &str) -> Result<Files> {
        Ok(files_of(&self.open(Edition::Tier(tier))?))
    }
}
