//! The tools: what the model may call, and how it is done with hands.
//!
//! ```text
//!  name + input ── call::parse ──▶ Call ── run ──▶ bash · tasks · read · change · search · todo
//!        │ unknown, or not as the schema says                      │
//!        └──▶ <tool_use_error>, nothing runs                       ▼
//!                                            bench: hands, workspace, shell folder, files seen
//! ```

mod bash;
mod bench;
mod call;
mod change;
mod command;
mod definitions;
mod files;
mod read;
mod run;
mod search;
mod tasks;
mod todo;

pub(crate) use bash::say;
pub(crate) use bench::{Workbench, lock, new_exec, turn_of};
pub(crate) use call::{AgentInput, Call, SkillInput, parse, title};
pub(crate) use command::attend;
pub(crate) use definitions::definitions;
pub(crate) use files::read_whole;
pub(crate) use run::{Run, is_read_only, run};
