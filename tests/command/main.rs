//! The command as its users meet it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[cfg(feature = "assess")]
mod assess;
#[cfg(unix)]
mod batch;
mod clear;
mod cli;
#[cfg(unix)]
mod descriptors;
#[cfg(unix)]
mod external;
#[cfg(unix)]
mod faults;
#[cfg(all(unix, feature = "fingerprint"))]
mod fingerprint;
#[cfg(unix)]
mod hostile;
#[cfg(target_os = "linux")]
mod identity_command;
#[cfg(target_os = "linux")]
mod inject;
#[cfg(all(unix, feature = "inputs"))]
mod inputs;
mod key_files;
#[cfg(unix)]
mod keys;
#[path = "../lab/mod.rs"]
mod lab;
mod licence;
#[cfg(unix)]
mod named;
#[cfg(unix)]
mod outputs;
#[cfg(target_os = "linux")]
mod power;
mod rekey;
#[cfg(unix)]
mod terminal;
mod tiers;
mod verify;
