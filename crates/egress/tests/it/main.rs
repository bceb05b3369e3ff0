//! `egress` by its socket and its listeners.

mod bound;
mod dialled;
mod door;
