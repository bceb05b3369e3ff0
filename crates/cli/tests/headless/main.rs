//! `patchyard -p` through the real binary, against a scripted model.
//!
//! Each test names the section of the specification that it is about: that of `claude -p`, its streams and its
//! transcripts.

#![forbid(unsafe_code)]
// The lints know helpers of tests only inside of `#[test]`.
#![allow(clippy::unwrap_used)]

mod conversations;
mod driver;
mod output;
mod permissions;
mod project;
mod sdk;
mod signals;
mod world;
