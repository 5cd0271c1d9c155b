//! Whole collections of models: many at once, each on its own.
//!
//! A model that fails takes no other along. What was made is kept in mind by a small record a model,
//! in the folder `.onnxseal` of the output folder, written before the outputs get their names: so a
//! batch that was interrupted, however, can be resumed. Models, outputs and records may be files or
//! objects in stores. In a folder of files, a lock keeps two batches from doing the same part at
//! once; in stores, of two that write a record the second fails.

//!
//! [`discover`] finds models in folders, patterns, lists and object stores; [`run`] carries out one
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

mod discover;
mod error;
mod layout;
mod lock;
mod record;
mod report;
mod request;
mod run;
mod runs;
mod schedule;
mod shard;
mod survey;
mod walk;
mod watch;
mod work;

pub use discover::{Discovery, Found, Unreadable, discover};
pub use error::{Error, Result};
pub use report::{Failure, ModelReport, Outcome, Report, Totals};
pub use request::{Operation, Options};
pub use run::run;
pub use shard::Shard;
pub use watch::Watch;

/// The folder of the records, in the output folder.
pub const RECORDS: &str = ".onnxseal";
