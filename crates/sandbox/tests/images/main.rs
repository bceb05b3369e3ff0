//! Images, through the doors that commands use. Needs root, because owners are kept.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod formats;
mod hostile;
mod recipes;
mod store;
mod world;
