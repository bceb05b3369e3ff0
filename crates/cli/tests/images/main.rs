//! `patchyard image`, with a real registry on this machine. Needs root and Debian's `docker-registry`, which
//! `scripts/setup` fetches.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod commands;
mod proxy;
mod pull;
mod registry;
mod world;
