//! Prompts that are commands: `/name words`.
//!
//! ```text
//!  prompt ── parse ──▶ /compact                ─▶ the conversation is summed up
//!              │       another of ours         ─▶ answered without the model
//!              └─ no command, or not known     ─▶ to the model as it stands
//! ```
//!
//! What came of a command is the event `command.ran`, which takes the prompt out of the conversation.

mod parse;
mod run;

pub(crate) use parse::parse;
pub(crate) use run::{Ran, run};
