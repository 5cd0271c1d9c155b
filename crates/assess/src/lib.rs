//! Measures what an attacker gets from a protected model with some data and every encrypted
//! position known.
//!
//! [`assess`] tries attacks that need only forward passes: running the file as it is; filling the
//! encrypted elements with values that the rest suggests, with statistics of normalisations
//! estimated again; linear probes on features; and all of these with the weights of a public model
//! of the same architecture ([`PublicModel`]). It compares each with its *floor*, which the
//! attacker reaches without any weight of the model, and the [`Assessment`] says where the model
//! holds, where it leaks, and where the samples cannot tell. Implement [`Metric`] to measure in another way.
//!
//! [`report`] makes a page or a table of an assessment.
//!
//! [`rank`] scores weights by how much the model would miss them.
//!
//! ```no_run
//! # fn main() -> onnxseal_assess::Result<()> {
//! use std::path::Path;
//!
//! use onnxseal_assess::{Options, Silent, Subject, assess};
//! use onnxseal_data::{DataOptions, DataSet};
//!
//! let subject = Subject::plain(Path::new("mnist.onnx"))?;
//! let labels = Path::new("t10k-labels-idx1-ubyte.gz");
//! let data = DataSet::load(Path::new("t10k-images-idx3-ubyte.gz"), Some(labels), &DataOptions::default())?;
//! let assessment = assess(&subject, Some(&data), &Options::default(), &Silent)?;
//! for candidate in &assessment.candidates {
//!     println!("{} {}", candidate.name, candidate.verdict);
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![allow(missing_docs)]

mod assess;
pub mod assessment;
mod attack;
mod attacker;
mod bench;
mod error;
mod everything;
mod heads;
mod hidden;
mod judge;
pub mod learn;
pub mod metric;
mod options;
mod protected_copy;
mod rank;
pub mod report;
mod stats;
mod subject;
pub mod tune;
mod verdict;
mod verdicts;
mod views;
mod weights;

pub use assess::assess;
pub use assessment::Assessment;
pub use error::{Error, Result};
pub use hidden::{Hidden, HiddenTensor};
pub use metric::{Answers, CommandMetric, Metric};
pub use onnxseal_plan::{Ranking, Role};
pub use options::{NamedPolicy, Options, Progress, PublicModel, Silent};
pub use rank::{Method, rank};
pub use subject::Subject;
pub use tune::{Tuning, tune};
