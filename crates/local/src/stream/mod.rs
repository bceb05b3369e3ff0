//! What a run prints.
//!
//! ```text
//!  events of the agent ─ lines ─▶ JSON ─┐
//!                      └ tally ─▶ result ┼─▶ Output ─ a thread of its own ─▶ standard output
//!  control messages ────────────────────┘
//! ```

mod lines;
mod output;
mod tally;

pub(crate) use lines::Lines;
pub(crate) use output::Output;
pub(crate) use tally::{Report, Tally};
