//! The OCI bundle: what a runtime is told about a sandbox.
//!
//! Pure: from a description to the text of `config.json`. Everything that keeps a sandbox in is
//! written down here and in [`seccomp`].

mod config;
pub mod seccomp;
#[cfg(test)]
mod tests;

pub use config::{Access, Bind, BundleSpec, Group, IdRange, capabilities, config};
pub use seccomp::Errors;
