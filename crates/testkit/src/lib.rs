//! Test doubles for the far edges of patchyard, what checks them, and the real thing in between.
//!
//! ```text
//!  fake_forge GitHub with state: repositories of real git, pull requests, checks, faults
//!  internet   two network namespaces, names and hosts, for one test
//!  model      a scripted model behind real HTTP: turns, faults, gates; every request is checked
//!  harness    the real binary on a free port with a data directory of its own, and a user's repositories
//! ```

#![forbid(unsafe_code)]

pub mod fake_forge;
pub mod harness;
pub mod internet;
pub mod model;
