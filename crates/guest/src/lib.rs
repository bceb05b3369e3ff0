//! Process 1 of every sandbox, and the hands of a local agent.
//!
//! ```text
//!   host ══ fd 3: listening socket ══▶ init: one connection at a time
//!                                        │ requests
//!              ┌─────────────────────────┼──────────────────────┐
//!           commands                   files                  kill
//!              │ spawn                   read, write            /proc, signals
//!              ▼                         stat, list
//!     own session per command ──▶ pump: output as far as credit allows, or into the command's journal
//!              ▲
//!           reaper: every orphan          relay: doors, where the network stack is the sandbox's own
//! ```
//!
//! One thread, because threads count against the sandbox's process limit, and because the kill path
//! has to work when that limit is reached. The same binary is also the search tools that the agent
//! runs as ordinary commands: `grep`, `glob`, `dial`, `check-tools`. On somebody's own machine the same
//! executor is an ordinary process (`machine`), which ends what it started when its agent is gone.
//!
//! Whatever runs in the sandbox is root there, so the guest defends nothing but its own life: no
//! input makes it stop.

pub mod archives;
pub mod commands;
pub mod connection;
pub mod dial;
pub mod environment;
pub mod files;
pub mod ground;
pub mod init;
pub mod journal;
pub mod kill;
pub mod machine;
pub mod procfs;
pub mod program;
pub mod proof;
pub mod pump;
pub mod reaper;
pub mod relay;
pub mod search;
pub mod spawn;
pub mod terminal;
pub mod tools;
