//! The work of the measured processes in Rust; start.py has that of Python.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use onnxseal_runtime::{Identities, Model, load};
use ort::environment::Environment;
use ort::session::Session;
use ort::value::Tensor;

/// Sessions of one process, and those before the first count of what it holds.
pub const SESSIONS: usize = 100;
pub const SESSIONS_BEFORE: usize = 20;

/// Starts the model, protected if there is an identity.
pub fn start(path: &Path, identity: Option<&Path>) {
    let environment = load().unwrap().build().unwrap();
    let bare = status("self", "VmRSS");
    let begin = Instant::now();
    let mut session = create(&environment, path, identity);
    let created = status("self", "VmRSS");
    run(&mut session);
    let seconds = begin.elapsed().as_secs_f64();
    println!("seconds {seconds}");
    println!("bare {bare}");
    println!("created {created}");
    println!("ran {}", status("self", "VmRSS"));
    println!("peak {}", status("self", "VmHWM"));
}

/// Makes and drops one session after the other.
pub fn repeat(path: &Path, identity: Option<&Path>) {
    let environment = load().unwrap().build().unwrap();
    let held = || {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        [
            ("descriptors", descriptors as f64),
            ("threads", status("self", "Threads")),
            ("memory", status("self", "VmRSS")),
        ]
    };
    let mut before = held();
    for n in 1..=SESSIONS {
        run(&mut create(&environment, path, identity));
        if n == SESSIONS_BEFORE {
            before = held();
        }
    }
    for ((what, before), (_, after)) in before.into_iter().zip(held()) {
        println!("{what} {before}");
        println!("more_{what} {}", after - before);
    }
}

fn create(environment: &Environment, path: &Path, identity: Option<&Path>) -> Session {
    let mut builder = Session::builder(environment).unwrap();
    match identity {
        None => builder.commit_from_file(path).unwrap(),
        Some(identity) => {
            let identities = Identities::read(File::open(identity).unwrap(), "identity").unwrap();
            let model = Model::open(path, &identities).unwrap();
            model.into_session(builder).unwrap()
        }
    }
}

fn run(session: &mut Session) {
    let dims = session.inputs()[0].dtype().tensor_shape().unwrap().to_vec();
    let x = vec![1f32; dims.iter().product::<i64>() as usize];
    let x = Tensor::from_array((dims, x)).unwrap();
    session.run(ort::inputs![x]).unwrap();
}

/// A number in /proc/PROCESS/status, memory in KiB; 0 once that has ended.
pub fn status(process: &str, key: &str) -> f64 {
    number_in(&format!("/proc/{process}/status"), key)
}

/// Returns the number that follows `key` in a file of lines `key: number`; 0 if the key is absent.
pub fn number_in(file: &str, key: &str) -> f64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}
