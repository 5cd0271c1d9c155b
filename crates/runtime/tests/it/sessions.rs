//! Sessions of protected models give what ONNX Runtime gives for the plain ones.

use std::fs;
use std::path::Path;

use onnxseal_core::{InMemory, Policy, Preset};
use onnxseal_runtime::{
    Error, ErrorKind, Model, Opening, Options, PlaintextOnDisk, Prepared, Requirements, Sharing,
    Silent, WEIGHTS_ENTRY, WRITING_ENTRIES,
};
use onnxseal_testkit::{samples, shared};
use ort::value::Tensor;

use crate::lab::{self, Lab, assert_close, builder, run, try_run};

/// Protects the model at `path`, opens it, and compares outputs; says whether
/// there were any.
fn compare(lab: &Lab, path: &Path, preset: Preset) -> bool {
    let mut plain = builder().unwrap().commit_from_file(path).unwrap();
    let plain = try_run(&mut plain);
    let is_comparable = plain.as_ref().is_ok_and(|outputs| !outputs.is_empty());
    let name = path.display().to_string();
    let protected = lab.protect_part(path, "protected", preset);
    let model = Model::open(&protected, &lab.identities).unwrap();
    assert_eq!(
        model.contents().unwrap().bytes(),
        fs::read(path).unwrap(),
        "{name}"
    );
    // However small it is.
    let options = Options {
        opening: Opening::OnDemand,
        ..Options::default()
    };
    let model = Model::open_with(&protected, &lab.identities, &options, &Silent).unwrap();
    let mut session = model.into_session(builder().unwrap()).unwrap();
    match &plain {
        Ok(plain) if is_comparable => assert_close(&name, plain, &run(&mut session)),
        Ok(_) => drop(run(&mut session)),
        Err(_) => assert!(try_run(&mut session).is_err(), "{name}"),
    }
    fs::remove_dir_all(protected.parent().unwrap()).unwrap();
    is_comparable
}

#[test]
fn every_place_that_weights_can_have() {
    if builder().is_none() {
        return;
    }
    let lab = Lab::new();
    for sample in samples::all().into_iter().chain(lab::wide_samples()) {
        for preset in [Preset::Balanced, Preset::Full] {
            let path = lab.write(&sample, sample.name);
            assert!(compare(&lab, &path, preset), "{}", sample.name);
        }
    }
}

#[test]
fn real_models() {
    let Some(models) = shared::shared_models_in("real") else {
        return;
    };
    if builder().is_none() {
        return;
    }
    let lab = Lab::new();
    let mut n_compared = 0;
    for path in &models {
        n_compared += usize::from(compare(&lab, path, Preset::Balanced));
        compare(&lab, path, Preset::Full);
    }
    // Some want inputs that make sense: those are compared from Python.
    assert!(
        n_compared * 4 >= models.len() * 3,
        "{n_compared} of {}",
        models.len()
    );
}

#[test]
fn weights_that_only_kernels_read_are_shared_and_others_are_not() {
    let lab = Lab::new();
    let names = |tensors: &[onnxseal_runtime::Tensor<'_>]| -> Vec<String> {
        tensors
            .iter()
            .map(|tensor| tensor.name.to_owned())
            .collect()
    };
    for sample in lab::wide_samples() {
        let path = lab.write(&sample, sample.name);
        let protected = lab.protect(&path, "protected", Preset::Full).unwrap();
        let model = Model::open(&protected, &lab.identities).unwrap();
        let prepared = model.prepare(Sharing::WherePossible).unwrap();
        let found = (names(prepared.shared()), names(prepared.injected()));
        let none = Vec::new;
        let w = || vec!["w".to_owned()];
        let expected = match sample.name {
            "wide_matmul" | "wide_external" => (w(), none()),
            "wide_conv" | "wide_transposed" | "wide_tied" | "wide_function" | "wide_unused"
            | "wide_folded" => (none(), w()),
            "wide_ends" => (none(), vec!["w".to_owned(), "v".to_owned()]),
            _ => (none(), none()),
        };
        assert_eq!(found, expected, "{}", sample.name);
        // What is not inline is not in the skeleton, and what is injected then is all of it.
        let large = |tensors: &[onnxseal_runtime::Tensor<'_>]| {
            tensors.iter().any(|tensor| {
                prepared
                    .skeleton()
                    .windows(64)
                    .any(|part| part == &tensor.bytes[..64])
            })
        };
        assert!(
            !large(prepared.shared()) && !large(prepared.injected()),
            "{}",
            sample.name
        );
        let never = model.prepare(Sharing::Never).unwrap();
        assert!(never.shared().is_empty());
        assert_eq!(never.injected().len(), found.0.len() + found.1.len());
        // In the skeleton is all there is, and nothing says that options have weights.
        let inline = model.prepare(Sharing::Inline).unwrap();
        assert!(inline.shared().is_empty() && inline.injected().is_empty());
        let has_weights = |prepared: &Prepared<'_>| prepared.config().any(|e| e == WEIGHTS_ENTRY);
        assert!(!has_weights(&inline));
        assert_eq!(has_weights(&never), !never.injected().is_empty());
        for tensor in model
            .contents()
            .unwrap()
            .tensors()
            .filter(|tensor| tensor.bytes.len() >= 64)
        {
            let part = &tensor.bytes[..64];
            assert!(
                inline.skeleton().windows(64).any(|bytes| bytes == part),
                "{}",
                sample.name
            );
        }
        fs::remove_dir_all(protected.parent().unwrap()).unwrap();
    }
}

/// ONNX Runtime knows weights in options by name alone: those of one model would pass for
/// another's.
#[test]
fn options_have_the_weights_of_one_model() {
    let Some(builder) = builder() else { return };
    let lab = Lab::new();
    let path = lab.write(&lab::wide_matmul(), "plain");
    let protected = lab.protect(&path, "protected", Preset::Full).unwrap();
    let open = || Model::open(&protected, &lab.identities).unwrap();
    let (key, value) = WEIGHTS_ENTRY;
    let used = builder.clone().with_config_entry(key, value).unwrap();
    let error = open().into_session(used).unwrap_err();
    assert!(matches!(error, Error::UsedOptions) && error.kind() == ErrorKind::Usage);
    // One of the application's own is not passed over either.
    let own = Tensor::from_array(([64_i64, 128], vec![0_f32; 64 * 128])).unwrap();
    let own = builder
        .clone()
        .with_initializer("w", own.into_dyn())
        .unwrap();
    let error = open().into_session(own).unwrap_err();
    let Error::Session { source, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        source.to_string().contains("already been added"),
        "{source}"
    );
    // What a session was made with serves for the next.
    let expected = run(&mut lab::builder().unwrap().commit_from_file(&path).unwrap());
    for sharing in [Sharing::WherePossible, Sharing::Never, Sharing::Inline] {
        let mut session = open().into_session_with(builder.clone(), sharing).unwrap();
        assert_close("again", &expected, &run(&mut session));
    }
}

#[test]
fn nothing_decrypted_is_written_unless_it_is_allowed() {
    let Some(builder) = builder() else { return };
    let lab = Lab::new();
    let path = lab.write(&lab::wide_conv(), "plain");
    let protected = lab.protect(&path, "protected", Preset::Full).unwrap();
    let open = |plaintext_on_disk| {
        let options = Options {
            plaintext_on_disk,
            ..Options::default()
        };
        Model::open_with(&protected, &lab.identities, &options, &Silent).unwrap()
    };
    let out = lab.path("optimized.onnx");
    let writing = || builder.clone().with_optimized_model_path(&out).unwrap();
    open(PlaintextOnDisk::Refused)
        .into_session(writing())
        .unwrap();
    assert!(!out.exists());
    open(PlaintextOnDisk::Allowed)
        .into_session(writing())
        .unwrap();
    assert!(out.exists());
    for (key, on) in WRITING_ENTRIES {
        let writing = |value| builder.clone().with_config_entry(key, value).unwrap();
        let error = open(PlaintextOnDisk::Refused)
            .into_session(writing(on))
            .unwrap_err();
        assert!(
            error.to_string().contains(key) && error.kind() == ErrorKind::Usage,
            "{error}"
        );
        open(PlaintextOnDisk::Refused)
            .into_session(writing("0"))
            .unwrap();
    }
}

#[test]
fn from_memory_and_from_a_reader() {
    let Some(mut plain) = builder() else { return };
    let lab = Lab::new();
    let one_file = lab.write(&lab::wide_matmul(), "one_file");
    let protected = lab
        .protect(&one_file, "protected", Preset::Balanced)
        .unwrap();
    let expected = run(&mut plain.commit_from_file(&one_file).unwrap());
    let identities = &lab.identities;
    let one_file = InMemory::new("here.onnx", fs::read(&protected).unwrap());
    let model = Model::open(one_file, identities).unwrap();
    let mut session = model.into_session(builder().unwrap()).unwrap();
    assert_close("one file", &expected, &run(&mut session));

    let external = lab.write(&lab::wide_external(), "external");
    let protected = lab
        .protect(&external, "protected2", Preset::Balanced)
        .unwrap();
    let mut files = InMemory::new("here.onnx", fs::read(&protected).unwrap());
    let missing = Model::open(files.clone(), identities).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
    assert_eq!(
        missing.to_string(),
        format!("cannot open {}", Path::new(".").join("w.bin").display())
    );
    let w = fs::read(protected.with_file_name("w.bin")).unwrap();
    files.external.insert("w.bin".into(), w.into());
    let model = Model::open(files, identities).unwrap();
    assert_eq!(
        model.contents().unwrap().external_files().next().unwrap().0,
        "w.bin"
    );
    let mut session = model.into_session(builder().unwrap()).unwrap();
    assert_close("memory", &expected, &run(&mut session));
}

/// As PyTorch's users do it: the protected model, and its external data, beside the original.
#[test]
fn a_model_beside_its_original() {
    let Some(mut plain) = builder() else { return };
    let lab = Lab::new();
    let path = lab.write(&lab::wide_external(), "plain");
    let expected = run(&mut plain.commit_from_file(&path).unwrap());
    let protected = path.with_file_name("b.onnx");
    let policy = Policy::preset(Preset::Balanced);
    lab.protect_to(&path, &protected, policy).unwrap();
    let model = Model::open(&protected, &lab.identities).unwrap();
    assert_eq!(
        model.contents().unwrap().external_files().next().unwrap().0,
        "b.onnx.data"
    );
    let mut session = model.into_session(builder().unwrap()).unwrap();
    assert_close("renamed", &expected, &run(&mut session));
}

#[test]
fn tensors_can_be_looked_at() {
    let lab = Lab::new();
    let path = lab.write(&lab::wide_external(), "plain");
    let protected = lab.protect(&path, "protected", Preset::Full).unwrap();
    let model = Model::open(&protected, &lab.identities).unwrap();
    let contents = model.contents().unwrap();
    let mut tensors = contents.tensors();
    let tensor = tensors.find(|tensor| tensor.name == "w").unwrap();
    assert_eq!(tensor.dims, [64, 128]);
    assert_eq!(tensor.path, "graph.initializer[0]");
    let file = fs::read(path.with_file_name("w.bin")).unwrap();
    assert_eq!(tensor.bytes, &file[13..]);
    assert_eq!(model.claims()["customer"], "acme");
}

#[test]
fn claims_can_be_required() {
    let lab = Lab::new();
    let path = lab.write(&lab::wide_matmul(), "plain");
    let protected = lab.protect(&path, "protected", Preset::Full).unwrap();
    let open = |claims: &[&str]| {
        let require = Requirements::parse(claims).unwrap();
        let options = Options {
            require,
            ..Options::default()
        };
        Model::open_with(&protected, &lab.identities, &options, &Silent)
    };
    open(&["customer=acme", "customer"]).unwrap();
    for unmet in ["customer=other", "not-after"] {
        let error = open(&["customer=acme", unmet]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PolicyNotMet, "{unmet}");
    }
}
