//! `SessionStart` hooks, and the variables that they leave.
//!
//! ```text
//!  settings ─ matcher: startup | resume ─▶ commands, one after the other
//!  each: JSON on its standard input, CLAUDE_ENV_FILE ─▶ that file is read before every later command of our agent
//!        its standard output ─▶ the model is told
//! ```
//!
//! They run in the sandbox, with every new sandbox, after the setup; `agent::hooks` is about all others.
//! Their failure is told and fails nothing. Other agents bring hooks of their own.

use serde_json::{Value, json};

/// Where hooks leave variables, outside of the workspace.
pub(crate) const ENV_FILE: &str = "/var/lib/patchyard/session-env";

/// How a session starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// For the first time.
    Startup,
    /// In a new sandbox, after turns.
    Resume,
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Resume => "resume",
        }
    }
}

/// What a hook reads.
pub(crate) fn input(session: &str, cwd: &str, source: Source) -> Value {
    json!({
        "session_id": session,
        "transcript_path": "",
        "cwd": cwd,
        "hook_event_name": "SessionStart",
        "source": source.name(),
    })
}
