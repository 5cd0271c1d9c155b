//! Fingerprints: each customer gets a copy of a model with marks of their own in its weights, and a
//! leaked copy tells whose it was.
//!
//! [`apply`] adds a mark to the weights: noise of 0.35 % of their deviation, drawn from a key of the
//! vendor's [`Secret`], the customer's name, and the tensor. [`trace`] finds the weights of the
//! original in a leaked model again, whatever was done to them, and compares what differs with the
//! marks of customers. The score of an innocent is at least z with a probability of at most
//! exp(-z² / 2), whatever the leaker did: nothing that `trace` chooses depends on the secret.

#![forbid(unsafe_code)]
#![allow(missing_docs)]

mod align;
#[cfg(feature = "engine")]
mod compare;
mod error;
mod fit;
mod mark;
mod numbers;
mod place;
mod secret;
mod stream;
mod trace;
mod weights;

pub use align::Found;
#[cfg(feature = "engine")]
pub use compare::{Compared, Report, compare};
pub use error::{Error, Result};
pub use mark::{Applied, Marked, apply};
pub use secret::{Secret, check_customer};
pub use trace::{ACCUSED, Suspect, Traced, trace};
