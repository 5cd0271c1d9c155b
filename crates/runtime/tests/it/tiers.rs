//! Sessions of lower tiers compute what the files of those tiers compute.

use std::fs;
use std::path::{Path, PathBuf};

use onnxseal_core::{Policy, Preset, ProtectOptions, Recipients, protect, unprotect};
use onnxseal_runtime::{Access, Edition, Error, ErrorKind, Identities, Model, Sharing, Silent};
use onnxseal_testkit::{Sample, samples};

use crate::lab::{self, Lab, Outputs, assert_close, builder, run};

/// A model of the tiers `trial` and `full`.
struct Tiers {
    lab: Lab,
    /// Who has the key of `trial` alone.
    trial: Lab,
    plain: PathBuf,
    protected: PathBuf,
}

impl Tiers {
    /// `mode` is one of the policy's.
    fn of(sample: &Sample, mode: &str) -> Tiers {
        let (lab, trial) = (Lab::new(), Lab::new());
        let plain = lab.write(sample, "plain");
        let protected = lab.path("protected").join("model.onnx");
        let policy = format!(
            r#"
            preset = "full"
            [[tier]]
            name = "trial"
            share = 0.5
            [[tier]]
            name = "full"
            [mode]
            default = "{mode}"
            "#
        );
        let policy = Policy::parse(&policy).unwrap();
        let mut options = ProtectOptions::new(policy);
        options.chunk_bytes = 1 << 16;
        let of = |lab: &Lab| {
            let names: Vec<&str> = lab.recipients.names().collect();
            Recipients::parse(&names).unwrap()
        };
        let recipients = vec![
            (Some("trial".to_owned()), of(&trial)),
            (Some("full".to_owned()), of(&lab)),
        ];
        protect(&plain, &protected, &recipients, &options, &Silent).unwrap();
        Tiers {
            lab,
            trial,
            plain,
            protected,
        }
    }

    fn open(&self, identities: &Identities, edition: Edition<'_>) -> Result<Model, Error> {
        let access = Access {
            edition,
            ..identities.into()
        };
        Model::open(&self.protected, access)
    }

    /// The file that is written for a tier.
    fn unprotect(&self, edition: Edition<'_>, folder: &str) -> PathBuf {
        let path = self.lab.path(folder).join("model.onnx");
        let access = Access {
            edition,
            ..(&self.lab.identities).into()
        };
        unprotect(&self.protected, &path, access, &Silent).unwrap();
        path
    }
}

fn of_file(path: &Path) -> Outputs {
    run(&mut builder().unwrap().commit_from_file(path).unwrap())
}

fn of_model(model: Model, sharing: Sharing) -> Outputs {
    let session = model.into_session_with(builder().unwrap(), sharing);
    run(&mut session.unwrap())
}

fn differ(one: &Outputs, other: &Outputs) -> bool {
    let bits = |outputs: &Outputs| -> Vec<u32> {
        let values = outputs.iter().flat_map(|(_, values)| values);
        values.map(|value| value.to_bits()).collect()
    };
    bits(one) != bits(other)
}

#[test]
fn a_session_computes_what_the_file_of_its_tier_computes() {
    if builder().is_none() {
        return;
    }
    let wide = lab::wide_samples();
    let modes = ["bytes", "mask", "shuffle"].into_iter().cycle();
    for (sample, mode) in wide.iter().zip(modes) {
        let tiers = Tiers::of(sample, mode);
        let (name, trial) = (sample.name, Edition::Tier("trial"));
        let file = tiers.unprotect(trial, "trial");
        let whole = of_file(&tiers.plain);
        let expected = of_file(&file);
        // It has no weights, only sizes.
        assert!(differ(&expected, &whole) || name == "wide_split", "{name}");
        let ways = [Sharing::WherePossible, Sharing::Never, Sharing::Inline];
        for sharing in ways {
            let model = tiers.open(&tiers.trial.identities, trial).unwrap();
            assert_eq!(
                model.contents().unwrap().bytes(),
                fs::read(&file).unwrap(),
                "{name}"
            );
            assert_close(name, &expected, &of_model(model, sharing));
        }
        // A key of a higher tier gives the same, and more.
        let model = tiers.open(&tiers.lab.identities, trial).unwrap();
        assert_eq!((model.tier(), model.is_original()), (Some("trial"), false));
        assert_close(name, &expected, &of_model(model, Sharing::WherePossible));
        let model = tiers.open(&tiers.lab.identities, Edition::Whole).unwrap();
        assert_eq!((model.tier(), model.is_original()), (Some("full"), true));
        assert_close(name, &whole, &of_model(model, Sharing::WherePossible));
    }
}

#[test]
fn less_than_the_original_opens_only_if_it_is_accepted() {
    let tiers = Tiers::of(&lab::wide_matmul(), "bytes");
    let trial = &tiers.trial.identities;
    for edition in [Edition::Whole, Edition::Tier("full")] {
        let error = tiers.open(trial, edition).unwrap_err();
        let is_lower = matches!(
            &error,
            Error::Core(onnxseal_core::Error::LowerTier { wanted, found, .. })
                if wanted == "full" && found == "trial"
        );
        assert!(
            is_lower && error.kind() == ErrorKind::NoMatchingKey,
            "{error}"
        );
    }
    let error = tiers.open(trial, Edition::Tier("gold")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PolicyNotMet);
    for (identities, tier) in [(trial, "trial"), (&tiers.lab.identities, "full")] {
        let model = tiers.open(identities, Edition::Any).unwrap();
        assert_eq!(model.tier(), Some(tier));
        assert_eq!(model.is_original(), tier == "full");
    }
}

#[test]
fn a_model_of_one_edition_has_no_tier() {
    let lab = Lab::new();
    let plain = lab.write(&samples::all()[0], "plain");
    let protected = lab.protect(&plain, "protected", Preset::Balanced).unwrap();
    let open = |edition| {
        let access = Access {
            edition,
            ..(&lab.identities).into()
        };
        Model::open(&protected, access)
    };
    for edition in [Edition::Whole, Edition::Any] {
        let model = open(edition).unwrap();
        assert_eq!((model.tier(), model.is_original()), (None, true));
    }
    let error = open(Edition::Tier("trial")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PolicyNotMet);
}

#[cfg(feature = "ep-context")]
#[test]
fn each_tier_has_compiled_caches_of_its_own() {
    let tiers = Tiers::of(&lab::wide_matmul(), "bytes");
    let folder = tiers.lab.path("caches");
    fs::create_dir(&folder).unwrap();
    let store = |identities, edition| {
        let model = tiers.open(identities, edition).unwrap();
        model.ep_context(&folder).unwrap()
    };
    let full = store(&tiers.lab.identities, Edition::Whole);
    full.write("full", b"compiled from all weights").unwrap();
    let trial = store(&tiers.trial.identities, Edition::Tier("trial"));
    trial.write("trial", b"compiled from some").unwrap();
    // Whoever has the lower key alone must not read what was made of the whole model.
    let refused = |store: &onnxseal_runtime::ep_context::EpContextStore, name| {
        store.read(name).unwrap_err().kind() == ErrorKind::Authentication
    };
    assert!(refused(&trial, "full") && refused(&full, "trial"));
    // A higher key opens the tier's.
    let same = store(&tiers.lab.identities, Edition::Tier("trial"));
    assert_eq!(*same.read("trial").unwrap(), b"compiled from some");
    assert_eq!(*full.read("full").unwrap(), b"compiled from all weights");
}
