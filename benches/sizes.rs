//! What is asked of models of the size of language models, and whether it is met.
//!
//! `cargo bench --bench sizes [-- FOLDER [PART...]]`: works in FOLDER (a temporary one by default); all parts
//! (`large`, `files`, `tensors`, `nodes`) or those named. A part is left out where disk or memory do not
//! suffice: `large` needs 13 GiB of disk, and as much memory for the page cache.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{
    ONNXSEAL, matmul, median, peak_anonymous, plain_copy, ratio, run, succeed, time, time_of,
    write, write_chain, write_layers,
};
use onnxseal_core::{Identities, Policy, Preset, Silent};
use onnxseal_onnx::proto::{StringStringEntryProto, TensorProto};
use onnxseal_testkit::figures::{self, Asked};

/// How often each thing is done, in turn with what it is compared with; the medians are compared.
const ROUNDS: usize = 5;

const GIB: u64 = 1 << 30;

fn main() {
    // `cargo bench` adds `--bench`.
    let args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let args: Vec<String> = args.collect();
    let parent = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(parent).unwrap();
    let identity = folder.path().join("id.txt");
    let recipient = run(&[ONNXSEAL, "keygen", "-o", identity.to_str().unwrap()]);
    let bench = Bench {
        folder: folder.path().to_owned(),
        identity,
        recipient,
    };
    type Part<'b> = (&'b str, u64, &'b dyn Fn());
    let parts: [Part<'_>; 4] = [
        ("large", 13 * GIB, &|| bench.large()),
        ("files", 2 * GIB, &|| bench.files()),
        ("tensors", 3 * GIB, &|| bench.tensors()),
        ("nodes", GIB, &|| bench.nodes()),
    ];
    let wanted = args.get(1..).unwrap_or_default();
    for (name, needs, part) in parts {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        match room(folder.path()) < needs {
            true => println!("{name}: left out, it needs {} GiB", needs / GIB),
            false => part(),
        }
    }
}

struct Bench {
    folder: PathBuf,
    identity: PathBuf,
    recipient: String,
}

impl Bench {
    /// A model of 4 GB in one external file.
    fn large(&self) {
        let [plain, sealed, copy, out] =
            ["plain", "sealed", "copy", "out"].map(|name| self.at(name));
        write_external(&plain, 250, 2048, 250);
        for preset in [Preset::Balanced, Preset::Full] {
            let mut times = [const { Vec::new() }; 3];
            succeed(&mut self.protect(&plain, &sealed, preset));
            for _ in 0..ROUNDS {
                times[0].push(removed(&copy, || plain_copy(&plain, &copy)));
                let mut protect = self.protect(&plain, &out, preset);
                times[1].push(removed(&out, || succeed(&mut protect)));
                let mut unprotect = self.command("unprotect", &sealed);
                unprotect.arg("-o").arg(out.join("model.onnx"));
                times[2].push(removed(&out, || succeed(&mut unprotect)));
            }
            let [cp, protect, unprotect] = times.map(median);
            for (verb, took) in [("protect", protect), ("unprotect", unprotect)] {
                let what = format!("{verb} of 4 GB, {}, against cp", preset.name());
                line(
                    &what,
                    1.2,
                    ratio(took, cp),
                    &format!("({took:.2?}, {cp:.2?})"),
                );
            }
            fs::remove_dir_all(&sealed).unwrap();
        }
        fs::remove_dir_all(&plain).unwrap();
    }

    /// A model of 3,500 external files.
    fn files(&self) {
        let [plain, copy, out] = ["plain", "copy", "out"].map(|name| self.at(name));
        write_external(&plain, 3_500, 128, 1);
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            times[0].push(removed(&copy, || plain_copy(&plain, &copy)));
            let mut protect = self.protect(&plain, &out, Preset::Balanced);
            times[1].push(removed(&out, || succeed(&mut protect)));
        }
        let [cp, protect] = times.map(median);
        let took = format!("({protect:.2?}, {cp:.2?})");
        line(
            "protect of 3,500 files against cp -r",
            1.2,
            ratio(protect, cp),
            &took,
        );
        fs::remove_dir_all(&plain).unwrap();
    }

    /// Models of many tensors: the time and the memory of those who read the manifest.
    fn tensors(&self) {
        let identities = Identities::read(File::open(&self.identity).unwrap(), "id").unwrap();
        for n in [10_000, 100_000] {
            let [plain, sealed] = ["plain", "sealed"].map(|name| self.at(name));
            fs::create_dir(&plain).unwrap();
            write_layers(&plain.join("model.onnx"), n, 32);
            let model = sealed.join("model.onnx");
            succeed(&mut self.protect(&plain, &sealed, Preset::Balanced));
            let len = |path: &Path| fs::metadata(path).unwrap().len();
            let tail_kib = (len(&model) - len(&plain.join("model.onnx"))) >> 10;
            for verb in ["inspect", "verify"] {
                let mut command = self.command(verb, &sealed);
                let (seconds, kib) = (self.seconds(&mut command), peak_anonymous(&mut command));
                let what = format!("{verb} of {n} tensors");
                line(
                    &format!("{what}, seconds"),
                    n as f64 / 25_000.0,
                    seconds,
                    "",
                );
                let kib = kib as f64 / tail_kib as f64;
                let note = format!("(the manifest has {} MiB)", tail_kib >> 10);
                line(
                    &format!("{what}, memory against manifest"),
                    12.0,
                    kib,
                    &note,
                );
            }
            let again = self.at("again");
            let protect = || {
                let mut protect = self.protect(&plain, &again, Preset::Full);
                removed(&again, || succeed(&mut protect))
            };
            let seconds = median((0..ROUNDS).map(|_| protect()).collect()).as_secs_f64();
            let what = format!("protect of {n} tensors, seconds");
            line(&what, n as f64 / 25_000.0, seconds, "");
            let open = || time_of(|| onnxseal_core::open(&*model, &identities, &Silent).unwrap());
            let seconds = median((0..ROUNDS).map(|_| open()).collect()).as_secs_f64();
            let what = format!("open of {n} tensors, seconds");
            line(&what, n as f64 / 25_000.0, seconds, "");
            for folder in [plain, sealed] {
                fs::remove_dir_all(folder).unwrap();
            }
        }
    }

    /// Planning takes as long as there are nodes.
    fn nodes(&self) {
        let policy = Policy::preset(Preset::Balanced);
        let took = [50_000, 100_000].map(|nodes| {
            let path = self.at("chain.onnx");
            write_chain(&path, nodes);
            let plan = || time_of(|| onnxseal_core::plan(&*path, &policy).unwrap());
            median((0..ROUNDS).map(|_| plan()).collect())
        });
        let note = format!("({:.2?})", took[1]);
        let growth = ratio(took[1], took[0]);
        line(
            "plan of 100,000 nodes against half of it",
            2.5,
            growth,
            &note,
        );
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn protect(&self, from: &Path, to: &Path, preset: Preset) -> Command {
        let mut command = Command::new(ONNXSEAL);
        command.args(["-q", "protect", "--preset", preset.name()]);
        command.args(["-r", &self.recipient]);
        command.arg(from.join("model.onnx"));
        command.arg("-o").arg(to.join("model.onnx"));
        command
    }

    /// A command that reads the model in the folder `from`.
    fn command(&self, verb: &str, from: &Path) -> Command {
        let mut command = Command::new(ONNXSEAL);
        command.args(["-q", verb]).arg(from.join("model.onnx"));
        if verb != "inspect" {
            command.arg("-i").arg(&self.identity);
        }
        command.stdout(Stdio::null());
        command
    }

    fn seconds(&self, command: &mut Command) -> f64 {
        let runs = (0..ROUNDS).map(|_| time(|| succeed(command)));
        median(runs.collect()).as_secs_f64()
    }
}

/// Prints a figure: what is asked at most, and what was measured.
fn line(what: &str, asked: f64, measured: f64, note: &str) {
    let note = format!(" {note}");
    figures::print(what, Asked::AtMost(asked), measured, note.trim_end());
}

/// How long `work` takes, which makes the folder `made`. It is removed again.
fn removed(made: &Path, work: impl FnOnce()) -> Duration {
    let took = time(work);
    fs::remove_dir_all(made).unwrap();
    took
}

/// Bytes that are free, on the disk of `folder` and in memory.
fn room(folder: &Path) -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let memory = kib.map_or(u64::MAX, |kib| kib << 10);
    #[cfg(unix)]
    let disk = {
        let disk = rustix::fs::statvfs(folder).unwrap();
        disk.f_bavail * disk.f_frsize
    };
    #[cfg(not(unix))]
    let disk = {
        let _ = folder;
        u64::MAX
    };
    memory.min(disk)
}

/// A chain of `layers` MatMuls in `folder`, with weights of `side` times `side` in external files of
/// `per_file` tensors each.
fn write_external(folder: &Path, layers: u64, side: u64, per_file: u64) {
    fs::create_dir(folder).unwrap();
    // The weights need not differ; they have to be noise.
    let mut state = 1u64;
    let noise = (0..side * side).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state as i32) as f32 / 2f32.powi(36)).to_le_bytes()
    });
    let weight: Vec<u8> = noise.collect();
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value),
    };
    let mut initializers = Vec::new();
    for first in (0..layers).step_by(per_file as usize) {
        let name = format!("weights{first}.bin");
        let mut file = BufWriter::new(File::create(folder.join(&name)).unwrap());
        for i in 0..per_file {
            file.write_all(&weight).unwrap();
            initializers.push(TensorProto {
                name: Some(format!("w{}", first + i)),
                dims: vec![side as i64; 2],
                data_type: Some(1),
                data_location: Some(1),
                external_data: vec![
                    entry("location", name.clone()),
                    entry("offset", (i * weight.len() as u64).to_string()),
                    entry("length", weight.len().to_string()),
                ],
                ..TensorProto::default()
            });
        }
        file.into_inner().unwrap();
    }
    let nodes = (0..layers).map(|i| matmul(i, format!("w{i}"))).collect();
    write(&folder.join("model.onnx"), nodes, initializers);
}
