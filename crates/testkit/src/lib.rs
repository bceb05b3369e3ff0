//! Test doubles for the far edges of patchyard, and what checks them.
//!
//! ```text
//!  model   a scripted model behind real HTTP: turns, faults, gates; every request is checked
//! ```

#![forbid(unsafe_code)]

pub mod model;
