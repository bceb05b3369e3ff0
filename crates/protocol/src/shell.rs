//! Shells of a person in a session's sandbox.
//!
//! ```text
//!  POST /sessions/{id}/shells ─▶ a shell runs, on a terminal of its own, until it ends by itself,
//!                                is closed, or nobody has looked for half an hour
//!  GET  …/shells/{shell}/socket  a WebSocket:
//!       binary   what is typed ─▶     ◀─ what is printed, the last of it first
//!       text     ShellControl ─▶      ◀─ ShellNotice
//!       closed   the shell goes on: that is how one detaches
//! ```

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::hands::TerminalSize;
use crate::ids::ShellId;

/// Body of `POST /sessions/{id}/shells`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OpenShell {
    /// The size of the person's terminal.
    pub size: TerminalSize,
    /// Program and arguments; the sandbox's own shell when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

/// A shell that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Shell {
    /// Its id.
    pub shell: ShellId,
    /// What runs in it, for people.
    pub title: String,
    /// Since when.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub opened_at: Timestamp,
    /// Who looks at it now.
    pub viewers: u32,
}

/// Answer of `GET /sessions/{id}/shells`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShellList {
    /// The oldest first.
    pub shells: Vec<Shell>,
}

/// What a viewer asks for, in a text frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ShellControl {
    /// The viewer's terminal has another size.
    Resize(TerminalSize),
}

/// What a viewer is told, in a text frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ShellNotice {
    /// The shell is over; nothing follows.
    Ended {
        /// Its exit code, unless a signal or the end of the sandbox ended it.
        code: Option<i32>,
        /// Why, where it did not end by itself.
        reason: Option<String>,
    },
    /// This viewer did not keep up and is let go; it can come back.
    Behind,
}
