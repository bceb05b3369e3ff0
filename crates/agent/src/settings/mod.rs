//! Settings files: `.claude/settings.json` and its like.
//!
//! ```text
//!  managed-settings.json, managed-settings.d/*.json   the operator's: may say everything   ─┐
//!  .claude/settings.local.json                        the repository's                      ├─▶ Settings + remarks
//!  .claude/settings.json                              the repository's                     ─┘
//! ```
//!
//! Of single values the one that stands highest counts, lists join, a denial always stays. An entry
//! that cannot be used is told and left out alone; what a repository may not say is told and left out.

mod file;
mod servers;

pub use file::{Scope, Settings, SettingsFile};
pub(crate) use servers::Refusal;
