//! Runs one operation on many models at once.
//!
//! The failure of a model does not affect others. Each model gets a small record in the folder
//! `.onnxseal` of the output folder, written before its outputs get their names, so a batch can be
//! resumed after any interruption. Models, outputs and records may be files or objects in stores.
//! In a folder of files, a lock keeps two batches from doing the same part at once; in a store, the
//! second batch to write a record fails.
//!
//! [`discover`] finds models in folders, patterns, lists and object stores; [`run`] does one
//! operation on all of them.
//!
//! ```
//! # fn main() -> onnxseal_batch::Result<()> {
//! let folder = std::path::Path::new("../../fixtures/models");
//! let models = onnxseal_batch::discover(&[folder], &[] as &[&str])?;
//! assert!(models.models.len() > 2);
//! # Ok(())
//! # }
//! ```

// Only this workspace uses it: docs say what names do not.
#![allow(missing_docs)]

mod discover;
mod error;
mod existing;
mod layout;
mod lock;
mod memory;
mod record;
mod report;
mod request;
mod run;
mod runs;
mod schedule;
mod shard;
mod standing;
mod survey;
mod target;
mod walk;
mod watch;
mod work;

pub use discover::{Discovery, Found, Unreadable, discover};
pub use error::{Error, Result};
pub use layout::check_sources;
pub use report::{Failure, ModelReport, Outcome, Report, Totals};
pub use request::{Operation, Options};
pub use run::run;
pub use shard::Shard;
pub use watch::Watch;

/// The folder of the records, in the output folder.
pub const RECORDS: &str = ".onnxseal";
