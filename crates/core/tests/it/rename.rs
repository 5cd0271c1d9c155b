//! Models with external data, protected where they lie: other names for files, and the way back.

mod rotated;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use onnxseal_core::{
    Error, Manifest, Policy, Preset, ProtectOptions, Publication, Report, RotateOptions, Silent,
    StoreError, inspect, open, protect, rekey, rotate, unprotect, verify,
};
use onnxseal_onnx::tail;
use onnxseal_testkit::build;

use crate::lab::{IN_PLACE, Lab, files};

/// Writes a model with external files at `locations` into the folder `name`.
fn model(lab: &Lab, name: &str, locations: &[&str]) -> PathBuf {
    let mut graph = build::GraphBuilder::new("several").input("x0", &[1, 4]);
    for (i, location) in locations.iter().enumerate() {
        let (w, from, to) = (format!("w{i}"), format!("x{i}"), format!("x{}", i + 1));
        graph = graph
            .initializer(build::weights(
                &format!("inline{i}"),
                &[4, 4],
                90 + i as u32,
            ))
            .initializer(build::external(&w, &[4, 4], location, None, None))
            .node(build::node("MatMul", &[&from, &w], &[&format!("{to}a")]))
            .node(build::node(
                "MatMul",
                &[&format!("{to}a"), &format!("inline{i}")],
                &[&to],
            ));
        let path = lab.path(name).join(location);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, build::le_bytes(&build::floats(16, i as u32))).unwrap();
    }
    let output = format!("x{}", locations.len());
    let path = lab.path(name).join("a.onnx");
    fs::write(&path, graph.output(&output, &[1, 4]).encode()).unwrap();
    path
}

fn options() -> ProtectOptions {
    ProtectOptions::new(Policy::preset(Preset::Strong))
}

fn protect_beside(lab: &Lab, model: &Path, to: &str, name: Option<&str>) -> Result<Report, Error> {
    let mut options = options();
    options.external_data = name.map(str::to_owned);
    protect(
        model,
        model.with_file_name(to),
        &lab.recipients,
        &options,
        &Silent,
    )
}

fn paths(files: &[onnxseal_core::File]) -> Vec<&str> {
    files
        .iter()
        .skip(1)
        .map(|file| file.path.as_str())
        .collect()
}

fn manifest(protected: &Path) -> (String, Manifest) {
    let bytes = fs::read(protected).unwrap();
    let tail = tail::split(&bytes).unwrap().unwrap();
    let text = tail.value(tail::MANIFEST).unwrap().to_owned();
    let manifest = Manifest::parse(text.as_bytes()).unwrap();
    (text, manifest)
}

/// What could not be unprotected is not protected, whatever its files are called then.
#[test]
fn names_that_are_not_written_are_not_renamed_either() {
    let lab = Lab::new();
    // Windows has no files with control characters in their names.
    let bell = ["w\u{7}.bin"].into_iter().filter(|_| cfg!(unix));
    for location in [".w.bin", "a/.b/w.bin"].into_iter().chain(bell) {
        let model = model(&lab, "hidden", &[location]);
        let beside = protect_beside(&lab, &model, "b.onnx", None);
        assert!(
            matches!(beside, Err(Error::ExternalName { .. })),
            "{location:?}"
        );
        let named = protect_beside(&lab, &model, "b.onnx", Some("w.bin"));
        assert!(
            matches!(named, Err(Error::ExternalName { .. })),
            "{location:?}"
        );
        let in_place = protect(&model, IN_PLACE, &lab.recipients, &options(), &Silent);
        assert!(
            matches!(in_place, Err(Error::ExternalName { .. })),
            "{location:?}"
        );
        fs::remove_dir_all(lab.path("hidden")).unwrap();
    }
}

#[test]
fn a_model_and_its_protected_form_lie_in_one_folder() {
    let lab = Lab::new();
    for (case, locations, new) in [
        ("pytorch", &["a.onnx.data"][..], &["b.onnx.data"][..]),
        (
            "folder",
            &["w/a.bin", "b.bin"],
            &["b.onnx.data/w/a.bin", "b.onnx.data/b.bin"],
        ),
        // Where the obvious name is an input's.
        ("taken", &["b.onnx.data"], &["b.onnx.sealed.data"]),
    ] {
        let original = model(&lab, case, locations);
        let before = files(&lab.path(case));
        let report = protect_beside(&lab, &original, "b.onnx", None).unwrap();
        assert_eq!(paths(&report.files), new, "{case}");
        assert_eq!(paths(&report.original_files), locations, "{case}");
        let protected = original.with_file_name("b.onnx");
        for (path, bytes) in &before {
            assert!(fs::read(path).unwrap() == *bytes, "{}", path.display());
        }
        let (text, of) = manifest(&protected);
        assert!(text.starts_with(r#"{"format":1,"#), "{text}");
        assert_eq!(paths(of.files()), new);
        assert!(of.tensors().iter().any(|tensor| tensor.file == 0));
        assert!(of.tensors().iter().any(|tensor| tensor.file > 0));

        // All that looks at it sees the names that it has; what it was is told.
        let inspected = inspect(protected.as_path()).unwrap();
        assert_eq!(inspected.original_files, report.original_files);
        verify(
            protected.as_path(),
            &onnxseal_core::Checks::default(),
            &Silent,
        )
        .unwrap();
        let opened = lab.open(&protected).unwrap();
        let names: Vec<&str> = opened.external_files().map(|(path, _)| path).collect();
        assert_eq!(names, new);
        assert_eq!(*opened.original_model(), fs::read(&original).unwrap());
        // In files each may take the place of the one that it was made of.
        let to = lab.path(&format!("{case}-in-place"));
        let mut publication = Publication::from(to.join("b.onnx"));
        publication.keep_paths = true;
        unprotect(&*protected, publication, &lab.identities, &Silent).unwrap();
        let in_files: Vec<_> = files(&to);
        assert_eq!(in_files.len(), 1 + new.len());
        assert!(fs::read(to.join("b.onnx")).unwrap() == opened.model());
        for (path, bytes) in opened.external_files() {
            assert!(fs::read(to.join(path)).unwrap() == bytes, "{case}: {path}");
        }
        let opened: BTreeMap<String, &[u8]> = opened.original_external_files().collect();
        for location in locations {
            assert!(opened[*location] == fs::read(original.with_file_name(location)).unwrap());
        }

        // And everything comes back, also after the data key was wrapped and made anew.
        let back = |of: &Path, name: &str| {
            let to = lab.path(&format!("{case}-{name}")).join("a.onnx");
            unprotect(of, &to, &lab.identities, &Silent).unwrap();
            let expected = before.iter().map(|(path, bytes)| {
                let path = path.strip_prefix(lab.path(case)).unwrap();
                (to.parent().unwrap().join(path), bytes.clone())
            });
            assert!(
                files(to.parent().unwrap()) == expected.collect::<Vec<_>>(),
                "{case}: {name}"
            );
        };
        back(&protected, "back");
        let (ids, to, silent) = (&lab.identities, &lab.recipients, &Silent);
        let (rekeyed, rotated) = (lab.path("rekeyed"), lab.path("rotated"));
        rekey(protected.as_path(), rekeyed.join("c"), ids, to, silent).unwrap();
        back(&rekeyed.join("c"), "rekeyed");
        let other = RotateOptions {
            policy: Some(Policy::preset(Preset::Full)),
            ..RotateOptions::default()
        };
        let report = rotate(
            rekeyed.join("c"),
            rotated.join("d"),
            ids,
            to,
            &other,
            silent,
        )
        .unwrap();
        assert_eq!(paths(&report.original_files), locations);
        back(&rotated.join("d"), "rotated");
        fs::remove_dir_all(rekeyed).unwrap();
        fs::remove_dir_all(rotated).unwrap();
    }
}

#[test]
fn names_are_chosen_and_nothing_is_written_over() {
    let lab = Lab::new();
    let original = model(&lab, "m", &["a.onnx.data"]);
    // In another folder nothing is renamed, and the format is what it was.
    let elsewhere = lab
        .protect(&original, "elsewhere", Preset::Balanced)
        .unwrap();
    let (text, of) = manifest(&elsewhere);
    assert!(text.starts_with(r#"{"format":1,"#) && !text.contains("original"));
    assert_eq!(paths(of.files()), ["a.onnx.data"]);

    let report = protect_beside(&lab, &original, "c.onnx", Some("deep/weights.bin")).unwrap();
    assert_eq!(paths(&report.files), ["deep/weights.bin"]);
    let before = files(&lab.path("m"));
    for name in ["../w", "/w", "", "a\\b", "x/", "C:w", "./w"] {
        let refused = protect_beside(&lab, &original, "d.onnx", Some(name));
        assert!(
            matches!(&refused, Err(Error::Usage(text)) if text.contains("cannot have the name")),
            "{name}"
        );
    }
    let refused = protect_beside(&lab, &original, "d.onnx", Some("a.onnx.data"));
    assert!(matches!(refused, Err(Error::OutputIsInput { .. })));
    let refused = protect_beside(&lab, &original, "d.onnx", Some("d.onnx"));
    assert!(matches!(refused, Err(Error::Usage(_))));
    // What another protected model has there.
    let refused = protect_beside(&lab, &original, "d.onnx", Some("deep/weights.bin"));
    assert!(matches!(
        refused,
        Err(Error::Store(StoreError::OutputExists { .. }))
    ));
    let refused = protect_beside(&lab, &original, "a.onnx", None);
    assert!(matches!(refused, Err(Error::OutputIsInput { .. })));
    assert!(files(&lab.path("m")) == before);

    fs::write(lab.path("plain.onnx"), onnxseal_testkit::samples::gemm()).unwrap();
    let refused = protect_beside(&lab, &lab.path("plain.onnx"), "p.onnx", Some("w"));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("no external data"), "{refused}");
}

#[cfg(unix)]
#[test]
fn new_external_files_get_no_more_than_the_umask_allows_in_place_either() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let path = model(&lab, "m", &["w.bin"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let usual = lab.path("usual");
    fs::write(&usual, "").unwrap();
    for given in [0o4777, 0o600] {
        let data = path.with_file_name("w.bin");
        fs::set_permissions(&data, fs::Permissions::from_mode(given)).unwrap();
        let in_place = model(&lab, "m", &["w.bin"]);
        protect(&in_place, IN_PLACE, &lab.recipients, &options(), &Silent).unwrap();
        let new = path.with_file_name("a.onnx.data");
        assert_eq!(mode(&new) & !(mode(&usual) | 0o111), 0, "{given:o}");
        assert_eq!(mode(&new) & !given, 0, "{given:o}");
        fs::remove_file(new).unwrap();
    }
}

/// A batch has planned every output: no other name is chosen, whatever the options say.
#[test]
fn a_caller_may_demand_that_paths_stay() {
    let lab = Lab::new();
    let original = model(&lab, "m", &["a.onnx.data"]);
    let mut options = options();
    let kept = |options: &ProtectOptions, to: &Path| {
        let to = Publication {
            keep_paths: true,
            ..to.into()
        };
        protect(&original, to, &lab.recipients, options, &Silent)
    };
    let refused = kept(&options, &original.with_file_name("b.onnx"));
    assert!(
        matches!(refused, Err(Error::OutputIsInput { .. })),
        "{refused:?}"
    );
    options.external_data = Some("other.data".to_owned());
    let report = kept(&options, &lab.path("new/b.onnx")).unwrap();
    assert_eq!(paths(&report.files), ["a.onnx.data"]);
}

#[test]
fn no_file_is_a_folder_of_another() {
    let lab = Lab::new();
    let model = model(&lab, "m", &["a/w.bin", "b/w.bin"]);
    let to = lab.path("new").join("p.onnx");
    let mut options = options();
    options.external_data = Some("p.onnx".to_owned());
    let refused = protect(&model, to.as_path(), &lab.recipients, &options, &Silent);
    assert!(
        matches!(&refused, Err(Error::Usage(text)) if text.starts_with("a file of the model and a folder")),
        "{refused:?}"
    );
    assert!(!to.exists());
}

#[test]
fn in_place_the_model_is_replaced_last_and_the_old_files_stay() {
    let lab = Lab::new();
    let path = model(&lab, "m", &["a.onnx.data"]);
    let before = files(&lab.path("m"));
    // Something is in the way: nothing happens.
    let new = path.with_file_name("a.onnx.sealed.data");
    fs::write(&new, "precious").unwrap();
    let in_place = || {
        protect(
            path.as_path(),
            IN_PLACE,
            &lab.recipients,
            &options(),
            &Silent,
        )
    };
    assert!(matches!(
        in_place(),
        Err(Error::Store(StoreError::OutputExists { .. }))
    ));
    assert_eq!(fs::read(&new).unwrap(), b"precious");
    fs::remove_file(&new).unwrap();
    assert!(files(&lab.path("m")) == before);

    let report = in_place().unwrap();
    assert_eq!(paths(&report.files), ["a.onnx.sealed.data"]);
    assert_eq!(paths(&report.original_files), ["a.onnx.data"]);
    assert!(
        files(&lab.path("m")).contains(&before[1]),
        "the old file stays"
    );
    fs::remove_file(path.with_file_name("a.onnx.data")).unwrap();
    assert!(open(path.as_path(), &lab.identities, &Silent).is_ok());
    let rotated = rotate(
        path.as_path(),
        IN_PLACE,
        &lab.identities,
        &lab.recipients,
        &RotateOptions::default(),
        &Silent,
    );
    assert!(matches!(rotated, Err(Error::InPlaceExternal { .. })));
    let back = lab.unprotect(&path, "back").unwrap();
    assert!(fs::read(&back).unwrap() == before[0].1);
    assert!(fs::read(back.with_file_name("a.onnx.data")).unwrap() == before[1].1);
}

/// An authentic manifest may still say what nobody may do.
#[test]
fn a_way_back_that_breaks_a_rule_is_refused() {
    let lab = Lab::new();
    let original = model(&lab, "m", &["a.onnx.data"]);
    protect_beside(&lab, &original, "b.onnx", None).unwrap();
    let (text, _) = manifest(&original.with_file_name("b.onnx"));
    let sound: serde_json::Value = serde_json::from_str(&text).unwrap();
    let refused = |edit: &dyn Fn(&mut serde_json::Value)| {
        let mut changed = sound.clone();
        edit(&mut changed);
        Manifest::parse(&serde_json::to_vec(&changed).unwrap()).unwrap_err()
    };
    Manifest::parse(&serde_json::to_vec(&sound).unwrap()).unwrap();
    let at = |pointer: &'static str, value: serde_json::Value| {
        refused(&|json| *json.pointer_mut(pointer).unwrap() = value.clone())
    };
    let bytes = sound["original"]["bytes"].as_u64().unwrap();
    assert!(at("/format", 2.into()).contains("reads 1"));
    at("/original/bytes", (bytes + 1).into());
    at("/original/paths/0", "../w".into());
    at("/original/paths", serde_json::json!(["a", "b"]));
    at("/original/paths", serde_json::json!([]));
    at("/original/texts/0", "?".into());
    at("/original/texts/0", "".into());
    at("/original/edits", serde_json::json!([]));
    at("/original/edits/0", (1u64 << 53).into());
    at("/original/edits/1", 0.into());
    at("/original/edits/2", 1.into());
    at("/original", serde_json::Value::Null);
    refused(&|json| json["original"]["more"] = 1.into());
    // Within the elements of a tensor: the same number of bytes there.
    let tensors = sound["tensors"].as_array().unwrap();
    let inline = tensors.iter().find(|tensor| tensor["file"] == 0).unwrap();
    let offset = inline["offset"].as_u64().unwrap();
    let why = refused(&|json| {
        json["original"]["edits"] = serde_json::json!([offset + 3, 1, 0]);
        json["original"]["texts"] = serde_json::json!(["AA=="]);
        json["original"]["bytes"] = json["files"][0]["bytes"].clone();
    });
    assert!(why.contains("elements"), "{why}");
    // A few bytes that would become many.
    let grown = |n: u64| {
        let mut json = sound.clone();
        let edits: Vec<u64> = (0..n).flat_map(|_| [1, 1, 0]).collect();
        json["tensors"] = serde_json::json!([]);
        json["files"][0]["bytes"] = (1 << 20).into();
        json["original"]["edits"] = edits.into();
        json["original"]["texts"] = serde_json::json!(["QUFB".repeat(2730)]);
        json["original"]["bytes"] = ((1 << 20) + n * 8189).into();
        Manifest::parse(&serde_json::to_vec(&json).unwrap())
    };
    grown(8000).unwrap();
    assert!(grown(8200).unwrap_err().contains("do not make"));
}
