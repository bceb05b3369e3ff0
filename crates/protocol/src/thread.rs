//! Threads: agents that the agent sends to work, in the same log.
//!
//! ```text
//!  tool.call Agent ─▶ thread.started ─▶ thread.event … ─▶ thread.ended ─▶ tool.result
//!                                        └ what the same kinds say of the main conversation
//! ```
//!
//! Wrapped, so that folds which do not know of threads take nothing of them for the main conversation.

use serde::{Deserialize, Serialize};

use crate::event::EventBody;
use crate::status::TurnStatus;
use crate::usage::Usage;

/// Body of `thread.started`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ThreadStarted {
    /// Its id: that of the call.
    pub thread: String,
    /// The kind of agent.
    pub agent: String,
    /// What it is to do, in a few words.
    pub description: String,
    /// What it was told.
    pub prompt: String,
}

/// Body of `thread.event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ThreadEvent {
    /// The thread.
    pub thread: String,
    /// Kind and body of what happened in it.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub event: Box<EventBody>,
}

/// Body of `thread.ended`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ThreadEnded {
    /// The thread.
    pub thread: String,
    /// How.
    pub status: TurnStatus,
    /// A sentence for the person, where it did not simply complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Tools that it used.
    pub tool_uses: u64,
    /// What its requests used; the log has an event for each of them.
    pub usage: Usage,
}
