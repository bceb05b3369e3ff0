//! `patchyard sandbox -- CMD`, with the real bubblewrap, as root and as an ordinary user.
//!
//! ```text
//!  test ─▶ patchyard sandbox ─▶ keeper ─▶ stage ─▶ bwrap ─▶ script
//!    └──── looks from outside at what the script could do ────┘
//! ```
//!
//! Needs bubblewrap, and for the network root. As root every test runs twice: as root, and as a user without an account.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests do")]

mod files;
mod hostile;
mod manners;
mod network;
mod protected;
mod settings;
mod world;
