//! Checks that no two outputs go to one place.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use onnxseal_core::Error as CoreError;
use onnxseal_store::Location;

use crate::RECORDS;
use crate::discover::Found;
use crate::error::{Error, Result};
use crate::survey::Survey;

/// Fails if one of `sources` lies in the output folder. A search passes over that folder, but a
/// source that is named there would be wanted.
pub fn check_sources(sources: &[Location], out: &Location) -> Result<()> {
    match sources.iter().find(|source| source.lies_in(out)) {
        None => Ok(()),
        Some(source) => Err(Error::SourceInOutput {
            given: source.to_name(),
            out: out.to_name(),
        }),
    }
}

/// Fails if two of `models` would go to one place below `out`, one to the folder of the records, or
/// one to an impossible place.
pub(crate) fn check_models(models: &[Found], out: &Location) -> Result<()> {
    let mut seen: HashMap<&Path, &Found> = HashMap::new();
    for found in models {
        let Found { location, relative } = found;
        if relative.starts_with(RECORDS) {
            return Err(Error::Usage(format!(
                "{location} would be written to {}, but the folder {RECORDS} is for records",
                relative.display()
            )));
        }
        out.join(relative)?;
        if let Some(other) = seen.insert(relative, found) {
            return Err(clash(&other.location, location, relative));
        }
    }
    Ok(())
}

/// Fails if two outputs of `models`, including external files, would have one path below `out`, if
/// one would have to be a folder for another, or if one is an input or one of the `spared` files.
pub(crate) fn check_files(
    models: &[(Found, Survey)],
    out: &Location,
    spared: &[PathBuf],
) -> Result<()> {
    // The model of each output, and the file that becomes it, by its path below the output folder.
    let mut outputs: BTreeMap<PathBuf, (&Location, Location)> = BTreeMap::new();
    let spared = spared.iter().map(Location::from);
    let spared = spared.filter_map(|file| Some((file.canonical()?, file)));
    let mut inputs: HashMap<Location, Location> = spared.collect();
    for (found, survey) in models {
        let model = &found.location;
        for (input, relative) in files_made(found, survey) {
            if let Some((other, _)) = outputs.insert(relative.clone(), (model, input)) {
                // Named by the models, since both may share an external file.
                return Err(clash(other, model, &relative));
            }
        }
        for input in files_read(found, survey) {
            if let Some(canonical) = input.canonical() {
                inputs.insert(canonical, input);
            }
        }
    }
    for (relative, (_, input)) in &outputs {
        for folder in relative.ancestors().skip(1) {
            if let Some((_, other)) = outputs.get(folder) {
                return Err(Error::Usage(format!(
                    "{input} would go into a folder {}, and {other} would be a file of that name",
                    folder.display()
                )));
            }
        }
        if let Some(output) = out.join(relative)?.canonical()
            && let Some(of) = inputs.get(&output)
        {
            return Err(CoreError::OutputIsInput(of.to_name()).into());
        }
    }
    let folder = match out {
        Location::File(folder) => folder,
        Location::Object(_) => return Ok(()),
        _ => return Err(out.not_an_output().into()),
    };
    // A file system that ignores case has fewer names.
    let mut seen: HashMap<String, &Location> = HashMap::new();
    for (relative, (_, input)) in &outputs {
        let folded = relative.to_string_lossy().to_lowercase();
        if let Some(other) = seen.insert(folded, input)
            && ignores_case(folder)?
        {
            return Err(clash(other, input, relative));
        }
    }
    Ok(())
}

fn files_read<'a>(found: &'a Found, survey: &'a Survey) -> impl Iterator<Item = Location> + 'a {
    let external = survey.read.iter().map(|file| found.location.beside(file));
    std::iter::once(found.location.clone()).chain(external)
}

/// Returns the files that an operation makes of a model: their names beside it, and their paths
/// below the output folder.
fn files_made<'a>(
    found: &'a Found,
    survey: &'a Survey,
) -> impl Iterator<Item = (Location, PathBuf)> + 'a {
    let external = (survey.external.iter()).map(|file| {
        (
            found.location.beside(file),
            found.relative.with_file_name(file),
        )
    });
    std::iter::once((found.location.clone(), found.relative.clone())).chain(external)
}

/// Fails if `report` is, or would be, an input or output file of one of `models`, or lies in the
/// folder of the records.
pub(crate) fn check_report(
    models: &[(Found, Survey)],
    out: Option<&Location>,
    report: &Path,
) -> Result<()> {
    let report: Location = report.into();
    let there = report.canonical();
    let is_report = |file: &Location| {
        let is_so_named = file.lies_in(&report) && report.lies_in(file);
        is_so_named || (there.is_some() && file.canonical() == there)
    };
    let refused = |file: &Location, what| {
        let text = format!("the report {report} would be written over {file}, {what}");
        Err(Error::Usage(text))
    };
    for (found, survey) in models {
        if let Some(input) = files_read(found, survey).find(is_report) {
            return refused(&input, "a source");
        }
        for (_, relative) in files_made(found, survey) {
            if let Some(out) = out
                && let output = out.join(&relative)?
                && is_report(&output)
            {
                return refused(&output, "an output");
            }
        }
    }
    let records = out.map(|out| out.join(Path::new(RECORDS))).transpose()?;
    match records.filter(|records| report.lies_in(records)) {
        Some(records) => refused(&records, "where the records are"),
        None => Ok(()),
    }
}

/// Returns whether the file system of `out` ignores case.
fn ignores_case(out: &Path) -> Result<bool> {
    let records = out.join(RECORDS);
    fs::create_dir_all(&records).map_err(onnxseal_core::io("create folder", &records))?;
    Ok(out.join(RECORDS.to_uppercase()).exists())
}

fn clash(one: &Location, other: &Location, relative: &Path) -> Error {
    let relative = relative.display();
    Error::Usage(format!(
        "{one} and {other} would both be written to {relative} in the output folder"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn model(path: &str, relative: &str, external: &[&str]) -> (Found, Survey) {
        let found = Found {
            location: Location::parse(path).unwrap(),
            relative: relative.into(),
        };
        let external: Vec<String> = external.iter().map(ToString::to_string).collect();
        let survey = Survey {
            read: external.clone(),
            external,
            ..Survey::unreadable()
        };
        (found, survey)
    }

    fn refused(models: &[(Found, Survey)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        check_files(models, &dir.path().into(), &[])
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn two_models_of_one_name_are_named() {
        let models = ["a/x.onnx", "b/x.onnx"].map(|path| model(path, "x.onnx", &[]).0);
        let out = Path::new("out").into();
        let error = check_models(&models, &out).unwrap_err().to_string();
        assert!(error.contains("a/x.onnx and b/x.onnx"), "{error}");
        assert!(check_models(&models[..1], &out).is_ok());
        let (found, _) = model("a/.onnxseal/x", ".onnxseal/x", &[]);
        assert!(check_models(&[found], &out).is_err());
    }

    #[test]
    fn external_files_of_one_name_are_refused() {
        let shared = [
            model("a/x.onnx", "x.onnx", &["w.bin"]),
            model("a/y.onnx", "y.onnx", &["w.bin"]),
        ];
        let error = refused(&shared);
        assert!(error.contains("a/x.onnx and a/y.onnx"), "{error}");
        assert!(error.contains("w.bin"), "{error}");
        let apart = [
            model("a/x.onnx", "a/x.onnx", &["w.bin"]),
            model("b/x.onnx", "b/x.onnx", &["w.bin"]),
        ];
        let dir = tempfile::tempdir().unwrap();
        assert!(check_files(&apart, &dir.path().into(), &[]).is_ok());
        let model_and_file = [
            model("a/x.onnx", "x.onnx", &["y.onnx"]),
            model("b/y.onnx", "y.onnx", &[]),
        ];
        assert!(refused(&model_and_file).contains("y.onnx"));
    }

    #[test]
    fn a_file_is_no_folder() {
        let models = [model("a/x", "x", &[]), model("b/x/y", "x/y", &[])];
        let error = refused(&models);
        assert!(error.contains("a/x") && error.contains("b/x/y"), "{error}");
    }

    #[test]
    fn case_matters_where_the_file_system_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let models = [
            model("a/x.onnx", "x.onnx", &[]),
            model("a/X.onnx", "X.onnx", &[]),
        ];
        let ignores = ignores_case(dir.path()).unwrap();
        assert_eq!(
            check_files(&models, &dir.path().into(), &[]).is_err(),
            ignores
        );
    }

    #[test]
    fn an_output_that_is_an_input_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.onnx");
        fs::write(&path, "").unwrap();
        let models = [
            model("elsewhere/x.onnx", "x.onnx", &[]),
            model(path.to_str().unwrap(), "y.onnx", &[]),
        ];
        let error = check_files(&models, &dir.path().into(), &[]).unwrap_err();
        assert!(matches!(error, Error::Core(CoreError::OutputIsInput(is)) if is == path));
    }

    #[test]
    fn a_report_is_no_file_of_a_model_and_no_output() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("zoo")).unwrap();
        let input = path("zoo/x.onnx");
        fs::write(&input, "").unwrap();
        let models = [model(input.to_str().unwrap(), "a/x.onnx", &["w/w.bin"])];
        let out = Location::from(path("out"));
        let check = |name: &str| check_report(&models, Some(&out), &path(name));
        for bad in [
            "zoo/x.onnx",
            "zoo/../zoo/x.onnx",
            "zoo/w/w.bin",
            "out/a/x.onnx",
            "out/a/w/w.bin",
            "out/.onnxseal/r.json",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for good in ["r.json", "zoo/r.json", "out/r.json", "out/a/x.onnx.json"] {
            assert!(check(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn files_are_read_under_other_names_than_they_are_restored_under() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        let stored = dir.path().join("m.onnx.data");
        fs::write(&stored, "").unwrap();
        let (found, mut survey) = model(path.to_str().unwrap(), "m.onnx", &["w.bin"]);
        survey.read = vec!["m.onnx.data".into()];
        let models = [(found, survey)];
        let error = check_report(&models, None, &stored).unwrap_err();
        assert!(error.to_string().contains("a source"), "{error}");
        assert!(check_report(&models, None, &dir.path().join("w.bin")).is_ok());
    }

    #[test]
    fn an_output_that_is_an_input_of_another_model_in_a_store_is_refused() {
        let models = [
            model("s3://b/in/x", "x", &["w"]),
            model("s3://b/out/w", "y", &[]),
        ];
        let out = |text| Location::parse_folder(text).unwrap();
        let error = check_files(&models, &out("s3://b/out/"), &[]).unwrap_err();
        assert!(
            matches!(error, Error::Core(CoreError::OutputIsInput(path)) if path == Path::new("s3://b/out/w"))
        );
        for elsewhere in ["s3://c/out", "gs://b/out", "s3://b"] {
            assert!(
                check_files(&models, &out(elsewhere), &[]).is_ok(),
                "{elsewhere}"
            );
        }
    }
}
