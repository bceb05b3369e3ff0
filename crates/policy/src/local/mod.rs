//! What a command in the local sandbox may touch, out of settings files.
//!
//! ```text
//!  text of a settings file ── Layer::parse ──▶ Layer + remarks ─┐
//!  …one per scope…                                              ├─ LocalPolicy::merge ─▶ LocalPolicy
//!  (project < local < user < command line < managed) ───────────┘                        + remarks
//! ```
//!
//! Lists join over scopes and a denial always stays. What a repository brings with it may narrow, and
//! may open what lies inside of its own folder; it never opens anything else and switches nothing off.

mod command;
mod domain;
mod layer;
mod merge;
mod pattern;
mod rule;

pub use command::CommandPattern;
pub use domain::{DomainRule, Domains};
pub use layer::{Layer, Scope};
pub use merge::{Hidden, LocalPolicy, PathEntry, UnixSockets};
pub use pattern::{Bases, Matcher, PathPattern};
pub use rule::Rule;
