//! Typed client of patchyard's API.
//!
//! ```text
//!  Client ── requests ─▶ /api/v1
//!     └── follow(session, after) ─▶ Follow ── event, live … ── cut? ─▶ again after the last seq
//! ```

#![forbid(unsafe_code)]

mod client;
mod credentials;
mod environments;
mod error;
mod follow;
mod pull_requests;
mod shell;

pub use client::Client;
pub use error::ClientError;
pub use follow::{Follow, Followed};
pub use shell::{ShellFrame, ShellSocket};
