//! `egress` by its socket and its listeners.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bound;
mod dialled;
mod door;
