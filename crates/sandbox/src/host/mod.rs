//! `sandbox-host`: the privileged process that makes and ends sandboxes.
//!
//! ```text
//!   none ── create ──▶ creating ── the runtime said yes ──▶ running ── destroy ──▶ none
//!                         └── anything failed ── all of it undone ──────────────────▲
//! ```
//!
//! It has no memory that matters: what exists is written in each sandbox's folder, and a new
//! `sandbox-host` reads that, verifies it against the living processes, and removes what is dead.
//! Running sandboxes do not notice.

mod assemble;
mod config;
mod disks;
mod doors;
mod known_images;
mod layers;
mod place;
mod plan;
mod probe;
mod record;
pub(crate) mod rights;
mod sandboxes;
mod serve;
mod workbench;

pub use config::{GuestProgram, HostConfig, HostError};
pub use rights::{Rights, User};
pub use serve::run;
