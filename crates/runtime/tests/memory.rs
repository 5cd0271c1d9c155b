//! The memory of a model lives as long as what uses it. The only test of its process, since it
//! looks at all of the process's memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "it/lab.rs"]
mod lab;

use std::fs;

use lab::{Lab, assert_close, builder, run};
use onnxseal_core::Preset;
use onnxseal_runtime::Model;

/// Whether the process has memory that is kept out of core dumps (`dd` in proc_pid_smaps(5)), as
/// that of opened models is, and otherwise the kernel's own alone (`pf`).
fn holds_a_model() -> bool {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut flags = maps.lines().filter(|line| line.starts_with("VmFlags:"));
    let has = |line: &str, wanted| line.split(' ').any(|flag| flag == wanted);
    flags.any(|line| has(line, "dd") && !has(line, "pf"))
}

#[test]
fn memory_lives_as_long_as_what_uses_it() {
    let Some(builder) = builder() else { return };
    let lab = Lab::new();
    let path = lab.write(&lab::large_matmul(), "plain");
    let protected = lab.protect(&path, "protected", Preset::Balanced).unwrap();
    assert!(!holds_a_model());
    let model = Model::open(&protected, &lab.identities).unwrap();
    assert!(holds_a_model());
    let session = model.into_session(builder).unwrap();
    // A binding holds ONNX Runtime's session on after `ort`'s is dropped.
    let binding = session.create_binding().unwrap();
    drop(session);
    assert!(holds_a_model());
    drop(binding);
    assert!(!holds_a_model());
    // Nothing of a model that ONNX Runtime has copied stays.
    let path = lab.write(&lab::large_conv(), "plain");
    fs::remove_dir_all(protected.parent().unwrap()).unwrap();
    lab.protect(&path, "protected", Preset::Balanced).unwrap();
    let model = Model::open(&protected, &lab.identities).unwrap();
    assert!(holds_a_model());
    let mut session = model.into_session(lab::builder().unwrap()).unwrap();
    assert!(!holds_a_model());
    let plain = run(&mut lab::builder().unwrap().commit_from_file(&path).unwrap());
    assert_close("conv", &plain, &run(&mut session));
}
