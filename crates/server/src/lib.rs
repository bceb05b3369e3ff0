//! The HTTP face of patchyard.
//!
//! ```text
//!  request ─▶ headers ─▶ host and origin ─▶ who is it ─▶ routes ─▶ session · store
//!                                                    └─▶ page (embedded), git (fetch only)
//! ```
//!
//! Handlers are thin: check, call, answer. [`wiring`] makes the parts and hands them over at the start.

#![forbid(unsafe_code)]

mod assets;
mod auth;
pub mod config;
mod feed;
mod openapi;
mod reply;
mod router;
mod routes;
mod run;
mod state;
mod uploads;
pub mod wiring;

pub use openapi::document as openapi;
pub use run::{Announce, RunError, ServerOptions, bind, run};
