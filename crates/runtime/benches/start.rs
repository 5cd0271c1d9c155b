//! How long it takes from a model in files to its first inference, and how much memory.
//!
//! ```text
//! cargo bench -p onnxseal-runtime --bench start [-- FOLDER [MIB [RUNS]]]
//! ```
//!
//! Every start is a process of its own; ways are taken in turn, so that all of them see the same
//! machine. What counts is the ratio to ONNX Runtime opening the plain model by its path. Python's
//! ways need `.venv`, with onnxseal in it (`tests/run.sh` makes both) and, for a peer,
//! `cryptotensors`.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use onnxseal_core::{Policy, Preset, ProtectOptions, Recipients, generate_identity, protect};
use onnxseal_runtime::{Identities, Model, Silent, load};
use onnxseal_testkit::build::{GraphBuilder, external, node, node_with, weights};
use onnxseal_testkit::figures::{self, Asked};
use ort::session::Session;
use ort::value::Tensor;

const ROWS: i64 = 197;
const WIDTH: i64 = 768;

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    args.retain(|arg| arg != "--bench");
    match args.first().map(String::as_str) {
        Some("start") => start(Path::new(&args[1]), args.get(2).map(Path::new)),
        _ => measure(&args),
    }
}

/// What a measured process does: starts the model, protected if there is an identity.
fn start(path: &Path, identity: Option<&Path>) {
    let environment = load().unwrap().build().unwrap();
    let begin = Instant::now();
    let mut builder = Session::builder(&environment).unwrap();
    let mut session = match identity {
        None => builder.commit_from_file(path).unwrap(),
        Some(identity) => {
            let identities = Identities::read(File::open(identity).unwrap(), "identity").unwrap();
            let model = Model::open(path, &identities).unwrap();
            model.into_session(builder).unwrap()
        }
    };
    let x = vec![1f32; (ROWS * WIDTH) as usize];
    let x = Tensor::from_array(([ROWS, WIDTH], x)).unwrap();
    session.run(ort::inputs![x]).unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    let peak_kib = status("self", "VmHWM");
    println!("{{\"seconds\": {seconds}, \"peak_kib\": {peak_kib}}}");
}

/// A transformer: layers of attention with one head, and two dense layers, to some MIB of weights.
fn model(mib: usize, is_external: bool) -> (Vec<u8>, Vec<u8>) {
    let mut graph = GraphBuilder::new("transformer")
        .input("x", &[ROWS, WIDTH])
        .output("y", &[ROWS, WIDTH]);
    let (mut beside, mut seed, mut x) = (Vec::new(), 0, "x".to_owned());
    let n_layers = (mib as i64 * (1 << 18) / (12 * WIDTH * WIDTH)).max(1);
    let mut add = |graph: GraphBuilder, name: &str, dims: &[i64]| {
        seed += 1;
        let tensor = weights(name, dims, seed);
        if !is_external || dims.len() < 2 {
            return graph.initializer(tensor);
        }
        let raw = tensor.raw_data.unwrap();
        let (offset, len) = (beside.len() as u64, raw.len() as u64);
        beside.extend(raw);
        graph.initializer(external(name, dims, "weights.bin", Some(offset), Some(len)))
    };
    for layer in 0..n_layers {
        let n = |name: &str| format!("{name}{layer}");
        for (name, dims) in [
            ("scale", &[WIDTH][..]),
            ("q", &[WIDTH, WIDTH]),
            ("k", &[WIDTH, WIDTH]),
            ("v", &[WIDTH, WIDTH]),
            ("o", &[WIDTH, WIDTH]),
            ("up", &[WIDTH, 4 * WIDTH]),
            ("bias", &[4 * WIDTH]),
            ("down", &[4 * WIDTH, WIDTH]),
        ] {
            graph = add(graph, &n(name), dims);
        }
        let y = if layer + 1 == n_layers {
            "y".to_owned()
        } else {
            n("out")
        };
        for (op_type, inputs, output) in [
            (
                "LayerNormalization",
                vec![x.clone(), n("scale")],
                n("normal"),
            ),
            ("MatMul", vec![n("normal"), n("q")], n("xq")),
            ("MatMul", vec![n("normal"), n("k")], n("xk")),
            ("MatMul", vec![n("normal"), n("v")], n("xv")),
            ("Transpose", vec![n("xk")], n("xkt")),
            ("MatMul", vec![n("xq"), n("xkt")], n("scores")),
            ("Softmax", vec![n("scores")], n("share")),
            ("MatMul", vec![n("share"), n("xv")], n("mixed")),
            ("MatMul", vec![n("mixed"), n("o")], n("projected")),
            ("MatMul", vec![n("projected"), n("up")], n("wide")),
            ("Add", vec![n("wide"), n("bias")], n("biased")),
            ("Tanh", vec![n("biased")], n("active")),
            ("MatMul", vec![n("active"), n("down")], n("narrow")),
            ("Add", vec![x.clone(), n("narrow")], y.clone()),
        ] {
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            graph = graph.node(match op_type {
                "MatMul" | "Add" => node(op_type, &inputs, &[&output]),
                _ => node_with(op_type, &inputs, &[&output], Vec::new()),
            });
        }
        x = y;
    }
    (graph.encode(), beside)
}

/// A way to start, and what is known of it.
struct Way {
    name: String,
    command: Vec<String>,
    seconds: Vec<f64>,
    peak_kib: Vec<f64>,
    /// What cannot be dropped and read again: memory that is no file's.
    anonymous_kib: Vec<f64>,
}

fn measure(args: &[String]) {
    let folder = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let mib = args.get(1).map_or(324, |mib| mib.parse().unwrap());
    let n_runs = args.get(2).map_or(7, |runs| runs.parse().unwrap());
    let folder = tempfile::tempdir_in(folder).unwrap();
    let folder = folder.path();
    let identity = generate_identity();
    let recipient = identity.recipient();
    let key = folder.join("identity.txt");
    fs::write(&key, identity.to_file_text().as_bytes()).unwrap();
    let key = key.to_str().unwrap().to_owned();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join(".venv/bin/python").to_str().unwrap().to_owned();
    let script = root
        .join("crates/runtime/benches/start.py")
        .to_str()
        .unwrap()
        .to_owned();
    let has = |module: &str| {
        let asked = Command::new(&python)
            .args([&script, "has", module])
            .output();
        asked.is_ok_and(|output| output.stdout.starts_with(b"True"))
    };
    let of_rust = |arguments: &[&str]| {
        let program = std::env::current_exe()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let mut command = vec![program, "start".to_owned()];
        command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        command
    };
    let of_python = |arguments: &[&str]| {
        let arguments = [&python, &script]
            .into_iter()
            .map(String::as_str)
            .chain(arguments.iter().copied());
        arguments.map(str::to_owned).collect::<Vec<_>>()
    };
    let has_onnxseal = has("onnxseal");
    if !has_onnxseal {
        println!("Python without onnxseal: its ways are left out");
    }
    for is_external in [false, true] {
        let kind = folder.join(if is_external { "external" } else { "one_file" });
        fs::create_dir(&kind).unwrap();
        let (bytes, beside) = model(mib, is_external);
        fs::write(kind.join("plain.onnx"), &bytes).unwrap();
        if is_external {
            fs::write(kind.join("weights.bin"), beside).unwrap();
        }
        let plain = kind.join("plain.onnx").to_str().unwrap().to_owned();
        let in_kind = kind.to_str().unwrap().to_owned();
        let mut ways = Vec::new();
        let mut add = |name: &str, command| {
            ways.push(Way {
                name: name.to_owned(),
                command,
                seconds: Vec::new(),
                peak_kib: Vec::new(),
                anonymous_kib: Vec::new(),
            });
        };
        add("plain, Rust", of_rust(&[&plain]));
        add("plain, Python", of_python(&["plain", &in_kind]));
        let mut encrypted = Vec::new();
        for (preset, name) in [(Preset::Balanced, "balanced"), (Preset::Full, "full")] {
            let to = kind.join(name);
            let protected = to.join("protected.onnx");
            let recipients = Recipients::parse(&[&recipient]).unwrap();
            let options = ProtectOptions::new(Policy::preset(preset));
            let report = protect(
                kind.join("plain.onnx"),
                &protected,
                &recipients,
                &options,
                &Silent,
            )
            .unwrap();
            encrypted.push((name, report.weights.encrypted_bytes));
            let path = protected.to_str().unwrap().to_owned();
            add(&format!("{name}, into_session"), of_rust(&[&path, &key]));
            let to = to.to_str().unwrap();
            if has_onnxseal {
                add(
                    &format!("{name}, InferenceSession"),
                    of_python(&["protected", to, &key]),
                );
                add(
                    &format!("{name}, InferenceSession with SessionOptions"),
                    of_python(&["with_options", to, &key]),
                );
            }
            let tool = root.join("target/release/onnxseal");
            if !is_external && tool.exists() {
                let tool = tool.to_str().unwrap();
                add(
                    &format!("{name}, unprotect to a file"),
                    of_python(&["temp_file", to, &key, tool]),
                );
            }
        }
        if !is_external {
            let mut age = Command::new("age");
            age.args(["-r", &recipient, "-o", &format!("{plain}.age"), &plain]);
            if age.status().is_ok_and(|status| status.success()) {
                add("age -d", of_python(&["age", &in_kind, &key]));
            }
            if has("cryptotensors") {
                let made = Command::new(&python)
                    .args([&script, "make-cryptotensors", &in_kind])
                    .status();
                assert!(made.unwrap().success());
                add("cryptotensors", of_python(&["cryptotensors", &in_kind]));
            }
        }
        // Once for the page cache.
        for run in 0..=n_runs {
            for way in &mut ways {
                let (seconds, peak, anonymous) = run_once(&way.command);
                if run > 0 {
                    way.seconds.push(seconds);
                    way.peak_kib.push(peak);
                    way.anonymous_kib.push(anonymous);
                }
            }
        }
        print(
            &ways,
            if is_external {
                "weights in an external file"
            } else {
                "one file"
            },
            mib,
            &encrypted,
        );
    }
}

/// Seconds, and peaks of resident and of anonymous memory in KiB.
fn run_once(command: &[String]) -> (f64, f64, f64) {
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = child.id().to_string();
    let mut anonymous = 0f64;
    while child.try_wait().unwrap().is_none() {
        anonymous = anonymous.max(status(&process, "RssAnon") + status(&process, "RssShmem"));
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let number = |key: &str| -> f64 {
        let after = said.split(&format!("\"{key}\": ")).nth(1).unwrap();
        after.split([',', '}']).next().unwrap().parse().unwrap()
    };
    (number("seconds"), number("peak_kib"), anonymous)
}

/// A number of KiB in /proc/PROCESS/status; 0 once that has ended.
fn status(process: &str, key: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(ways: &[Way], kind: &str, mib: usize, encrypted: &[(&str, u64)]) {
    println!(
        "\n{kind}, about {mib} MiB, medians of {}:",
        ways[0].seconds.len()
    );
    for (preset, bytes) in encrypted {
        println!("{preset} encrypts {} MiB", bytes >> 20);
    }
    println!(
        "| way | first inference | against plain | peak memory, MiB | above plain | anonymous | above plain |"
    );
    println!("|---|---|---|---|---|---|---|");
    for way in ways {
        // Rust against Rust, Python against Python.
        let plain = &ways[usize::from(!way.command.contains(&"start".to_owned()))];
        let seconds = median(&way.seconds);
        let of = |values: &[f64]| median(values) / 1024.0;
        println!(
            "| {} | {seconds:.3} s | {:.2} | {:.0} | {:+.0} | {:.0} | {:+.0} |",
            way.name,
            seconds / median(&plain.seconds),
            of(&way.peak_kib),
            of(&way.peak_kib) - of(&plain.peak_kib),
            of(&way.anonymous_kib),
            of(&way.anonymous_kib) - of(&plain.anonymous_kib),
        );
    }
    for way in ways {
        let is_python = !way.command.contains(&"start".to_owned());
        let plain = &ways[usize::from(is_python)];
        let limit = match (way.name.as_str(), kind) {
            (name, "one file") if name.ends_with("into_session") => 0.7,
            (name, "one file") if name.contains("InferenceSession") => 0.8,
            (name, _) if name.ends_with("into_session") => 1.1,
            (name, _) if name.contains("InferenceSession") => 1.15,
            _ => continue,
        };
        let ratio = median(&way.seconds) / median(&plain.seconds);
        let what = format!("{kind}, {}", way.name);
        figures::print(&what, Asked::AtMost(limit), ratio, " of plain");
        let of_preset = |(preset, bytes): &(&str, u64)| {
            way.name
                .starts_with(preset)
                .then_some(*bytes as f64 / 1024.0)
        };
        if let Some(encrypted) = encrypted.iter().find_map(of_preset) {
            let more = median(&way.peak_kib) - median(&plain.peak_kib);
            let what = format!("{what}: peak memory above plain");
            figures::print(
                &what,
                Asked::AtMost(1.2),
                more / encrypted,
                " of the encrypted bytes",
            );
        }
    }
}
