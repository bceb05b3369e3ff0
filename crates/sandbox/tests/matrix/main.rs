//! The escape matrix: one test per row and runtime, named by the row.
//!
//! ```text
//!   kernel K · files F · exhaustion Q · lifecycle L · credentials C · capture E
//!
//!   row ─▶ a sandbox-host and a sandbox of its own ─▶ attack inside, outcome seen from outside
//!                                                 ─▶ the host is as before · the sandbox still works
//! ```
//!
//! `docs/SECURITY.md` has the table. As another user than root these tests only say that they were
//! skipped. They need the image `slim` (`scripts/build-slim`) and the guest program
//! (`scripts/build-guest`).

// The lints know helpers of tests only inside of `#[test]`.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout
)]

/// A test of each row for each runtime.
macro_rules! rows {
    ($($row:ident),* $(,)?) => {
        mod crun {
            $(#[tokio::test] async fn $row() {
                $crate::field::on($crate::field::Ground::Crun, super::$row).await;
            })*
        }
        mod runc {
            $(#[tokio::test] async fn $row() {
                $crate::field::on($crate::field::Ground::Runc, super::$row).await;
            })*
        }
        mod gvisor {
            $(#[tokio::test] async fn $row() {
                $crate::field::on($crate::field::Ground::Gvisor, super::$row).await;
            })*
        }
    };
}

mod capture;
mod churn;
mod controls;
mod credentials;
mod exhaustion;
mod field;
mod files;
mod kernel;
mod lifecycle;
#[path = "../it/world.rs"]
// Shared with the other test program, which uses more of it.
#[allow(dead_code)]
mod world;
