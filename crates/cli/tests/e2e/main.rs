//! patchyard from end to end: the real binary, real sandboxes, real git, and a scripted model.
//!
//! ```text
//!  test ─┬─ cli · HTTP · SSE ─▶ serve (supervisor, sandbox-host, server) ─▶ sandbox
//!        └─ ScriptedModel ◀────────────── Messages API ──────┘
//! ```
//!
//! Needs what a server needs: root, a runtime, the image `slim`. Every test has a server of its own.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "helpers of tests fail like tests do"
)]

mod acp;
mod asking;
mod bad_input;
mod checkpoint;
mod churn;
mod crash;
mod customs;
mod deadlines;
mod doors;
mod egress;
mod environments;
mod forge;
mod hibernate;
mod inside;
mod insist;
mod intercept;
mod job;
mod kept;
mod kills;
mod large_files;
mod leaks;
mod lifecycle;
mod log;
mod manners;
mod mcp;
mod mcp_reference;
mod metrics;
mod midturn;
mod names;
mod network;
mod packages;
mod prompts;
mod pull_requests;
mod repository;
mod rewind;
mod rules;
mod security;
mod setup;
mod shown;
mod stop;
mod submodules;
mod sweep;
mod together;
mod warm;
mod way_in;
mod world;
