//! Models with tiers: who opens what, and what nobody can change for others.

mod damage;
mod editions;
mod fixtures;
mod house;
mod insiders;
mod policies;
mod recipients;
