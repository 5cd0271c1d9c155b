//! `kill -9` at any moment: outputs are absent or whole, inputs as they were.
#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs)]

mod lab;

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, thread};

use lab::{Lab, contents, files};
use onnxseal_core::{Identities, Silent, generate_identity, open};
use onnxseal_testkit::Sample;
use onnxseal_testkit::build::{GraphBuilder, external, node, weights};

/// Rows and columns of each of the weights, 4 MiB.
const SIDE: i64 = 1024;

#[test]
fn protect_to_a_new_file() {
    let _alone = alone();
    kill_protect(&one_file(), 100);
}

#[test]
fn protect_with_external_data() {
    let _alone = alone();
    kill_protect(&with_external_data(), 100);
}

#[test]
fn protect_in_place() {
    let _alone = alone();
    let field = Field::new(&one_file());
    let recipient = field.lab.recipient.clone();
    let protect = ["-q", "protect", "plain/model.onnx", "--in-place"];
    let args = [&protect[..], &["--preset", "full", "-r", &recipient]].concat();
    let original = &field.sample.model;
    kill_in_place(&field, "plain", &args, 50, |model| {
        fs::read(model).unwrap() == *original
    });
}

#[test]
fn rotate_in_place() {
    let _alone = alone();
    let field = Field::new(&one_file());
    let recipient = field.protect();
    let rotate = ["-q", "rotate", "sealed/model.onnx", "-i", "id.txt"];
    let args = [&rotate[..], &["--preset", "full", "-r", &recipient]].concat();
    let sealed = fs::read(field.lab.path("sealed/model.onnx")).unwrap();
    kill_in_place(&field, "sealed", &args, 100, |model| {
        fs::read(model).unwrap() == sealed
    });
}

#[test]
fn rotate_in_place_with_external_data() {
    let _alone = alone();
    let field = Field::new(&with_external_data());
    let recipient = field.protect();
    let rotate = ["-q", "rotate", "sealed/model.onnx", "-i", "id.txt"];
    let to = ["--external-data", "new", "-r", &recipient];
    let command = || field.command(&[&rotate[..], &to].concat());
    let folder = field.lab.path("sealed");
    let model = folder.join("model.onnx");
    let before = contents(&folder);
    let reset = || {
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        for (path, bytes) in &before {
            fs::write(path, bytes).unwrap();
        }
    };
    let mut tally = Tally::new("rotate in place, external data", command, reset);
    for _ in 0..100 {
        tally.kill(|| {
            assert!(field.opens(&model), "neither the old model nor the new one");
            let now = contents(&folder);
            let is_kept = |file: &&(PathBuf, Vec<u8>)| now.contains(file);
            let n_kept = before.iter().filter(is_kept).count();
            let data = before.iter().filter(|(path, _)| *path != model);
            assert!(data.clone().all(|file| is_kept(&file)), "old data are gone");
            for (path, _) in now.iter().filter(|file| !before.contains(file)) {
                let name = path.file_name().unwrap().to_str().unwrap();
                // The new model has a name of its own for a moment, once its data are there.
                let is_whole = match name.starts_with(".onnxseal-") {
                    true => field.opens(path),
                    false => *path == model || path.starts_with(folder.join("new")),
                };
                assert!(is_whole, "{}", path.display());
            }
            match (n_kept == before.len(), now.len() - before.len()) {
                (true, 0) => Found::Nothing,
                (true, _) => Found::Part,
                (false, n_new) => {
                    assert_eq!(n_new, data.count());
                    Found::Whole
                }
            }
        });
    }
    tally.finish();
}

#[test]
fn rotate_to_a_new_file() {
    let _alone = alone();
    let field = Field::new(&with_external_data());
    let recipient = field.protect();
    let rotate = ["-q", "rotate", "sealed/model.onnx", "-i", "id.txt"];
    let to = ["-o", "out/model.onnx", "-r", &recipient];
    let command = || field.command(&[&rotate[..], &to].concat());
    let sealed = contents(&field.lab.path("sealed"));
    let mut tally = Tally::new("rotate, external data", command, || field.empty_output());
    for _ in 0..100 {
        tally.kill(|| {
            assert!(contents(&field.lab.path("sealed")) == sealed);
            field.outputs(|out| field.opens(&out.join("model.onnx")))
        });
    }
    tally.finish();
}

#[test]
fn rotate_tiers_in_place() {
    rotate_tiers(40);
}

#[test]
#[ignore = "takes minutes"]
fn rotate_tiers_in_place_200_times() {
    rotate_tiers(200);
}

fn rotate_tiers(times: usize) {
    let _alone = alone();
    let field = Field::new(&one_file());
    let to = field.protect_tiers();
    let rotate = ["-q", "rotate", "sealed/model.onnx", "-i", "id.txt"];
    let to: Vec<&str> = to.iter().map(|text| &**text).collect();
    let sealed = fs::read(field.lab.path("sealed/model.onnx")).unwrap();
    kill_in_place(
        &field,
        "sealed",
        &[&rotate[..], &to].concat(),
        times,
        |model| fs::read(model).unwrap() == sealed,
    );
}

#[test]
fn rekey_in_place() {
    let field = Field::new(&one_file());
    let recipient = field.protect();
    // Another length as well as other bytes.
    rekey(&field, &["-r", &recipient, "-R", "more.txt"], 60);
}

#[test]
fn rekey_tiers_in_place() {
    rekey_tiers(40);
}

#[test]
#[ignore = "takes minutes"]
fn rekey_tiers_in_place_200_times() {
    rekey_tiers(200);
}

/// The key of a tier in the middle is wrapped to others: those after it move.
fn rekey_tiers(times: usize) {
    let field = Field::new(&one_file());
    field.protect_tiers();
    rekey(&field, &["-R", "trial=more.txt"], times);
}

fn rekey(field: &Field, to: &[&str], times: usize) {
    let _alone = alone();
    let model = field.lab.path("sealed/model.onnx");
    let sealed = fs::read(&model).unwrap();
    let rekey = ["-q", "rekey", "sealed/model.onnx", "-i", "id.txt"];
    let more: String = (0..40)
        .map(|_| format!("{}\n", generate_identity().recipient()))
        .collect();
    fs::write(field.lab.path("more.txt"), more).unwrap();
    let args = [&rekey[..], to].concat();
    let folder = field.lab.path("sealed");
    let reset = || {
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(&model, &sealed).unwrap();
    };
    let mut tally = Tally::new("rekey in place", || field.command(&args), reset);
    for _ in 0..times {
        tally.kill(|| {
            let now = fs::read(&model).unwrap();
            if now == sealed {
                return Found::Nothing;
            }
            // Half written, it is whole after the next one.
            let whole = onnxseal_onnx::tail::split(&now).is_ok_and(|tail| tail.is_some());
            if !whole {
                assert!(onnxseal_core::is_interrupted(&model));
                let output = field.command(&args).output().unwrap();
                assert!(output.status.success(), "{output:?}");
            }
            assert!(field.opens(&model), "a model that does not open");
            match whole {
                true => Found::Whole,
                false => Found::Part,
            }
        });
    }
    tally.finish();
}

#[test]
fn unprotect() {
    let _alone = alone();
    let field = Field::new(&with_external_data());
    field.protect();
    let sealed: Vec<_> = contents(&field.lab.path("sealed"));
    let command = || {
        let args = ["-q", "unprotect", "sealed/model.onnx", "-i", "id.txt"];
        field.command(&[&args[..], &["-o", "out/model.onnx"]].concat())
    };
    let mut tally = Tally::new("unprotect", command, || field.empty_output());
    for _ in 0..30 {
        tally.kill(|| {
            assert!(
                contents(&field.lab.path("sealed")) == sealed,
                "the input changed"
            );
            field.outputs(|out| {
                let content = |name: &str| fs::read(out.join(name)).unwrap();
                let files = &field.sample.files;
                content("model.onnx") == field.sample.model
                    && files.iter().all(|(name, bytes)| content(name) == *bytes)
            })
        });
    }
    tally.finish();
}

#[test]
fn batch_protect() {
    let _alone = alone();
    let zoo = Zoo::new();
    let recipient = zoo.lab.recipient.clone();
    let args = [
        "batch", "protect", "zoo", "--out", "out", "-r", &recipient, "--resume",
    ];
    zoo.kill("batch protect", &args, 200);
}

#[test]
fn batch_rotate() {
    let _alone = alone();
    let zoo = Zoo::new();
    let recipient = zoo.lab.recipient.clone();
    let args = [
        "-q", "batch", "protect", "zoo", "--out", "sealed", "-r", &recipient,
    ];
    zoo.lab.expect(0, &args);
    let args = [
        "batch", "rotate", "sealed", "--out", "out", "-i", "id.txt", "-r", &recipient, "--resume",
    ];
    zoo.kill("batch rotate", &args, 200);
}

#[test]
fn batch_rotate_in_place() {
    batch_in_place(&["-q", "batch", "rotate", "sealed", "-i", "id.txt"], 40);
}

#[test]
fn batch_rekey_in_place() {
    batch_in_place(&["-q", "batch", "rekey", "sealed", "-i", "id.txt"], 40);
}

/// Kills a batch that changes models in place: each is what it was, or opens, and the next run does all.
fn batch_in_place(args: &[&str], times: usize) {
    let _alone = alone();
    let field = Field::new(&one_file());
    let recipient = field.protect();
    let sealed = fs::read(field.lab.path("sealed/model.onnx")).unwrap();
    let folder = field.lab.path("sealed");
    let models = ["a", "b", "c", "d"].map(|name| folder.join(name));
    let reset = || {
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        models
            .iter()
            .for_each(|model| fs::write(model, &sealed).unwrap());
    };
    let args = [args, &["-r", &recipient]].concat();
    let title = format!("batch {} in place", args[2]);
    let mut tally = Tally::new(&title, || field.command(&args), reset);
    let is_changed = |model: &&PathBuf| fs::read(model).unwrap() != sealed;
    for run in 0..times {
        tally.kill(|| {
            let n_changed = models.iter().filter(is_changed).count();
            let half = |model: &PathBuf| onnxseal_core::is_interrupted(model);
            let is_half = models.iter().any(half);
            assert!(models.iter().all(|model| half(model) || field.opens(model)));
            if run % 10 == 0 || is_half {
                let output = field.command(&args).output().unwrap();
                assert!(output.status.success(), "{output:?}");
                assert!(
                    models
                        .iter()
                        .all(|model| is_changed(&model) && field.opens(model))
                );
            }
            match n_changed {
                0 => Found::Nothing,
                4 if !is_half => Found::Whole,
                _ => Found::Part,
            }
        });
    }
    tally.finish();
}

/// A folder of small models, one of them with external data.
struct Zoo {
    lab: Lab,
    models: Vec<Sample>,
    identities: Identities,
}

impl Zoo {
    fn new() -> Zoo {
        let lab = Lab::new();
        let mut models = onnxseal_testkit::samples::all();
        let names = ["second", "third"];
        models.extend(names.map(|name| Sample {
            name,
            ..onnxseal_testkit::samples::external_data()
        }));
        models.push(Sample {
            name: "large",
            model: chain_of(1),
            files: Vec::new(),
        });
        for model in &models {
            let folder = lab.path("zoo").join(model.name);
            fs::create_dir_all(&folder).unwrap();
            model.write(&folder).unwrap();
        }
        let identities = fs::File::open(lab.path("id.txt")).unwrap();
        let identities = Identities::read(identities, "id.txt").unwrap();
        Zoo {
            lab,
            models,
            identities,
        }
    }

    /// Kills the batch at moments spread over its duration, and runs it again where it was killed.
    /// Whenever it comes to its end, the next asks for something else, so that all is made anew.
    fn kill(&self, title: &str, args: &[&str], times: u32) {
        let begun = Instant::now();
        let inputs = || {
            let folders = ["zoo", "sealed"].map(|name| self.lab.path(name));
            let there = folders.iter().filter(|folder| folder.exists());
            there.map(|folder| contents(folder)).collect::<Vec<_>>()
        };
        let before = inputs();
        let mut horizon = Duration::from_millis(60);
        let (mut lot, mut killed) = (0, 0);
        for run in 0..times {
            let claim = format!("lot={lot}");
            let mut command = self
                .lab
                .command(&[&["-q"], args, &["--claim", &claim]].concat());
            let done = self.look(lot);
            let moment = (f64::from(run) * 0.618_034).fract();
            let mut child = command.spawn().unwrap();
            thread::sleep(horizon.mul_f64(moment));
            child.kill().unwrap();
            let status = child.wait().unwrap();
            assert!(status.success() || status.signal() == Some(9), "{status}");
            let now = self.look(lot);
            for stamp in &done {
                assert!(now.contains(stamp), "{stamp:?} was done twice");
            }
            horizon = horizon.mul_f64(if status.success() { 0.9 } else { 1.03 });
            killed += u32::from(!status.success());
            if status.success() {
                assert_eq!(now.len(), self.models.len());
                lot += 1;
            }
        }
        let claim = format!("lot={lot}");
        self.lab
            .expect(0, &[&["-q"], args, &["--claim", &claim]].concat());
        assert_eq!(self.look(lot).len(), self.models.len());
        assert!(inputs() == before, "an input changed");
        eprintln!(
            "{title}: {times} runs, {killed} of them killed; {lot} times all was done; {:.1} s",
            begun.elapsed().as_secs_f64()
        );
        assert!(killed > 0, "no kill came before the end");
        assert!(lot > 1, "no run came to its end");
    }

    /// Checks that all outputs are absent or whole; gives those of `lot`, each with what tells
    /// whether it was written again.
    fn look(&self, lot: u32) -> Vec<(String, u64, i64)> {
        let out = self.lab.path("out");
        let mut found = Vec::new();
        for model in &self.models {
            let folder = out.join(model.name);
            if !folder.exists() {
                continue;
            }
            for path in files(&folder) {
                let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
                // A file that takes the place of another has a name of its own before.
                if name.starts_with(".onnxseal-") {
                    self.opens(&path, model);
                    fs::remove_file(&path).unwrap();
                    continue;
                }
                let length = model.files.iter().find(|(file, _)| *file == name);
                let length = length.map(|(_, bytes)| bytes.len() as u64);
                let is_whole = |length| fs::metadata(&path).unwrap().len() == length;
                assert!(
                    name == "model.onnx" || length.is_some_and(is_whole),
                    "{name}"
                );
            }
            let path = folder.join("model.onnx");
            if path.exists() {
                let metadata = fs::metadata(&path).unwrap();
                if self.opens(&path, model) == lot.to_string() {
                    found.push((model.name.into(), metadata.ino(), metadata.mtime_nsec()));
                }
            }
        }
        found
    }

    /// Checks that the protected model at `path` opens to the original, and says of which lot it is.
    fn opens(&self, path: &Path, model: &Sample) -> String {
        let opened = open(path, &self.identities, &Silent).unwrap();
        assert!(opened.model() == model.model, "{}", path.display());
        let files = model.files.iter();
        assert!((opened.external_files()).eq(files.map(|(name, bytes)| (*name, bytes.as_slice()))));
        opened.manifest().claims()["lot"].clone()
    }
}

fn kill_protect(sample: &Sample, times: usize) {
    let field = Field::new(sample);
    let command = || {
        let args = ["-q", "protect", "plain/model.onnx", "-o", "out/model.onnx"];
        field.command(&[&args[..], &["--preset", "full", "-r", &field.lab.recipient]].concat())
    };
    let title = format!("protect, {}", sample.name);
    let mut tally = Tally::new(&title, command, || field.empty_output());
    let plain = contents(&field.lab.path("plain"));
    for _ in 0..times {
        tally.kill(|| {
            assert!(
                contents(&field.lab.path("plain")) == plain,
                "the input changed"
            );
            field.outputs(|out| field.opens(&out.join("model.onnx")))
        });
    }
    tally.finish();
}

/// Kills the command `args`, which replaces the model in `folder`: it is what it was, or opens.
fn kill_in_place(
    field: &Field,
    folder: &str,
    args: &[&str],
    times: usize,
    is_as_it_was: impl Fn(&Path) -> bool,
) {
    let folder = field.lab.path(folder);
    let model = folder.join("model.onnx");
    let before = fs::read(&model).unwrap();
    let reset = || {
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(&model, &before).unwrap();
    };
    let title = format!("{} in place", args[1]);
    let mut tally = Tally::new(&title, || field.command(args), reset);
    for _ in 0..times {
        tally.kill(|| {
            for path in files(&folder) {
                // A file cannot be linked over another, only renamed: between the two it has a
                // name of its own. It is whole then, and protected.
                let name = path.file_name().unwrap().to_str().unwrap();
                let stray = name.starts_with(".onnxseal-");
                assert!(stray || path == model, "{}", path.display());
                assert!(!stray || field.opens(&path), "{}", path.display());
            }
            if is_as_it_was(&model) {
                return Found::Nothing;
            }
            assert!(
                field.opens(&model),
                "neither what it was nor what it should be"
            );
            Found::Whole
        });
    }
    tally.finish();
}

/// What stands in the output folder after a kill.
#[derive(PartialEq)]
enum Found {
    /// Nothing, or in place the original.
    Nothing,
    /// External files, which come before their model; of a batch, some of the models.
    Part,
    /// The output with all its files.
    Whole,
}

/// The start of a command that protects the model of a [`Field`].
const PROTECT: [&str; 5] = [
    "-q",
    "protect",
    "plain/model.onnx",
    "-o",
    "sealed/model.onnx",
];

/// A folder with a model in `plain`.
struct Field {
    lab: Lab,
    sample: Sample,
    identities: Identities,
}

impl Field {
    fn new(sample: &Sample) -> Field {
        let lab = Lab::new();
        fs::create_dir(lab.path("plain")).unwrap();
        sample.write(&lab.path("plain")).unwrap();
        let identities = fs::File::open(lab.path("id.txt")).unwrap();
        Field {
            lab,
            sample: sample.clone(),
            identities: Identities::read(identities, "id.txt").unwrap(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        self.lab.command(args)
    }

    /// Protects the model to `sealed/model.onnx`; gives the recipient.
    fn protect(&self) -> String {
        let recipient = ["-r", &self.lab.recipient];
        self.lab.expect(0, &[&PROTECT[..], &recipient].concat());
        self.lab.recipient.clone()
    }

    /// Protects the model with tiers to `sealed/model.onnx`; gives the recipients of each, as arguments. The
    /// highest is `lab`'s own.
    fn protect_tiers(&self) -> Vec<String> {
        let tiers = "preset = \"full\"\n[[tier]]\nname = \"trial\"\nshare = 0.3\n\
                     [[tier]]\nname = \"standard\"\nshare = 0.7\n[[tier]]\nname = \"full\"\n";
        fs::write(self.lab.path("policy.toml"), tiers).unwrap();
        let other = || generate_identity().recipient();
        let own = self.lab.recipient.clone();
        let to = [("trial", other()), ("standard", other()), ("full", own)];
        let to = to.map(|(tier, recipient)| ["-r".to_owned(), format!("{tier}={recipient}")]);
        let to = to.concat();
        let mut args = [&PROTECT[..], &["--policy", "policy.toml"]].concat();
        args.extend(to.iter().map(|text| &**text));
        self.lab.expect(0, &args);
        to
    }

    fn empty_output(&self) {
        let out = self.lab.path("out");
        if out.exists() {
            fs::remove_dir_all(&out).unwrap();
        }
        fs::create_dir(&out).unwrap();
    }

    /// Whether the protected model at `path` opens to the original.
    fn opens(&self, path: &Path) -> bool {
        let opened = open(path, &self.identities, &Silent).unwrap();
        let files = self.sample.files.iter();
        let files = files.map(|(name, bytes)| ((*name).to_owned(), bytes.as_slice()));
        *opened.original_model() == self.sample.model && opened.original_external_files().eq(files)
    }

    /// Looks at the output folder; `is_right` says whether a whole output is what it should be.
    fn outputs(&self, is_right: impl Fn(&Path) -> bool) -> Found {
        let out = self.lab.path("out");
        let found = files(&out);
        for path in &found {
            let mut external = self.sample.files.iter();
            let ours = |(name, bytes): &(&str, Vec<u8>)| {
                *path == out.join(name) && fs::metadata(path).unwrap().len() == bytes.len() as u64
            };
            let known = *path == out.join("model.onnx") || external.any(ours);
            assert!(known, "stray file {}", path.display());
        }
        if found.is_empty() {
            return Found::Nothing;
        }
        if !found.contains(&out.join("model.onnx")) {
            return Found::Part;
        }
        assert!(is_right(&out), "an output is not whole");
        Found::Whole
    }
}

/// Runs a command again and again, and kills it at moments spread over its duration.
struct Tally<C, R> {
    title: String,
    command: C,
    reset: R,
    /// No kill comes later than this after the start.
    horizon: Duration,
    begun: Instant,
    runs: u32,
    killed: u32,
    nothing: u32,
    part: u32,
    whole: u32,
}

impl<C: Fn() -> Command, R: Fn()> Tally<C, R> {
    fn new(title: &str, command: C, reset: R) -> Tally<C, R> {
        let begun = Instant::now();
        let mut durations: Vec<Duration> = (0..3)
            .map(|_| {
                reset();
                let begun = Instant::now();
                let output = command().output().unwrap();
                assert!(output.status.success(), "{output:?}");
                begun.elapsed()
            })
            .collect();
        durations.sort();
        reset();
        Tally {
            title: title.to_owned(),
            command,
            reset,
            horizon: durations[1].mul_f64(1.2),
            begun,
            runs: 0,
            killed: 0,
            nothing: 0,
            part: 0,
            whole: 0,
        }
    }

    fn kill(&mut self, look: impl FnOnce() -> Found) {
        // The golden ratio spreads any number of moments evenly.
        let moment = (f64::from(self.runs) * 0.618_034).fract();
        self.runs += 1;
        let mut child = (self.command)().spawn().unwrap();
        thread::sleep(self.horizon.mul_f64(moment));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() || status.signal() == Some(9), "{status}");
        self.killed += u32::from(!status.success());
        let found = look();
        assert!(
            found == Found::Whole || !status.success(),
            "success without an output"
        );
        // As fast as the machine happens to be now, about one of five comes to its end.
        self.horizon = self.horizon.mul_f64(match found {
            Found::Whole => 0.96,
            _ => 1.01,
        });
        match found {
            Found::Nothing => self.nothing += 1,
            Found::Part => self.part += 1,
            Found::Whole => self.whole += 1,
        }
        if found != Found::Nothing {
            (self.reset)();
        }
    }

    fn finish(self) {
        eprintln!(
            "{}: {} runs, {} of them killed; outputs: {} absent, {} in part, {} whole; {:.1} s",
            self.title,
            self.runs,
            self.killed,
            self.nothing,
            self.part,
            self.whole,
            self.begun.elapsed().as_secs_f64()
        );
        assert!(self.nothing > 0, "no kill came before the end");
        assert!(self.whole > 0, "no run came to its end");
    }
}

/// The tests measure time, so they run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 20 MiB of weights in the model file.
fn one_file() -> Sample {
    Sample {
        name: "one file",
        model: chain_of(5),
        files: Vec::new(),
    }
}

/// A model with `n` weights of 4 MiB.
fn chain_of(n: u32) -> Vec<u8> {
    let mut graph = GraphBuilder::new("one_file")
        .input("v0", &[1, SIDE])
        .output(&format!("v{n}"), &[1, SIDE]);
    for i in 0..n {
        let (x, w, y) = (format!("v{i}"), format!("w{i}"), format!("v{}", i + 1));
        graph =
            graph
                .initializer(weights(&w, &[SIDE, SIDE], i))
                .node(node("MatMul", &[&x, &w], &[&y]));
    }
    graph.encode()
}

/// 20 MiB of weights in two files beside the model.
fn with_external_data() -> Sample {
    let mut graph = GraphBuilder::new("external")
        .input("v0", &[1, SIDE])
        .output("v5", &[1, SIDE]);
    let files = [("a.bin", 3), ("b.bin", 2)].map(|(name, n_tensors)| {
        let content: Vec<u8> = (0..n_tensors)
            .flat_map(|i| weights("", &[SIDE, SIDE], i).raw_data.unwrap_or_default())
            .collect();
        (name, content)
    });
    for i in 0..5 {
        let (x, w, y) = (format!("v{i}"), format!("w{i}"), format!("v{}", i + 1));
        let (location, at) = if i < 3 {
            ("a.bin", i)
        } else {
            ("b.bin", i - 3)
        };
        let offset = (at * SIDE * SIDE * 4) as u64;
        let w = external(&w, &[SIDE, SIDE], location, Some(offset), None);
        graph = graph.node(node("MatMul", &[&x, &format!("w{i}")], &[&y]));
        graph = graph.initializer(w);
    }
    Sample {
        name: "external data",
        model: graph.encode(),
        files: files.to_vec(),
    }
}
