//! What a repository keeps for agents besides settings and instructions.
//!
//! ```text
//!  .claude/commands/**/*.md       ─┐
//!  .claude/skills/<name>/SKILL.md ─┼─ wanted ─▶ the caller reads them ─ Library::read ─▶ Library + remarks
//!  .claude/agents/**/*.md         ─┘                                                       │
//!            the tool Agent ──────────────────── Subagent ◀────────────────────────────────┤
//!            `/name words`, or the tool Skill ── Command::fill ◀───────────────────────────┘
//!                                                     └─▶ Piece: text · command · file
//! ```
//!
//! Pure: the caller reads the files, from the base commit. Fields that are not known are passed over, a
//! file that cannot be used is told and left out alone.

mod command;
mod fill;
mod frontmatter;
mod listing;
mod read;
mod subagent;

pub use command::{Command, Kind};
pub use read::{Library, wanted};
pub use subagent::Subagent;

pub(crate) use fill::{Piece, Places};
pub(crate) use frontmatter::Frontmatter;
pub(crate) use listing::listing;
