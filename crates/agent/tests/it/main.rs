//! The agent through its outer door: a scripted model over real HTTP, real processes and files for
//! hands, and a log in memory.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests do")]

mod bash;
mod changes;
mod compaction;
mod demo;
mod foreign;
mod hands;
mod hooks;
mod interrupts;
mod loops;
mod mcp;
mod memory;
mod permissions;
mod port;
mod reading;
mod restore;
mod slash;
mod stage;
mod streams;
mod tasks;
mod threads;
mod whole;
