//! How long it takes from a model in files to its first inference, and how much memory; and what
//! sessions leave behind.
//!
//! ```text
//! export ORT_DYLIB_PATH=...
//! cargo bench -p onnxseal-runtime --bench start [-- [--quick] [FOLDER [PART...]]]
//! ```
//!
//! Works in FOLDER (a temporary one by default; name one on a disk: in memory, models would take
//! what is measured); all parts (`transformer`, `matmuls`, `resnet`,
//! `tensors`, `large`, `sessions`) or those named.
//! `--quick` makes small models and one round, to try the benchmark itself.
//!
//! Every start is a process of its own; ways are taken in turn, so that all of them see the same
//! machine. What counts is the ratio to ONNX Runtime opening the plain model by its path: for time,
//! in the same form; for memory, with external data, which ONNX Runtime maps. Lines that begin with
//! `figure` say what is asked, and whether it is met. Python's ways need onnxseal in the Python of
//! `PYTHON`, or of `.venv`, which `tests/run.sh` makes; for a peer also `cryptotensors`.
#![allow(clippy::unwrap_used, missing_docs)]

mod models;
mod process;
mod report;
mod ways;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use models::Make;
use onnxseal_core::{
    Policy, Preset, ProtectOptions, Recipients, Silent, generate_identity, protect,
};
use process::{SESSIONS, SESSIONS_BEFORE, number_in, status};
use report::Most;
use ways::{Api, Form, Way, What};

/// How often each way is measured, after once for the page cache; medians are compared.
const ROUNDS: usize = 5;

const MIB: u64 = 1 << 20;

/// Tells glibc to give back to the system what is freed, at once: how much it keeps differs by more
/// than a session may leave behind.
const GIVE_BACK: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "65536"),
    ("MALLOC_TRIM_THRESHOLD_", "65536"),
];

/// Bytes of memory that must be free for the large models.
const ROOM: u64 = 16 << 30;

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    args.retain(|arg| arg != "--bench");
    let rest = |from: usize| args.get(from).map(Path::new);
    match (args.first().map(String::as_str), rest(1)) {
        (Some("start"), Some(model)) => process::start(model, rest(2)),
        (Some("repeat"), Some(model)) => process::repeat(model, rest(2)),
        _ => {
            let is_quick = args.iter().any(|arg| arg == "--quick");
            args.retain(|arg| arg != "--quick");
            measure(&args, is_quick);
        }
    }
}

/// A model to measure, and how.
struct Case {
    name: &'static str,
    make: Make,
    n_bytes: u64,
    /// The forms in which it is protected.
    forms: &'static [Form],
    presets: &'static [Preset],
    has_peers: bool,
    most: Most,
}

/// What is asked of models with large tensors.
const LARGE: Most = Most {
    one_file: 0.75,
    mapped: Some(1.0),
};

struct Bench {
    folder: PathBuf,
    is_quick: bool,
    key: String,
    recipient: String,
    python: String,
    script: String,
    has_onnxseal: bool,
}

fn measure(args: &[String], is_quick: bool) {
    let folder = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder).unwrap();
    let folder = folder.path();
    let identity = generate_identity();
    let key = folder.join("identity.txt");
    fs::write(&key, identity.to_file_text().as_bytes()).unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut bench = Bench {
        folder: folder.to_owned(),
        is_quick,
        key: text(&key),
        recipient: identity.recipient(),
        python: std::env::var("PYTHON").unwrap_or(text(&here.join("../../.venv/bin/python"))),
        script: text(&here.join("benches/start/start.py")),
        has_onnxseal: false,
    };
    bench.has_onnxseal = bench.has("onnxseal");
    if !bench.has_onnxseal {
        println!("Python without onnxseal: all its ways are left out");
    }
    let parts: [(&str, &dyn Fn()); 6] = [
        ("transformer", &|| bench.transformer()),
        ("matmuls", &|| bench.matmuls()),
        ("resnet", &|| bench.resnet()),
        ("tensors", &|| bench.tensors()),
        ("large", &|| bench.large()),
        ("sessions", &|| bench.sessions()),
    ];
    let wanted = args.get(1..).unwrap_or_default();
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            part();
        }
    }
}

impl Bench {
    fn transformer(&self) {
        self.first_inference(&Case {
            name: "transformer",
            make: models::transformer,
            n_bytes: 324 * MIB,
            forms: &[Form::OneFile, Form::External],
            presets: &[Preset::Balanced, Preset::Full],
            has_peers: true,
            most: LARGE,
        });
    }

    fn matmuls(&self) {
        self.first_inference(&Case {
            name: "MatMuls",
            make: models::matmuls,
            n_bytes: 512 * MIB,
            forms: &[Form::OneFile, Form::External],
            presets: &[Preset::Balanced, Preset::Full],
            has_peers: false,
            most: LARGE,
        });
    }

    fn resnet(&self) {
        self.first_inference(&Case {
            name: "ResNet",
            make: models::resnet,
            n_bytes: 180 * MIB,
            forms: &[Form::OneFile, Form::External],
            presets: &[Preset::Full],
            has_peers: false,
            most: LARGE,
        });
    }

    /// 20,000 tensors of 4 KiB.
    fn tensors(&self) {
        self.first_inference(&Case {
            name: "small tensors",
            make: models::small_tensors,
            n_bytes: 20_000 << 12,
            forms: &[Form::OneFile],
            presets: &[Preset::Full],
            has_peers: false,
            most: Most {
                one_file: 1.1,
                mapped: None,
            },
        });
    }

    /// Models of 4 GB with external data, and of 1.9 GB in one file: protobuf ends at 2 GiB.
    ///
    /// One preset at a time, so that plain and protected model stay in the page cache.
    fn large(&self) {
        let free = available_bytes();
        if !self.is_quick && free < ROOM {
            println!(
                "\nlarge models: left out, because {} MiB of memory are free and {} are needed",
                free / MIB,
                ROOM / MIB
            );
            return;
        }
        println!("\nlarge models: one file only up to 1.9 GB, because protobuf ends at 2 GiB");
        for (name, make) in [
            ("large MatMulNBits", models::matmulnbits as Make),
            ("large MatMuls", models::matmuls),
        ] {
            for presets in [&[Preset::Balanced], &[Preset::Full]] {
                for (n_bytes, forms) in [
                    (1_900_000_000, &[Form::OneFile]),
                    (4_000_000_000, &[Form::External]),
                ] {
                    self.first_inference(&Case {
                        name,
                        make,
                        n_bytes,
                        forms,
                        presets,
                        has_peers: false,
                        most: LARGE,
                    });
                }
            }
        }
    }

    /// Time and memory of one start.
    fn first_inference(&self, case: &Case) {
        let folder = tempfile::tempdir_in(&self.folder).unwrap();
        let n_bytes = match self.is_quick {
            true => case.n_bytes / 16,
            false => case.n_bytes,
        };
        println!("\n{}, {} MiB", case.name, n_bytes / MIB);
        let mut ways = self.ways(case, n_bytes, "start", folder.path());
        if case.has_peers && self.has_onnxseal {
            self.add_peers(&folder.path().join(Form::OneFile.name()), &mut ways);
        }
        self.take_turns(&mut ways, &[]);
        report::starts(case.name, case.most, &ways);
    }

    /// Compares the descriptors, threads and memory of a process after some sessions and after many.
    fn sessions(&self) {
        let folder = tempfile::tempdir_in(&self.folder).unwrap();
        let case = Case {
            name: "sessions",
            make: models::matmuls,
            n_bytes: 10 * MIB,
            forms: &[Form::OneFile, Form::External],
            presets: &[Preset::Balanced, Preset::Full],
            has_peers: false,
            most: LARGE,
        };
        println!(
            "\n{SESSIONS} sessions of a model of 10 MiB, one after the other: what is held after {SESSIONS_BEFORE}, and how much more at the end"
        );
        let mut ways = self.ways(&case, case.n_bytes, "repeat", folder.path());
        self.take_turns(&mut ways, &GIVE_BACK);
        report::sessions(&ways);
    }

    /// Makes the models of a case in `folder`, and ways to do with them what `action` says.
    ///
    /// With external data there is always a plain model, because memory is compared with it.
    fn ways(&self, case: &Case, n_bytes: u64, action: &str, folder: &Path) -> Vec<Way> {
        let mut ways = Vec::new();
        for form in [Form::OneFile, Form::External] {
            let is_protected = case.forms.contains(&form);
            if !is_protected && form == Form::OneFile {
                continue;
            }
            let of_form = folder.join(form.name());
            fs::create_dir(&of_form).unwrap();
            models::write(case.make, n_bytes, &of_form, form == Form::External);
            let mut add = |what, api, folder: &Path| {
                ways.push(Way {
                    what,
                    form,
                    api,
                    command: self.command(action, what, api, folder),
                    runs: Vec::new(),
                });
            };
            add(What::Plain, Api::Rust, &of_form);
            if self.has_onnxseal {
                add(What::Plain, Api::Python, &of_form);
            }
            if !is_protected {
                continue;
            }
            for &preset in case.presets {
                let to = of_form.join(preset.name());
                let report = protect(
                    of_form.join("plain.onnx"),
                    to.join("protected.onnx"),
                    &Recipients::parse(&[&self.recipient]).unwrap(),
                    &ProtectOptions::new(Policy::preset(preset)),
                    &Silent,
                );
                println!(
                    "{}: {} encrypts {} MiB",
                    form.name(),
                    preset.name(),
                    report.unwrap().weights.encrypted_bytes / MIB
                );
                for api in Api::ALL {
                    if api == Api::Rust || self.has_onnxseal {
                        add(What::Protected(preset), api, &to);
                    }
                }
            }
        }
        // Writing them to the disk would disturb what is measured.
        Command::new("sync").arg("-f").arg(folder).status().unwrap();
        ways
    }

    fn command(&self, action: &str, what: What, api: Api, folder: &Path) -> Vec<String> {
        let is_plain = what == What::Plain;
        let mut command = match api {
            Api::Rust => {
                let file = if is_plain {
                    "plain.onnx"
                } else {
                    "protected.onnx"
                };
                let bench = std::env::current_exe().unwrap();
                vec![text(&bench), action.to_owned(), text(&folder.join(file))]
            }
            Api::Python | Api::Options => {
                let way = match api {
                    _ if is_plain => "plain",
                    Api::Options => "with_options",
                    _ => "protected",
                };
                self.in_python(&[action, way, &text(folder)])
            }
        };
        command.extend((!is_plain).then(|| self.key.clone()));
        command
    }

    fn in_python(&self, arguments: &[&str]) -> Vec<String> {
        let command = [&self.python, &self.script].into_iter().cloned();
        command
            .chain(arguments.iter().map(|argument| (*argument).to_owned()))
            .collect()
    }

    /// Whether Python has a module.
    fn has(&self, module: &str) -> bool {
        let asked = self.in_python(&["has", module]);
        let asked = Command::new(&asked[0]).args(&asked[1..]).output();
        asked.is_ok_and(|output| output.stdout.starts_with(b"True"))
    }

    /// Adds what users do without onnxseal's sessions with the model in `folder`.
    fn add_peers(&self, folder: &Path, ways: &mut Vec<Way>) {
        let mut add = |name, arguments: &[&str]| {
            ways.push(Way {
                what: What::Peer(name),
                form: Form::OneFile,
                api: Api::Python,
                command: self.in_python(arguments),
                runs: Vec::new(),
            });
        };
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/onnxseal");
        if tool.exists() {
            for (preset, name) in [
                (Preset::Balanced, "balanced: unprotect to a file"),
                (Preset::Full, "full: unprotect to a file"),
            ] {
                let of_preset = text(&folder.join(preset.name()));
                let arguments = ["start", "temp_file", &of_preset, &self.key, &text(&tool)];
                add(name, &arguments);
            }
        }
        let plain = text(&folder.join("plain.onnx"));
        let folder = text(folder);
        let mut age = Command::new("age");
        age.args(["-r", &self.recipient, "-o", &format!("{plain}.age"), &plain]);
        if age.status().is_ok_and(|status| status.success()) {
            add("age -d", &["start", "age", &folder, &self.key]);
        }
        if self.has("cryptotensors") {
            let make = self.in_python(&["make-cryptotensors", &folder]);
            let made = Command::new(&make[0]).args(&make[1..]).status();
            assert!(made.unwrap().success());
            add("cryptotensors", &["start", "cryptotensors", &folder]);
        }
    }

    /// Runs each way once for the page cache, and then in turn.
    fn take_turns(&self, ways: &mut [Way], variables: &[(&str, &str)]) {
        let n_rounds = if self.is_quick { 1 } else { ROUNDS };
        for round in 0..=n_rounds {
            for way in &mut *ways {
                let run = self.run_once(&way.command, variables);
                if round > 0 {
                    way.runs.push(run);
                }
            }
        }
    }

    /// Returns the output of a process, and the peak of its anonymous memory in KiB, read every 2 ms.
    ///
    /// Anonymous memory cannot be dropped and read again, because it is no file's.
    fn run_once(&self, command: &[String], variables: &[(&str, &str)]) -> BTreeMap<String, f64> {
        let errors = self.folder.join("errors.txt");
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        let process = child.id().to_string();
        let mut anonymous = 0f64;
        while child.try_wait().unwrap().is_none() {
            anonymous = anonymous.max(status(&process, "RssAnon") + status(&process, "RssShmem"));
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = child.wait_with_output().unwrap();
        let errors = fs::read_to_string(errors).unwrap();
        assert!(output.status.success(), "{command:?}\n{errors}");
        let said = String::from_utf8(output.stdout).unwrap();
        let numbers = said.lines().map(|line| {
            let (key, number) = line.split_once(' ').unwrap();
            (key.to_owned(), number.parse().unwrap())
        });
        numbers
            .chain([("anonymous".to_owned(), anonymous)])
            .collect()
    }
}

fn available_bytes() -> u64 {
    number_in("/proc/meminfo", "MemAvailable") as u64 * 1024
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
