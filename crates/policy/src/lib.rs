//! Pure decisions. What is unknown is denied; there is no "unset".
//!
//! ```text
//!  text ── RepositoryUrl::parse ──▶ scheme, host, path        (or why not)
//!  text ── domains::check · variables::parse ──▶ what an environment may hold
//!  host ── resolved elsewhere ────▶ AddressRules::check ──▶ may be dialled (or why not)
//!  settings ── local::Layer, local::LocalPolicy ──▶ what a command on one's own machine may touch
//! ```
//!
//! No IO, no clock, no environment: who calls this resolves names and dials.

#![forbid(unsafe_code)]

pub mod address;
pub mod domains;
pub mod local;
pub mod repository;
pub mod variables;
