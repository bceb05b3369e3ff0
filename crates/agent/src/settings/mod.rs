//! Settings files: `.claude/settings.json` and its like.
//!
//! ```text
//!  managed-settings.json, managed-settings.d/*.json   the operator's: may say everything   ─┐
//!  --settings, on a machine of one's own              the person's                          │
//!  .claude/settings.local.json                        the repository's                      ├─▶ Settings + remarks
//!  .claude/settings.json                              the repository's                      │
//!  ~/.claude/settings.json, there too                 the person's                         ─┘
//! ```
//!
//! Of single values the one that stands highest counts, lists join, a denial always stays. An entry
//! that cannot be used is told and left out alone; what a repository may not say is told and left out.

mod file;
mod servers;

pub use file::{Ground, Scope, Settings, SettingsFile};
pub(crate) use servers::Refusal;
