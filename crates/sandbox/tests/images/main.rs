//! Images, through the doors that commands use. Needs root, because owners are kept.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod corpus;
mod formats;
mod hostile;
mod recipes;
mod store;
mod world;
