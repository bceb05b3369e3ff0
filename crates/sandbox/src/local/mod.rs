//! The sandboxed shell for one's own machine: one command, this file system, closed but for a few
//! folders, by bubblewrap.
//!
//! ```text
//!  settings files ─▶ policy::local::LocalPolicy ─┐
//!  the file system, looked at once ──────────────┴─▶ Plan: writable · read-only · hidden
//!
//!  caller: terminal, signals, exit code ── pipes ──▶ keeper: placeholders, TMPDIR, the end of it all
//!                      ║                                ├─▶ stage: the tree as planned, mount by mount; network
//!                      ║                                │     └─▶ bwrap: pid, ipc, /proc, /dev, filter
//!                      ║                                │           └─▶ the command
//!                      ╚═ questions, refusals ══════════╧═▶ proxy, outside: holds the listeners inside
//! ```
//!
//! The tree is put together from open descriptors, never by a path that the project could bend in
//! between. Whoever of caller and keeper is killed, the other one ends the command and cleans up; when
//! both are, the kernel ends the command and the next run cleans up.

mod doors;
mod environment;
mod error;
mod filter;
mod keeper;
mod person;
mod placeholders;
mod plan;
mod protected;
mod proxy;
mod run;
mod settings;
mod signals;
mod stage;
mod survey;
mod terminal;
mod tree;

pub use error::LocalError;
pub use proxy::{Network, Serve};
pub use run::{Request, run, why_not};
