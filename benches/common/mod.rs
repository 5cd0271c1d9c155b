//! What the benchmarks share: models, commands and times.

// Each benchmark uses a part of it.
#![allow(dead_code)]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use onnxseal_onnx::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};
use prost::Message;

/// The command.
pub const ONNXSEAL: &str = env!("CARGO_BIN_EXE_onnxseal");

/// The most anonymous memory that the command had, in KiB, watched every millisecond; 0 where the
/// system does not tell.
pub fn peak_anonymous(command: &mut Command) -> u64 {
    let mut child = command.spawn().unwrap();
    let peak = AtomicU64::new(0);
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak.fetch_max(kib.unwrap_or(0), Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success());
    peak.into_inner()
}

/// A chain of `layers` MatMuls with weights of `side` times `side`.
pub fn write_layers(path: &Path, layers: u64, side: usize) {
    let mut state = 1u64;
    let mut weight = || {
        let mut bytes = Vec::with_capacity(side * side * 4);
        for _ in 0..side * side {
            // xorshift64: any non-constant weights do.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = (state as i32) as f32 / 2f32.powi(36);
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    };
    let initializers = (0..layers).map(|i| TensorProto {
        name: Some(format!("w{i}")),
        dims: vec![side as i64; 2],
        data_type: Some(1),
        raw_data: Some(weight()),
        ..TensorProto::default()
    });
    let initializers = initializers.collect();
    let nodes = (0..layers).map(|i| matmul(i, format!("w{i}"))).collect();
    write(path, nodes, initializers);
}

/// A chain of `nodes` MatMuls, each with 16 weights of its own.
pub fn write_chain(path: &Path, nodes: u64) {
    let initializers = (0..nodes).map(|i| TensorProto {
        name: Some(format!("w{i}")),
        dims: vec![4, 4],
        data_type: Some(1),
        raw_data: Some(vec![0; 64]),
        ..TensorProto::default()
    });
    let initializers = initializers.collect();
    write(
        path,
        (0..nodes).map(|i| matmul(i, format!("w{i}"))).collect(),
        initializers,
    );
}

pub fn matmul(i: u64, weight: String) -> NodeProto {
    NodeProto {
        name: Some(format!("matmul{i}")),
        op_type: Some("MatMul".into()),
        input: vec![format!("x{i}"), weight],
        output: vec![format!("x{}", i + 1)],
        ..NodeProto::default()
    }
}

pub fn write(path: &Path, node: Vec<NodeProto>, initializer: Vec<TensorProto>) {
    let value = |name: String| ValueInfoProto {
        name: Some(name),
        ..ValueInfoProto::default()
    };
    let output = vec![value(format!("x{}", node.len()))];
    let model = ModelProto {
        ir_version: Some(10),
        opset_import: vec![OperatorSetIdProto {
            version: Some(21),
            ..Default::default()
        }],
        graph: Some(GraphProto {
            name: Some("bench".into()),
            node,
            initializer,
            input: vec![value("x0".into())],
            output,
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&model.encode_to_vec()).unwrap();
    file.into_inner().unwrap().sync_all().unwrap();
}

pub fn run(command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn succeed(command: &mut Command) {
    assert!(
        command.stderr(Stdio::null()).status().unwrap().success(),
        "{command:?}"
    );
}

/// Copies the bytes, which `cp` would not do where the file system can share them.
pub fn plain_copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    if cfg!(target_os = "linux") {
        command.arg("--reflink=never");
    }
    succeed(command.arg("-r").args([from, to]));
}

pub fn time(work: impl FnOnce()) -> Duration {
    time_of(work)
}

/// How many bytes of memory are touched before something is timed.
static WARM: AtomicUsize = AtomicUsize::new(0);

/// From now on, `bytes` of memory are touched and given back before something is timed: virtual machines hand
/// memory that is free back to their host, and whoever needs it first then waits several times as long.
pub fn keep_warm(bytes: usize) {
    WARM.store(bytes, Ordering::Relaxed);
}

fn warm(bytes: usize) {
    if bytes == 0 {
        return;
    }
    let mut memory = memmap2::MmapMut::map_anon(bytes).unwrap();
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
}

/// How long `work` takes, without dropping what it gives.
pub fn time_of<T>(work: impl FnOnce() -> T) -> Duration {
    warm(WARM.load(Ordering::Relaxed));
    let begun = Instant::now();
    let result = work();
    let took = begun.elapsed();
    drop(result);
    took
}

pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

pub fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
