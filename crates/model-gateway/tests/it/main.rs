//! The client against a scripted model over real HTTP.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests do")]

mod answers;
mod failures;
mod front;
mod watch;
