//! Plans which weights of an ONNX model to encrypt, and how much of each.
//!
//! [`plan`] takes a located model and a [`Policy`] to a [`Plan`]. On the way, [`rules`] say which
//! inputs and attributes of which operators are weights; [`classify`] follows every tensor to the
//! operators that read it; tensors are cut into subsequences; pools of tensors
//! share a budget, which goes to their subsequences with the highest scores. `docs/POLICY.md`
//! describes the method and the policies.
//!
//! Nothing here reads files, knows keys or draws random numbers: the same model and policy give the
//! same plan. Two units never mix: a subsequence counts elements of a tensor, a span of
//! `onnxseal-onnx` counts bytes of a file.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use onnxseal_onnx::{Limits, locate};
//! use onnxseal_plan::{Error, Policy, Preset, plan, uniform};
//!
//! let bytes = std::fs::read("../../fixtures/models/digits_cnn.onnx")?;
//! let model = locate(&bytes, &Limits::default())?;
//! let policy = Policy::preset(Preset::Balanced);
//! let plan = plan(&model, &policy, |wanted| Ok::<_, Error>(uniform(wanted)))?;
//! assert!(plan.share() < 0.2);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![allow(missing_docs)]

mod bound;
mod choose;
mod classify;
mod dataflow;
mod error;
mod lists;
mod op_types;
mod owners;
mod plan;
mod planner;
mod policy;
mod position;
mod ranking;
mod roles;
pub mod rules;
mod scores;
mod similar;
mod subsequence;
mod tiers;
mod unmatched;
mod violations;

pub use bound::{Bound, bound};
pub use classify::{Classified, Consumer, Reason, classify, is_opaque, total_bytes};
pub use dataflow::Slot;
pub use error::Error;
pub use op_types::OfOpTypes;
pub use plan::{Clear, Gap, OperatorPlan, Plan, Pool, TensorPlan};
pub use planner::plan;
pub use policy::{Demand, Policy, Preset, Require};
pub use position::{Run, Strategy};
pub use ranking::{MAX_RANKING_BYTES, Ranking};
pub use roles::{Role, role};
pub use scores::{Scores, Wanted, energy, normalise, uniform};
pub use subsequence::{check_unit_bytes, unit_bytes};
pub use tiers::{Mode, Tier, TierRun};
pub use unmatched::unmatched;
