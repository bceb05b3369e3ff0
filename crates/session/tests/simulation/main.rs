//! Whole servers in a simulated world: one seed, one history.
//!
//! ```text
//!               ┌──────────────── one process, one thread, one seed ─────────────────┐
//!   clients ───▶│ Sessions · driver · machines · queue · agent · log (SQLite)        │◀── dice
//!               │     │ real frames on real sockets          │ the writer's steps    │
//!               │     ▼                                      ▼                       │
//!               │ sandbox-host · guests · model · git    disk: kept, refused, lost   │
//!               └────────────────────────────────────────────────────────────────────┘
//!   dies, is opened again, dies … heals ─▶ the invariants hold after each death and at the end
//! ```
//!
//! The crates that are shipped run, all of the driver among them. Replaced are: the clock and the kernel's random
//! numbers ([`kernel`]), `sandbox-host` and the guests ([`far_side`]), the model ([`model`]), the program git
//! ([`git`]), and the writer's thread, whose steps are taken here ([`life`]). Not there are: the network of
//! sandboxes (level `none`), setups and hooks, forges and pushes, MCP servers, agents that live in a sandbox, and
//! the routes of the server.
//!
//! Every seed has a process of its own, so that one is what it is whatever ran before:
//!
//! ```text
//! PATCHYARD_SIMULATION_SEED=57 cargo test -p session --test simulation one_seed -- --ignored --nocapture
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod check;
mod clients;
#[path = "../shared/config.rs"]
mod config;
mod far_side;
mod git;
mod kernel;
mod life;
mod model;
mod sandboxes;
mod seeds;
mod world;
