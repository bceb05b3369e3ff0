//! A forge for tests: GitHub Enterprise Server in what patchyard uses of it.
//!
//! ```text
//!  https://127.0.0.1:PORT ─┬─ /owner/name.git/…  ─▶ git http-backend ─▶ real repositories, protected branches
//!   over TLS, by token     ├─ /api/v3/…          ─▶ state: pulls, issues, reviews, checks
//!   faults before all      └─ /_logs/…           ─▶ what a signed address leads to, without a token
//! ```
//!
//! Branches, commits and diffs are those of the repositories; the rest is kept in memory. Answers have the
//! fields that patchyard could use, under the names of GitHub's description.

mod api;
mod fault;
mod forge;
mod git;
mod reply;
mod shape;
mod state;

pub use fault::Fault;
pub use forge::{Check, FakeForge, Grant};
