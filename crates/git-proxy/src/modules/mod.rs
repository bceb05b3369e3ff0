//! Submodules of a session: bare repositories beside its own, which the sandbox sees with it.
//!
//! ```text
//!   repos/<session>.git/modules/<key>.git     one for each address, from its mirror
//!                       modules/attached      the addresses, for the git door: `shown` or `open`, and the address
//!   .gitmodules at a commit ─▶ listing ─▶ policy::submodule ─▶ fetch ─▶ its own .gitmodules ─▶ …
//! ```
//!
//! A submodule that cannot be had is a remark, and the session goes on.

mod attached;
mod fetch;
mod listing;

pub use attached::AttachedModule;
pub use fetch::{Credentials, Module, Modules};
