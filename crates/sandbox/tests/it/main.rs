//! `sandbox-host`, its sandboxes and their guests, with real runtimes on a real kernel.
//!
//! As another user than root these tests only say that they were skipped. They need the image `slim`
//! (`scripts/build-slim`) and the guest program (`scripts/build-guest`).

// The lints know helpers of tests only inside of `#[test]`.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout
)]

mod commands;
mod corpus;
mod disk_kinds;
mod disks;
mod exhaustion;
mod files;
mod hostile;
mod isolation;
mod kernel;
mod lifecycle;
mod measure;
mod nested;
mod network;
mod terminal;
mod tiers;
mod world;
