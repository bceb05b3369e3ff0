//! Sandboxes of an ordinary user: the real binary, real runtimes, a real kernel, and no root.
//!
//! ```text
//!   as root:   test ─▶ mount namespace with an account and ids ─▶ the same binary as that user: its inner half
//!                └─ afterwards: nothing is left, looked at as root
//!   else:      test ─▶ the inner half, as who this is
//! ```

// The lints know helpers of tests only inside of `#[test]`.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout
)]

mod inside;
mod outside;
mod sandboxes;
mod task;
mod wanting;
