//! Whether a tool of an agent may be used, out of the rules of settings files.
//!
//! ```text
//!  permissions.{deny,ask,allow} of each file ── Permissions::compile ──▶ Permissions + remarks
//!  ToolUse ── Permissions::decide ──▶ Allow · Ask(why) · Deny(why)
//!               └ a command: Script::parse ─▶ Runs::of: every program that it starts, as far as it is known
//! ```
//!
//! Rules about commands are a railing for an agent that means well, not a wall: a program may do
//! anything. The wall is the sandbox.

mod command;
mod decide;
mod harmless;
mod placed;
mod redirection;
mod rule;
mod shell;
mod word;

#[cfg(test)]
mod tests;

pub use command::{Form, Runs, Touches, touches};
pub use decide::{Mode, Permissions, Places, Reason, RuleSource, ToolUse, Verdict};
pub use harmless::is_protected;
pub use redirection::Redirection;
pub use rule::Effect;
pub use shell::{MAX_TEXT, Script, Simple};
pub use word::Word;
