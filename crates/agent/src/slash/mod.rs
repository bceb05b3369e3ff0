//! Prompts that are commands: `/name words`.
//!
//! ```text
//!  prompt ── parse ──▶ /compact                     ─▶ the conversation is summed up
//!              │       /context, /cost, …           ─▶ answered without the model
//!              │       /init, /review               ─▶ a prompt of ours in its place
//!              │       a command of the repository  ─▶ its body in its place, filled in
//!              └─ no command, or not known          ─▶ to the model as it stands
//! ```
//!
//! What came of a command is the event `command.ran`, which takes the prompt out of the conversation and puts
//! what it stands for there. So another process, which runs nothing again, has the same conversation.

mod builtin;
mod expand;
mod parse;
mod run;

pub use builtin::OWN;
pub(crate) use expand::expand;
pub(crate) use parse::{COMPACT, is_command, parse};
pub(crate) use run::{Ran, replace, run};
