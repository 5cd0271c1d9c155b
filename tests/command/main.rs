//! The command as its users meet it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
// Tests of what only Unix has are left out elsewhere, not what they import.
#![cfg_attr(not(unix), allow(unused_imports, dead_code))]

#[cfg(feature = "assess")]
mod assess;
mod batch;
mod clear;
mod cli;
#[cfg(unix)]
mod descriptors;
mod external;
mod faults;
#[cfg(feature = "fingerprint")]
mod fingerprint;
mod hostile;
#[cfg(target_os = "linux")]
mod identity_command;
#[cfg(target_os = "linux")]
mod inject;
#[cfg(feature = "inputs")]
mod inputs;
mod key_files;
mod keys;
#[path = "../lab/mod.rs"]
mod lab;
mod licence;
mod named;
mod outputs;
#[cfg(target_os = "linux")]
mod power;
mod rekey;
#[cfg(unix)]
mod terminal;
mod tiers;
mod verify;
